//! Signals, as values on a channel.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam_channel::Receiver;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The status of a process that its user interrupted, as shells have it: 128 and the signal's number.
const INTERRUPTED: i32 = 128 + SIGINT;

/// What a signal asks of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT: stop in good order.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// From now on, signals come as requests. A second SIGINT ends the process at once, for whoever will not wait.
///
/// # Errors
/// When the operating system refuses a handler.
pub fn requests() -> io::Result<Receiver<Request>> {
    // In this order the first SIGINT finds the flag down, and raises it. The handler itself ends the process, so
    // that it works whatever the threads are waiting for.
    let interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register_conditional_shutdown(SIGINT, INTERRUPTED, Arc::clone(&interrupted))?;
    signal_hook::flag::register(SIGINT, interrupted)?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (sender, requests) = crossbeam_channel::unbounded();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            let request = if signal == SIGHUP { Request::Reload } else { Request::Stop };
            if sender.send(request).is_err() {
                break;
            }
        }
    })?;
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use signal_hook::low_level::raise;

    /// Runs as a process of its own, so that the signals reach no other test.
    fn in_child(test: &str) -> std::process::Output {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("shutdown::tests::{test}"), "--ignored", "--nocapture", "--test-threads=1"])
            .output()
            .unwrap()
    }

    #[test]
    #[ignore = "run by signals_become_requests, in a process of its own"]
    fn child_gets_each_signal() {
        let requests = requests().unwrap();
        for (signal, asks) in [(SIGHUP, Request::Reload), (SIGTERM, Request::Stop), (SIGINT, Request::Stop)] {
            raise(signal).unwrap();
            assert_eq!(requests.recv_timeout(Duration::from_secs(20)), Ok(asks));
        }
        println!("all came");
    }

    #[test]
    #[ignore = "run by second_interrupt_ends_at_once, in a process of its own"]
    fn child_is_interrupted_twice() {
        let _requests = requests().unwrap();
        raise(SIGINT).unwrap();
        println!("still there after the first");
        raise(SIGINT).unwrap();
        println!("still there after the second");
    }

    #[test]
    fn signals_become_requests() {
        let output = in_child("child_gets_each_signal");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("all came"), "{output:?}");
    }

    #[test]
    fn second_interrupt_ends_at_once() {
        let output = in_child("child_is_interrupted_twice");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(INTERRUPTED), "{output:?}");
        assert!(said.contains("after the first") && !said.contains("after the second"), "{said}");
    }
}
