//! What the daemon keeps and serves: the state directory, its disk, and the sockets.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use nix::sys::statvfs::statvfs;

use super::Finding;
use super::machine::user;
use crate::cmd::exit::Kind;
use crate::serve::client::{ClientError, ControlClient};
use crate::serve::wire::CONTROL_SOCKET;
use crate::serve::{self, ServeConfig};
use crate::state::{AMPLE, Gallery, ModelIdentity, free_bytes};
use crate::types::command::Status;

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that must be free: a gallery object and its copy while it is written.
const LEAST: u64 = 4 << 20;

/// What is found of the sockets, and the status of a daemon that answers.
pub(super) fn daemon(config: &ServeConfig) -> (Option<Status>, Vec<Finding>) {
    const SUBJECT: &str = "daemon";
    let mut findings: Vec<Finding> =
        serve::problems(config).into_iter().map(|problem| Finding::fault("sockets", problem, Kind::Config)).collect();
    let path = config.directory.join(CONTROL_SOCKET);
    let here = path.display();
    let asked = ControlClient::connect(&path, PATIENCE).and_then(|mut client| client.status());
    let (status, found) = match asked {
        Ok(status) if status.version == env!("CARGO_PKG_VERSION") => {
            let told = format!("version {} answers at {here}, up for {:.0} s", status.version, status.uptime_s);
            (Some(status), Finding::good(SUBJECT, told))
        }
        Ok(status) => {
            let told = format!(
                "version {} answers at {here}, this is {}; restart it",
                status.version,
                env!("CARGO_PKG_VERSION")
            );
            (Some(status), Finding::warning(SUBJECT, told))
        }
        Err(ClientError::Connect { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            let told = format!("{here} may not be opened ({}); ask as root", user());
            (None, Finding::warning(SUBJECT, told))
        }
        Err(ClientError::Connect { .. }) => {
            let told = format!(
                "none answers at {here}; `systemctl start tagalong` starts it, `journalctl -u tagalong` says why it ended"
            );
            (None, Finding::warning(SUBJECT, told))
        }
        Err(error) => (None, Finding::fault(SUBJECT, format!("at {here}: {error}; restart it"), Kind::Temporary)),
    };
    findings.push(found);
    let warnings = status.iter().flat_map(|status| &status.warnings);
    findings.extend(warnings.map(|warning| Finding::warning(SUBJECT, format!("it warns: {warning}"))));
    (status, findings)
}

/// What is found of the state directory, for a daemon that runs `model`.
pub(super) fn directory(directory: &Path, model: Option<ModelIdentity>) -> Vec<Finding> {
    const SUBJECT: &str = "state";
    let here = directory.display();
    let there = directory.ancestors().find(|folder| folder.exists());
    let there = there.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !there.is_dir() {
        return vec![Finding::fault(
            SUBJECT,
            format!("{} is no folder; move it away", there.display()),
            Kind::CantCreate,
        )];
    }
    let mut findings = vec![match try_write(there) {
        Ok(()) if there == directory => Finding::good(SUBJECT, format!("{here} can be written")),
        Ok(()) => Finding::good(SUBJECT, format!("{here} is not there yet, and can be made")),
        Err(error) => Finding::fault(SUBJECT, unwritable(directory, &error), Kind::CantCreate),
    }];
    findings.extend(disk(there));
    if let Some(problem) = bad_ids(directory) {
        findings.push(Finding::fault(SUBJECT, problem, Kind::CantCreate));
    }
    findings.extend(model.and_then(|model| gallery(&directory.join("gallery"), model)));
    findings
}

/// Writes a file there as the daemon does, and takes it away again.
fn try_write(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".doctor-{}", std::process::id()));
    let written = fs::File::create_new(&path).and_then(|mut file| {
        file.write_all(&[0; 4096])?;
        file.sync_all()
    });
    let _ = fs::remove_file(&path);
    written
}

fn unwritable(directory: &Path, error: &io::Error) -> String {
    let here = directory.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{here}: {error} ({}); ask as root, or give the folder to the user of the daemon", user())
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("{here}: {error}; mount it so that it can be written, or set `state_dir` to where it can")
        }
        io::ErrorKind::StorageFull => format!("{here}: {error}; make room"),
        _ => format!("{here}: {error}"),
    }
}

fn disk(folder: &Path) -> Option<Finding> {
    const SUBJECT: &str = "disk";
    let disk = statvfs(folder).ok()?;
    let free = free_bytes(folder)?;
    let mebibytes = free >> 20;
    let here = folder.display();
    // File systems without a fixed number of files tell 0 of 0.
    Some(if disk.files() > 0 && disk.files_available() == 0 {
        Finding::fault(SUBJECT, format!("{here}: no more files can be made there; remove some"), Kind::CantCreate)
    } else if free < LEAST {
        Finding::fault(
            SUBJECT,
            format!("{here}: {mebibytes} MiB are free, and {} are needed; make room", LEAST >> 20),
            Kind::CantCreate,
        )
    } else if free < AMPLE {
        Finding::warning(SUBJECT, format!("{here}: only {mebibytes} MiB are free; make room"))
    } else {
        Finding::good(SUBJECT, format!("{here}: {mebibytes} MiB are free"))
    })
}

/// What is wrong with the file of ids, which the daemon would refuse.
fn bad_ids(directory: &Path) -> Option<String> {
    let path = directory.join("next-track-id");
    let text = fs::read_to_string(&path);
    let is_good = match &text {
        Ok(text) => text.trim().parse::<u64>().is_ok(),
        Err(error) => error.kind() != io::ErrorKind::InvalidData,
    };
    (!is_good).then(|| {
        format!(
            "{}: holds no number; remove the file if ids may be used again, or write one above all that were given",
            path.display()
        )
    })
}

/// What is found of the gallery, if there is one that may be read.
fn gallery(folder: &Path, model: ModelIdentity) -> Option<Finding> {
    const SUBJECT: &str = "gallery";
    fs::read_dir(folder).ok()?;
    let objects = match Gallery::open(folder, model) {
        Ok(gallery) => gallery.list(),
        Err(error) => return Some(Finding::fault(SUBJECT, error.to_string(), Kind::CantCreate)),
    };
    let bad: Vec<String> = objects
        .iter()
        .filter_map(|object| object.problem.as_ref().map(|problem| format!("{}: {problem}", object.name)))
        .collect();
    Some(if bad.is_empty() {
        Finding::good(SUBJECT, format!("{} known", objects.len()))
    } else {
        let told = format!("{} of {} cannot be used: {}", bad.len(), objects.len(), bad.join("; "));
        Finding::warning(SUBJECT, told)
    })
}
