//! A daemon that has no file descriptor left. Alone in its file: the limit is that of the whole process.

mod serve_support;

use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serve_support::*;

#[test]
fn descriptors_that_run_out_are_left_to_others_and_waited_for() {
    clients_leave_descriptors_to_the_rest_of_the_daemon();
    without_descriptors_the_server_waits_and_does_not_spin();
}

fn clients_leave_descriptors_to_the_rest_of_the_daemon() {
    setrlimit(Resource::RLIMIT_NOFILE, 300, 600).unwrap();
    let fixture = Fixture::with(|config| config.max_clients = 10_000);
    assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (600, 600), "the soft limit is raised");
    // (600 - 128) / 2, each with a descriptor at either end.
    let clients: Vec<_> = (0..236).map(|_| fixture.tracks().greeted()).collect();
    assert_eq!(fixture.tracks().read()["code"], "client.too_many");
    drop(clients);
}

fn without_descriptors_the_server_waits_and_does_not_spin() {
    let fixture = Fixture::start();
    let mut early = fixture.tracks().greeted();
    let late = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 100, 100).unwrap();
    let mut files = Vec::new();
    let error = loop {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => break error,
        }
    };
    assert_ne!(error.kind(), ErrorKind::NotFound, "{error}");
    connect(late.as_raw_fd(), &UnixAddr::new(&fixture.path("tracks.sock")).unwrap()).unwrap();

    let cpu = || {
        let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
        let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
        Duration::from_micros((micros(usage.user_time()) + micros(usage.system_time())) as u64)
    };
    let before = cpu();
    std::thread::sleep(Duration::from_secs(1));
    let spent = cpu() - before;
    eprintln!("CPU time in one second without descriptors: {spent:?}");
    assert!(spent < Duration::from_millis(200), "the server spins: {spent:?}");

    // Who was there is served on, and who waited is taken in as soon as there is room.
    fixture.send(report("front", 1));
    assert_eq!(early.read()["seq"], 1);
    drop(files);
    let late = UnixStream::from(late);
    late.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut late = RawClient { reader: BufReader::new(late) }.greeted();
    assert_eq!(late.read()["seq"], 1);
}
