use crate::cmd::{connect, out};
use crate::embed::{ModelConfig, ModelFiles, load};

/// Tell what a model is, and prove that it computes what it should.
///
/// At each of its input sizes the model is run on the probe's picture, and compared with what it made of it when it was
/// made. The daemon does the same for its input size at every start.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// A manifest, or `bundled`
    manifest: String,
}

const EXAMPLES: &str = "\
EXAMPLES
  Is what was copied to the board what was made?
      tagalong model check models/dinov2-vits14-int8.toml";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let files = ModelFiles::read(&self.manifest).map_err(connect::refused)?;
        let graph = files.graph().map_err(connect::refused)?;
        let ModelFiles { manifest, probes, .. } = files;
        let precision = if graph.is_quantized() { "products in 8-bit integers" } else { "32-bit floats" };
        let bytes = graph.proto().graph.as_ref().map_or(0, |graph| {
            graph.initializer.iter().map(|tensor| tensor.raw_data.len() + 4 * tensor.float_data.len()).sum::<usize>()
        });
        drop(graph);
        out::line(format_args!("{}, of the family {}", manifest.name, manifest.family))?;
        out::line(format_args!("licence     {}", manifest.licence))?;
        out::line(format_args!("file        {}, {:.1} MB of weights, {precision}", manifest.onnx, bytes as f64 / 1e6))?;
        out::line(format_args!(
            "features    {}, {} dimensions, {} dropped",
            manifest.output,
            probes[0].dim,
            manifest.dropped_dimensions.len()
        ))?;
        out::line(format_args!(
            "patches     {0}x{0} pixels, behind {1} tokens",
            manifest.patch, manifest.prefix_tokens
        ))?;
        let least = manifest.precision.least_cosine();
        for [height, width] in &manifest.input_sizes {
            let input = format!("{height}x{width}");
            let config = ModelConfig { input: input.clone(), ..ModelConfig::new(self.manifest.clone()) };
            let model = load(&config).map_err(connect::refused)?;
            let (cosine, kernel) = (model.spec().probe_cosine, model.running());
            let text = format_args!("cosine to the probe {cosine:.6}, {least} is needed; computed by {kernel}");
            out::line(format_args!("input       {input}: {text}"))?;
        }
        Ok(())
    }
}
