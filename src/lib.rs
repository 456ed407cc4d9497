//! Show it an object once, and the tag goes along from frame to frame.
//!
//! ```text
//! capture -> embed -> propagate -> track -> serve
//! frames     patch      label        tracks   sockets
//!            embeddings field
//! ```
//!
//! The folders are named for the steps that a frame goes through, and data only moves to the right. Steps do
//! not import their neighbours: they meet in [`types`] and are joined in [`pipeline`].

pub mod clock;
pub mod picture;
mod resample;
pub mod types;

pub mod capture;
pub mod config;
pub mod discover;
pub mod embed;
pub mod eval;
pub mod model;
pub mod propagate;
pub mod serve;
pub mod study;
pub mod track;
pub mod trial;

pub mod budget;
pub mod draw;
pub mod mailbox;
pub mod pipeline;
pub mod sandbox;
pub mod snapshot;
pub mod state;
pub mod stats;
pub mod suggest;

pub mod logging;
pub mod notify;
#[cfg(unix)]
pub mod shutdown;

pub mod cmd;
