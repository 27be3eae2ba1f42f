//! Where clients reach the database: a Unix socket in a directory that only this user can enter.

pub(super) use std::os::unix::net::{UnixListener as Listener, UnixStream as Stream};
use std::{
    fmt::Write as _,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
};

use pglite_oxide::PgliteProxy;
use tempfile::TempDir;

/// PostgreSQL's name for the socket of its usual port, which every client library derives from the directory.
const FRONT: &str = ".s.PGSQL.5432";
const BACKEND: &str = "backend";

/// What the address of a socket holds, less the terminating zero, on the narrowest system (macOS).
const MAX_PATH: usize = 103;

#[derive(Debug)]
pub(super) struct Address(PathBuf);

impl Address {
    pub(super) fn connect(&self) -> io::Result<Stream> {
        Stream::connect(&self.0)
    }
}

/// The socket for clients, and the one behind it on which PostgreSQL itself waits.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) front: (Listener, Address),
    pub(super) backend: (Listener, Address),
    pub(super) dir: SocketDir,
}

/// A directory that only this user can enter. It is removed on drop.
#[derive(Debug)]
pub(super) enum SocketDir {
    Within(PathBuf),
    Temporary(TempDir),
}

impl Sockets {
    /// Opens them in the data directory, so that a kill leaves nothing elsewhere; if its path is too long for a socket, or its file
    /// system has none, in a temporary directory.
    pub(super) fn open(data: &Path) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::InvalidFilename);
        for dir in [SocketDir::within(data), SocketDir::temporary(&std::env::temp_dir()), SocketDir::temporary(Path::new("/tmp"))] {
            match dir.and_then(Self::open_in) {
                Ok(sockets) => return Ok(sockets),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn open_in(dir: SocketDir) -> io::Result<Self> {
        let listen = |name| {
            let path = dir.path().join(name);
            if path.as_os_str().len() > MAX_PATH {
                return Err(io::Error::from(io::ErrorKind::InvalidFilename));
            }
            Ok((Listener::bind(&path)?, Address(path)))
        };
        Ok(Self { front: listen(FRONT)?, backend: listen(BACKEND)?, dir })
    }

    pub(super) fn url(&self) -> String {
        let mut host = String::new();
        for &byte in self.dir.path().as_os_str().as_bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                host.push(byte.into());
            } else {
                // Writing to a string cannot fail.
                let _ = write!(host, "%{byte:02X}");
            }
        }
        format!("postgresql:///postgres?host={host}&port=5432&user=postgres&sslmode=disable")
    }
}

impl SocketDir {
    fn within(data: &Path) -> io::Result<Self> {
        let dir = data.join("run");
        // The data directory itself may be older than this server and open to others; this one is not.
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        super::create_private_dir(&dir)?;
        Ok(Self::Within(dir))
    }

    fn temporary(parent: &Path) -> io::Result<Self> {
        let private = fs::Permissions::from_mode(0o700);
        Ok(Self::Temporary(tempfile::Builder::new().prefix("loop-").permissions(private).tempdir_in(parent)?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Within(dir) => dir,
            Self::Temporary(dir) => dir.path(),
        }
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        if let Self::Within(dir) = self {
            // What is left behind is removed at the next start.
            let _ = fs::remove_dir_all(dir);
        }
    }
}

/// Hands the next connection to PostgreSQL and returns when it is over.
pub(super) fn serve_next(proxy: &PgliteProxy, listener: &Listener) -> Result<(), String> {
    proxy.accept_unix_once(listener).map_err(|error| format!("{error:#}"))
}
