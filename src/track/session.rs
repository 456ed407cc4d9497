//! One camera's tracks: pure and deterministic. It takes embeddings and times, and returns reports.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use super::TrackConfig;
use super::evidence::Evidence;
use super::life::{Life, Sighting};
use super::lookalikes::{self, Expected};
use crate::propagate::exemplars::ExemplarKeys;
use crate::propagate::refine::Refiner;
use crate::propagate::seed::{self, SeedError};
use crate::propagate::upsample::Upsampler;
use crate::propagate::{MAX_OBJECTS, ObjectKey, PropagateConfig, Propagator};
use crate::types::command::ListedTrack;
use crate::types::report::{Latency, Reason, Track};
use crate::types::{
    Exemplars, Features, FrameMeta, InputTensor, LabelField, Mask, PatchGrid, Seed, TrackId, TrackReport, TrackState,
};

/// Follows the tagged objects of one camera.
pub struct Session {
    config: TrackConfig,
    memory: Propagator,
    objects: Vec<Object>,
    /// Objects that are known from before and not followed: they become tracks where they are seen.
    known: Vec<Known>,
    /// Tracks that ended since the last report, told once.
    departed: Vec<Track>,
    /// Frames that can still be tagged, the newest last.
    recent: VecDeque<FrameMeta>,
    field: LabelField,
    upsampler: Upsampler,
    refiner: Refiner,
    /// The objects that were looked for last, of those that are followed and of those that are known; ids only grow.
    sought: [Option<TrackId>; 2],
    /// The object that was learnt from last.
    studied: Option<TrackId>,
}

/// A tagged object.
struct Object {
    id: TrackId,
    name: String,
    life: Life,
    score: f32,
    mask: Mask,
    /// Where its centre was last seen: seconds; x, y in pixels.
    last_place: Option<(f64, [f64; 2])>,
    /// x, y in pixels a second.
    velocity: [f64; 2],
    /// Of a disc of its area, where it was last placed, in pixels.
    radius: f64,
    /// The sum of its labels, where it last neither covered another that looks the same nor was covered by it.
    mass: f32,
    /// Since when it has covered another that looks the same, or has been covered by it, in seconds.
    touching: Option<f64>,
    /// Whether that took so long that it may be the other by now.
    confused: bool,
    /// How similar it is to its exemplars where it scores as well as what is found again must; `None` before it did.
    usual_similarity: Option<f32>,
    /// Whether what it is known by is to outlive it, and has changed since it was last asked for.
    kept: Option<Changed>,
}

/// Whether something has changed.
type Changed = bool;

/// An object that is known from before.
#[derive(Clone, Debug)]
struct Known {
    id: TrackId,
    name: String,
    exemplars: ExemplarKeys,
}

/// What came of looking for an object.
enum Sight {
    Nowhere,
    /// Something is seen that is as much like something else as like the object.
    Ambiguous,
    Found {
        labels: Vec<f32>,
        score: f32,
    },
}

/// Why an object could not be tagged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TagError {
    #[error("the camera has given no frame yet; try again when it streams")]
    NoFrame,
    #[error(
        "frame {asked} is no longer remembered, or has not come yet; the newest is {newest}: tag again on a newer one"
    )]
    FrameGone { asked: u64, newest: u64 },
    #[error("{limit} objects are tagged already, which is the most that this camera follows; untag one first")]
    TooMany { limit: usize },
    #[error("{name:?} is nowhere to be seen now; it is looked for, and becomes a track when it shows")]
    NotSeen { name: String },
    #[error(transparent)]
    Seed(#[from] SeedError),
}

