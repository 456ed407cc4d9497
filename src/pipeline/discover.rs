//! What becomes of proposals: when a camera's frames are looked at for objects that nobody tagged, which of them are offered, and
//! which are withdrawn or tagged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::discover::{DiscoverConfig, Mode, Proposal, moving, salient};
use crate::state::TrackIds;
use crate::track::Session;
use crate::types::report::{Track, TrackId};
use crate::types::{Features, FrameMeta, Mask, View};

/// One camera's proposals.
pub(super) struct Discovery {
    config: DiscoverConfig,
    ids: Arc<TrackIds>,
    /// When the next look is due, in seconds of frames.
    due: f64,
    /// A frame that was seen shortly before that, and when, in seconds: what moves differs from it.
    before: Option<(f64, Features)>,
    standing: BTreeMap<TrackId, Standing>,
    /// What was tagged without being asked.
    tagged: BTreeSet<TrackId>,
}

/// How often a proposal was found.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    found: u32,
    /// Looks since it was found last.
    missed: u32,
}

/// Seconds between the two frames that tell what moves, at least and at most. Neighbouring frames of 30 a second tell it best: further
/// apart, fewer patches are found again.
const APART: f64 = 0.03;
const AT_MOST: f64 = 1.0;
/// Looks in a row that do not find a proposal, after which it is withdrawn.
const PATIENCE: u32 = 5;
/// Looks that must have found what is tagged without being asked.
const TRUSTED: u32 = 2;
/// What shares more than this part of the smaller of the two with something that is followed is not offered beside it.
const SHARED: f64 = 0.3;
/// What scores less than this part of the best is not offered: of a frame with one object, the rest is its background.
const WORTH: f32 = 0.5;
/// A proposal is found again by one that overlaps it with this IoU.
const SAME: f64 = 0.5;

impl Discovery {
    pub fn new(config: DiscoverConfig, ids: Arc<TrackIds>) -> Discovery {
        let (standing, tagged) = (BTreeMap::new(), BTreeSet::new());
        Discovery { config, ids, due: f64::NEG_INFINITY, before: None, standing, tagged }
    }

    pub fn configure(&mut self, config: DiscoverConfig) {
        self.config = config;
        // The next look was due by the old one.
        self.due = f64::NEG_INFINITY;
    }

    /// Whether anything is looked for.
    pub fn looks(&self) -> bool {
        self.config.mode != Mode::Off
    }

    /// Looks at a frame if it is time to, after the session has followed its objects into it. Returns what is offered from this
    /// frame on.
    pub fn look(&mut self, session: &mut Session, meta: &FrameMeta, features: &Features) -> Vec<Track> {
        let time = meta.captured_at.mono_ns as f64 * 1e-9;
        let proposals = match self.config.mode {
            Mode::Off => {
                self.withdraw_all(session);
                return Vec::new();
            }
            // A part of a frame that was on its way when it was told to look.
            Mode::Salient | Mode::Moving if features.view != View::WHOLE => return Vec::new(),
            Mode::Salient if time >= self.due => salient(features, self.wanted(session)),
            Mode::Moving if time >= self.due => match self.before.take() {
                Some((then, before)) if before.grid == features.grid && (0.0..=AT_MOST).contains(&(time - then)) => {
                    moving(&before, features, self.wanted(session))
                }
                // None was kept, or it says too little of what moves.
                _ => {
                    self.before = Some((time, features.clone()));
                    self.due = time + APART;
                    return Vec::new();
                }
            },
            Mode::Salient | Mode::Moving => return Vec::new(),
        };
        self.due = time + f64::from(self.config.every_s);
        let offered = self.take(session, meta, &proposals);
        self.settle(session, &meta.camera);
        offered
    }

    /// So many may be objects that are followed already.
    fn wanted(&self, session: &Session) -> usize {
        self.config.limit + session.len().min(self.config.limit)
    }

    /// Offers what is new among `proposals`, and counts which of those that are offered were found again.
    fn take(&mut self, session: &mut Session, meta: &FrameMeta, proposals: &[Proposal]) -> Vec<Track> {
        let open: BTreeSet<TrackId> = session.occupied().filter(|(.., open)| *open).map(|(id, ..)| id).collect();
        self.standing.retain(|id, _| open.contains(id));
        self.standing.values_mut().for_each(|standing| standing.missed += 1);
        let mut offered = Vec::new();
        let least = proposals.first().map_or(0.0, |best| WORTH * best.score);
        for proposal in proposals.iter().filter(|proposal| proposal.score >= least) {
            let mask = proposal.mask(meta.width, meta.height);
            if let Some(id) = followed_at(session, &mask) {
                if let Some(standing) = id.and_then(|id| self.standing.get_mut(&id)) {
                    *standing = Standing { found: standing.found + 1, missed: 0 };
                }
            } else if self.standing.len() < self.config.limit && session.has_room() {
                match self.ids.give() {
                    Ok(id) => {
                        if let Ok(track) = session.propose(mask, id, format!("object-{id}")) {
                            self.standing.insert(id, Standing { found: 1, missed: 0 });
                            offered.push(track);
                        }
                    }
                    Err(error) => log::warn!("camera {}: nothing is proposed: {error}", meta.camera),
                }
            }
        }
        offered
    }

