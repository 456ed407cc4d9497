//! What the daemon denies itself is denied, each thing by trying it, and what it needs goes on working.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tagalong::sandbox::{self, Needs, SandboxMode};

/// A process that confines itself is of no use to other tests: each of these runs in one of its own, which is this program
/// again with one test and the folder to do it in.
const FOLDER: &str = "TAGALONG_TEST_CONFINED_IN";

/// Runs `body` in a confined process, with a folder that has `model`, `state`, `sockets` and `elsewhere` in it. Says so
/// where the kernel confines nothing.
fn confined(test: &str, programs: bool, body: impl FnOnce(&Path)) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let folder = PathBuf::from(folder);
        let mut needs = Needs { programs, ..Needs::default() };
        needs.writes.push(folder.join("state"));
        needs.sockets.push(folder.join("sockets"));
        needs.read(&folder.join("model"));
        let status = sandbox::enter(SandboxMode::Auto, &needs).unwrap();
        println!("files {} calls {}", status.files.confined, status.system_calls.confined);
        if !status.files.confined {
            println!("SKIPPED: {}", status.files.detail);
            return;
        }
        assert_eq!(status.system_calls.confined, !programs, "{}", status.system_calls.detail);
        body(&folder);
        println!("done");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["model", "state", "sockets", "elsewhere"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("model/weights"), "weights").unwrap();
    fs::write(folder.path().join("elsewhere/secret"), "secret").unwrap();
    std::os::unix::fs::symlink(folder.path().join("elsewhere/secret"), folder.path().join("state/link")).unwrap();
    let output = again(test, folder.path());
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    if told.contains("SKIPPED") {
        eprintln!("SKIPPED: this kernel does not confine: {told}");
    } else {
        assert!(told.contains("\ndone"), "{told}");
    }
}

fn again(test: &str, folder: &Path) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .output()
        .unwrap()
}

#[track_caller]
fn denied<T>(what: &str, result: io::Result<T>) {
    let error = result.err().unwrap_or_else(|| panic!("{what} is allowed"));
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{what}: {error}");
}

/// The result of a system call that gives -1 and sets `errno`.
fn called(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[test]
fn what_is_needed_works() {
    confined("what_is_needed_works", false, |folder| {
        assert_eq!(fs::read_to_string(folder.join("model/weights")).unwrap(), "weights");
        fs::create_dir(folder.join("state/gallery")).unwrap();
        fs::write(folder.join("state/gallery/new"), "an object").unwrap();
        fs::rename(folder.join("state/gallery/new"), folder.join("state/gallery/object")).unwrap();
        fs::File::open(folder.join("state/gallery")).unwrap().sync_all().unwrap();
        fs::remove_file(folder.join("state/gallery/object")).unwrap();
        let socket = folder.join("sockets/tracks.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let client = std::thread::spawn({
            let socket = socket.clone();
            move || UnixStream::connect(socket).map(drop)
        });
        listener.accept().unwrap();
        client.join().unwrap().unwrap();
        fs::remove_file(socket).unwrap();
        assert!(
            fs::read_to_string("/proc/self/statm").is_ok()
                && fs::read_dir("/dev").is_ok()
                && fs::read_dir("/sys").is_ok()
        );
        let panicked = std::thread::spawn(|| panic!("on purpose")).join();
        assert!(panicked.is_err(), "a panic unwinds as ever");
    });
}

#[test]
fn files_are_out_of_reach() {
    confined("files_are_out_of_reach", false, |folder| {
        denied("reading another file", fs::read(folder.join("elsewhere/secret")));
        denied("reading it by a link in the state", fs::read(folder.join("state/link")));
        denied("listing another folder", fs::read_dir(folder.join("elsewhere")));
        denied("reading who is who", fs::read("/etc/passwd"));
        denied("changing the model", fs::write(folder.join("model/weights"), "others"));
        denied("adding to the model's folder", fs::write(folder.join("model/new"), "more"));
        denied("writing elsewhere", fs::write(folder.join("elsewhere/new"), "more"));
        denied("writing to the folder for everyone", fs::write("/tmp/tagalong-was-here", "more"));
        denied("putting a file among the sockets", fs::write(folder.join("sockets/file"), "more"));
        denied(
            "making a device",
            nix::sys::stat::mknod(
                &folder.join("state/device"),
                nix::sys::stat::SFlag::S_IFIFO,
                nix::sys::stat::Mode::S_IRUSR,
                0,
            )
            .map_err(io::Error::from),
        );
        denied("leading a link out", std::os::unix::fs::symlink("/etc", folder.join("state/out")));
    });
}