/// How fast the velocity follows what is seen, a frame.
const VELOCITY_RATE: f64 = 0.4;
/// Patches of an object that are compared with its exemplars, at most and at least, and those of all objects
/// together: so many objects cost no more than some.
const SAMPLES: RangeInclusive<usize> = 8..=32;
const SAMPLES_OF_ALL: usize = 256;
/// How many objects are looked for everywhere in one frame, of those that are followed, and as many of those that are known.
const SOUGHT: usize = 2;
/// What is found may be another object as well, where it is not this much more like the one than like the other.
const AMBIGUOUS: f32 = 0.02;
/// How much less similar to its exemplars than usual something may be that may be the object, and how fast the usual similarity
/// follows what is seen, a frame.
const ALIKE: f32 = 0.05;
const SIMILARITY_RATE: f32 = 0.1;
/// Seconds for which what covers another that looks the same, or is covered by it, is trusted to go on as it went.
const COAST: f64 = 1.0;
/// What is found by looking everywhere must score at least this to be taken for the object.
const REACQUIRE_SCORE: f32 = 0.5;
/// ... and have this fraction of the reference's patches.
const REACQUIRE_SIZE: f32 = 0.3;
/// What an object looks like is learnt where it scores at least this ...
const SURE: f32 = 0.8;
/// ... has these parts of the patches that it had when it was tagged ...
const SURE_SIZE: RangeInclusive<f32> = 0.5..=2.0;
/// ... and has been seen in so many frames in a row.
const SETTLED: u64 = 5;

impl Session {
    pub fn new(propagate: PropagateConfig, track: TrackConfig, grid: PatchGrid, dim: usize) -> Session {
        Session {
            config: track,
            memory: Propagator::new(propagate, grid, dim),
            objects: Vec::new(),
            known: Vec::new(),
            departed: Vec::new(),
            recent: VecDeque::new(),
            field: LabelField::background(grid, 0),
            upsampler: Upsampler::default(),
            refiner: Refiner::default(),
            sought: [None; 2],
            studied: None,
        }
    }

    /// Takes other settings from the next frame on.
    pub fn configure(&mut self, propagate: PropagateConfig, track: TrackConfig) {
        self.memory.configure(propagate);
        self.config = track;
    }

    /// Follows every object into the next frame: [`Session::propagate`] and [`Session::observe`].
    ///
    /// # Panics
    /// When the features are of another dimension than the session was made for.
    pub fn step(&mut self, meta: &FrameMeta, features: &Features) -> TrackReport {
        self.propagate(features);
        self.observe(meta, &features.picture)
    }

    /// The first half of a step: labels of the new frame. Where its grid is another than that of the frame before,
    /// the session goes over to it, and every track goes on.
    pub fn propagate(&mut self, features: &Features) {
        self.follow_grid(features.grid);
        self.memory.step(features);
    }

    /// Goes over to the grid of another input size.
    fn follow_grid(&mut self, grid: PatchGrid) {
        if grid != self.memory.grid() {
            self.memory.regrid(grid);
        }
    }

    /// The second half of a step: masks, measures and states, and the report of them. `picture` is what the features are of;
    /// without it masks are as good as labels alone make them.
    pub fn observe(&mut self, meta: &FrameMeta, picture: &InputTensor) -> TrackReport {
        self.recent.push_back(meta.clone());
        while self.recent.len() > self.memory.reach_back() + 1 {
            self.recent.pop_front();
        }
        let time = seconds(meta);
        self.part_lookalikes(meta);
        let evidence: Vec<Evidence> = self.objects.iter().map(|o| self.evidence_of(o)).collect();
        for (object, evidence) in self.objects.iter_mut().zip(&evidence) {
            object.score = evidence.score();
            if object.score >= REACQUIRE_SCORE {
                let usual = object.usual_similarity.unwrap_or(evidence.similarity);
                object.usual_similarity = Some(usual + SIMILARITY_RATE * (evidence.similarity - usual));
            }
        }
        let (reacquired, ambiguous) = self.seek(time);
        let masks = self.draw(meta, Some(picture));
        self.objects.iter_mut().zip(masks).for_each(|(object, mask)| object.mask = mask);
        let patch = self.memory.grid().pixels_per_patch(meta.width, meta.height).sqrt();
        for object in &mut self.objects {
            let area = object.mask.area() as f64;
            let bounds = object.mask.bounds();
            let sighting = Sighting {
                time,
                seen: area > 0.0 && (object.score >= self.config.min_score || !self.config.recover),
                reacquired: reacquired.contains(&object.id),
                ambiguous: ambiguous.contains(&object.id) || object.confused,
                area,
                at_edge: bounds.is_some_and(|b| touches_edge(b, meta.width, meta.height, patch / 2.0)),
            };
            let was = object.life.state;
            object.life.observe(&self.config, &sighting);
            object.confused &= !sighting.reacquired;
            object.place(&sighting);
            if object.life.state == TrackState::Lost && was != TrackState::Lost && self.config.recover {
                // What its labels cling to is not the object: only the reference is worth keeping.
                self.memory.forget_context(key(object.id));
            }
        }
        self.study(&evidence);
        let tracks: Vec<Track> = self.departed.drain(..).chain(self.objects.iter().map(Object::track)).collect();
        let (memory, known) = (&mut self.memory, &mut self.known);
        self.objects.retain(|object| {
            let stays = object.life.state != TrackState::Removed;
            if !stays {
                let exemplars = memory.exemplars(key(object.id)).filter(|_| object.kept.is_some()).cloned();
                let name = object.name.clone();
                known.extend(exemplars.map(|exemplars| Known { id: object.id, name, exemplars }));
                memory.remove(key(object.id));
            }
            stays
        });
        report(meta, tracks)
    }

