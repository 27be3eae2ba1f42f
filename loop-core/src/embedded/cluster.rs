//! The cluster: PostgreSQL's own files within the data directory.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use pglite_oxide::{PglitePaths, build_pgdata_template};

use super::EmbeddedError;

/// A checkpoint leaves as much write-ahead log for reuse; PostgreSQL's own gigabyte is meant for busier databases.
const SETTINGS: &str = "\nmax_wal_size = '96MB'\n";

/// The root of the cluster within a data directory, made at the first start.
///
/// The engine would by itself lay the cluster as an overlay over a template in the user's cache: then the directory would not be whole,
/// could not be moved to another machine or used by a later version, and a kill while a file is copied up would leave half of it. So
/// the template is unpacked in full, beside the place where it is looked for, and only then renamed.
pub(super) fn prepare(dir: &Path) -> Result<PathBuf, EmbeddedError> {
    let root = dir.join("cluster");
    if root.is_dir() {
        return Ok(root);
    }
    let unfinished = dir.join("cluster.new");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(EmbeddedError::io("remove", &unfinished))?;
    }
    super::create_private_dir(&unfinished).map_err(EmbeddedError::io("create", &unfinished))?;
    let data = PglitePaths::with_root(&unfinished).pgdata;
    fs::create_dir_all(&data).map_err(EmbeddedError::io("create", &data))?;

    let template = build_pgdata_template(&unfinished).map_err(|error| EmbeddedError::Start { source: error.into() })?;
    let archive = File::open(&template.archive_path).map_err(EmbeddedError::io("open", &template.archive_path))?;
    unpack(archive, &data).map_err(EmbeddedError::io("write", &data))?;
    let settings = data.join("postgresql.conf");
    let appended = File::options().append(true).open(&settings).and_then(|mut file| file.write_all(SETTINGS.as_bytes()));
    appended.map_err(EmbeddedError::io("write", &settings))?;
    for file in [&template.archive_path, &template.manifest_path] {
        fs::remove_file(file).map_err(EmbeddedError::io("remove", file))?;
    }

    fs::rename(&unfinished, &root).map_err(EmbeddedError::io("create", &root))?;
    Ok(root)
}

/// Each entry by itself: the archive is our own, and the check of every path against every link would take as long as the files.
fn unpack(archive: File, into: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(archive)?);
    archive.set_preserve_mtime(false);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = into.join(entry.path()?);
        entry.unpack(path)?;
    }
    Ok(())
}
