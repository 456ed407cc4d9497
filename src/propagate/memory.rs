//! The context memory, and the propagation of every object's labels from it to the next frame.
//!
//! The published rule knows one reference frame for all. Here objects come at any frame, and each must be
//! followed as if it were alone: its labels come from its own reference frame and from those context frames
//! that are newer. Objects of one reference frame form a cohort. What several cohorts use is searched
//! once, and since labels of an object depend on nothing but where its neighbours lie, no object disturbs
//! another: they meet only in the arg-max.

mod recognise;
mod resample;
mod scene;
#[cfg(test)]
mod tests;
mod view;

use std::collections::VecDeque;
use std::iter;
use std::ops::Deref;

use super::PropagateConfig;
#[cfg(test)]
use super::Window;
use super::affinity::{self, Kernel, Keys, Match, Matches, Reach, Tiles};
use super::exemplars::ExemplarKeys;
use crate::types::{Features, LabelField, PatchGrid, View};
use view::Placed;

/// Names an object within one [`Propagator`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(pub u64);

/// Labels of one object over the grid, in [0, 1], (rows * cols).
type Plane = Vec<f32>;

/// A remembered frame.
struct MemoryFrame {
    /// Counts the steps.
    id: u64,
    keys: Placed<Keys>,
}

/// An object's labels in the memory.
struct Object {
    key: ObjectKey,
    reference: Placed<Plane>,
    /// Labels in each of the newest context frames, the newest last; frames from before the object have none.
    context: VecDeque<Placed<Plane>>,
    /// What it is known by wherever it is.
    exemplars: ExemplarKeys,
}

/// Objects with one reference frame.
struct Cohort {
    /// The step of the reference frame.
    since: u64,
    reference: Placed<Keys>,
    objects: Vec<Object>,
}

/// One camera's memory.
pub struct Propagator {
    config: PropagateConfig,
    kernel: Box<dyn Kernel>,
    grid: PatchGrid,
    /// The part of the frame that the grid lies on.
    view: View,
    dim: usize,
    steps: u64,
    /// Oldest first.
    context: VecDeque<MemoryFrame>,
    /// Oldest first.
    cohorts: Vec<Cohort>,
    /// See [`Propagator::continuity`].
    continuity: Option<f32>,
    /// See [`Propagator::remember_scene`].
    scene: Option<Placed<Keys>>,
    scratch: Scratch,
}

/// Buffers that are used again at each step.
#[derive(Default)]
struct Scratch {
    /// All patches of the new frame.
    tiles: Tiles,
    /// Those that one cohort's reference frame is searched for.
    wanted_tiles: Tiles,
    /// The best matches in the newest context frames, one for each number of them that some cohort uses.
    context: Vec<Matches>,
    /// Those of one cohort, its reference frame's included.
    found: Matches,
    /// (1 + context frames, rows * cols): where any object of that cohort has a label, its reference frame first.
    labelled: Vec<bool>,
    /// (rows * cols): the patches that may get a label.
    wanted: Vec<bool>,
    /// (rows * cols): those of which the reference frame has to tell.
    candidates: Vec<bool>,
    /// One for each match of each patch that is wanted.
    shares: Vec<Share>,
    weights: Vec<f32>,
    planes: Vec<Plane>,
    keys: Vec<Keys>,
}

/// What one patch gets from another: the weight of one match.
struct Share {
    to: u32,
    /// Which of a cohort's context frames; `None` for its reference frame.
    age: Option<u32>,
    from: u32,
    weight: f32,
}

/// The number that matches in a cohort's own reference frame bear; context frames bear their step's, from 1 on.
const REFERENCE: u32 = 0;

impl Propagator {
    pub fn new(config: PropagateConfig, grid: PatchGrid, dim: usize) -> Propagator {
        Propagator {
            config,
            kernel: affinity::kernel(),
            grid,
            view: View::WHOLE,
            dim,
            steps: 0,
            context: VecDeque::new(),
            cohorts: Vec::new(),
            continuity: None,
            scene: None,
            scratch: Scratch::default(),
        }
    }

    pub fn config(&self) -> &PropagateConfig {
        &self.config
    }

    /// Takes other constants from the next step on.
    pub fn configure(&mut self, config: PropagateConfig) {
        self.config = config;
    }

    pub fn grid(&self) -> PatchGrid {
        self.grid
    }

