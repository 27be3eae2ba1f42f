//! What removes a directory, and stops the server in it, when this process has ended.
//!
//! Nothing in the process itself can do that: statics are never dropped, and after a kill no code runs at all. So a shell outside waits
//! for the end of a pipe that only this process holds open.

use std::{path::Path, process::ChildStdin, sync::Mutex};

use super::Failure;

/// The write ends, kept until the process ends. Rust opens them such that no child inherits them.
static PIPES: Mutex<Vec<ChildStdin>> = Mutex::new(Vec::new());

/// `$1` is the directory. A server in `$1/data`, or a pooler, is stopped at once: nothing of it is worth a checkpoint. Where that is a
/// link, what it leads to goes, too. What a process that outlived this one, such as `initdb`, still writes is removed in a second round.
///
/// The pooler is killed: it has nothing to put in order, and whatever a shell runs in its background ignores `QUIT`, as does what that starts.
#[cfg(unix)]
const SCRIPT: &str = r#"
trap '' HUP INT TERM
cat
stop() {
    pid=$(head -n 1 "$2" 2>/dev/null)
    [ -n "$pid" ] && kill -s "$1" "$pid" 2>/dev/null && while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
}
stop QUIT "$1/data/postmaster.pid"
stop KILL "$1/pooler.pid"
rm -rf "$(readlink "$1/data")" "$1"
sleep 2
rm -rf "$1"
"#;

#[cfg(unix)]
pub(super) fn remove_after_this_process(dir: &Path) -> Result<(), Failure> {
    use std::{
        os::unix::process::CommandExt as _,
        process::{Command, Stdio},
    };

    let mut watchdog = Command::new("/bin/sh")
        .args(["-c", SCRIPT, "loop-test-watchdog"])
        .arg(dir)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // What is sent to the group of the tests, as Ctrl-C is, does not reach it.
        .process_group(0)
        .spawn()?;
    let pipe = watchdog.stdin.take().ok_or("the watchdog has no pipe")?;
    PIPES.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(pipe);
    Ok(())
}

/// Without a shell the directory stays behind for the system to clean up.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the other systems can fail")]
pub(super) fn remove_after_this_process(_dir: &Path) -> Result<(), Failure> {
    let _ = &PIPES;
    Ok(())
}
