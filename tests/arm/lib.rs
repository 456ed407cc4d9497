//! The sources of the program, of which the rest is left out.
#![allow(dead_code, unused_imports, reason = "the rest of the program uses them")]

pub mod embed;
