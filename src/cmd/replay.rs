use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::exit::{Kind, failure};
use super::follow::{EmbedFrame, ModelChoice};
use super::values::TagAt;
use super::{connect, out};
use crate::capture::images::ImageSource;
use crate::capture::{CameraConfig, FrameSource, Pace, SourceKind};
use crate::config::Config;
use crate::serve::wire::{ServerLine, Tracks};
use crate::track::session::Session;
use crate::types::{Features, TrackId, TrackReport, View};

/// Follow objects through a folder of pictures, and print their tracks.
///
/// Every JPEG and PNG picture of the folder, in the order of their names, goes through the very session that the
/// daemon runs, and none is left out. Each prints one line of JSON, the same that the daemon sends, but for the
/// times: a picture bears the time at which it would have come at --fps, and what computing took is told as 0. So
/// the output is the same to the byte on every run, which makes it good for tests and for comparing settings.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The folder of pictures, all of one size
    folder: PathBuf,
    /// An object to follow; may be given several times
    ///
    /// WHAT is a box X,Y,WIDTH,HEIGHT, a point X,Y or a mask FILE.png, in the pixels of picture FRAME, which counts
    /// from 0 and is 0 when left out.
    #[arg(long = "tag", value_name = "[NAME=]WHAT[@FRAME]", required = true, allow_hyphen_values = true)]
    tags: Vec<TagAt>,
    /// Take model, propagation and life cycle from this configuration [default: the built-in one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The rate at which the pictures were taken, in frames a second
    #[arg(long, default_value_t = 30.0, value_name = "HERTZ", value_parser = parse_fps)]
    fps: f32,
    /// Print masks too, in COCO's run-length encoding
    #[arg(long)]
    masks: bool,
}

const EXAMPLES: &str = "\
EXAMPLES
  Follow what is in a box of the first picture:
      tagalong replay frames/ --tag cup=200,120,90,140 > tracks.jsonl

  Two objects, one of which appears in picture 25:
      tagalong replay frames/ --tag cup=cup.png --tag 'dog=310,200@25'

  Compare two configurations:
      diff <(tagalong replay frames/ --tag 245,190) \\
           <(tagalong replay frames/ --tag 245,190 --config new.toml)";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let config = self.config.as_deref().map_or_else(|| Ok(Config::builtin()), Config::load)?;
        let source = ImageSource::open(&self.camera(&config), Pace::Lossless, 0)?;
        let model = connect::model(&ModelChoice::Manifest(config.model.clone()))?;
        replay(source, model, &config, &self.tags, &mut |mut report| {
            if !self.masks {
                report.tracks.iter_mut().for_each(|track| track.mask = None);
            }
            out::json(&ServerLine::Tracks(Tracks { report: Arc::new(report), masks_dropped: false }))
        })
    }

    /// The folder as a camera, named after itself.
    fn camera(&self, config: &Config) -> CameraConfig {
        let name = self.folder.file_name().unwrap_or(self.folder.as_os_str());
        CameraConfig {
            name: name.to_string_lossy().into_owned(),
            source: SourceKind::Images,
            folder: self.folder.clone(),
            fps: self.fps,
            repeat: false,
            width: 0,
            height: 0,
            ..config.camera[0].clone()
        }
    }
}

fn parse_fps(text: &str) -> Result<f32, String> {
    let fps = text.parse().ok().filter(|fps: &f32| (0.1..=1000.0).contains(fps));
    fps.ok_or_else(|| "a rate is a number from 0.1 to 1000, in frames a second".into())
}

/// Follows the tagged objects through every frame of `source`.
fn replay(
    mut source: impl FrameSource,
    mut model: Box<dyn EmbedFrame>,
    config: &Config,
    tags: &[TagAt],
    tell: &mut dyn FnMut(TrackReport) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    model.change_density(config.propagation().density)?;
    let mut features = Features::zeros(model.grid(), model.dim());
    let mut session = Session::new(config.propagation().clone(), config.track.clone(), model.grid(), model.dim());
    let (mut given, mut frames) = (0, 0);
    // Nothing is waited for: every picture is there.
    while let Some(frame) = source.next(Instant::now() + Duration::from_secs(3600))? {
        let points = tags.iter().any(|tag| tag.frame == frame.meta.seq);
        features.view = if points { View::WHOLE } else { session.gaze() };
        model.embed(&frame, &mut features)?;
        let mut report = session.step(&frame.meta, &features);
        for tag in tags.iter().filter(|tag| tag.frame == frame.meta.seq) {
            given += 1;
            let id = TrackId(given);
            let name = tag.name.clone().unwrap_or_else(|| format!("object-{id}"));
            let track = session.tag(&tag.what.seed()?, None, id, name);
            report.tracks.push(track.map_err(|error| failure(Kind::Data, format!("{}: {error}", describe(tag))))?);
        }
        frames = frame.meta.seq + 1;
        tell(report)?;
    }
    match tags.iter().find(|tag| tag.frame >= frames) {
        Some(tag) => Err(failure(Kind::Data, format!("{}: there are {frames} pictures", describe(tag)))),
        None => Ok(()),
    }
}

fn describe(tag: &TagAt) -> String {
    format!("the tag {} in picture {}", tag.name.as_deref().unwrap_or("without a name"), tag.frame)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cmd::follow::tests::{Colours, frame};
    use crate::types::{PatchGrid, TrackState};

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for seq in 0..6 {
            let frame = frame(seq, 8 + 8 * seq as usize);
            let png = crate::picture::encode_png(frame.pixels.bytes(), 96, 64).unwrap();
            std::fs::write(folder.path().join(format!("{seq:05}.png")), png).unwrap();
        }
        folder
    }

    fn run(folder: &Path, tags: &[&str]) -> anyhow::Result<Vec<TrackReport>> {
        let tags = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        let args = Args { folder: folder.into(), tags, config: None, fps: 25.0, masks: true };
        let config = Config::builtin();
        let source = ImageSource::open(&args.camera(&config), Pace::Lossless, 0)?;
        let model = Box::new(Colours::new(PatchGrid { rows: 16, cols: 24, patch: 4 }));
        let mut reports = Vec::new();
        replay(source, model, &config, &args.tags, &mut |report| {
            reports.push(report);
            Ok(())
        })?;
        Ok(reports)
    }

    #[test]
    fn a_folder_is_followed_the_same_way_every_time() {
        let folder = folder();
        let tags = ["cup=8,16,16,16", "40,24@3"];
        let reports = run(folder.path(), &tags).unwrap();
        assert_eq!(reports.iter().map(|report| report.seq).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(reports[2].t_mono_ns, 80_000_000);
        assert_eq!(reports.iter().map(|report| report.tracks.len()).collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2]);
        let cup = &reports[2].tracks[0];
        assert_eq!((cup.name.as_str(), cup.id), ("cup", TrackId(1)));
        let centre = cup.centroid.unwrap();
        assert!((centre[0] - 32.0).abs() < 3.0 && (centre[1] - 24.0).abs() < 3.0, "{centre:?}");
        assert_eq!(reports[3].tracks[1].name, "object-2");
        assert_eq!(reports[3].tracks[1].state, TrackState::Tentative);
        assert_eq!(run(folder.path(), &tags).unwrap(), reports);
    }

    #[test]
    fn a_tag_that_comes_too_late_is_told() {
        let error = run(folder().path(), &["cup=8,16,16,16@6"]).unwrap_err();
        assert_eq!(error.to_string(), "the tag cup in picture 6: there are 6 pictures");
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        assert!(run(Path::new("no/such/folder"), &["1,2"]).is_err());
    }
}