#[test]
fn programs_processes_and_networks_are_out_of_reach() {
    confined("programs_processes_and_networks_are_out_of_reach", false, |_| {
        denied("running a program", Command::new("/bin/true").status());
        // SAFETY: it would make a process that does nothing but end.
        denied(
            "making a process",
            called(i64::from(unsafe {
                let made = libc::fork();
                if made == 0 {
                    libc::_exit(0);
                }
                made
            })),
        );
        denied("listening on a network", TcpListener::bind("127.0.0.1:0"));
        denied("connecting to a network", TcpStream::connect("127.0.0.1:9"));
        // SAFETY: signal 0 is none, and process 1 is another.
        denied("a signal to another process", called(i64::from(unsafe { libc::kill(1, 0) })));
    });
}

#[test]
fn system_calls_are_out_of_reach() {
    confined("system_calls_are_out_of_reach", false, |_| {
        let pid_1 = 1_i64;
        for (what, number, arguments) in [
            ("ptrace", libc::SYS_ptrace, [i64::from(libc::PTRACE_SEIZE), pid_1, 0]),
            ("another process's memory", libc::SYS_process_vm_readv, [pid_1, 0, 0]),
            ("mount", libc::SYS_mount, [0, 0, 0]),
            ("unshare", libc::SYS_unshare, [libc::CLONE_FS.into(), 0, 0]),
            ("bpf", libc::SYS_bpf, [-1, 0, 0]),
            ("keyctl", libc::SYS_keyctl, [0, 0, 0]),
            ("perf_event_open", libc::SYS_perf_event_open, [0, 0, 0]),
            ("io_uring_setup", libc::SYS_io_uring_setup, [0, 0, 0]),
            ("userfaultfd", libc::SYS_userfaultfd, [-1, 0, 0]),
            ("memfd_create", libc::SYS_memfd_create, [0, 0, 0]),
            ("setuid", libc::SYS_setuid, [0, 0, 0]),
            ("personality", libc::SYS_personality, [0, 0, 0]),
            ("clock_settime", libc::SYS_clock_settime, [libc::CLOCK_REALTIME.into(), 0, 0]),
            ("open_by_handle_at", libc::SYS_open_by_handle_at, [0, 0, 0]),
            ("another process's limits", libc::SYS_prlimit64, [pid_1, libc::RLIMIT_NOFILE.into(), 0]),
            ("another filter", libc::SYS_seccomp, [libc::SECCOMP_GET_ACTION_AVAIL.into(), 0, 0]),
        ] {
            let [a, b, c] = arguments;
            // SAFETY: denied before it looks at its arguments; and with these, none of them would write to memory of ours.
            denied(what, called(unsafe { libc::syscall(number, a, b, c, 0, 0, 0) }));
        }
        // SAFETY: a new mapping, of nothing that exists.
        denied(
            "code made at run time",
            called(unsafe {
                let prot = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
                libc::syscall(libc::SYS_mmap, 0, 4096, prot, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
            }),
        );
    });
}

#[test]
fn with_a_command_only_writing_is_out_of_reach() {
    confined("with_a_command_only_writing_is_out_of_reach", true, |folder| {
        assert!(Command::new("/bin/true").status().unwrap().success());
        assert_eq!(fs::read_to_string(folder.join("elsewhere/secret")).unwrap(), "secret");
        denied("writing elsewhere", fs::write(folder.join("elsewhere/new"), "more"));
        let script = format!("echo more > {}", folder.join("elsewhere/new").display());
        assert!(!Command::new("/bin/sh").args(["-c", &script]).status().unwrap().success(), "a program escapes");
    });
}
