//! Looking for what is not seen over the whole frame, at a cost that is bounded by looking for few objects in each.

use super::object::Object;
use super::{Known, Session, key};
use crate::propagate::exemplars::{ExemplarKeys, Others};
use crate::track::life::Life;
use crate::types::{PatchGrid, TrackId, TrackState};

/// What came of looking for an object.
pub(super) enum Sight {
    Nowhere,
    /// Something is seen that is as much like something else as like the object.
    Ambiguous,
    Found {
        labels: Vec<f32>,
        score: f32,
    },
}

impl Sight {
    /// How often in a row an object has been found, `before` times before this.
    fn looks_in_a_row(&self, before: u32) -> u32 {
        if matches!(self, Sight::Found { .. }) { before + 1 } else { 0 }
    }
}

/// How many objects are looked for everywhere in one frame, of those that are followed, and as many of those that are known.
pub(super) const SOUGHT: usize = 2;
/// What is found may be another object as well, where it is not this much more like the one than like the other.
const AMBIGUOUS: f32 = 0.02;
/// What is asked of what is found to be taken for an object.
pub(super) struct Bar {
    /// It must score at least this ...
    pub(super) score: f32,
    /// ... as something that is usually so similar to its exemplars ...
    usual: Option<f32>,
    /// ... with at least this similarity to its exemplars ...
    similarity: f32,
    /// ... so many times in a row.
    looks: u32,
}
/// Of an object that was lost in the scene that the camera shows. It may be dim by now, or blurred, or show another side.
pub(super) const REACQUIRE: Bar = Bar { score: 0.58, usual: None, similarity: 0.0, looks: 1 };
/// Of one that has not been seen since the camera shows another scene: anything may be there. It may be that scene in another light, too.
const RETURN: Bar = Bar { score: 0.75, usual: Some(1.0), similarity: 0.0, looks: 3 };
/// Of one that is known from before.
const RECOGNISE: Bar = Bar { score: 0.7, usual: None, similarity: 0.8, looks: 3 };
/// What is found must have this fraction of the reference's patches.
const REACQUIRE_SIZE: f32 = 0.3;
impl Session {
    /// Looks everywhere for some of the objects that are not seen, each in its turn, so that many of them cost no
    /// more than a few. Returns those that were found, and those that may be one as well as another.
    pub(super) fn seek(&mut self, time: f64) -> (Vec<TrackId>, Vec<TrackId>) {
        let (mut found, mut ambiguous) = (Vec::new(), Vec::new());
        if !self.config.recover {
            return (found, ambiguous);
        }
        // What was lost and has labels again has them within reach of where it was tagged; there may be more of it.
        let regained = |object: &&Object| object.is_recognisable(&self.config) && object.life.state == TrackState::Lost;
        let regained = self.objects.iter().filter(regained).map(|object| object.id);
        for id in in_turn(self.unseen().chain(regained).collect(), &mut self.sought[0]) {
            let Some(object) = self.objects.iter().find(|object| object.id == id) else { continue };
            let Some(exemplars) = self.memory.exemplars(key(id)) else { continue };
            let bar = if object.displaced { RETURN } else { REACQUIRE };
            let rivals: Vec<TrackId> = self.unseen().collect();
            let (sight, distractors) = match self.look_for(id, exemplars, &bar, &rivals) {
                found @ Sight::Found { .. } => (found, object.distractors.clone()),
                sight => match self.look_beside(object, exemplars, &bar, &rivals) {
                    (Sight::Nowhere, distractors) => (sight, distractors),
                    beside => beside,
                },
            };
            let Some(object) = self.objects.iter_mut().find(|object| object.id == id) else { continue };
            object.distractors = distractors;
            object.looks = sight.looks_in_a_row(object.looks);
            let seen = if object.is_recognisable(&self.config) { object.score } else { 0.0 };
            match sight {
                Sight::Found { labels, score } if object.looks >= bar.looks && score > seen => {
                    (object.score, object.displaced, object.looks) = (score, false, 0);
                    object.astray = false;
                    let own = self.memory.labels(key(id)).filter(|_| seen > 0.0);
                    let labels = own.and_then(|own| joined(own, &labels)).unwrap_or(labels);
                    self.clear(&labels);
                    self.memory.take_up(key(id), &labels);
                    found.push(id);
                }
                Sight::Ambiguous if seen == 0.0 => ambiguous.push(id),
                Sight::Found { .. } | Sight::Ambiguous | Sight::Nowhere => {}
            }
        }
        // What is known may be anywhere: no turn is spent on a part of the frame.
        if !self.sees_all() {
            return (found, ambiguous);
        }
        for id in in_turn(self.known.iter().map(|known| known.id).collect(), &mut self.sought[1]) {
            let at = self.known.iter().position(|known| known.id == id);
            let Some(at) = at.filter(|_| self.check_room().is_ok()) else { continue };
            let sight = self.look_for_known(at, &RECOGNISE);
            self.known[at].looks = sight.looks_in_a_row(self.known[at].looks);
            if self.known[at].looks >= RECOGNISE.looks {
                found.extend(self.follow_known(at, sight, time));
            }
        }
        (found, ambiguous)
    }

