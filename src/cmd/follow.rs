//! Frames through a model and a session, one after the other, as `eval`, `trial` and `replay` need them. The daemon does the
//! same on threads.

use std::time::{Duration, Instant};

use crate::embed::{BareModel, Execution, ModelConfig, Running};
use crate::eval::run::TrackerError;
use crate::eval::{StageTimes, Tracked, VideoTracker};
use crate::propagate::PropagateConfig;
use crate::track::TrackConfig;
use crate::track::session::{Session, TagError};
use crate::trial::Subject;
use crate::types::{Features, Frame, Mask, PatchGrid, Seed, TrackId, TrackReport, View};

/// A model, as the command line names it.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelChoice {
    /// A manifest's path, or `bundled`, with what a configuration says of it.
    Manifest(ModelConfig),
    /// A graph without a manifest.
    Onnx { model: BareModel, execution: Execution },
}

/// Frames to embeddings: preprocessing and a backbone.
pub trait EmbedFrame {
    /// What was loaded, in a few words.
    fn describe(&self) -> String;

    /// What frames are embedded on.
    fn grid(&self) -> PatchGrid;

    /// Embeds so many times as many patches along each side as the model's input size has, from now on; 1 before it is called.
    ///
    /// # Errors
    /// When the model cannot be run so.
    fn change_density(&mut self, density: f32) -> anyhow::Result<()>;

    /// Who computes.
    fn running(&self) -> Running {
        Running::default()
    }

    /// Operations of the backbone for a frame that is computed whole, where they are known.
    fn operations(&self) -> Option<u64> {
        None
    }

    /// Length of one embedding.
    fn dim(&self) -> usize;

    /// Takes nothing over from earlier frames: the next is of another video.
    fn forget(&mut self) {}

    /// Embeds the part of a frame that `out.view` says into `out`, and tells how long preprocessing and the backbone took.
    ///
    /// # Errors
    /// When the frame cannot be decoded or the model fails.
    fn embed(&mut self, frame: &Frame, out: &mut Features) -> anyhow::Result<[Duration; 2]>;
}

/// The daemon's session as a tracker for the evaluation: each object's mask is what the session drew, whatever the
/// life cycle says of it.
pub struct SessionTracker {
    model: Box<dyn EmbedFrame>,
    propagate: PropagateConfig,
    track: TrackConfig,
    /// `None` before the first frame.
    video: Option<Video>,
    features: Features,
}

/// The video that is being followed.
struct Video {
    session: Session,
    /// How many of the objects were in the first frame: those that were not are never seen.
    ids: Vec<Option<TrackId>>,
}

impl SessionTracker {
    pub fn new(model: Box<dyn EmbedFrame>, propagate: PropagateConfig, track: TrackConfig) -> SessionTracker {
        let features = Features::zeros(model.grid(), model.dim());
        SessionTracker { model, propagate, track, video: None, features }
    }

    /// Follows the next videos by another rule.
    pub fn change_rule(&mut self, propagate: PropagateConfig) {
        self.propagate = propagate;
    }

    /// Operations of the backbone for a frame that is computed whole, where they are known.
    pub fn operations(&self) -> Option<u64> {
        self.model.operations()
    }

    /// Embeds the part of a frame that is said.
    fn embed(&mut self, frame: &Frame, view: View) -> Result<StageTimes, TrackerError> {
        self.features.view = view;
        let [preprocess, embed] = self.model.embed(frame, &mut self.features)?;
        Ok(StageTimes { preprocess, embed, ..StageTimes::default() })
    }
}

impl VideoTracker for SessionTracker {
    fn begin(&mut self, frame: &Frame, masks: &[Mask]) -> Result<StageTimes, TrackerError> {
        self.model.forget();
        self.model.change_density(self.propagate.density)?;
        let mut times = self.embed(frame, View::WHOLE)?;
        let start = Instant::now();
        let (grid, dim) = (self.model.grid(), self.model.dim());
        let mut session = Session::new(self.propagate.clone(), self.track.clone(), grid, dim);
        session.step(&frame.meta, &self.features);
        let ids = (1..).map(TrackId).zip(masks).map(|(id, mask)| {
            if mask.is_empty() {
                return Ok(None);
            }
            session.tag(&Seed::Mask(mask.clone()), None, id, id.to_string()).map(|_| Some(id))
        });
        let ids = ids.collect::<Result<Vec<Option<TrackId>>, TagError>>()?;
        self.video = Some(Video { session, ids });
        times.propagate = start.elapsed();
        Ok(times)
    }

