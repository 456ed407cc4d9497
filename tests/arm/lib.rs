//! The sources of the program, of which the rest is left out.
#![allow(dead_code, unused_imports, reason = "the rest of the program uses them")]

pub mod embed;
#[path = "../../src/propagate/mod.rs"]
pub mod propagate;
#[path = "../../src/resample.rs"]
pub mod resample;
#[path = "../../src/types/mod.rs"]
pub mod types;