    /// The objects that are followed and not seen.
    fn unseen(&self) -> impl Iterator<Item = TrackId> {
        let unseen = |object: &&Object| !object.is_recognisable(&self.config) && !object.is_proposal();
        self.objects.iter().filter(unseen).map(|object| object.id)
    }

    /// Looks for a known object.
    pub(super) fn look_for_known(&self, at: usize, bar: &Bar) -> Sight {
        let rivals: Vec<TrackId> = self.unseen().chain(self.known.iter().map(|known| known.id)).collect();
        let Known { id, exemplars, .. } = &self.known[at];
        self.look_for(*id, exemplars, bar, &rivals)
    }

    /// Follows a known object from where it was found.
    pub(super) fn follow_known(&mut self, at: usize, sight: Sight, time: f64) -> Option<TrackId> {
        let Sight::Found { labels, score } = sight else { return None };
        let meta = self.recent.back()?.clone();
        self.clear(&labels);
        self.make_room();
        let Known { id, name, exemplars, .. } = self.known.remove(at);
        self.memory.add_known(key(id), labels, exemplars);
        let life = Life::recognised(time);
        self.objects.push(Object { score, life, kept: Some(false), ..Object::new(id, name, &meta) });
        Some(id)
    }

    /// Looks everywhere in the newest frame for object `id`, which `rivals` are not to be taken for; what is seen of other objects
    /// is not it.
    fn look_for(&self, id: TrackId, exemplars: &ExemplarKeys, bar: &Bar, rivals: &[TrackId]) -> Sight {
        let found = self.memory.look_everywhere(exemplars).map(|labels| self.free(id, labels, exemplars));
        match found.and_then(largest) {
            Some(labels) => self.judge(id, labels, exemplars, bar, rivals),
            None => Sight::Nowhere,
        }
    }

