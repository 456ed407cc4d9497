//! The units, as systemd itself judges them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The units in a folder of their own, with a program that is there, so that nothing but the units can be at fault.
struct Units {
    folder: tempfile::TempDir,
}

impl Units {
    fn copied() -> Units {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(shipped("")).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let name = path.file_name().unwrap();
            fs::write(folder.path().join(name), text.replace("/usr/bin/tagalong", "/bin/true")).unwrap();
        }
        Units { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn all(&self) -> [PathBuf; 3] {
        ["tagalong.service", "tagalong.socket", "tagalong-control.socket"].map(|name| self.path(name))
    }
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)
}

/// `None`, said loudly, where the program is absent.
fn analyze(arguments: &[&str], units: &[PathBuf]) -> Option<Output> {
    match Command::new("systemd-analyze").args(arguments).args(units).env("LC_ALL", "C").output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("SKIPPED: the units were not checked, for systemd-analyze cannot be run: {error}");
            None
        }
    }
}

/// What `systemd-analyze verify` finds wrong with these units. It succeeds in spite of unknown keys, but says so.
fn verify(units: &Units) -> Option<String> {
    let output = analyze(&["verify", "--man=no"], &units.all())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // It reads the machine's own units too, and complains of those, and of devices where udev does not run.
    let of_the_machine = |line: &&str| line.contains("/lib/") || line.starts_with("Failed to get udev device");
    let of_ours: Vec<&str> = said.lines().filter(|line| line.contains("tagalong") || !of_the_machine(line)).collect();
    assert!(output.status.success() || !of_ours.is_empty(), "{said}");
    Some(of_ours.join("\n"))
}

#[test]
fn units_are_valid() {
    let Some(said) = verify(&Units::copied()) else { return };
    assert_eq!(said, "");
}

/// The check above can fail: it sees a key that systemd does not know, and only warns of.
#[test]
fn unknown_key_would_be_seen() {
    let units = Units::copied();
    let path = units.path("tagalong.service");
    let text = fs::read_to_string(&path).unwrap().replace("ProtectClock=", "ProtectClocks=");
    fs::write(&path, text).unwrap();
    let Some(said) = verify(&units) else { return };
    assert!(said.contains("ProtectClocks"), "{said}");
}

#[test]
fn drop_ins_are_valid() {
    for drop_in in ["gstreamer.conf", "gpu.conf"] {
        let units = Units::copied();
        let folder = units.path("tagalong.service.d");
        fs::create_dir(&folder).unwrap();
        let text = fs::read_to_string(shipped(drop_in)).unwrap();
        fs::write(folder.join(drop_in), &text).unwrap();
        let Some(said) = verify(&units) else { return };
        assert_eq!(said, "", "{drop_in}");
        // They are looked at: a key that systemd does not know is seen.
        fs::write(folder.join(drop_in), text.replace("MemoryDenyWriteExecute=", "MemoryDenyWrites=")).unwrap();
        let Some(said) = verify(&units) else { return };
        assert!(said.contains("MemoryDenyWrites"), "{drop_in}: {said}");
    }
}

#[test]
fn service_is_confined() {
    // Exposure in tenths, of 100: 10 is 1.0 of 10.
    let arguments = ["security", "--no-pager", "--offline=true", "--threshold=10"];
    let Some(output) = analyze(&arguments, &[Units::copied().path("tagalong.service")]) else { return };
    let said = String::from_utf8_lossy(&output.stdout);
    if String::from_utf8_lossy(&output.stderr).contains("unrecognized option") {
        eprintln!("SKIPPED: the exposure was not measured, for this systemd-analyze (before 250) cannot do it offline");
        return;
    }
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Overall exposure level"), "{said}");
}

/// What `systemd-analyze` does not know: which keys this daemon needs, and which would break it.
#[test]
fn service_fits_the_daemon() {
    let service = fs::read_to_string(shipped("tagalong.service")).unwrap();
    let lines: Vec<&str> = service.lines().collect();
    for needed in [
        "Type=notify",
        "ExecStart=/usr/bin/tagalong run --config /etc/tagalong/tagalong.toml",
        "RestartPreventExitStatus=78",
        "StartLimitIntervalSec=0",
        "DeviceAllow=char-video4linux rw",
        "WatchdogSec=30",
    ] {
        assert!(lines.contains(&needed), "{needed}");
    }
    for harmful in ["ProcSubset=pid", "RuntimeDirectory=", "PrivateDevices=yes", "CPUQuota="] {
        assert!(!lines.iter().any(|line| line.starts_with(harmful)), "{harmful}");
    }
    let config = tagalong::config::Config::builtin();
    for (unit, socket, mode) in [
        ("tagalong.socket", "tracks.sock", &config.serve.tracks_mode),
        ("tagalong-control.socket", "control.sock", &config.serve.control_mode),
    ] {
        let text = fs::read_to_string(shipped(unit)).unwrap();
        for line in [
            format!("ListenStream={}/{socket}", config.serve.directory.display()),
            format!("SocketMode={mode}"),
            "Service=tagalong.service".into(),
        ] {
            assert!(text.lines().any(|known| known == line), "{unit}: {line}");
        }
    }
    assert!(lines.contains(&format!("StateDirectory={}", config.state_dir.file_name().unwrap().display()).as_str()));
}