    fn step(&mut self, frame: &Frame) -> Result<Tracked, TrackerError> {
        let view = self.video.as_ref().ok_or(NOT_BEGUN)?.session.gaze();
        let mut times = self.embed(frame, view)?;
        let Video { session, ids } = self.video.as_mut().ok_or(NOT_BEGUN)?;
        let start = Instant::now();
        session.propagate(&self.features);
        times.propagate = start.elapsed();
        let start = Instant::now();
        session.observe(&frame.meta, &self.features.picture);
        let mask_of = |id: &Option<TrackId>| {
            let drawn = id.and_then(|id| session.masks().find(|(drawn, _)| *drawn == id));
            drawn.map_or_else(|| Mask::empty(frame.meta.width, frame.meta.height), |(_, mask)| mask.clone())
        };
        let masks = ids.iter().map(mask_of).collect();
        times.mask = start.elapsed();
        Ok(Tracked { masks, times })
    }
}

/// On trial is what the daemon reports.
impl Subject for SessionTracker {
    fn begin(&mut self, frame: &Frame) -> Result<(), TrackerError> {
        VideoTracker::begin(self, frame, &[]).map(|_| ())
    }

    fn tag(&mut self, id: TrackId, mask: &Mask) -> Result<(), TrackerError> {
        let video = self.video.as_mut().ok_or(NOT_BEGUN)?;
        video.session.tag(&Seed::Mask(mask.clone()), None, id, id.to_string())?;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), TrackerError> {
        let video = self.video.as_mut().ok_or(NOT_BEGUN)?;
        self.model.forget();
        let fresh = Session::new(self.propagate.clone(), self.track.clone(), self.model.grid(), self.model.dim());
        let mut before = std::mem::replace(&mut video.session, fresh);
        for track in before.list("") {
            if let Some(exemplars) = before.keep(track.id) {
                video.session.know(track.id, track.name, &exemplars);
            }
        }
        Ok(())
    }

    fn step(&mut self, frame: &Frame) -> Result<TrackReport, TrackerError> {
        let view = self.video.as_ref().ok_or(NOT_BEGUN)?.session.gaze();
        self.embed(frame, view)?;
        let video = self.video.as_mut().ok_or(NOT_BEGUN)?;
        Ok(video.session.step(&frame.meta, &self.features))
    }
}

