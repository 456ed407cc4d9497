//! Graphics processors in a program that was built without them: there is none.

use std::path::Path;

use super::Adapter;
use crate::embed::GpuFloats;
use crate::embed::blocks::{Block, Patches};

const WITHOUT: &str = "this program was built without the feature `wgpu`";

/// There is none.
pub enum Resident {}

/// There is none.
pub enum GpuNetwork {}

/// # Errors
/// Always.
pub fn adapters() -> Result<Vec<Adapter>, String> {
    Err(WITHOUT.into())
}

impl Resident {
    /// # Errors
    /// Always.
    pub fn open(
        _software: bool,
        _floats: GpuFloats,
        _patience_s: u64,
        _folder: Option<&Path>,
    ) -> Result<Resident, String> {
        Err(WITHOUT.into())
    }

    pub fn refine(&mut self) -> bool {
        match *self {}
    }

    pub fn name(&self) -> String {
        match *self {}
    }

    pub fn hangs(&self) -> bool {
        match *self {}
    }

    /// # Errors
    /// Never.
    pub fn network(&mut self, _patches: Patches, _blocks: Vec<Block>, _size: [usize; 2]) -> Result<GpuNetwork, String> {
        match *self {}
    }
}

impl GpuNetwork {
    /// # Errors
    /// Never.
    pub fn stretched(&self, _from: [usize; 2], _to: [usize; 2]) -> Result<GpuNetwork, String> {
        match *self {}
    }

    pub fn tokens(&self) -> usize {
        match *self {}
    }

    pub fn dim(&self) -> usize {
        match *self {}
    }

    pub fn operations(&self) -> u64 {
        match *self {}
    }

    /// # Errors
    /// Never.
    pub fn run(&self, _picture: &[f32], _out: &mut Vec<f32>) -> Result<(), String> {
        match *self {}
    }
}
