//! The sources of the program, of which the rest is left out.
#![allow(dead_code, unused_imports)]

pub mod embed;
