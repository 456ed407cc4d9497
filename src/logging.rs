//! Log lines: with times and colours in a terminal, with priorities in the journal.

use std::io::{self, Write};

use log::{Level, LevelFilter};

/// Begins to log to standard error. `level` is the configuration's; the environment variable `RUST_LOG` overrules
/// it. What the crates beneath say shows from warnings up. A second call changes the level alone.
pub fn init(level: LevelFilter) {
    let mut builder = env_logger::Builder::new();
    match overruled() {
        Some(filters) => builder.parse_filters(&filters),
        // Everything of ours passes the logger, so that the level can change while it runs.
        None => builder.filter_level(LevelFilter::Warn).filter_module("tagalong", LevelFilter::Trace),
    };
    if stderr_is_journal() {
        builder.format(|out, record| write_prefixed(out, record.level(), &record.args().to_string()));
    } else {
        builder.format_target(false);
    }
    // A logger that is there already, as in a test, is as good.
    let _ = builder.try_init();
    set_level(level);
}

/// Changes the level, as a reload does; `RUST_LOG` overrules it still.
pub fn set_level(level: LevelFilter) {
    if overruled().is_none() {
        log::set_max_level(level);
    }
}

fn overruled() -> Option<String> {
    std::env::var("RUST_LOG").ok().filter(|filters| !filters.is_empty())
}

/// Whether standard error is the stream that systemd connected to the journal: `JOURNAL_STREAM` names its device
/// and inode (systemd.exec(5)). The variable alone proves nothing, for children inherit it.
#[cfg(unix)]
fn stderr_is_journal() -> bool {
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let stderr = io::stderr().as_fd().try_clone_to_owned().map(std::fs::File::from);
    stderr.and_then(|file| file.metadata()).is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}

#[cfg(not(unix))]
fn stderr_is_journal() -> bool {
    false
}

/// Writes a message with its priority before each line, as sd-daemon(3) has it; the journal keeps the time itself.
fn write_prefixed(out: &mut impl Write, level: Level, message: &str) -> io::Result<()> {
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    message.lines().try_for_each(|line| writeln!(out, "<{priority}>{line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_priority() {
        for (level, message, written) in [
            (Level::Error, "gone", "<3>gone\n"),
            (Level::Warn, "a\nb", "<4>a\n<4>b\n"),
            (Level::Info, "", ""),
            (Level::Info, "a\r\n<0>b\n", "<6>a\n<6><0>b\n"),
            (Level::Debug, "a", "<7>a\n"),
            (Level::Trace, "a", "<7>a\n"),
        ] {
            let mut out = Vec::new();
            write_prefixed(&mut out, level, message).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), written);
        }
    }

    /// Runs `child_logs` in a process of its own with standard error in a file, and gives what the file then holds.
    #[cfg(unix)]
    fn logged(environment: impl Fn(&std::fs::Metadata) -> Vec<(&'static str, String)>) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        let stderr = file.reopen().unwrap();
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "logging::tests::child_logs", "--ignored", "--nocapture", "--test-threads=1"])
            .env_remove("RUST_LOG")
            .env_remove("JOURNAL_STREAM")
            .envs(environment(&stderr.metadata().unwrap()))
            .stderr(stderr)
            .output()
            .unwrap()
            .status;
        assert!(status.success());
        std::fs::read_to_string(file.path()).unwrap()
    }

    #[test]
    #[ignore = "run by the tests below, in a process of its own"]
    fn child_logs() {
        init(LevelFilter::Info);
        log::info!("one\ntwo");
        log::debug!("hidden");
        log::info!(target: "tract_core", "beneath");
        set_level(LevelFilter::Debug);
        log::debug!("shown");
    }

    #[test]
    #[cfg(unix)]
    fn the_journal_gets_priorities_and_no_times() {
        use std::os::unix::fs::MetadataExt;
        let stream = |stderr: &std::fs::Metadata| format!("{}:{}", stderr.dev(), stderr.ino());
        assert_eq!(logged(|stderr| vec![("JOURNAL_STREAM", stream(stderr))]), "<6>one\n<6>two\n<7>shown\n");
        let overruled =
            logged(|stderr| vec![("JOURNAL_STREAM", stream(stderr)), ("RUST_LOG", "tract_core=info".into())]);
        assert_eq!(overruled, "<6>beneath\n");
    }

    #[test]
    #[cfg(unix)]
    fn a_journal_stream_that_is_not_ours_is_no_journal() {
        let said = logged(|_| vec![("JOURNAL_STREAM", "1:2".into())]);
        assert!(said.starts_with("[2") && said.contains("INFO ") && said.contains("] one\n"), "{said}");
        assert!(said.contains("shown") && !said.contains("hidden") && !said.contains("beneath"), "{said}");
    }
}