    /// Carries every object's labels over to the next frame.
    ///
    /// # Panics
    /// When the features are of another grid, part of the frame or dimension than this memory's.
    pub fn step(&mut self, features: &Features) {
        assert!(features.grid == self.grid && features.dim == self.dim, "features are of this memory's model");
        assert!(features.view == self.view, "features are of the part that this memory looks at");
        let mut keys = self.scratch.keys.pop().unwrap_or_else(|| Keys::new(features));
        keys.pack(features);
        self.follow(&keys);
        self.remember(keys);
    }

    /// How many frames before the newest one are still remembered, so that objects can be added there.
    pub fn reach_back(&self) -> usize {
        self.context.len().saturating_sub(1)
    }

    /// The embeddings of the frame `back` frames before the newest one.
    pub fn remembered(&self, back: usize) -> Option<Features> {
        let index = self.context.len().checked_sub(back + 1)?;
        Some(self.context[index].keys.features().clone())
    }

    /// The part of the frame `back` frames before the newest one that is known of it.
    pub fn known(&self, back: usize) -> Option<View> {
        let index = self.context.len().checked_sub(back + 1)?;
        Some(self.context[index].keys.known())
    }

    /// Takes up an object whose labels in the frame `back` frames before the newest one are `labels`,
    /// (rows * cols) in [0, 1]. That frame becomes its reference, and it is followed up to the newest. Returns
    /// false, and does nothing, when that frame is not remembered.
    pub fn add(&mut self, key: ObjectKey, labels: Vec<f32>, back: usize) -> bool {
        assert_eq!(labels.len(), self.grid.len(), "labels are of this memory's grid");
        let Some(index) = self.context.len().checked_sub(back + 1) else { return false };
        let frame = &self.context[index].keys;
        let exemplars = ExemplarKeys::of(self.kernel.as_ref(), frame, &labels, self.patches_in_frame());
        self.insert(key, labels, index, exemplars);
        true
    }

    /// Takes up an object whose reference frame is context frame `index`.
    fn insert(&mut self, key: ObjectKey, labels: Plane, index: usize, exemplars: ExemplarKeys) {
        self.remove(key);
        let since = self.context[index].id;
        let here = self.patches();
        let reference = Placed::new(here, labels);
        let mut object = Object { key, reference, context: VecDeque::new(), exemplars };
        for newer in index + 1..self.context.len() {
            let plane = self.catch_up(&object, index, newer);
            object.context.push_back(Placed::new(here, plane));
        }
        match self.cohorts.binary_search_by_key(&since, |cohort| cohort.since) {
            Ok(at) => self.cohorts[at].objects.push(object),
            Err(at) => {
                let reference = Placed::new(here, Keys::clone(&self.context[index].keys));
                self.cohorts.insert(at, Cohort { since, reference, objects: vec![object] });
            }
        }
    }

    /// Takes up an object that is known already, where its labels in the newest frame are `labels`. Returns false, and does
    /// nothing, when there is no frame.
    pub fn add_known(&mut self, key: ObjectKey, labels: Vec<f32>, exemplars: ExemplarKeys) -> bool {
        let Some(newest) = self.context.len().checked_sub(1) else { return false };
        self.insert(key, labels, newest, exemplars);
        true
    }

    /// Has an object known by other exemplars.
    pub fn know(&mut self, key: ObjectKey, exemplars: ExemplarKeys) {
        if let Some(object) = self.find_mut(key) {
            object.exemplars = exemplars;
        }
    }

    /// What an object is known by.
    pub fn exemplars(&self, key: ObjectKey) -> Option<&ExemplarKeys> {
        self.find(key).map(|(_, object)| &object.exemplars)
    }

    /// Labels of an object in context frame `newer`, from its reference frame, which is context frame `index`,
    /// and from those between them.
    fn catch_up(&self, object: &Object, index: usize, newer: usize) -> Plane {
        let reach = Reach { radius: self.config.radius, window: self.config.window };
        let between = newer - (index + 1);
        let used = between.min(self.config.context_frames);
        let planes: Vec<&Plane> =
            iter::once(&object.reference).chain(object.context.range(between - used..)).map(Deref::deref).collect();
        let frames: Vec<(u32, &Keys)> = std::iter::once(index)
            .chain(newer - used..newer)
            .enumerate()
            .map(|(i, frame)| (i as u32, &*self.context[frame].keys))
            .collect();
        let (queries, mut tiles) = (&self.context[newer].keys, Tiles::default());
        tiles.pack(queries, None);
        let mut matches = Matches::default();
        matches.reset(self.grid.len(), self.config.top_k);
        affinity::search(self.kernel.as_ref(), queries, &tiles, &frames, reach, &mut matches);
        let mut weights = Vec::new();
        let label = |query| {
            affinity::weigh(matches.found(query), self.config.temperature, &mut weights);
            matches.found(query).zip(&weights).map(|(m, w)| w * planes[m.frame as usize][m.patch as usize]).sum()
        };
        (0..self.grid.len()).map(label).collect()
    }

