//! What gives embeddings of pictures: a model, and what a model is held to.

mod model;
mod noise;
mod pixels;

use ndarray::Array2;

pub use model::Model;
pub use noise::Noise;
pub use pixels::Pixels;

use crate::embed::EmbedError;
use crate::types::{PatchGrid, PixelBuf};

/// Gives the embeddings of pictures.
pub trait Extractor {
    fn name(&self) -> String;

    /// Of the graph, hex; empty where there is none.
    fn sha256(&self) -> String;

    fn grid(&self) -> PatchGrid;

    /// Length of an embedding.
    fn dim(&self) -> usize;

    /// A picture's embeddings, not normalised: (patches, dimensions).
    ///
    /// # Errors
    /// When the model fails to run.
    fn embed(&mut self, picture: &PixelBuf) -> Result<Array2<f32>, EmbedError>;
}
