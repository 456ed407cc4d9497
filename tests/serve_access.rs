//! Who is let in beyond what the sockets' permissions say, by the kernel's word on who clients are.

#![cfg(target_os = "linux")]

mod serve_support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Group, User, geteuid};
use serve_support::*;
use tagalong::serve::{Access, problems};

/// A client of another user, with these groups beside its own: what it was sent first.
fn greeting_of(user: u32, groups: &str, socket: &Path) -> String {
    let script = "$s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die $!; print scalar <$s>";
    let user = user.to_string();
    let output = Command::new("setpriv")
        .args(["--reuid", &user, "--regid", &user, "--groups", groups, "perl", "-MIO::Socket::UNIX", "-e", script])
        .arg(socket)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn only_the_configured_users_and_groups_are_let_in() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root can be other users");
        return;
    }
    let fixture = Fixture::with(|config| {
        (config.tracks_mode, config.control_mode) = ("0666".into(), "0666".into());
        config.tracks_allow = vec!["nobody".into(), "@video".into()];
        config.control_allow = vec!["nobody".into()];
    });
    fs::set_permissions(fixture.folder.path(), Permissions::from_mode(0o755)).unwrap();
    let nobody = User::from_name("nobody").unwrap().unwrap().uid.as_raw();
    let video = Group::from_name("video").unwrap().unwrap().gid.to_string();
    let (tracks, control) = (fixture.path("tracks.sock"), fixture.path("control.sock"));
    let stranger = 54_321;
    for (user, groups, socket, let_in) in [
        (nobody, "54321", &tracks, true),
        (nobody, "54321", &control, true),
        (stranger, "54321", &tracks, false),
        (stranger, &video, &tracks, true),
        (stranger, &format!("54321,{video}"), &tracks, true),
        (stranger, &video, &control, false),
    ] {
        let line = greeting_of(user, groups, socket);
        let (class, code) = if let_in { ("hello", "") } else { ("error", "client.not_allowed") };
        let what = format!("user {user} with groups {groups} at {}: {line}", socket.display());
        assert!(line.contains(&format!("\"class\":\"{class}\"")) && line.contains(code), "{what}");
        assert_eq!(line.contains("_allow` of the daemon's configuration"), !let_in, "{what}");
    }
    // Root, and the daemon's own user, are always let in.
    fixture.tracks().greeted();
    assert_eq!(fixture.server.clients().refused, 2);
}

#[test]
fn names_that_nobody_has_are_told() {
    let mut config = config(Path::new("/run/nowhere"));
    config.tracks_allow = vec!["root".into(), "no-such-user".into(), "@no-such-group".into()];
    config.control_allow = vec!["nor-this".into()];
    let error = Access::of(&config).unwrap_err().to_string();
    assert!(error.contains("`tracks_allow`") && error.contains("no-such-user"), "{error}");
    let problems = problems(&config);
    for (problem, says) in problems.iter().zip(["no-such-user", "no-such-group", "nor-this"]) {
        assert!(problem.contains(says), "{problem}");
    }
    assert_eq!(problems.len(), 3, "{problems:?}");
}
