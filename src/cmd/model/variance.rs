use std::fmt::Write;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use ndarray::Array2;
use serde::Serialize;

use crate::cmd::exit::{Kind, failure};
use crate::cmd::{connect, out};
use crate::embed::{
    Backbone, DataFile, Manifest, ModelConfig, ModelFiles, Preprocessor, TractBackbone, hex_digest, load, load_tract,
};
use crate::eval::Davis;
use crate::model::variance::{Gathering, Variance, mean_inside};
use crate::propagate::SeedRule;
use crate::propagate::seed::seed_mask;
use crate::types::{InputTensor, PatchGrid, PixelBuf};

use super::{frames, target};

/// Tell how much each dimension of a model's features varies, and leave out what drowns the rest.
///
/// Masked-image models have a few dimensions of very large variance; without them their features serve nearest
/// neighbours far better. Over patches, variance is told for any folder of pictures; over time, of one and the same
/// object, for a data set in DAVIS layout, where it is known which patches show which object. With --drop, --standardise
/// or --project a new manifest is written beside the model's, with the same graph.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// A model's manifest
    manifest: PathBuf,
    /// Pictures, JPEG or PNG, in this folder and those inside it; or a data set in DAVIS layout
    #[arg(long, value_name = "DIR")]
    frames: PathBuf,
    /// How many pictures to look at, at most; of videos every n-th
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u64).range(2..=100_000))]
    pictures: u64,
    /// Leave out the N dimensions that vary most
    #[arg(long, value_name = "N", group = "change")]
    drop: Option<usize>,
    /// Scale every dimension to the same variance
    #[arg(long, group = "change")]
    standardise: bool,
    /// Keep the D directions in which patches vary most, without those that vary most over time
    #[arg(long, value_name = "D", group = "change")]
    project: Option<usize>,
    /// With --project: how many directions of variance over time are taken away; needs a data set in DAVIS layout
    #[arg(long, value_name = "N", default_value_t = 8, requires = "project")]
    remove: usize,
    /// What the changed model is called, and its manifest [default: the other's name and what was done]
    #[arg(long, requires = "change")]
    name: Option<String>,
    /// Write over a manifest that is there
    #[arg(long)]
    force: bool,
    /// How many dimensions to tell of, those that vary most first
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Draw the variance of all dimensions
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Save the variance of all dimensions as JSON; `-` prints it instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const EXAMPLES: &str = "\
EXAMPLES
  Which dimensions drown the others?
      tagalong model variance mae-vitb16.toml --frames videos --plot variance.svg

  The same model without the 100 that vary most, as mae-vitb16-drop100:
      tagalong model variance mae-vitb16.toml --frames videos --drop 100";

