//! Models, as `check`, `eval` and `replay` use them.

use std::time::Duration;

use super::exit::{Kind, failure};
use super::follow::{EmbedFrame, ModelChoice};
use crate::embed::{self, Embedder, LoadError, Running, Runtime};
use crate::types::{Features, Frame, PatchGrid};

/// Loads a model, held to its probe where it has one.
///
/// # Errors
/// When it cannot be read, or is refused.
pub fn model(choice: &ModelChoice) -> anyhow::Result<Box<dyn EmbedFrame>> {
    let backbone = match choice {
        ModelChoice::Manifest(config) => embed::load(config),
        ModelChoice::Onnx { model, execution } => embed::load_bare(model, *execution).map(|model| Box::new(model) as _),
    };
    let backbone = backbone.map_err(refused)?;
    let (spec, running) = (backbone.spec(), backbone.running());
    let grid = spec.grids[0];
    let description = format!(
        "model {} ({}), {}x{} patches of {} pixels, {} dimensions, probe cosine {:.4}, computed by {}",
        spec.name, spec.family, grid.rows, grid.cols, grid.patch, spec.dim, spec.probe_cosine, running,
    );
    Ok(Box::new(Model { embedder: Embedder::new(backbone, grid), size: grid, description }))
}

/// As [`model`], by the processor that was asked for or by none.
///
/// # Errors
/// As [`model`], and when another computes.
pub fn model_by(runtime: Runtime, choice: &ModelChoice) -> anyhow::Result<Box<dyn EmbedFrame>> {
    let model = model(choice)?;
    match model.running() {
        Running { instead: Some(why), .. } if runtime == Runtime::Wgpu => {
            Err(failure(Kind::Unavailable, format!("no graphics processor computes it: {why}")))
        }
        _ => Ok(model),
    }
}

/// A model's refusal as a failure of the command.
pub fn refused(error: LoadError) -> anyhow::Error {
    let kind = match error {
        LoadError::Read { .. } => Kind::NoInput,
        LoadError::Input { .. } => Kind::Config,
        _ => Kind::Data,
    };
    failure(kind, error)
}

struct Model {
    embedder: Embedder,
    /// The model's own input size, of the configuration's choice.
    size: PatchGrid,
    description: String,
}

impl EmbedFrame for Model {
    fn describe(&self) -> String {
        self.description.clone()
    }

    fn running(&self) -> Running {
        self.embedder.running()
    }

    fn grid(&self) -> PatchGrid {
        self.embedder.grid()
    }

    fn change_density(&mut self, density: f32) -> anyhow::Result<()> {
        self.embedder.change_grid(self.size.scaled(density)).map_err(|error| failure(Kind::Config, error))
    }

    fn dim(&self) -> usize {
        self.embedder.dim()
    }

    fn operations(&self) -> Option<u64> {
        self.embedder.operations()
    }

    fn forget(&mut self) {
        self.embedder.forget(0);
    }

    fn embed(&mut self, frame: &Frame, out: &mut Features) -> anyhow::Result<[Duration; 2]> {
        let times = self.embedder.follow(0, &frame.pixels, out)?;
        Ok([times.preprocess, times.embed])
    }
}