    /// Makes an object known: where it is not followed under that id, it becomes a track where it is seen.
    pub fn know(&mut self, id: TrackId, name: String, exemplars: &Exemplars) {
        let exemplars = ExemplarKeys::new(exemplars);
        self.known.retain(|known| known.id != id);
        match self.objects.iter_mut().find(|object| object.id == id) {
            Some(object) => {
                (object.name, object.kept) = (name, Some(false));
                self.memory.know(key(id), exemplars);
            }
            None => self.known.push(Known { id, name, exemplars }),
        }
    }

    /// Forgets an object that is known. What is followed stays a track, and is forgotten when that ends.
    pub fn forget(&mut self, id: TrackId) {
        self.known.retain(|known| known.id != id);
        self.objects.iter_mut().filter(|object| object.id == id).for_each(|object| object.kept = None);
    }

    /// Makes a track's object known for good, and returns what it is known by. `None` without such a track.
    pub fn keep(&mut self, id: TrackId) -> Option<Exemplars> {
        let object = self.objects.iter_mut().find(|object| object.id == id)?;
        object.kept = Some(false);
        self.memory.exemplars(key(id)).map(ExemplarKeys::exemplars)
    }

    /// What those objects are known by that are known for good and have been learnt from since this was last asked.
    pub fn learnt(&mut self) -> Vec<(TrackId, Exemplars)> {
        let changed = self.objects.iter_mut().filter(|object| object.kept == Some(true));
        let learnt = changed.filter_map(|object| {
            object.kept = Some(false);
            Some((object.id, self.memory.exemplars(key(object.id))?.exemplars()))
        });
        learnt.collect()
    }

    /// Looks for a known object in the newest frame now, and makes it a track. Where it is one already, that is returned.
    ///
    /// # Errors
    /// When there is no frame or no room, or it is not seen: then it is looked for in those that come.
    pub fn recognise(&mut self, id: TrackId, name: String, exemplars: &Exemplars) -> Result<Track, TagError> {
        if let Some(object) = self.objects.iter().find(|object| object.id == id) {
            return Ok(object.track());
        }
        let meta = self.recent.back().ok_or(TagError::NoFrame)?.clone();
        let limit = self.config.max_objects.min(MAX_OBJECTS);
        if self.objects.len() >= limit {
            return Err(TagError::TooMany { limit });
        }
        self.know(id, name.clone(), exemplars);
        let at = self.known.iter().position(|known| known.id == id).ok_or(TagError::NotSeen { name: name.clone() })?;
        self.look_for_known(at, seconds(&meta)).ok_or(TagError::NotSeen { name })?;
        let mask = self.draw(&meta, None).pop();
        let object = self.objects.last_mut().expect("one was pushed just above");
        object.mask = mask.expect("every object has one");
        Ok(object.track())
    }

    /// The camera gives no frames: tells so of every track. `None` when there was never a frame.
    pub fn camera_lost(&mut self) -> Option<TrackReport> {
        let meta = self.recent.back()?.clone();
        for object in &mut self.objects {
            object.life.camera_lost(seconds(&meta));
            object.hide();
        }
        let tracks = self.departed.drain(..).chain(self.objects.iter().map(Object::track)).collect();
        Some(report(&meta, tracks))
    }

