//! Which PostgreSQL the tests of this process run on.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::Failure;

/// A PostgreSQL to test on.
#[derive(Debug, Clone)]
pub(super) enum Choice {
    /// A running server. The user of this connection string may create databases.
    Url(String),
    /// A server to be started, from the binaries in this directory.
    Cluster(PathBuf),
    /// The same behind a pooler.
    Pooled(PathBuf),
    #[cfg(feature = "embedded")]
    Embedded,
}

/// The choice, made once: all tests of a process run on the same.
pub(super) fn choice() -> Result<Choice, Failure> {
    static CHOICE: OnceLock<Result<Choice, String>> = OnceLock::new();
    CHOICE.get_or_init(choose).clone().map_err(Into::into)
}

/// Whether the databases of the tests guard each project's rows themselves: `LOOP_TEST_ROW_SECURITY=true`, on the throwaway server.
pub fn row_security() -> bool {
    variable("LOOP_TEST_ROW_SECURITY").is_some_and(|value| value == "true")
}

fn choose() -> Result<Choice, String> {
    match variable("LOOP_TEST_DATABASE").as_deref() {
        Some("embedded") => {
            embedded().ok_or_else(|| "LOOP_TEST_DATABASE=embedded, but loop-core was built without the feature `embedded`".into())
        }
        Some("postgres") => server().ok_or_else(|| {
            "LOOP_TEST_DATABASE=postgres, but no server binaries were found: install PostgreSQL or set LOOP_TEST_DATABASE_URL".into()
        }),
        Some("pgbouncer") => binaries()
            .map(Choice::Pooled)
            .ok_or_else(|| "LOOP_TEST_DATABASE=pgbouncer, but no server binaries were found: install PostgreSQL and PgBouncer".into()),
        Some(other) => Err(format!("LOOP_TEST_DATABASE is {other:?}; it can be `postgres`, `pgbouncer` or `embedded`, or unset")),
        None => server()
            .or_else(embedded)
            .ok_or_else(|| "no PostgreSQL was found: install it, set LOOP_TEST_DATABASE_URL, or build with the feature `embedded`".into()),
    }
}

fn server() -> Option<Choice> {
    variable("LOOP_TEST_DATABASE_URL").map(Choice::Url).or_else(|| binaries().map(Choice::Cluster))
}

#[cfg(feature = "embedded")]
#[expect(clippy::unnecessary_wraps, reason = "the other build has none")]
fn embedded() -> Option<Choice> {
    Some(Choice::Embedded)
}

#[cfg(not(feature = "embedded"))]
fn embedded() -> Option<Choice> {
    None
}

#[expect(clippy::disallowed_methods, reason = "tests are not configured through the server's configuration")]
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The directory with `initdb` and `postgres`: that of the PATH, else the newest of the usual places.
pub(super) fn binaries() -> Option<PathBuf> {
    let in_path = env::var_os("PATH").into_iter().flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    let debian = versions("/usr/lib/postgresql", "").into_iter().map(|dir| dir.join("bin"));
    let red_hat = versions("/usr", "pgsql-").into_iter().map(|dir| dir.join("bin"));
    let homebrew = ["/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"]
        .into_iter()
        .flat_map(|dir| versions(dir, "postgresql@"))
        .map(|dir| dir.join("bin"));
    in_path
        .chain(debian)
        .chain(red_hat)
        .chain([PathBuf::from("/usr/local/pgsql/bin")])
        .chain(homebrew)
        .find(|dir| dir.join("initdb").is_file() && dir.join("postgres").is_file())
        // Where these are links, the other programs stand beside what they lead to.
        .map(|dir| fs::canonicalize(dir.join("postgres")).ok().and_then(|file| Some(file.parent()?.to_owned())).unwrap_or(dir))
}

/// The directories named by this prefix and a version, the newest first.
fn versions(parent: impl AsRef<Path>, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((version, entry.path()))
        })
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, dir)| dir).collect()
}
