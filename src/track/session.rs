//! One camera's tracks: pure and deterministic. It takes embeddings and times, and returns reports.

mod beside;
mod evidence;
mod gaze;
mod object;
mod place;
mod seek;

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use gaze::Looking;
use object::Object;
use seek::REACQUIRE;

use super::TrackConfig;
use super::evidence::Evidence;
use super::life::{Life, Sighting};
use super::lookalikes;
use crate::propagate::exemplars::ExemplarKeys;
use crate::propagate::refine::Refiner;
use crate::propagate::seed::{self, SeedError};
use crate::propagate::upsample::Upsampler;
use crate::propagate::{MAX_OBJECTS, ObjectKey, PropagateConfig, Propagator};
use crate::types::command::ListedTrack;
use crate::types::report::{Latency, Reason, Track};
use crate::types::{
    Exemplars, Features, FrameMeta, InputTensor, LabelField, Mask, PatchGrid, Seed, TrackId, TrackReport, TrackState,
    View,
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
    looking: Looking,
}

/// An object that is known from before.
#[derive(Clone, Debug)]
struct Known {
    id: TrackId,
    name: String,
    exemplars: ExemplarKeys,
    /// How often in a row it was found.
    looks: u32,
}

impl Known {
    fn new(id: TrackId, name: String, exemplars: ExemplarKeys) -> Known {
        Known { id, name, exemplars, looks: 0 }
    }
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
    #[error(
        "frame {asked} was looked at in part, and what is meant lies outside of that part; tag again on a newer one"
    )]
    NotLookedAt { asked: u64 },
    #[error("{name:?} is nowhere to be seen now; it is looked for, and becomes a track when it shows")]
    NotSeen { name: String },
    #[error(transparent)]
    Seed(#[from] SeedError),
}