    /// Gives an object of frame `seq`, or of the newest frame, an identity. `id` must never have been used.
    ///
    /// # Errors
    /// When there is no such frame any more, or no room, or the seed holds no patch of the frame.
    pub fn tag(&mut self, seed: &Seed, seq: Option<u64>, id: TrackId, name: String) -> Result<Track, TagError> {
        let meta = self.recent.back().ok_or(TagError::NoFrame)?.clone();
        let asked = seq.unwrap_or(meta.seq);
        let gone = TagError::FrameGone { asked, newest: meta.seq };
        let back = self.recent.iter().rev().position(|recent| recent.seq == asked).ok_or(gone.clone())?;
        let features = self.memory.remembered(back).ok_or(gone)?;
        let meta = self.recent[self.recent.len() - 1 - back].clone();
        let limit = self.config.max_objects.min(MAX_OBJECTS);
        if self.objects.len() >= limit {
            return Err(TagError::TooMany { limit });
        }
        let rule = self.memory.config().seed;
        let labels = seed::seed(seed, meta.width, meta.height, &features, rule)?;
        self.memory.add(key(id), labels, back);
        self.objects.push(Object::new(id, name, &meta));
        // The others keep the masks that they have: without the picture theirs would be less true.
        let mask = self.draw(&meta, None).pop();
        let object = self.objects.last_mut().expect("one was pushed just above");
        object.mask = mask.expect("every object has one");
        object.life = Life::new(seconds(&meta), object.mask.area() as f64);
        object.last_place = object.mask.centroid().map(|c| (seconds(&meta), c));
        object.radius = (object.mask.area() as f64 / std::f64::consts::PI).sqrt();
        Ok(object.track())
    }

    /// Ends a track at the user's wish. False when there is none of that id.
    pub fn untag(&mut self, id: TrackId) -> bool {
        let Some(at) = self.objects.iter().position(|object| object.id == id) else { return false };
        self.end(at, Reason::Untagged);
        true
    }

    /// Ends every track, and returns their ids.
    pub fn reset(&mut self) -> Vec<TrackId> {
        let ids = self.objects.iter().map(|object| object.id).collect();
        while !self.objects.is_empty() {
            self.end(0, Reason::Reset);
        }
        ids
    }

    /// Gives a track another name. False when there is none of that id.
    pub fn rename(&mut self, id: TrackId, name: String) -> bool {
        let followed = self.objects.iter_mut().filter(|object| object.id == id).map(|object| &mut object.name);
        let known = self.known.iter_mut().filter(|known| known.id == id).map(|known| &mut known.name);
        followed.chain(known).next().map(|old| *old = name).is_some()
    }

    /// Every track as it stands.
    pub fn list(&self, camera: &str) -> Vec<ListedTrack> {
        let listed = |o: &Object| ListedTrack {
            camera: camera.to_owned(),
            id: o.id,
            name: o.name.clone(),
            state: o.life.state,
            reason: o.life.reason,
            score: o.score,
            age: o.life.age,
            since_seen: o.life.since_seen,
        };
        self.objects.iter().map(listed).collect()
    }

    /// Number of tracks that have not ended.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// What each track's score rests on, in the newest frame, for calibration.
    pub fn all_evidence(&self) -> Vec<(TrackId, Evidence)> {
        self.objects.iter().map(|object| (object.id, self.evidence_of(object))).collect()
    }

    /// The arg-max masks of the newest frame, whatever the life cycle says of them.
    pub fn masks(&self) -> impl Iterator<Item = (TrackId, &Mask)> {
        self.objects.iter().map(|object| (object.id, &object.mask))
    }

    fn end(&mut self, at: usize, reason: Reason) {
        let mut object = self.objects.remove(at);
        object.life.remove(reason);
        object.hide();
        self.memory.remove(key(object.id));
        self.departed.push(object.track());
    }