    /// Takes what has `labels` for object `id` where that is likely enough, and it is less like each of `rivals`.
    pub(super) fn judge(
        &self,
        id: TrackId,
        labels: Vec<f32>,
        exemplars: &ExemplarKeys,
        bar: &Bar,
        rivals: &[TrackId],
    ) -> Sight {
        let evidence = self.evidence(&labels, exemplars, bar.usual, Others::All);
        let score = evidence.score();
        if score < bar.score.max(self.config.min_score) || evidence.similarity < bar.similarity {
            return Sight::Nowhere;
        }
        let patches = self.sample(&labelled(&labels));
        let similarity = |exemplars| {
            self.memory.contrast(exemplars, &patches, Others::All).map_or(0.0, |(similarity, _)| similarity)
        };
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

    /// Withdraws the proposals that lie, for the most part, where an object was found: what was proposed is that.
    fn clear(&mut self, labels: &[f32]) {
        let is_there = |object: &Object| {
            let proposed = self.memory.labels(key(object.id)).unwrap_or_default();
            let shared: f32 = proposed.iter().zip(labels).map(|(theirs, label)| theirs.min(*label)).sum();
            object.is_proposal() && shared > 0.5 * proposed.iter().sum::<f32>()
        };
        let withdrawn: Vec<TrackId> = self.objects.iter().filter(|o| is_there(o)).map(|object| object.id).collect();
        for id in withdrawn {
            self.withdraw(id);
        }
    }

    /// The parts of `labels` where no other object is seen, of those that are large enough to be object `id`.
    pub(super) fn free(&self, id: TrackId, mut labels: Vec<f32>, exemplars: &ExemplarKeys) -> Vec<Vec<f32>> {
        let is_seen = |other: &&Object| other.is_recognisable(&self.config) && !other.is_proposal();
        let seen = self.objects.iter().filter(|other| other.id != id && is_seen(other));
        for theirs in seen.filter_map(|other| self.memory.labels(key(other.id))) {
            labels.iter_mut().zip(theirs).filter(|(_, theirs)| **theirs >= 0.5).for_each(|(label, _)| *label = 0.0);
        }
        self.parts(&labels, exemplars)
    }

    /// The parts of `labels` that are large enough to be the object.
    pub(super) fn parts(&self, labels: &[f32], exemplars: &ExemplarKeys) -> Vec<Vec<f32>> {
        let least = REACQUIRE_SIZE * exemplars.size(self.memory.patches_in_frame());
        components(labels, self.memory.grid(), least)
    }
}

/// The patches with a label.
pub(super) fn labelled(labels: &[f32]) -> Vec<usize> {
    (0..labels.len()).filter(|patch| labels[*patch] > 0.0).collect()
}

/// That of several parts which has the most.
pub(super) fn largest(parts: Vec<Vec<f32>>) -> Option<Vec<f32>> {
    let mass = |part: &Vec<f32>| part.iter().sum::<f32>();
    parts.into_iter().max_by(|one, other| mass(one).total_cmp(&mass(other)))
}

/// Labels of both, where they lie on patches in common.
fn joined(one: &[f32], other: &[f32]) -> Option<Vec<f32>> {
    let meet = one.iter().zip(other).any(|(one, other)| *one >= 0.5 && *other >= 0.5);
    meet.then(|| one.iter().zip(other).map(|(one, other)| one.max(*other)).collect())
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

/// The 4-connected patches with labels of at least 0.5, each lot of them whose labels sum up to `least` as labels of its own.
fn components(labels: &[f32], grid: PatchGrid, least: f32) -> Vec<Vec<f32>> {
    let mut reached = vec![false; labels.len()];
    let mut components = Vec::new();
    for start in 0..labels.len() {
        if labels[start] < 0.5 || reached[start] {
            continue;
        }
        reached[start] = true;
        let (mut lot, mut at) = (vec![start], 0);
        while let Some(patch) = lot.get(at).copied() {
            at += 1;
            let (row, col) = (patch / grid.cols, patch % grid.cols);
            let neighbours = [
                (row > 0).then(|| patch - grid.cols),
                (row + 1 < grid.rows).then(|| patch + grid.cols),
                (col > 0).then(|| patch - 1),
                (col + 1 < grid.cols).then(|| patch + 1),
            ];
            for next in neighbours.into_iter().flatten() {
                if labels[next] >= 0.5 && !reached[next] {
                    reached[next] = true;
                    lot.push(next);
                }
            }
        }
        if lot.iter().map(|patch| labels[*patch]).sum::<f32>() >= least {
            let mut component = vec![0.0; labels.len()];
            lot.into_iter().for_each(|patch| component[patch] = labels[patch]);
            components.push(component);
        }
    }
    components
}
