//! The steps joined without threads, every frame in its turn: for `replay` and `eval`.

use std::time::Instant;

use crate::embed::{EmbedError, Embedder};
use crate::eval::run::{StageTimes, Tracked, TrackerError, VideoTracker};
use crate::propagate::PropagateConfig;
use crate::state::TrackIds;
use crate::track::{Session, TagError, TrackConfig};
use crate::types::report::{Track, TrackReport};
use crate::types::{Features, Frame, Mask, Seed, TrackId};

/// One camera's embedder and session, as the daemon has them, driven frame by frame.
pub struct Offline {
    embedder: Embedder,
    features: Features,
    session: Session,
    propagate: PropagateConfig,
    track: TrackConfig,
    ids: TrackIds,
}

impl Offline {
    pub fn new(embedder: Embedder, propagate: PropagateConfig, track: TrackConfig) -> Offline {
        let features = embedder.empty_features();
        let session = Session::new(propagate.clone(), track.clone(), embedder.grid(), embedder.dim());
        Offline { embedder, features, session, propagate, track, ids: TrackIds::ephemeral() }
    }

    /// Takes one frame all the way. Its report bears no latencies, so that it is the same on every run.
    ///
    /// # Errors
    /// When the frame cannot be embedded.
    pub fn step(&mut self, frame: &Frame) -> Result<TrackReport, EmbedError> {
        self.timed_step(frame).map(|(report, _)| report)
    }

    /// Tags an object on the frame that was stepped through last.
    ///
    /// # Errors
    /// When there is none, or the seed holds no patch of it.
    pub fn tag(&mut self, seed: &Seed, name: Option<&str>) -> Result<Track, TagError> {
        let id = self.ids.give().unwrap_or(TrackId(0));
        self.session.tag(seed, None, id, name.map_or_else(|| format!("object-{id}"), str::to_owned))
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    fn timed_step(&mut self, frame: &Frame) -> Result<(TrackReport, StageTimes), EmbedError> {
        let embed = self.embedder.embed(&frame.pixels, &mut self.features)?;
        let start = Instant::now();
        self.session.propagate(&self.features);
        let propagated = Instant::now();
        let report = self.session.observe(&frame.meta);
        let times = StageTimes {
            preprocess: embed.preprocess,
            embed: embed.embed,
            propagate: propagated - start,
            mask: propagated.elapsed(),
            ..StageTimes::default()
        };
        Ok((report, times))
    }
}

impl VideoTracker for Offline {
    fn begin(&mut self, frame: &Frame, masks: &[Mask]) -> Result<StageTimes, TrackerError> {
        self.session =
            Session::new(self.propagate.clone(), self.track.clone(), self.embedder.grid(), self.embedder.dim());
        let (_, mut times) = self.timed_step(frame)?;
        let start = Instant::now();
        for mask in masks {
            self.tag(&Seed::Mask(mask.clone()), None)?;
        }
        times.propagate += start.elapsed();
        Ok(times)
    }

    fn step(&mut self, frame: &Frame) -> Result<Tracked, TrackerError> {
        let (_, times) = self.timed_step(frame)?;
        Ok(Tracked { masks: self.session.masks().map(|(_, mask)| mask.clone()).collect(), times })
    }
}