    /// Every object's mask by the label field of the newest frame, with edges from its picture where it is there.
    fn draw(&mut self, meta: &FrameMeta, picture: Option<&InputTensor>) -> Vec<Mask> {
        let keys: Vec<ObjectKey> = self.objects.iter().map(|object| key(object.id)).collect();
        self.memory.field(&keys, &mut self.field);
        let grid = self.field.grid;
        let fits =
            |picture: &&InputTensor| [picture.width, picture.height] == [grid.input_width(), grid.input_height()];
        match (self.memory.config().refine(), picture.filter(fits)) {
            (Some(rule), Some(picture)) => self.refiner.masks(&self.field, picture, [meta.width, meta.height], rule),
            _ => self.upsampler.masks(&self.field, meta.width, meta.height, self.memory.config().min_max),
        }
    }

    /// Shares out the labels of those that look the same by where each is expected.
    fn part_lookalikes(&mut self, meta: &FrameMeta) {
        let grid = self.memory.grid();
        let (across, down) = (meta.width as f64 / grid.cols as f64, meta.height as f64 / grid.rows as f64);
        let place =
            |patch: usize| [((patch % grid.cols) as f64 + 0.5) * across, ((patch / grid.cols) as f64 + 0.5) * down];
        let time = seconds(meta);
        let mut touching = vec![false; self.objects.len()];
        let planes: Vec<&[f32]> =
            self.objects.iter().map(|object| self.memory.labels(key(object.id)).unwrap_or_default()).collect();
        let contended = lookalikes::contended(&planes);
        for (one, other) in (1..self.objects.len()).flat_map(|other| (0..other).map(move |one| (one, other))) {
            let pair = [&self.objects[one], &self.objects[other]];
            let [Some(here), Some(there)] = pair.map(|object| object.expected(time)) else { continue };
            let together = here.touches(&there) || pair.iter().all(|object| object.touching.is_some());
            let contend = contended.contains(&(one, other));
            if !(together || contend) {
                continue;
            }
            let keys = pair.map(|object| key(object.id));
            let [Some(a), Some(b)] = keys.map(|key| self.memory.labels(key)) else { continue };
            let touch = together && lookalikes::cover(a, b, pair.map(|object| object.mass));
            if !(touch || contend) || !self.look_alike(pair) {
                continue;
            }
            touching[one] |= touch;
            touching[other] |= touch;
            let (mut a, mut b) = (a.to_vec(), b.to_vec());
            lookalikes::part([&mut a, &mut b], [here, there], (0..grid.len()).map(place));
            self.memory.correct(keys[0], &a);
            self.memory.correct(keys[1], &b);
        }
        for (object, touches) in self.objects.iter_mut().zip(touching) {
            object.touch(touches.then_some(time));
            if !touches {
                object.mass = self.memory.labels(key(object.id)).map_or(0.0, |labels| labels.iter().sum());
            }
        }
    }

    /// Whether two objects are nearly as similar to one another as they usually are to themselves.
    fn look_alike(&self, pair: [&Object; 2]) -> bool {
        let usual = pair.iter().filter_map(|object| object.usual_similarity).fold(f32::INFINITY, f32::min);
        let [Some(a), Some(b)] = pair.map(|object| self.memory.exemplars(key(object.id))) else { return false };
        self.memory.resemblance(a, b) > usual - ALIKE
    }

    fn evidence_of(&self, object: &Object) -> Evidence {
        let key = key(object.id);
        match (self.memory.labels(key), self.memory.exemplars(key)) {
            (Some(labels), Some(exemplars)) => self.evidence(labels, exemplars),
            _ => Evidence::default(),
        }
    }

    /// What speaks for labels in the newest frame, of an object with these exemplars.
    fn evidence(&self, labels: &[f32], exemplars: &ExemplarKeys) -> Evidence {
        let (sum, squares) = labels.iter().fold((0.0f32, 0.0f32), |(s, q), l| (s + l, q + l * l));
        // Patches that are the object's for the most part; where it has none, those that are most its own.
        let peak = labels.iter().copied().fold(0.0, f32::max);
        if sum <= 0.0 || peak < 0.2 {
            return Evidence::default();
        }
        let patches: Vec<usize> = (0..labels.len()).filter(|p| labels[*p] >= 0.5f32.min(peak)).collect();
        let (similarity, margin) = self.memory.contrast(exemplars, &self.sample(&patches)).unwrap_or((0.0, 0.0));
        let size_ratio = sum / exemplars.size(labels.len()).max(1e-6);
        Evidence { label_mass: squares / sum, similarity, margin, size_ratio }
    }