/// What is told for programs.
#[derive(Serialize)]
struct Report {
    model: String,
    pictures: usize,
    objects: usize,
    /// Of each dimension.
    spatial: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temporal: Option<Vec<f64>>,
}

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let path = self.manifest.to_string_lossy().into_owned();
        // What is measured is what the daemon would run: a model that fails its probe is refused.
        let config = ModelConfig::new(path.clone());
        let backbone = load_tract(&config).map_err(connect::refused)?;
        let ModelFiles { manifest, transform, .. } = ModelFiles::read(&path).map_err(connect::refused)?;
        if transform.is_some() {
            return Err(failure(
                Kind::Data,
                format!("{path}: its features are transformed already: take the model that it was made of"),
            ));
        }
        let target = self.target(&manifest)?;
        let mut looker = Looker::new(backbone);
        self.look(&mut looker)?;
        let (pictures, objects) = (looker.pictures, looker.objects);
        let variance = looker.gathering.finish();
        let report = Report {
            model: manifest.name.clone(),
            pictures,
            objects,
            spatial: variance.spatial(),
            temporal: variance.temporal(),
        };
        if let Some(file) = &self.plot {
            save(file, plot(&report).as_bytes())?;
        }
        match &self.json {
            Some(file) if file.as_os_str() == "-" => out::json(&report)?,
            Some(file) => save(file, (serde_json::to_string(&report)? + "\n").as_bytes())?,
            None => {}
        }
        if self.json.as_ref().is_none_or(|file| file.as_os_str() != "-") {
            out::print(&table(&report, self.top))?;
        }
        match target {
            Some(target) => self.write(&manifest, &variance, &target),
            None => Ok(()),
        }
    }

    /// The manifest that is to be written, if one is.
    fn target(&self, manifest: &Manifest) -> anyhow::Result<Option<PathBuf>> {
        let done = match (self.drop, self.standardise, self.project) {
            (Some(count), ..) => format!("drop{count}"),
            (_, true, _) => "standardised".into(),
            (.., Some(dim)) => format!("project{dim}"),
            _ => return Ok(None),
        };
        let name = self.name.clone().unwrap_or_else(|| format!("{}-{done}", manifest.name));
        target::check_name(&name)?;
        let file = self.manifest.with_file_name(format!("{name}.toml"));
        target::check_free([&file], self.force)?;
        Ok(Some(file))
    }

    fn look(&self, looker: &mut Looker) -> anyhow::Result<()> {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} pictures  {eta} left")?;
        let bar = ProgressBar::new(self.pictures).with_style(style);
        let tell = |looked: usize| bar.set_position(looked as u64);
        let most = self.pictures as usize;
        if self.frames.join("JPEGImages").is_dir() && self.frames.join("Annotations").is_dir() {
            let davis = Davis::open(&self.frames, None)?;
            let sequences = davis.names().iter().map(|name| davis.sequence(name)).collect::<Result<Vec<_>, _>>()?;
            let all: usize = sequences.iter().map(|sequence| sequence.len()).sum();
            let stride = all.div_ceil(most).max(1);
            bar.set_length(all.div_ceil(stride) as u64);
            for sequence in sequences {
                let mut objects: Vec<Vec<f32>> = vec![Vec::new(); sequence.instances()];
                for index in (0..sequence.len()).step_by(stride) {
                    let tokens = looker.picture(&sequence.frame(index)?.pixels)?;
                    let masks = sequence.annotation(index)?.masks(objects.len());
                    for (object, mask) in objects.iter_mut().zip(masks) {
                        let fractions = seed_mask(&mask, looker.grid(), SeedRule::Area);
                        object.extend(mean_inside(tokens.view(), &fractions).into_iter().flatten());
                    }
                    tell(looker.pictures);
                }
                objects.into_iter().for_each(|means| looker.object(means));
            }
        } else {
            let files = frames::pictures(&self.frames)?;
            if files.is_empty() {
                return Err(failure(Kind::NoInput, format!("{}: no JPEG or PNG picture in it", self.frames.display())));
            }
            let stride = files.len().div_ceil(most).max(1);
            bar.set_length(files.len().div_ceil(stride) as u64);
            for file in files.iter().step_by(stride) {
                looker.picture(&frames::read(file)?)?;
                tell(looker.pictures);
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Writes a manifest with the same graph and probe, and runs it as the daemon would.
    fn write(&self, manifest: &Manifest, variance: &Variance, target: &Path) -> anyhow::Result<()> {
        let dim = variance.dim();
        let before = &manifest.dropped_dimensions;
        let unfit = |problem: String| failure(Kind::Usage, problem);
        let name = target.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut changed = Manifest { name: name.clone(), ..manifest.clone() };
        let mut transform = None;
        if let Some(count) = self.drop {
            if count == 0 || count >= dim {
                return Err(unfit(format!("1 to {} of the {dim} dimensions can be dropped", dim - 1)));
            }
            // Of all dimensions of the output, for those that were dropped before are not among these.
            let kept: Vec<usize> = (0..dim + before.len()).filter(|d| !before.contains(d)).collect();
            changed.dropped_dimensions.extend(variance.highest(count).into_iter().map(|d| kept[d]));
            changed.dropped_dimensions.sort_unstable();
        } else if self.standardise {
            transform = Some(variance.standardising());
        } else if let Some(kept) = self.project {
            let removed = if variance.temporal().is_some() { self.remove } else { 0 };
            if kept == 0 || kept + removed > dim {
                return Err(unfit(format!(
                    "without {removed} directions, 1 to {} of {dim} can be kept",
                    dim.saturating_sub(removed)
                )));
            }
            if removed == 0 {
                out::line("no objects are known here: nothing is told over time, and the projection is plain PCA")?;
            }
            transform = Some(variance.projecting(removed, kept));
        }
        if let Some(transform) = transform {
            let bytes = transform.to_bytes();
            let file = format!("{name}.transform");
            save(&target.with_file_name(&file), &bytes)?;
            changed.transform = Some(DataFile { file, sha256: hex_digest(&bytes) });
        }
        save(target, changed.to_text("tagalong model variance").as_bytes())?;
        let config = ModelConfig::new(target.to_string_lossy());
        let dim = load(&config).map_err(connect::refused)?.spec().dim;
        out::line(format_args!("{}: {dim} dimensions", target.display()))
    }
}

/// Runs pictures through a model, and gathers.
struct Looker {
    backbone: TractBackbone,
    preprocessor: Preprocessor,
    input: InputTensor,
    gathering: Gathering,
    pictures: usize,
    objects: usize,
}

impl Looker {
    fn new(backbone: TractBackbone) -> Looker {
        let spec = backbone.spec();
        let (grid, gathering) = (spec.grids[0], Gathering::new(spec.dim));
        let preprocessor = Preprocessor::new(grid.input_width(), grid.input_height(), spec.mean, spec.std);
        Looker { backbone, preprocessor, input: InputTensor::default(), gathering, pictures: 0, objects: 0 }
    }

    fn grid(&self) -> PatchGrid {
        self.backbone.spec().grids[0]
    }

    /// A picture's embeddings, not normalised: (patches, dimensions).
    fn picture(&mut self, pixels: &PixelBuf) -> anyhow::Result<Array2<f32>> {
        self.preprocessor.run(pixels, &mut self.input)?;
        let mut rows = Array2::zeros((self.grid().len(), self.backbone.spec().dim));
        self.backbone.embed_unnormalised(&self.input, rows.as_slice_mut().expect("in one piece"))?;
        self.gathering.picture(rows.view());
        self.pictures += 1;
        Ok(rows)
    }

    /// An object's mean features, one picture behind the other.
    fn object(&mut self, means: Vec<f32>) {
        let dim = self.backbone.spec().dim;
        let means = Array2::from_shape_vec((means.len() / dim, dim), means).expect("whole rows");
        self.gathering.object(means.view());
        self.objects += 1;
    }
}

fn save(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(file, bytes).map_err(|error| failure(Kind::CantCreate, format!("{}: {error}", file.display())))
}

/// Dimensions, those that vary most first.
fn order(report: &Report) -> Vec<usize> {
    let mut order: Vec<usize> = (0..report.spatial.len()).collect();
    order.sort_by(|a, b| report.spatial[*b].total_cmp(&report.spatial[*a]).then(a.cmp(b)));
    order
}

fn table(report: &Report, top: usize) -> String {
    let total: f64 = report.spatial.iter().sum();
    let share = |value: f64| if total > 0.0 { 100.0 * value / total } else { 0.0 };
    let mut text = format!("{} over {} pictures and {} objects\n", report.model, report.pictures, report.objects);
    let _ = writeln!(text, "dimension  over patches  share, summed   over time");
    let mut sum = 0.0;
    for d in order(report).into_iter().take(top) {
        sum += report.spatial[d];
        let temporal = report.temporal.as_ref().map_or("-".into(), |temporal| format!("{:.4}", temporal[d]));
        let spatial = report.spatial[d];
        let _ = writeln!(text, "{d:9}  {spatial:12.4}  {:5.1}%  {:5.1}%  {temporal:>10}", share(spatial), share(sum));
    }
    text
}

/// Bars on a logarithmic scale, the dimensions that vary most first; over time as dots.
fn plot(report: &Report) -> String {
    let (width, height, margin) = (900.0, 360.0, 50.0);
    let order = order(report);
    let all = report.spatial.iter().chain(report.temporal.iter().flatten()).copied().filter(|v| *v > 0.0);
    let (low, high) = all.fold((f64::INFINITY, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
    let (low, high) = if high > 0.0 { (low.log10().floor(), high.log10().ceil()) } else { (0.0, 1.0) };
    let high = high.max(low + 1.0);
    let y = |v: f64| {
        let v = if v > 0.0 { v.log10().max(low) } else { low };
        margin + (high - v) / (high - low) * (height - 2.0 * margin)
    };
    let step = (width - 2.0 * margin) / order.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"{margin}\" y=\"24\">{}: variance of each dimension, the largest first; bars over patches, dots over time of one object</text>\n",
        report.model
    );
    for power in low as i32..=high as i32 {
        let at = y(10f64.powi(power));
        let _ = writeln!(
            svg,
            "<line x1=\"{margin}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/><text x=\"6\" y=\"{:.1}\">1e{power}</text>",
            width - margin,
            at + 4.0
        );
    }
    for (place, d) in order.iter().enumerate() {
        let x = margin + place as f64 * step;
        let top = y(report.spatial[*d]);
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.2}\" y=\"{top:.2}\" width=\"{:.2}\" height=\"{:.2}\" fill=\"#4477aa\"><title>dimension {d}</title></rect>",
            (step * 0.8).max(0.5),
            height - margin - top
        );
        if let Some(temporal) = &report.temporal {
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.2}\" cy=\"{:.2}\" r=\"1.6\" fill=\"#cc3311\"/>",
                x + step * 0.4,
                y(temporal[*d])
            );
        }
    }
    svg + "</svg>\n"
}