const NOT_BEGUN: &str = "a video begins with its first frame";

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::config::Config;
    use crate::types::{FrameMeta, PixelBuf, PixelFormat, Timestamp};

    /// Embeds each patch as the colour of its middle pixel, and a constant.
    pub struct Colours {
        /// At density 1.
        size: PatchGrid,
        grid: PatchGrid,
    }

    impl Colours {
        pub fn new(size: PatchGrid) -> Colours {
            Colours { size, grid: size }
        }
    }

    impl EmbedFrame for Colours {
        fn describe(&self) -> String {
            "colours".into()
        }

        fn grid(&self) -> PatchGrid {
            self.grid
        }

        fn change_density(&mut self, density: f32) -> anyhow::Result<()> {
            self.grid = self.size.scaled(density);
            Ok(())
        }

        fn dim(&self) -> usize {
            4
        }

        fn embed(&mut self, frame: &Frame, out: &mut Features) -> anyhow::Result<[Duration; 2]> {
            *out = Features { view: out.view, ..Features::zeros(self.grid, 4) };
            let FrameMeta { width, height, .. } = frame.meta;
            let [left, top, part_width, part_height] = out.view.pixels(width, height);
            for (index, row) in out.data.chunks_exact_mut(4).enumerate() {
                let (down, across) = (index / self.grid.cols, index % self.grid.cols);
                let [x, y, w, h] = self.grid.patch_area(down, across, part_width, part_height);
                let pixel = (top + (y + h / 2.0) as usize) * width + left + (x + w / 2.0) as usize;
                let rgb = &frame.pixels.bytes()[pixel * 3..][..3];
                row[..3].iter_mut().zip(rgb).for_each(|(v, c)| *v = f32::from(*c) / 255.0);
                row[3] = 0.5;
            }
            out.normalise();
            Ok([Duration::from_millis(1), Duration::from_millis(2)])
        }
    }

    /// A red square of 16 pixels at `x`, 16 on black, 96x64.
    pub fn frame(seq: u64, x: usize) -> Frame {
        let inside = |px: usize, py: usize| (x..x + 16).contains(&px) && (16..32).contains(&py);
        let rgb = (0..96 * 64).flat_map(|i| if inside(i % 96, i / 96) { [255, 0, 0] } else { [0, 0, 0] }).collect();
        let ns = seq * 40_000_000;
        let captured_at = Timestamp { mono_ns: ns, real_ns: ns };
        let meta = FrameMeta { camera: "test".into(), seq, captured_at, dropped: 0, width: 96, height: 64 };
        Frame { meta, pixels: PixelBuf::packed(PixelFormat::Rgb3, 96, 64, rgb).unwrap() }
    }

    #[test]
    fn objects_are_followed_in_their_order() {
        let config = Config::builtin();
        let model = Box::new(Colours::new(PatchGrid { rows: 16, cols: 24, patch: 4 }));
        let mut tracker = SessionTracker::new(model, config.propagation().clone(), config.track.clone());
        assert!(VideoTracker::step(&mut tracker, &frame(0, 8)).is_err(), "it has not begun");
        let square = |x: usize| Mask::from_fn(96, 64, |px, py| (x..x + 16).contains(&px) && (16..32).contains(&py));
        // The first object is not in the first frame, so it is never seen; the second moves.
        let times = VideoTracker::begin(&mut tracker, &frame(0, 8), &[Mask::empty(96, 64), square(8)]).unwrap();
        assert_eq!([times.preprocess, times.embed], [1, 2].map(Duration::from_millis));
        for seq in 1..6 {
            let x = 8 + 8 * seq as usize;
            let masks = VideoTracker::step(&mut tracker, &frame(seq, x)).unwrap().masks;
            assert!(masks[0].is_empty());
            assert!(masks[1].iou(&square(x)) > 0.8, "{seq}: {}", masks[1].iou(&square(x)));
        }
    }

    #[test]
    fn a_restart_leaves_what_objects_are_known_by_and_no_more() {
        let config = Config::builtin();
        let model = Box::new(Colours::new(PatchGrid { rows: 16, cols: 24, patch: 4 }));
        let mut tracker = SessionTracker::new(model, config.propagation().clone(), config.track.clone());
        assert!(tracker.restart().is_err(), "it has not begun");
        let square = |x: usize| Mask::from_fn(96, 64, |px, py| (x..x + 16).contains(&px) && (16..32).contains(&py));
        Subject::begin(&mut tracker, &frame(0, 8)).unwrap();
        tracker.tag(TrackId(7), &square(8)).unwrap();
        for seq in 1..10 {
            Subject::step(&mut tracker, &frame(seq, 8)).unwrap();
        }
        tracker.restart().unwrap();
        assert!(tracker.video.as_ref().unwrap().session.is_empty());
        // The square is out of the picture, and then far from where it was.
        assert!(Subject::step(&mut tracker, &frame(10, 96)).unwrap().tracks.is_empty());
        let reports: Vec<TrackReport> =
            (11..16).map(|seq| Subject::step(&mut tracker, &frame(seq, 72)).unwrap()).collect();
        let track = &reports[4].tracks[0];
        assert_eq!((track.id, track.name.as_str()), (TrackId(7), "7"));
        let mask = Mask::from_coco(track.mask.as_ref().unwrap()).unwrap();
        assert!(mask.iou(&square(72)) > 0.8, "{}", mask.iou(&square(72)));
    }

    #[test]
    fn a_small_object_is_looked_at_in_a_part_of_the_frame() {
        let config = Config::builtin();
        // Patches of 8 pixels, and a square of 16 that lies on four of them or on parts of nine.
        let rule = |zoom: f32| PropagateConfig { zoom, refine_radius: 0.0, ..config.propagation().clone() };
        let square = |x: usize| Mask::from_fn(96, 64, |px, py| (x..x + 16).contains(&px) && (16..32).contains(&py));
        let overlap = |zoom: f32| {
            let model = Box::new(Colours::new(PatchGrid { rows: 8, cols: 12, patch: 8 }));
            let mut tracker = SessionTracker::new(model, rule(zoom), config.track.clone());
            VideoTracker::begin(&mut tracker, &frame(0, 8), &[square(8)]).unwrap();
            let step = |seq: u64| {
                let x = 8 + 3 * seq as usize;
                VideoTracker::step(&mut tracker, &frame(seq, x)).unwrap().masks[0].iou(&square(x))
            };
            let sum: f64 = (1..20).map(step).sum();
            (sum / 19.0, tracker.features.view)
        };
        let (plain, whole) = overlap(1.0);
        let (zoomed, part) = overlap(2.0);
        assert_eq!(whole, View::WHOLE);
        assert!(part.width < 0.6, "{part:?}");
        assert!(zoomed > plain + 0.05, "{zoomed} and {plain}");
    }

    #[test]
    fn each_rule_has_its_own_density() {
        let config = Config::builtin();
        let model = Box::new(Colours::new(PatchGrid { rows: 16, cols: 24, patch: 4 }));
        let rule = |density: f32| PropagateConfig { density, refine_radius: 0.0, ..config.propagation().clone() };
        let mut tracker = SessionTracker::new(model, rule(1.0), config.track.clone());
        let square = Mask::from_fn(96, 64, |px, py| (8..24).contains(&px) && (16..32).contains(&py));
        for (density, grid) in [(0.5, [8, 12]), (2.0, [32, 48]), (2.0, [32, 48]), (1.0, [16, 24])] {
            tracker.change_rule(rule(density));
            VideoTracker::begin(&mut tracker, &frame(0, 8), std::slice::from_ref(&square)).unwrap();
            let tracked = VideoTracker::step(&mut tracker, &frame(1, 16)).unwrap();
            assert_eq!([tracker.features.grid.rows, tracker.features.grid.cols], grid);
            assert!(!tracked.masks[0].is_empty());
        }
    }
}