    /// Those of an object's patches that are compared with exemplars.
    fn sample(&self, patches: &[usize]) -> Vec<usize> {
        let samples = (SAMPLES_OF_ALL / self.objects.len().max(1)).clamp(*SAMPLES.start(), *SAMPLES.end());
        patches.iter().copied().step_by(patches.len().div_ceil(samples).max(1)).collect()
    }

    /// Looks everywhere for some of the objects that are not seen, each in its turn, so that many of them cost no
    /// more than a few. Returns those that were found, and those that may be one as well as another.
    fn seek(&mut self, time: f64) -> (Vec<TrackId>, Vec<TrackId>) {
        let (mut found, mut ambiguous) = (Vec::new(), Vec::new());
        if !self.config.recover {
            return (found, ambiguous);
        }
        for id in in_turn(self.unseen().collect(), &mut self.sought[0]) {
            let Some(exemplars) = self.memory.exemplars(key(id)) else { continue };
            match self.look_for(id, exemplars, &self.unseen().collect::<Vec<TrackId>>()) {
                Sight::Found { labels, score } => {
                    self.memory.take_up(key(id), &labels);
                    self.objects.iter_mut().filter(|object| object.id == id).for_each(|object| object.score = score);
                    found.push(id);
                }
                Sight::Ambiguous => ambiguous.push(id),
                Sight::Nowhere => {}
            }
        }
        for id in in_turn(self.known.iter().map(|known| known.id).collect(), &mut self.sought[1]) {
            let room = self.objects.len() < self.config.max_objects.min(MAX_OBJECTS);
            if let Some(at) = self.known.iter().position(|known| room && known.id == id) {
                found.extend(self.look_for_known(at, time));
            }
        }
        (found, ambiguous)
    }

    /// The objects that are followed and not seen.
    fn unseen(&self) -> impl Iterator<Item = TrackId> {
        self.objects.iter().filter(|object| object.score < self.config.min_score).map(|object| object.id)
    }

    /// Looks for a known object, and follows it from here where it is seen.
    fn look_for_known(&mut self, at: usize, time: f64) -> Option<TrackId> {
        let rivals: Vec<TrackId> = self.unseen().chain(self.known.iter().map(|known| known.id)).collect();
        let Known { id, exemplars, .. } = &self.known[at];
        let Sight::Found { labels, score } = self.look_for(*id, exemplars, &rivals) else { return None };
        let meta = self.recent.back()?.clone();
        let Known { id, name, exemplars } = self.known.remove(at);
        self.memory.add_known(key(id), labels, exemplars);
        let life = Life::recognised(time);
        self.objects.push(Object { score, life, kept: Some(false), ..Object::new(id, name, &meta) });
        Some(id)
    }

    /// Looks everywhere in the newest frame for object `id`, which `rivals` are not to be taken for; what is seen of other objects
    /// is not it.
    fn look_for(&self, id: TrackId, exemplars: &ExemplarKeys, rivals: &[TrackId]) -> Sight {
        let found = self.memory.look_everywhere(exemplars).and_then(|labels| self.largest_free(id, labels, exemplars));
        let Some(labels) = found else { return self.look_for_alike(id, exemplars) };
        let score = self.evidence(&labels, exemplars).score();
        if score < REACQUIRE_SCORE.max(self.config.min_score) {
            return self.look_for_alike(id, exemplars);
        }
        let patches: Vec<usize> = (0..labels.len()).filter(|patch| labels[*patch] > 0.0).collect();
        let patches = self.sample(&patches);
        let similarity =
            |exemplars| self.memory.contrast(exemplars, &patches).map_or(0.0, |(similarity, _)| similarity);
        let own = similarity(exemplars);
        let known = |rival| self.known.iter().find(|known| known.id == rival).map(|known| &known.exemplars);
        let is_as_like = |rival: &&TrackId| {
            let theirs = self.memory.exemplars(key(**rival)).or_else(|| known(**rival));
            **rival != id && theirs.is_some_and(|theirs| similarity(theirs) > own - AMBIGUOUS)
        };
        match rivals.iter().find(is_as_like) {
            Some(_) => Sight::Ambiguous,
            None => Sight::Found { labels, score },
        }
    }