    /// Forgets an object.
    pub fn remove(&mut self, key: ObjectKey) {
        for cohort in &mut self.cohorts {
            cohort.objects.retain(|object| object.key != key);
        }
        self.cohorts.retain(|cohort| !cohort.objects.is_empty());
    }

    /// Forgets every object and every frame.
    pub fn clear(&mut self) {
        self.cohorts.clear();
        self.context.clear();
        self.continuity = None;
        self.scene = None;
    }

    /// An object's labels in the newest frame, (rows * cols).
    pub fn labels(&self, key: ObjectKey) -> Option<&[f32]> {
        let (cohort, object) = self.find(key)?;
        if cohort.since == self.steps {
            Some(&object.reference)
        } else {
            object.context.back().map(|plane| plane.as_slice())
        }
    }

    /// Says that an object is nowhere to be seen in any context frame: only its reference is left.
    pub fn forget_context(&mut self, key: ObjectKey) {
        if let Some(object) = self.find_mut(key) {
            object.context.iter_mut().for_each(|plane| plane.set(vec![0.0; plane.len()]));
        }
    }

    /// Says what an object's labels in the newest frame are.
    pub fn correct(&mut self, key: ObjectKey, labels: &[f32]) {
        let reference_is_newest = self.find(key).is_some_and(|(cohort, _)| cohort.since == self.steps);
        if let Some(object) = self.find_mut(key) {
            if reference_is_newest {
                object.reference.set(labels.to_vec());
            } else if let Some(plane) = object.context.back_mut() {
                plane.set(labels.to_vec());
            }
        }
    }

    /// Says what an object's labels in the newest frame are, where it was found again. It may have shown in the
    /// context frames before, unseen: what they hold of it is gathered anew, from the newest frame backwards.
    /// Else they would outvote the newest frame in the next step.
    pub fn take_up(&mut self, key: ObjectKey, labels: &[f32]) {
        self.correct(key, labels);
        let Some((_, object)) = self.find(key) else { return };
        let before = object.context.len().saturating_sub(1);
        let first = self.context.len() - object.context.len();
        let planes: Vec<Plane> = (first..first + before).map(|frame| self.trace_back(labels, frame)).collect();
        if let Some(object) = self.find_mut(key) {
            object.context.iter_mut().zip(planes).for_each(|(old, new)| old.set(new));
        }
    }

    /// Labels in context frame `index` of an object that has `labels` in the newest one, from these alone. What is
    /// out of reach of the object, or not among what is most like it, gets no label.
    fn trace_back(&self, labels: &[f32], index: usize) -> Plane {
        let reach = Reach { radius: self.config.radius, window: self.config.window };
        let (newest, frame): (&Keys, &Keys) = (&self.context[self.context.len() - 1].keys, &self.context[index].keys);
        let (mut within_reach, mut wanted) = (vec![false; self.grid.len()], vec![false; self.grid.len()]);
        let labelled: Vec<bool> = labels.iter().map(|label| *label > 0.0).collect();
        mark_within_reach(&labelled, self.grid, reach, &mut within_reach);
        self.most_alike(newest, labels, frame).into_iter().for_each(|patch| wanted[patch] = within_reach[patch]);
        let mut tiles = Tiles::default();
        tiles.pack(frame, Some(&wanted));
        let mut matches = Matches::default();
        matches.reset(self.grid.len(), self.config.top_k);
        affinity::search(self.kernel.as_ref(), frame, &tiles, &[(0, newest)], reach, &mut matches);
        let mut weights = Vec::new();
        let label = |query| {
            affinity::weigh(matches.found(query), self.config.temperature, &mut weights);
            matches.found(query).zip(&weights).map(|(m, w)| w * labels[m.patch as usize]).sum()
        };
        (0..self.grid.len()).map(label).collect()
    }

    /// The labels of all objects in the newest frame, in the order of `keys`. What no object claims is
    /// background.
    pub fn field(&self, keys: &[ObjectKey], field: &mut LabelField) {
        let columns = keys.len() + 1;
        field.grid = self.grid;
        field.instances = keys.len();
        field.data.clear();
        field.data.resize(self.grid.len() * columns, 0.0);
        for (column, key) in keys.iter().enumerate() {
            let Some(labels) = self.labels(*key) else { continue };
            for (row, label) in field.data.chunks_exact_mut(columns).zip(labels) {
                row[column + 1] = *label;
            }
        }
        for row in field.data.chunks_exact_mut(columns) {
            row[0] = (1.0 - row[1..].iter().sum::<f32>()).max(0.0);
        }
    }

