//! Any bytes as a line of the protocol, from a client.
#![no_main]

use tagalong::serve::request::{Request, read};

libfuzzer_sys::fuzz_target!(|line: &[u8]| {
    match read(line).request {
        Ok(Request::Subscribe(_) | Request::Command(..)) => {}
        Err(error) => assert!(!error.message.is_empty()),
    }
});
