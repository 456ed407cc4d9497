use std::time::{Duration, Instant};

use serde::Serialize;

use crate::capture::synthetic::{Scene, SceneFrame, SceneOptions};
use crate::cmd::follow::{ModelChoice, SessionTracker};
use crate::cmd::values::parse_size;
use crate::cmd::{connect, out};
use crate::config::Config;
use crate::embed::{Backend, GpuFloats, ModelConfig, Runtime};
use crate::eval::{StageTimes, VideoTracker};
use crate::propagate::PropagateConfig;
use crate::types::{Frame, FrameMeta, Mask, PixelBuf, PixelFormat, Timestamp};

/// Time a model, stage by stage.
///
/// Frames of the built-in scene, 640x480 with four tagged objects, go through the same steps as in the daemon, one
/// after the other and with nothing beside them.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// A manifest, or `bundled`
    manifest: String,
    /// One of the model's input sizes [default: its first]
    #[arg(long, value_name = "HEIGHTxWIDTH", value_parser = parse_size)]
    input_size: Option<[usize; 2]>,
    /// Threads of the model; 0 for one a core
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=64))]
    threads: u64,
    /// The processor that computes the network: auto, cpu, or wgpu for a graphics processor
    #[arg(long, default_value = "auto", value_name = "RUNTIME", value_parser = str::parse::<Runtime>)]
    runtime: Runtime,
    /// What a graphics processor computes in: auto, f32 or f16
    #[arg(long, default_value = "auto", value_name = "FLOATS", value_parser = str::parse::<GpuFloats>)]
    gpu_floats: GpuFloats,
    /// Whose operators compute it on the CPU: auto, int8 or reference
    #[arg(long, default_value = "auto", value_name = "BACKEND", value_parser = str::parse::<Backend>)]
    backend: Backend,
    /// Frames that are timed, after a few to warm up
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    frames: u64,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
EXAMPLES
  What does this board make of it, on one core?
      tagalong model bench models/dinov2-vits14-int8.toml --threads 1";

/// Frames before those that are timed.
const WARM_UP: u64 = 3;

#[derive(Serialize)]
struct Report {
    model: String,
    input: String,
    threads: u64,
    frames: u64,
    load_ms: f64,
    stages: Vec<Stage>,
    /// Of the whole, one frame after the other.
    fps: f64,
}

/// Times of one stage in milliseconds.
#[derive(Serialize)]
struct Stage {
    name: &'static str,
    median_ms: f64,
    p99_ms: f64,
}

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let input = self.input_size.map_or("auto".into(), |[height, width]| format!("{height}x{width}"));
        let config = Config::builtin();
        let threads = self.threads as usize;
        let (runtime, gpu_floats, backend) = (self.runtime, self.gpu_floats, self.backend);
        let choice =
            ModelConfig { input, threads, runtime, gpu_floats, backend, ..ModelConfig::new(self.manifest.clone()) };
        let start = Instant::now();
        let model = connect::model_by(runtime, &ModelChoice::Manifest(choice))?;
        let load = start.elapsed();
        let (name, grid) = (model.describe(), model.grid());
        // The input size is what was asked for, whatever the preset would make of it.
        let rule = PropagateConfig { density: 1.0, ..config.propagation().clone() };
        let mut tracker = SessionTracker::new(model, rule, config.track.clone());
        let mut scene = Frames::new()?;
        let (first, masks) = scene.first()?;
        tracker.begin(&first, &masks).map_err(|error| anyhow::anyhow!("{error}"))?;
        let mut times: Vec<StageTimes> = Vec::new();
        for index in 1..=WARM_UP + self.frames {
            let tracked = tracker.step(&scene.frame(index)?).map_err(|error| anyhow::anyhow!("{error}"))?;
            if index > WARM_UP {
                times.push(tracked.times);
            }
        }
        let named: Vec<Vec<(&'static str, Duration)>> = times
            .iter()
            .map(|times| times.named().into_iter().filter(|(name, _)| *name != "decode").collect())
            .collect();
        let stages: Vec<Stage> = (0..named[0].len())
            .map(|at| {
                let mut stage: Vec<f64> = named.iter().map(|times| times[at].1.as_secs_f64() * 1e3).collect();
                stage.sort_by(f64::total_cmp);
                let rank = |share: f64| stage[((stage.len() - 1) as f64 * share).round() as usize];
                Stage { name: named[0][at].0, median_ms: rank(0.5), p99_ms: rank(0.99) }
            })
            .collect();
        let report = Report {
            model: name,
            input: format!("{}x{}", grid.input_height(), grid.input_width()),
            threads: self.threads,
            frames: self.frames,
            load_ms: load.as_secs_f64() * 1e3,
            fps: 1e3 / stages.last().map_or(f64::INFINITY, |total| total.median_ms),
            stages,
        };
        if self.json {
            return out::json(&report);
        }
        out::line(format_args!("{}; loaded in {:.0} ms", report.model, report.load_ms))?;
        out::line(format_args!("{:12}  median ms    p99 ms", "stage"))?;
        for Stage { name, median_ms, p99_ms } in &report.stages {
            out::line(format_args!("{name:12}  {median_ms:9.2} {p99_ms:9.2}"))?;
        }
        out::line(format_args!("{:.1} frames a second", report.fps))
    }
}

/// Frames of the scene, and the truth of the first.
struct Frames {
    scene: Scene,
    rendered: SceneFrame,
}

impl Frames {
    fn new() -> anyhow::Result<Frames> {
        let scene = Scene::new(SceneOptions { objects: 4, ..SceneOptions::default() })?;
        Ok(Frames { scene, rendered: SceneFrame::default() })
    }

    fn first(&mut self) -> anyhow::Result<(Frame, Vec<Mask>)> {
        let frame = self.frame(0)?;
        let masks = (1..=4).map(|number| self.scene.silhouette(0, number)).collect();
        Ok((frame, masks))
    }

    fn frame(&mut self, index: u64) -> anyhow::Result<Frame> {
        self.scene.render(index, &mut self.rendered);
        let SceneOptions { width, height, fps, .. } = *self.scene.options();
        let ns = (index as f64 * 1e9 / f64::from(fps)) as u64;
        let captured_at = Timestamp { mono_ns: ns, real_ns: ns };
        let meta = FrameMeta { camera: "bench".into(), seq: index, captured_at, dropped: 0, width, height };
        Ok(Frame { meta, pixels: PixelBuf::packed(PixelFormat::Rgb3, width, height, self.rendered.rgb.clone())? })
    }
}