    /// Whether something looks as an object does, and no less as something does that is known not to be it: its twin, say.
    fn look_for_alike(&self, id: TrackId, exemplars: &ExemplarKeys) -> Sight {
        let usual = self.objects.iter().find(|object| object.id == id).and_then(|object| object.usual_similarity);
        let alike = usual.and_then(|usual| self.memory.alike(exemplars, usual - ALIKE));
        let Some(labels) = alike.and_then(|labels| self.largest_free(id, labels, exemplars)) else {
            return Sight::Nowhere;
        };
        let patches: Vec<usize> = (0..labels.len()).filter(|patch| labels[*patch] > 0.0).collect();
        match self.memory.contrast(exemplars, &self.sample(&patches)) {
            Some((_, margin)) if margin > -ALIKE => Sight::Ambiguous,
            _ => Sight::Nowhere,
        }
    }

    /// The largest part of `labels` where no other object is seen, if it is large enough to be object `id`.
    fn largest_free(&self, id: TrackId, mut labels: Vec<f32>, exemplars: &ExemplarKeys) -> Option<Vec<f32>> {
        let seen = self.objects.iter().filter(|other| other.id != id && other.score >= self.config.min_score);
        for theirs in seen.filter_map(|other| self.memory.labels(key(other.id))) {
            labels.iter_mut().zip(theirs).filter(|(_, theirs)| **theirs >= 0.5).for_each(|(label, _)| *label = 0.0);
        }
        let least = REACQUIRE_SIZE * exemplars.size(labels.len());
        largest_component(&labels, self.memory.grid()).filter(|largest| largest.iter().sum::<f32>() >= least)
    }

    /// Learns what one of the objects that are surely seen looks like now, and what is not it, each in its turn.
    fn study(&mut self, evidence: &[Evidence]) {
        let is_sure = |(object, evidence): (&Object, &Evidence)| {
            let whole = SURE_SIZE.contains(&evidence.size_ratio);
            let sure = object.score >= SURE && whole && object.life.is_settled(SETTLED);
            sure.then_some(object.id)
        };
        let sure: Vec<TrackId> = self.objects.iter().zip(evidence).filter_map(is_sure).collect();
        let next = sure.iter().find(|id| Some(**id) > self.studied).or(sure.first()).copied();
        if let Some(id) = next {
            self.studied = next;
            let learnt = self.memory.study(key(id));
            let object = self.objects.iter_mut().find(|object| object.id == id);
            object.and_then(|object| object.kept.as_mut()).into_iter().for_each(|changed| *changed |= learnt);
        }
    }
}

/// Some of the objects, after those that had their turn last; the last of them is noted in `last`.
fn in_turn(mut ids: Vec<TrackId>, last: &mut Option<TrackId>) -> Vec<TrackId> {
    ids.sort_unstable();
    let turn = ids.iter().position(|id| Some(*id) > *last).unwrap_or(0);
    ids.rotate_left(turn);
    ids.truncate(SOUGHT);
    *last = ids.last().copied();
    ids
}

impl Object {
    /// One that begins in a frame.
    fn new(id: TrackId, name: String, meta: &FrameMeta) -> Object {
        Object {
            id,
            name,
            life: Life::new(seconds(meta), 0.0),
            score: 1.0,
            mask: Mask::empty(meta.width, meta.height),
            last_place: None,
            velocity: [0.0; 2],
            radius: 0.0,
            mass: 0.0,
            touching: None,
            confused: false,
            usual_similarity: None,
            kept: None,
        }
    }

    /// Follows the centre while it is seen; what is not seen has no place.
    fn place(&mut self, sighting: &Sighting) {
        let centre = self.mask.centroid().filter(|_| sighting.seen);
        if self.touching.is_some() && !self.confused {
            // Of two that look the same and cover one another, each gets the nearer part of what is seen: it is not there.
            if centre.is_none() {
                (self.mask, self.score) = (Mask::empty(self.mask.width, self.mask.height), 0.0);
            }
            return;
        }
        let Some(centre) = centre else {
            self.hide();
            return;
        };
        self.radius = (self.mask.area() as f64 / std::f64::consts::PI).sqrt();
        if let Some((then, place)) = self.last_place.filter(|(then, _)| sighting.time > *then) {
            for axis in 0..2 {
                let now = (centre[axis] - place[axis]) / (sighting.time - then);
                self.velocity[axis] += VELOCITY_RATE * (now - self.velocity[axis]);
            }
        }
        self.last_place = Some((sighting.time, centre));
    }