    fn find(&self, key: ObjectKey) -> Option<(&Cohort, &Object)> {
        self.cohorts.iter().find_map(|c| c.objects.iter().find(|o| o.key == key).map(|o| (c, o)))
    }

    fn find_mut(&mut self, key: ObjectKey) -> Option<&mut Object> {
        self.cohorts.iter_mut().flat_map(|c| &mut c.objects).find(|o| o.key == key)
    }

    /// The context frames, the newest first, in runs that the same cohorts use: how many cohorts, and the frames. A
    /// cohort uses the frames that are newer than its own, so those of an older run are used by some of the cohorts
    /// that use the newer ones.
    fn runs(&self) -> Vec<(usize, Vec<(u32, &Keys)>)> {
        let mut runs: Vec<(usize, Vec<(u32, &Keys)>)> = Vec::new();
        for frame in self.context.iter().take(self.config.context_frames).rev() {
            let users = self.cohorts.partition_point(|cohort| cohort.since < frame.id);
            let numbered = (frame.id as u32, &*frame.keys);
            match runs.last_mut() {
                _ if users == 0 => break,
                Some((same, frames)) if *same == users => frames.push(numbered),
                _ => runs.push((users, vec![numbered])),
            }
        }
        runs
    }

    /// Gives every object its labels in the new frame, `queries`.
    fn follow(&mut self, queries: &Keys) {
        self.continuity = None;
        if self.cohorts.is_empty() {
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let (kernel, grid) = (self.kernel.as_ref(), self.grid);
        let reach = Reach { radius: self.config.radius, window: self.config.window };
        scratch.tiles.pack(queries, None);
        let runs = self.runs();
        // The matches in the first runs, in the first two, and so on; no frame at all before them.
        scratch.context.resize_with(runs.len() + 1, Matches::default);
        scratch.context[0].reset(grid.len(), self.config.top_k);
        for (i, (_, frames)) in runs.iter().enumerate() {
            let (before, after) = scratch.context.split_at_mut(i + 1);
            after[0].copy_from(&before[i]);
            affinity::search(kernel, queries, &scratch.tiles, frames, reach, &mut after[0]);
        }
        let users: Vec<usize> = runs.iter().map(|(users, _)| *users).collect();
        self.continuity = scratch.context.last().and_then(Propagator::mean_best);
        for index in 0..self.cohorts.len() {
            let context = users.iter().take_while(|users| index < **users).count();
            self.search_reference(index, queries, context, &mut scratch);
            self.gather(index, &mut scratch);
        }
        self.scratch = scratch;
    }

    /// Finds the neighbours in the whole of a cohort's memory of every patch that may get a label.
    fn search_reference(&self, index: usize, queries: &Keys, context: usize, scratch: &mut Scratch) {
        let cohort = &self.cohorts[index];
        let (kernel, grid) = (self.kernel.as_ref(), self.grid);
        let reach = Reach { radius: self.config.radius, window: self.config.window };
        let Scratch { wanted_tiles, context: found_in_context, found, labelled, wanted, candidates, .. } = scratch;
        found.copy_from(&found_in_context[context]);
        let n = grid.len();
        labelled.clear();
        labelled.resize(n * (1 + cohort.objects.first().map_or(0, |object| object.context.len())), false);
        for object in &cohort.objects {
            for (marks, plane) in labelled.chunks_exact_mut(n).zip(iter::once(&object.reference).chain(&object.context))
            {
                marks.iter_mut().zip(plane.iter()).for_each(|(mark, label)| *mark |= *label > 0.0);
            }
        }
        let first_id = self.first_id(cohort);
        let is_labelled = |m: &Match| labelled[n * (1 + m.frame.wrapping_sub(first_id) as usize) + m.patch as usize];
        wanted.clear();
        wanted.extend((0..n).map(|query| found.found(query).any(is_labelled)));
        // A patch that none of its neighbours in the context gives a label may get one from the reference frame, where
        // the object itself is within reach, and more like it than the least of these neighbours. All others get none,
        // whatever else the reference frame holds.
        candidates.clear();
        candidates.resize(n, false);
        mark_within_reach(&labelled[..n], grid, reach, candidates);
        candidates.iter_mut().zip(&*wanted).for_each(|(candidate, wanted)| *candidate &= !wanted);
        let object: Vec<usize> = (0..n).filter(|patch| labelled[*patch]).collect();
        affinity::keep_improvable(kernel, &Tiles::of(&cohort.reference, &object), queries, found, candidates);
        wanted.iter_mut().zip(&*candidates).for_each(|(wanted, candidate)| *wanted |= candidate);
        wanted_tiles.pack(queries, Some(wanted));
        affinity::search(kernel, queries, wanted_tiles, &[(REFERENCE, &cohort.reference)], reach, found);
    }

    /// The number of the oldest context frame that a cohort uses.
    fn first_id(&self, cohort: &Cohort) -> u32 {
        self.context.iter().find(|frame| frame.id > cohort.since).map_or(0, |frame| frame.id as u32)
    }

    /// Gives every object of a cohort its labels in the new frame, from the neighbours of the patches that are wanted.
    fn gather(&mut self, index: usize, scratch: &mut Scratch) {
        let first_id = self.first_id(&self.cohorts[index]);
        let Scratch { found, wanted_tiles, shares, weights, planes, .. } = scratch;
        shares.clear();
        for query in &wanted_tiles.patches {
            affinity::weigh(found.found(*query), self.config.temperature, weights);
            shares.extend(found.found(*query).zip(&*weights).map(|(m, weight)| Share {
                to: *query as u32,
                age: (m.frame != REFERENCE).then(|| m.frame.wrapping_sub(first_id)),
                from: m.patch,
                weight: *weight,
            }));
        }
        let here = self.patches();
        for object in &mut self.cohorts[index].objects {
            let mut plane = planes.pop().unwrap_or_default();
            plane.clear();
            plane.resize(self.grid.len(), 0.0);
            for share in &*shares {
                let labels = share.age.map_or(&object.reference, |age| &object.context[age as usize]);
                plane[share.to as usize] += share.weight * labels[share.from as usize];
            }
            object.context.push_back(Placed::new(here, plane));
        }
    }

    /// Puts a frame, whose labels were just gathered, into the context, and lets the oldest one go.
    fn remember(&mut self, keys: Keys) {
        self.steps += 1;
        self.context.push_back(MemoryFrame { id: self.steps, keys: Placed::new(self.patches(), keys) });
        while self.context.len() > self.config.context_frames.max(1) {
            if let Some(frame) = self.context.pop_front() {
                self.scratch.keys.push(frame.keys.into_inner());
            }
        }
        let kept = self.context.len();
        for object in self.cohorts.iter_mut().flat_map(|cohort| &mut cohort.objects) {
            while object.context.len() > kept {
                self.scratch.planes.extend(object.context.pop_front().map(Placed::into_inner));
            }
        }
        // Enough to go round; what many objects left behind is freed.
        self.scratch.planes.truncate(2 * super::MAX_OBJECTS);
        self.scratch.keys.truncate(2);
    }
}

/// Marks the patches that have a labelled one within reach.
fn mark_within_reach(labelled: &[bool], grid: PatchGrid, reach: Reach, marked: &mut [bool]) {
    for patch in (0..grid.len()).filter(|patch| labelled[*patch]) {
        let (row, col) = (patch / grid.cols, patch % grid.cols);
        for y in row.saturating_sub(reach.radius)..(row + reach.radius + 1).min(grid.rows) {
            let Some(columns) = reach.columns_at(y.abs_diff(row)) else { continue };
            let (left, right) = (col.saturating_sub(columns), (col + columns + 1).min(grid.cols));
            marked[y * grid.cols + left..y * grid.cols + right].fill(true);
        }
    }
}

/// The rule for a single reference frame as it is defined, for tests and benchmarks: labels of `query` from
/// `memory`, the reference frame first, each (embeddings, labels).
pub fn oracle(config: &PropagateConfig, query: &Features, memory: &[(&Features, &LabelField)]) -> LabelField {
    let frames: Vec<(u32, &Features)> = memory.iter().enumerate().map(|(i, m)| (i as u32, m.0)).collect();
    let reach = Reach { radius: config.radius, window: config.window };
    let matches = affinity::scalar::search(query, &frames, reach, config.top_k);
    let mut field = LabelField::background(query.grid, memory[0].1.instances);
    field.data.fill(0.0);
    let mut weights = Vec::new();
    for (patch, row) in field.data.chunks_exact_mut(memory[0].1.instances + 1).enumerate() {
        affinity::weigh(matches.found(patch), config.temperature, &mut weights);
        for (m, w) in matches.found(patch).zip(&weights) {
            let labels = memory[m.frame as usize].1.row(m.patch as usize);
            row.iter_mut().zip(labels).for_each(|(v, label)| *v += w * label);
        }
    }
    field
}