/// How much less similar to its exemplars than usual something may be that may be the object, and how fast the usual similarity
/// follows what is seen, a frame.
const ALIKE: f32 = 0.05;
const SIMILARITY_RATE: f32 = 0.1;
/// What an object looks like is learnt where it scores at least this ...
const SURE: f32 = 0.71;
/// ... has these parts of the patches that it had when it was tagged ...
const SURE_SIZE: RangeInclusive<f32> = 0.5..=2.0;
/// ... and has been seen in so many frames in a row.
const SETTLED: u64 = 5;
/// A frame that is less like another shows another scene: the mean over its patches of the best cosine. Of 16 real videos, frames
/// have at least 0.76 with those before, and at most 0.61 with those of another video.
const SAME_SCENE: f32 = 0.65;

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
            looking: Looking::default(),
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

    /// The first half of a step: labels of the new frame. Where its grid is another than that of the frame before, or it is
    /// of another part of the camera's picture, the session goes over to it, and every track goes on.
    pub fn propagate(&mut self, features: &Features) {
        let saw_all = self.sees_all();
        self.memory.change_view(features.grid, features.view);
        self.memory.step(features);
        self.looking.went_on(self.sees_all() == saw_all, features.noisy);
    }

    /// The second half of a step: masks, measures and states, and the report of them. `picture` is what the features are of;
    /// without it masks are as good as labels alone make them.
    pub fn observe(&mut self, meta: &FrameMeta, picture: &InputTensor) -> TrackReport {
        self.recent.push_back(meta.clone());
        while self.recent.len() > self.memory.reach_back() + 1 {
            self.recent.pop_front();
        }
        let time = seconds(meta);
        self.watch_scene();
        self.part_lookalikes(meta);
        let evidence: Vec<Evidence> = self.objects.iter().map(|o| self.evidence_of(o)).collect();
        let astray: Vec<bool> = self.objects.iter().map(|object| self.is_astray(object)).collect();
        for ((object, evidence), astray) in self.objects.iter_mut().zip(&evidence).zip(astray) {
            (object.score, object.astray) = (evidence.score(), astray);
            if object.score >= REACQUIRE.score && !object.displaced {
                let usual = object.usual_similarity.unwrap_or(evidence.similarity);
                object.usual_similarity = Some(usual + SIMILARITY_RATE * (evidence.similarity - usual));
            }
        }
        let (reacquired, ambiguous) = self.seek(time);
        let masks = self.draw(meta, Some(picture));
        self.objects.iter_mut().zip(masks).for_each(|(object, mask)| object.mask = mask);
        let patch = ((meta.width * meta.height) as f32 / self.memory.patches_in_frame()).sqrt();
        for object in &mut self.objects {
            let area = object.mask.area() as f64;
            let bounds = object.mask.bounds();
            let sighting = Sighting {
                time,
                seen: area > 0.0 && (object.is_recognisable(&self.config) || !self.config.recover),
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
                known.extend(exemplars.map(|exemplars| Known::new(object.id, name, exemplars)));
                memory.remove(key(object.id));
            }
            stays
        });
        report(meta, tracks)
    }

    /// Notices where the camera shows another scene than before, and where it shows that again.
    fn watch_scene(&mut self) {
        let goes_on = self.memory.continuity().is_none_or(|likeness| likeness >= SAME_SCENE);
        let displaced = match self.memory.likeness_to_scene() {
            None if !goes_on && self.memory.remember_scene() => Some(true),
            Some(likeness) if likeness >= SAME_SCENE => Some(false),
            _ => None,
        };
        if let Some(displaced) = displaced {
            self.objects.iter_mut().for_each(|object| (object.displaced, object.looks) = (displaced, 0));
        }
        if self.objects.iter().all(|object| !object.displaced) {
            self.memory.leave_scene();
        }
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
            None => self.known.push(Known::new(id, name, exemplars)),
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
    /// When there is no frame or no room, or it is not seen: then it is looked for in those that come. Where a part of the newest frame
    /// was looked at, all of the next is.
    pub fn recognise(&mut self, id: TrackId, name: String, exemplars: &Exemplars) -> Result<Track, TagError> {
        if let Some(object) = self.objects.iter().find(|object| object.id == id) {
            return Ok(object.track());
        }
        let meta = self.recent.back().ok_or(TagError::NoFrame)?.clone();
        self.check_room()?;
        self.know(id, name.clone(), exemplars);
        let at = self.known.iter().position(|known| known.id == id).ok_or(TagError::NotSeen { name: name.clone() })?;
        // Who asks for it says that it is there.
        let sight = self.look_for_known(at, &REACQUIRE);
        if self.follow_known(at, sight, seconds(&meta)).is_none() {
            return Err(if self.look_up() {
                TagError::NotLookedAt { asked: meta.seq }
            } else {
                TagError::NotSeen { name }
            });
        }
        let mask = self.draw(&meta, None).pop();
        let object = self.objects.last_mut().expect("one was pushed just above");
        object.mask = mask.expect("every object has one");
        object.settle(seconds(&meta));
        Ok(object.track())
    }

    /// The camera gives no frames: tells so of every track. `None` when there was never a frame.
    pub fn camera_lost(&mut self) -> Option<TrackReport> {
        let meta = self.recent.back()?.clone();
        while let Some(at) = self.objects.iter().position(Object::is_proposal) {
            self.end(at, Reason::CameraLost);
        }
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
    /// When there is no such frame any more, or no room, or the seed holds no patch of the frame; or where it lies outside of the part
    /// of that frame that was looked at: all of the next frames is looked at then.
    pub fn tag(&mut self, seed: &Seed, seq: Option<u64>, id: TrackId, name: String) -> Result<Track, TagError> {
        let meta = self.recent.back().ok_or(TagError::NoFrame)?.clone();
        let asked = seq.unwrap_or(meta.seq);
        let gone = TagError::FrameGone { asked, newest: meta.seq };
        let back = self.recent.iter().rev().position(|recent| recent.seq == asked).ok_or(gone.clone())?;
        let features = self.memory.remembered(back).ok_or(gone)?;
        let meta = self.recent[self.recent.len() - 1 - back].clone();
        let known = self.memory.known(back).unwrap_or_default();
        if known != View::WHOLE && !seed.is_within(known.pixels(meta.width, meta.height)) {
            self.look_up();
            return Err(TagError::NotLookedAt { asked });
        }
        self.check_room()?;
        let rule = self.memory.config().seed;
        let labels = seed::seed(seed, meta.width, meta.height, &features, rule)?;
        self.make_room();
        self.memory.add(key(id), labels, back);
        self.objects.push(Object::new(id, name, &meta));
        // The others keep the masks that they have: without the picture theirs would be less true.
        let mask = self.draw(&meta, None).pop();
        let object = self.objects.last_mut().expect("one was pushed just above");
        object.mask = mask.expect("every object has one");
        object.life = Life::new(seconds(&meta), object.mask.area() as f64);
        object.settle(seconds(&meta));
        Ok(object.track())
    }

    /// Follows what may be an object in the newest frame, until it is accepted or is not seen any more. `id` must never have
    /// been used.
    ///
    /// # Errors
    /// As [`Session::tag`].
    pub fn propose(&mut self, mask: Mask, id: TrackId, name: String) -> Result<Track, TagError> {
        self.tag(&Seed::Mask(mask), None, id, name)?;
        let object = self.objects.last_mut().expect("a tag pushes one");
        object.life = Life::proposed(object.life.last_seen(), object.mask.area() as f64);
        Ok(object.track())
    }

    /// Makes a proposal a track as if it had been tagged now; its name stays where none is given. `None` when there is no proposal
    /// of that id.
    pub fn accept(&mut self, id: TrackId, name: Option<String>) -> Option<Track> {
        let object = self.objects.iter_mut().find(|object| object.id == id && object.is_proposal())?;
        object.life = Life::new(object.life.last_seen(), object.mask.area() as f64);
        object.name = name.unwrap_or_else(|| object.name.clone());
        Some(object.track())
    }

    /// Whether another object can be followed.
    pub fn has_room(&self) -> bool {
        self.objects.len() < self.config.max_objects.min(MAX_OBJECTS)
    }

    /// Ends a proposal that is none any more. False when there is none of that id.
    pub fn withdraw(&mut self, id: TrackId) -> bool {
        let at = self.objects.iter().position(|object| object.id == id && object.is_proposal());
        at.map(|at| self.end(at, Reason::Withdrawn)).is_some()
    }

    /// Every object's mask in the newest frame, and whether it is a proposal; empty where it is not seen.
    pub fn occupied(&self) -> impl Iterator<Item = (TrackId, &Mask, bool)> {
        self.objects.iter().map(|object| (object.id, &object.mask, object.is_proposal()))
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

    /// Whether one object more can be followed, were it that a proposal gives way.
    fn check_room(&self) -> Result<(), TagError> {
        let limit = self.config.max_objects.min(MAX_OBJECTS);
        let room = self.has_room() || self.objects.iter().any(Object::is_proposal);
        if room { Ok(()) } else { Err(TagError::TooMany { limit }) }
    }

    /// Lets a proposal give way where one object more would be too many.
    fn make_room(&mut self) {
        let proposal = self.objects.iter().position(Object::is_proposal);
        if let Some(at) = proposal.filter(|_| !self.has_room()) {
            self.end(at, Reason::Withdrawn);
        }
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
        let [x, y, width, height] = self.memory.view().pixels(meta.width, meta.height);
        let fits =
            |picture: &&InputTensor| [picture.width, picture.height] == [grid.input_width(), grid.input_height()];
        let mut masks = match (self.memory.config().refine(), picture.filter(fits)) {
            (Some(rule), Some(picture)) => self.refiner.masks(&self.field, picture, [width, height], rule),
            _ => self.upsampler.masks(&self.field, width, height, self.memory.config().min_max),
        };
        if [width, height] != [meta.width, meta.height] {
            masks.iter_mut().for_each(|mask| *mask = mask.set_into([x, y], meta.width, meta.height));
        }
        masks
    }

    /// Shares out the labels of those that look the same by where each is expected.
    fn part_lookalikes(&mut self, meta: &FrameMeta) {
        let place = self.places(meta);
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
            lookalikes::part([&mut a, &mut b], [here, there], (0..self.memory.grid().len()).map(&place));
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

#[cfg(test)]
mod tests;