    /// Where it goes on to, from where it was seen last.
    fn expected(&self, time: f64) -> Option<Expected> {
        let (then, place) = self.last_place?;
        let centre = std::array::from_fn(|axis| place[axis] + self.velocity[axis] * (time - then));
        Some(Expected { centre, radius: self.radius })
    }

    /// Takes in whether it covers another that looks the same or is covered by it, at `now` in seconds.
    fn touch(&mut self, now: Option<f64>) {
        self.touching = now.map(|now| self.touching.unwrap_or(now));
        self.confused |= self.touching.zip(now).is_some_and(|(since, now)| now - since > COAST);
    }

    /// Nothing of the object is seen.
    fn hide(&mut self) {
        self.mask = Mask::empty(self.mask.width, self.mask.height);
        self.score = 0.0;
        self.last_place = None;
        self.velocity = [0.0; 2];
    }

    fn track(&self) -> Track {
        Track {
            id: self.id,
            name: self.name.clone(),
            state: self.life.state,
            reason: self.life.reason,
            score: self.score,
            bounds: self.mask.bounds().map(|b| b.map(|v| v as f32)),
            centroid: self.mask.centroid().map(|c| c.map(|v| v as f32)),
            area: self.mask.area() as u64,
            velocity: self.velocity.map(|v| v as f32),
            age: self.life.age,
            since_seen: self.life.since_seen,
            mask: (!self.mask.is_empty()).then(|| self.mask.to_coco()),
        }
    }
}

fn key(id: TrackId) -> ObjectKey {
    ObjectKey(id.0)
}

fn seconds(meta: &FrameMeta) -> f64 {
    meta.captured_at.mono_ns as f64 * 1e-9
}

fn report(meta: &FrameMeta, tracks: Vec<Track>) -> TrackReport {
    TrackReport {
        camera: meta.camera.to_string(),
        seq: meta.seq,
        dropped: meta.dropped,
        t_mono_ns: meta.captured_at.mono_ns,
        t_real_ns: meta.captured_at.real_ns,
        size: [meta.width, meta.height],
        latency_ms: Latency::default(),
        tracks,
    }
}

/// Whether a box comes within `near` pixels of the picture's edge.
fn touches_edge([x, y, w, h]: [usize; 4], width: usize, height: usize, near: f32) -> bool {
    let near = near as usize;
    x <= near || y <= near || x + w + near >= width || y + h + near >= height
}

/// The 4-connected patches with labels of at least 0.5 that together have the most, as labels of their own.
fn largest_component(labels: &[f32], grid: PatchGrid) -> Option<Vec<f32>> {
    let mut component = vec![0usize; labels.len()];
    let (mut best, mut best_mass, mut count) = (0, 0.0, 0);
    for start in 0..labels.len() {
        if labels[start] < 0.5 || component[start] != 0 {
            continue;
        }
        count += 1;
        let (mut mass, mut open) = (0.0, vec![start]);
        component[start] = count;
        while let Some(patch) = open.pop() {
            mass += labels[patch];
            let (row, col) = (patch / grid.cols, patch % grid.cols);
            let neighbours = [
                (row > 0).then(|| patch - grid.cols),
                (row + 1 < grid.rows).then(|| patch + grid.cols),
                (col > 0).then(|| patch - 1),
                (col + 1 < grid.cols).then(|| patch + 1),
            ];
            for next in neighbours.into_iter().flatten() {
                if labels[next] >= 0.5 && component[next] == 0 {
                    component[next] = count;
                    open.push(next);
                }
            }
        }
        if mass > best_mass {
            (best, best_mass) = (count, mass);
        }
    }
    (best > 0).then(|| component.iter().zip(labels).map(|(c, l)| if *c == best { *l } else { 0.0 }).collect())
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