    /// Withdraws what is found no more, and tags what is to be tagged without being asked.
    fn settle(&mut self, session: &mut Session, camera: &str) {
        self.standing.retain(|id, standing| standing.missed < PATIENCE || !session.withdraw(*id));
        self.tagged.retain(|id| session.occupied().any(|(track, ..)| track == *id));
        let trusted = self.standing.iter().filter(|(_, standing)| standing.found >= TRUSTED).map(|(id, _)| *id);
        for id in trusted.take(self.config.tag.saturating_sub(self.tagged.len())).collect::<Vec<TrackId>>() {
            if let Some(track) = session.accept(id, None) {
                log::info!("camera {camera}: tagged {} as track {id} by itself", track.name);
                self.standing.remove(&id);
                self.tagged.insert(id);
            }
        }
    }

    fn withdraw_all(&mut self, session: &mut Session) {
        for (id, _) in std::mem::take(&mut self.standing) {
            session.withdraw(id);
        }
        self.before = None;
    }
}

/// What is followed where a mask is: the proposal that it finds again, or nothing that can be told. `None` where it is new.
fn followed_at(session: &Session, mask: &Mask) -> Option<Option<TrackId>> {
    let again = session.occupied().find(|(_, theirs, open)| *open && theirs.iou(mask) >= SAME);
    let shares = |theirs: &Mask| theirs.intersection_area(mask) as f64 > SHARED * theirs.area().min(mask.area()) as f64;
    let taken = || session.occupied().any(|(_, theirs, _)| shares(theirs));
    match again {
        Some((id, ..)) => Some(Some(id)),
        None => taken().then_some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::types::report::TrackState;
    use crate::types::{InputTensor, PatchGrid, Seed, Timestamp};

    const GRID: PatchGrid = PatchGrid { rows: 16, cols: 24, patch: 16 };
    const DIM: usize = 16;

    /// Blocks of four patches a side, each of its own kind, on a background that is much the same everywhere.
    fn frame(seq: u64, blocks: &[(usize, usize)]) -> Features {
        let mut features = Features::zeros(GRID, DIM);
        for (patch, row) in features.data.chunks_exact_mut(DIM).enumerate() {
            let (r, c) = (patch / GRID.cols, patch % GRID.cols);
            let over = blocks.iter().position(|(y, x)| (*y..y + 4).contains(&r) && (*x..x + 4).contains(&c));
            row[over.map_or(0, |block| block + 1)] = 1.0;
            // Every patch a little different from all others, and from itself a frame before.
            row[8 + patch % 8] += 0.04;
            row[8 + (patch / 3 + seq as usize) % 8] += 0.02;
        }
        features.normalise();
        features.picture = picture(blocks);
        features
    }

    /// Blocks with a texture that goes along with them, on one that stays.
    fn picture(blocks: &[(usize, usize)]) -> InputTensor {
        let (width, height) = (GRID.input_width(), GRID.input_height());
        let pixel = |i: usize| {
            let (x, y) = (i % width, i / width);
            let over = blocks.iter().find(|(r, c)| (*r..r + 4).contains(&(y / 16)) && (*c..c + 4).contains(&(x / 16)));
            let (x, y) = over.map_or((x as f32, y as f32), |(r, c)| {
                (500.0 + (y - 16 * r) as f32 * 1.7, 300.0 + (x - 16 * c) as f32 * 0.6)
            });
            (x / 7.0).sin() * (y / 5.0).cos() + (x / 11.0 + y / 13.0).sin()
        };
        let plane: Vec<f32> = (0..width * height).map(pixel).collect();
        InputTensor { width, height, data: [&plane[..], &plane, &plane].concat() }
    }

    struct World {
        session: Session,
        discovery: Discovery,
        seq: u64,
    }

    impl World {
        /// Looked at in every frame, of which there are ten a second.
        fn new(mode: Mode, limit: usize, tag: usize) -> World {
            let config = Config::builtin();
            let discover = DiscoverConfig { mode, every_s: 0.1, limit, tag };
            let session = Session::new(config.propagation().clone(), config.track.clone(), GRID, DIM);
            let discovery = Discovery::new(discover, Arc::new(TrackIds::ephemeral()));
            World { session, discovery, seq: 0 }
        }

        /// Plays a frame, and returns the state of each track in it, that of what is offered among them.
        fn play(&mut self, blocks: &[(usize, usize)]) -> Vec<(u64, TrackState)> {
            self.seq += 1;
            let mono_ns = self.seq * 100_000_000;
            let captured_at = Timestamp { mono_ns, real_ns: mono_ns };
            let (camera, width, height) = ("toy".into(), GRID.input_width(), GRID.input_height());
            let meta = FrameMeta { camera, seq: self.seq, captured_at, dropped: 0, width, height };
            let features = frame(self.seq, blocks);
            let mut tracks = self.session.step(&meta, &features).tracks;
            tracks.extend(self.discovery.look(&mut self.session, &meta, &features));
            tracks.iter().map(|track| (track.id.0, track.state)).collect()
        }
    }

    #[test]
    fn what_stands_out_is_offered_once_and_followed() {
        let mut world = World::new(Mode::Salient, 3, 0);
        assert_eq!(world.play(&[(6, 10)]), [(1, TrackState::Proposal)]);
        for _ in 0..10 {
            assert_eq!(world.play(&[(6, 10)]), [(1, TrackState::Proposal)], "frame {}", world.seq);
        }
        let [x, y, w, h] = world.session.occupied().next().unwrap().1.bounds().unwrap();
        assert!(x.abs_diff(160) <= 16 && y.abs_diff(96) <= 16 && w.abs_diff(64) <= 32 && h.abs_diff(64) <= 32);
    }

    #[test]
    fn no_more_is_offered_than_is_configured_and_nothing_that_is_tagged() {
        let blocks = [(2, 2), (2, 16), (10, 9)];
        let mut world = World::new(Mode::Off, 2, 0);
        assert!(world.play(&blocks).is_empty());
        world.session.tag(&Seed::Box([32.0, 32.0, 64.0, 64.0]), None, TrackId(100), "cup".into()).unwrap();
        world.discovery.configure(DiscoverConfig { mode: Mode::Salient, every_s: 0.1, limit: 1, tag: 0 });
        (0..5).for_each(|_| drop(world.play(&blocks)));
        let told = world.play(&blocks);
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told.iter().filter(|(_, state)| *state == TrackState::Proposal).count(), 1);
        world.discovery.configure(DiscoverConfig { mode: Mode::Salient, every_s: 0.1, limit: 8, tag: 0 });
        (0..5).for_each(|_| drop(world.play(&blocks)));
        let cup = world.session.occupied().find(|(id, ..)| *id == TrackId(100)).unwrap().1.clone();
        for (id, mask, open) in world.session.occupied().filter(|(.., open)| *open) {
            assert!(mask.iou(&cup) < 0.3, "{id} is the cup, {open}");
        }
        world.discovery.configure(DiscoverConfig { mode: Mode::Off, every_s: 0.1, limit: 8, tag: 0 });
        world.play(&blocks);
        assert_eq!(world.session.len(), 1, "none is left behind");
    }

    #[test]
    fn a_shorter_interval_does_not_wait_for_the_longer_one() {
        let mut world = World::new(Mode::Salient, 3, 0);
        let often = world.discovery.config.clone();
        world.discovery.configure(DiscoverConfig { every_s: 3600.0, ..often.clone() });
        assert_eq!(world.play(&[(6, 10)]).len(), 1, "the first look waits for nothing");
        world.session.untag(TrackId(1));
        assert_eq!(world.play(&[(6, 10)]), [(1, TrackState::Removed)]);
        assert_eq!(world.play(&[(6, 10)]), [], "an hour is not over");
        world.discovery.configure(often);
        assert_eq!(world.play(&[(6, 10)]), [(2, TrackState::Proposal)]);
    }

    #[test]
    fn what_is_found_twice_is_tagged_where_that_is_configured() {
        let mut world = World::new(Mode::Salient, 3, 1);
        let blocks = [(2, 2), (10, 16)];
        let first = world.play(&blocks);
        assert!(first.iter().all(|(_, state)| *state == TrackState::Proposal), "{first:?}");
        (0..8).for_each(|_| drop(world.play(&blocks)));
        let told = world.play(&blocks);
        assert_eq!(told.iter().filter(|(_, state)| *state == TrackState::Tracked).count(), 1, "{told:?}");
    }

    #[test]
    fn what_is_found_no_more_is_withdrawn_though_it_is_followed() {
        let mut world = World::new(Mode::Salient, 3, 0);
        world.play(&[(6, 10)]);
        // From here on nothing is found.
        for frame in 1..=PATIENCE {
            assert_eq!(world.session.len(), 1, "after {frame}");
            let meta = FrameMeta {
                camera: "toy".into(),
                seq: 1,
                captured_at: Timestamp::default(),
                dropped: 0,
                width: GRID.input_width(),
                height: GRID.input_height(),
            };
            world.discovery.take(&mut world.session, &meta, &[]);
            world.discovery.settle(&mut world.session, "toy");
        }
        assert!(world.session.is_empty());
    }

    #[test]
    fn what_moves_is_offered_and_what_stands_is_not() {
        let mut world = World::new(Mode::Moving, 3, 0);
        (0..8).for_each(|_| assert_eq!(world.play(&[(6, 10)]), [], "nothing moves"));
        let told: Vec<_> = (0..6).map(|step| world.play(&[(6, 11 + step)])).collect();
        assert!(told.iter().flatten().any(|(_, state)| *state == TrackState::Proposal), "{told:?}");
    }
}
