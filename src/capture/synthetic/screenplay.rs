//! Who is where, when: the plan that a scene follows, made once from its seed.
//!
//! Time is cut into beats. At each beat every object has a waypoint; between beats it moves smoothly from one to
//! the next. Crossings are pairs of objects that share a waypoint, exits are waypoints outside the picture. After
//! [`BEATS`] beats the plan begins again where it began, so a scene has no end and any moment of it is a look-up
//! in a table.

use super::arithmetic::{Random, cos, interpolate, sin};

/// Microseconds from one waypoint to the next.
pub const BEAT_US: u64 = 1_600_000;
/// Beats after which the plan begins again.
pub const BEATS: usize = 96;
/// Microseconds after which the plan begins again.
pub const LOOP_US: u64 = BEAT_US * BEATS as u64;

/// Object 1 is neither covered nor cut by the picture's edge before this beat has passed.
const QUIET_BEATS: usize = 2;
/// Beats in which each object passes behind another for the first time.
const FIRST_CROSSINGS: std::ops::RangeInclusive<usize> = 2..=6;
/// Beats from an object's last waypoint in the picture to its first one back in it.
const EXIT_BEATS: usize = 3;
/// Object scales reach from here ...
pub const MIN_SCALE: f64 = 0.7;
/// ... to here.
pub const MAX_SCALE: f64 = 1.4;

/// Where an object is: its centre in pixels, its size as a multiple of its sprite's, its direction in turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pose {
    pub x: f64,
    pub y: f64,
    pub scale: f64,
    pub turns: f64,
}

/// A moment of the plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    pub beat: usize,
    /// In [0, 1): how far it is to the next beat.
    pub part: f64,
}

impl Moment {
    /// The moment `time_us` microseconds after the start.
    pub fn at(time_us: u128) -> Moment {
        let time = (time_us % u128::from(LOOP_US)) as u64;
        Moment { beat: (time / BEAT_US) as usize, part: (time % BEAT_US) as f64 / BEAT_US as f64 }
    }

    /// In [0, 1): how far it is through the whole plan.
    pub fn of_loop(self) -> f64 {
        (self.beat as f64 + self.part) / BEATS as f64
    }
}

/// One object passes behind another: objects count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meeting {
    pub beat: usize,
    pub behind: usize,
    pub front: usize,
}

/// What the plan must know of the picture and its objects.
pub struct Stage<'a> {
    /// Pixels.
    pub width: f64,
    /// Pixels.
    pub height: f64,
    /// Pixels; speeds and distances are fractions of it.
    pub unit: f64,
    /// (objects): the radius in pixels of the circle around each object at scale 1
    pub radii: &'a [f64],
}

#[derive(Clone, Copy, Debug, Default)]
struct Waypoint {
    x: f64,
    y: f64,
    scale: f64,
    /// Added to the object's steady turning; turns.
    wobble: f64,
    /// It lies outside the picture.
    outside: bool,
    /// The object jumps from here to the next waypoint: both lie outside.
    jumps: bool,
}

/// The plan.
pub struct Screenplay {
    objects: usize,
    /// (BEATS, objects)
    waypoints: Vec<Waypoint>,
    /// (objects): whole turns in one loop
    spins: Vec<f64>,
    /// (BEATS, objects): from back to front
    orders: Vec<u8>,
    /// (BEATS): how far into the interval before each beat its order takes over
    switches: Vec<f64>,
    meetings: Vec<Meeting>,
}

impl Screenplay {
    pub fn new(stage: &Stage, seed: u64) -> Screenplay {
        let mut random = Random::new(seed, 0x504c_4159);
        let objects = stage.radii.len();
        let cast = Cast::new(objects, &mut random);
        let mut play = Screenplay {
            objects,
            waypoints: vec![Waypoint::default(); BEATS * objects],
            spins: (0..objects).map(|_| spin(&mut random)).collect(),
            orders: Vec::with_capacity(BEATS * objects),
            switches: vec![0.5; BEATS],
            meetings: Vec::new(),
        };
        for beat in 0..BEATS {
            play.place(stage, &cast, beat, &mut random);
        }
        play.arrange(&mut random);
        play.choose_switches(stage);
        play
    }

    /// Where an object is; objects count from 0.
    pub fn pose(&self, object: usize, moment: Moment) -> Pose {
        let Moment { beat, part } = moment;
        let at = |offset: usize| self.waypoint((beat + BEATS + offset - 1) % BEATS, object);
        let four = [at(0), at(1), at(2), at(3)];
        let [before, from, to, after] = four;
        let smooth = |value: fn(&Waypoint) -> f64| interpolate(four.map(value), part);
        let turns = self.spins[object] * moment.of_loop() + smooth(|w| w.wobble);
        let scale = smooth(|w| w.scale);
        if from.jumps {
            let place = if part < 0.5 { from } else { to };
            return Pose { x: place.x, y: place.y, scale, turns };
        }
        // An object comes in and goes out at an even speed: what lies beyond is as far away again.
        let path = |value: fn(&Waypoint) -> f64| {
            let (from_v, to_v) = (value(from), value(to));
            let before_v = if from.outside { 2.0 * from_v - to_v } else { value(before) };
            let after_v = if to.outside { 2.0 * to_v - from_v } else { value(after) };
            interpolate([before_v, from_v, to_v, after_v], part)
        };
        Pose { x: path(|w| w.x), y: path(|w| w.y), scale, turns }
    }

    /// The objects from back to front.
    pub fn order(&self, moment: Moment) -> &[u8] {
        let next = (moment.beat + 1) % BEATS;
        let beat = if moment.part < self.switches[next] { moment.beat } else { next };
        &self.orders[beat * self.objects..][..self.objects]
    }

    /// Every crossing of one loop that was planned, in order of time. Others happen by chance.
    pub fn meetings(&self) -> &[Meeting] {
        &self.meetings
    }

    fn waypoint(&self, beat: usize, object: usize) -> &Waypoint {
        &self.waypoints[beat * self.objects + object]
    }

    /// Chooses every object's waypoint of one beat.
    fn place(&mut self, stage: &Stage, cast: &Cast, beat: usize, random: &mut Random) {
        let mut placed: Vec<usize> = Vec::with_capacity(self.objects);
        for object in 0..self.objects {
            if let Some(leg) = cast.exit(object, beat) {
                self.waypoints[beat * self.objects + object] = self.exit_waypoint(stage, beat, object, leg, random);
                placed.push(object);
            }
        }
        let to_be_behind = cast.behind(beat, random);
        for &behind in &to_be_behind {
            if placed.contains(&behind) {
                continue;
            }
            let free = |other: &usize| !to_be_behind.contains(other) && !placed.contains(other);
            // The best partner is near enough to meet at an easy pace, and far enough to come from elsewhere.
            let Some(front) = (0..self.objects).filter(free).min_by(|a, b| {
                let far = |other: usize| (self.distance(beat - 1, behind, other) - 0.45 * stage.unit).abs();
                far(*a).total_cmp(&far(*b))
            }) else {
                continue;
            };
            self.place_meeting(stage, cast, Meeting { beat, behind, front }, &placed, random);
            placed.extend([behind, front]);
        }
        for object in 0..self.objects {
            if !placed.contains(&object) {
                self.place_alone(stage, cast, beat, object, &placed, random);
                placed.push(object);
            }
        }
    }

    /// The two meet between where they were, nearer to the slower one.
    fn place_meeting(&mut self, stage: &Stage, cast: &Cast, meeting: Meeting, placed: &[usize], random: &mut Random) {
        let Meeting { beat, behind, front } = meeting;
        let (from, other) = (*self.waypoint(beat - 1, behind), *self.waypoint(beat - 1, front));
        let share = cast.paces[behind] / (cast.paces[behind] + cast.paces[front]);
        let middle = (from.x + (other.x - from.x) * share, from.y + (other.y - from.y) * share);
        let radius = 0.25 * stage.unit;
        let point = self.best_point(stage, beat, behind, placed, 8, |_| {
            let turns = random.unit();
            let length = radius * random.unit();
            (middle.0 + cos(turns) * length, middle.1 + sin(turns) * length)
        });
        let turns = random.unit();
        let beside = 0.2 * random.unit() * stage.radii[behind].min(stage.radii[front]);
        let front_point = (point.0 + cos(turns) * beside, point.1 + sin(turns) * beside);
        for (object, (x, y)) in [(behind, point), (front, front_point)] {
            let (scale, wobble) = self.next_scale(beat, object, random);
            self.waypoints[beat * self.objects + object] = Waypoint { x, y, scale, wobble, ..Waypoint::default() };
        }
        self.meetings.push(meeting);
    }

    fn place_alone(
        &mut self,
        stage: &Stage,
        cast: &Cast,
        beat: usize,
        object: usize,
        placed: &[usize],
        random: &mut Random,
    ) {
        let (scale, wobble) = self.next_scale(beat, object, random);
        let (x, y) = if beat == 0 {
            self.best_point(stage, beat, object, placed, 32, |_| {
                (random.unit() * stage.width, random.unit() * stage.height)
            })
        } else {
            let from = *self.waypoint(beat - 1, object);
            let pace = cast.paces[object] * stage.unit;
            self.best_point(stage, beat, object, placed, 12, |_| {
                let turns = random.unit();
                let length = pace * random.within(0.6, 1.3);
                (from.x + cos(turns) * length, from.y + sin(turns) * length)
            })
        };
        self.waypoints[beat * self.objects + object] = Waypoint { x, y, scale, wobble, ..Waypoint::default() };
    }

    /// The best of several points for an object: apart from the others that were placed, at the beat and half-way
    /// to it, not out of their reach, and near enough to its start when the plan is about to begin again.
    fn best_point(
        &self,
        stage: &Stage,
        beat: usize,
        object: usize,
        placed: &[usize],
        tries: usize,
        mut candidate: impl FnMut(usize) -> (f64, f64),
    ) -> (f64, f64) {
        let radius = stage.radii[object];
        // Everything is whole while the first tags are given; later the picture's edge may cut an object.
        let margin = if beat <= QUIET_BEATS { 1.15 * radius } else { 0.6 * radius };
        let start = *self.waypoint(0, object);
        let from = if beat > 0 { *self.waypoint(beat - 1, object) } else { start };
        let cost = |(x, y): (f64, f64)| {
            let (mut overlap, mut nearest) = (0.0, f64::INFINITY);
            for &other in placed {
                let theirs = self.waypoint(beat, other);
                if theirs.outside {
                    continue;
                }
                let reach = 1.2 * (radius + stage.radii[other]);
                let apart = length(x - theirs.x, y - theirs.y);
                overlap += (reach - apart).max(0.0);
                nearest = nearest.min(apart);
                if beat > 0 {
                    let before = self.waypoint(beat - 1, other);
                    let (dx, dy) = (x + from.x - theirs.x - before.x, y + from.y - theirs.y - before.y);
                    overlap += 0.5 * (reach - 0.5 * length(dx, dy)).max(0.0);
                }
            }
            let lonely = if nearest.is_finite() { (nearest - 0.7 * stage.unit).max(0.0) } else { 0.0 };
            let left = (BEATS - beat) as f64;
            let late =
                if beat == 0 { 0.0 } else { (length(x - start.x, y - start.y) - 0.35 * left * stage.unit).max(0.0) };
            overlap + lonely + 4.0 * late
        };
        let mut best = (f64::INFINITY, (0.0, 0.0));
        for index in 0..tries {
            let (x, y) = candidate(index);
            let point = (fold(x, margin, stage.width - margin), fold(y, margin, stage.height - margin));
            let cost = cost(point);
            if cost < best.0 {
                best = (cost, point);
            }
        }
        best.1
    }

    /// The waypoints of an object that is out of the picture, or just back in it.
    fn exit_waypoint(&self, stage: &Stage, beat: usize, object: usize, leg: ExitLeg, random: &mut Random) -> Waypoint {
        let before = *self.waypoint(beat - 1, object);
        let radius = stage.radii[object] * before.scale;
        let beyond = radius + 0.01 * stage.unit + 0.75;
        // Left, right, top, bottom.
        let gaps = [before.x, stage.width - before.x, before.y, stage.height - before.y];
        let nearest = (0..4).min_by(|a, b| gaps[*a].total_cmp(&gaps[*b])).expect("there are four sides");
        let outside = |side: usize, along: f64| match side {
            0 => (-beyond, along),
            1 => (stage.width + beyond, along),
            2 => (along, -beyond),
            _ => (along, stage.height + beyond),
        };
        let (mut waypoint, (x, y)) = match leg {
            ExitLeg::Outside => {
                let along = if nearest < 2 { before.y } else { before.x };
                let drift = random.within(-0.12, 0.12) * stage.unit;
                (Waypoint { outside: true, jumps: true, ..before }, outside(nearest, along + drift))
            }
            ExitLeg::Elsewhere => {
                // Never the side that it left by: it returns at another place.
                let side = (nearest + 1 + random.below(3)) % 4;
                let length = if side < 2 { stage.height } else { stage.width };
                let along = random.within(0.3, 0.7) * length;
                (Waypoint { outside: true, jumps: false, ..before }, outside(side, along))
            }
            ExitLeg::Returns => {
                let inward = |at: f64, size: f64| {
                    let margin = (0.5 * size).min(0.25 * stage.unit);
                    at.clamp(margin, size - margin)
                };
                let drift = |random: &mut Random| random.within(-0.08, 0.08) * stage.unit;
                let (dx, dy) = (drift(random), drift(random));
                let point = (inward(before.x, stage.width) + dx, inward(before.y, stage.height) + dy);
                (Waypoint { outside: false, jumps: false, ..before }, point)
            }
        };
        (waypoint.x, waypoint.y) = (x, y);
        waypoint.wobble = random.within(-0.06, 0.06);
        waypoint
    }

    /// Scales wander; the first frame shows every object at about its own size.
    fn next_scale(&self, beat: usize, object: usize, random: &mut Random) -> (f64, f64) {
        let swing = random.within(-1.0, 1.0);
        let wobble = random.within(-0.06, 0.06);
        if beat == 0 {
            return (1.0 + 0.1 * swing, wobble);
        }
        let goal = if swing < 0.0 { 1.0 + 0.4 * swing } else { 1.0 + 0.55 * swing };
        let before = self.waypoint(beat - 1, object).scale;
        ((0.4 * before + 0.6 * goal).clamp(MIN_SCALE, MAX_SCALE), wobble)
    }

    /// Depth: each beat's order is that of the beat before, with every object that is to pass behind another put
    /// just behind it.
    fn arrange(&mut self, random: &mut Random) {
        let mut order: Vec<u8> = (1..self.objects as u8).collect();
        random.shuffle(&mut order);
        order.push(0);
        for beat in 0..BEATS {
            for meeting in self.meetings.iter().filter(|meeting| meeting.beat == beat) {
                let place =
                    |order: &[u8], object: usize| order.iter().position(|o| usize::from(*o) == object).unwrap_or(0);
                let (behind, front) = (place(&order, meeting.behind), place(&order, meeting.front));
                if behind > front {
                    order[front..=behind].rotate_right(1);
                }
            }
            self.orders.extend_from_slice(&order);
        }
    }

    /// An object that changes its depth while it overlaps another would seem to jump through it: of several
    /// moments on the way to each beat, the change happens at the one where the fewest would.
    fn choose_switches(&mut self, stage: &Stage) {
        for beat in 0..BEATS {
            let last = (beat + BEATS - 1) % BEATS;
            let order = |beat: usize| &self.orders[beat * self.objects..][..self.objects];
            let (old, new) = (order(last), order(beat));
            if old == new {
                continue;
            }
            let ranks = |order: &[u8]| {
                let mut ranks = vec![0; self.objects];
                order.iter().enumerate().for_each(|(rank, object)| ranks[usize::from(*object)] = rank);
                ranks
            };
            let (old, new) = (ranks(old), ranks(new));
            let swapped: Vec<(usize, usize)> = (0..self.objects)
                .flat_map(|a| (0..a).map(move |b| (a, b)))
                .filter(|(a, b)| (old[*a] < old[*b]) != (new[*a] < new[*b]))
                .collect();
            let cost = |part: f64| -> f64 {
                let moment = Moment { beat: last, part };
                let depth = |&(a, b): &(usize, usize)| {
                    let (p, q) = (self.pose(a, moment), self.pose(b, moment));
                    let reach = stage.radii[a] * p.scale + stage.radii[b] * q.scale;
                    (reach - length(p.x - q.x, p.y - q.y)).max(0.0)
                };
                swapped.iter().map(depth).sum()
            };
            let parts = (1..16).map(|i| f64::from(i) / 16.0);
            let best = parts.map(|part| (cost(part), part)).min_by(|a, b| a.0.total_cmp(&b.0));
            self.switches[beat] = best.map_or(0.5, |(_, part)| part);
        }
    }

    fn distance(&self, beat: usize, a: usize, b: usize) -> f64 {
        let (a, b) = (self.waypoint(beat, a), self.waypoint(beat, b));
        length(a.x - b.x, a.y - b.y)
    }
}

/// The waypoints of an object that leaves the picture, one a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExitLeg {
    /// Beyond the nearest side.
    Outside,
    /// Beyond another side.
    Elsewhere,
    /// In the picture again.
    Returns,
}

/// Who does what at which beat.
struct Cast {
    objects: usize,
    /// (objects): how far each moves from beat to beat, in units
    paces: Vec<f64>,
    /// (object, beat of its last waypoint in the picture)
    exits: Vec<(usize, usize)>,
}

impl Cast {
    fn new(objects: usize, random: &mut Random) -> Cast {
        // From slow to fast, dealt out evenly, so that few objects differ too.
        let mut ranks: Vec<usize> = (0..objects).collect();
        random.shuffle(&mut ranks);
        let spread = |rank: usize| if objects == 1 { 0.5 } else { rank as f64 / (objects - 1) as f64 };
        let paces = ranks.iter().map(|rank| 0.16 + 0.42 * spread(*rank)).collect();
        let first = if objects == 1 { 4 } else { 3 };
        let mut exits = vec![(objects - 1, first)];
        let mut leavers: Vec<usize> = (0..objects).collect();
        random.shuffle(&mut leavers);
        let mut next = leavers.iter().cycle();
        for beat in (first + EXIT_BEATS + 3..BEATS - EXIT_BEATS - 3).step_by(EXIT_BEATS + 2) {
            for _ in 0..1 + objects / 16 {
                exits.extend(next.next().map(|object| (*object, beat)));
            }
        }
        Cast { objects, paces, exits }
    }

    fn exit(&self, object: usize, beat: usize) -> Option<ExitLeg> {
        let since =
            self.exits.iter().filter(|(who, leaves)| *who == object && *leaves < beat).map(|(_, l)| beat - l).min()?;
        [ExitLeg::Outside, ExitLeg::Elsewhere, ExitLeg::Returns].get(since - 1).copied()
    }

    /// The objects that pass behind another one at a beat.
    fn behind(&self, beat: usize, random: &mut Random) -> Vec<usize> {
        if self.objects < 2 || beat < *FIRST_CROSSINGS.start() || beat + 3 > BEATS {
            return Vec::new();
        }
        if FIRST_CROSSINGS.contains(&beat) {
            return (0..self.objects).filter(|object| self.first_crossing(*object) == beat).collect();
        }
        let mut objects: Vec<usize> = (0..self.objects).collect();
        random.shuffle(&mut objects);
        objects.truncate((self.objects / 5).max(1));
        objects
    }

    /// The last object leaves after its own crossing, and object 1 is left alone while it is tagged.
    fn first_crossing(&self, object: usize) -> usize {
        match object {
            0 => 3,
            last if last == self.objects - 1 => 2,
            other => [4, 5, 6, 2, 3][(other - 1) % 5],
        }
    }
}

fn spin(random: &mut Random) -> f64 {
    let turns = (4 + random.below(20)) as f64;
    if random.unit() < 0.5 { -turns } else { turns }
}

/// Mirrors a coordinate back into [low, high]; the middle when there is no such interval.
fn fold(value: f64, low: f64, high: f64) -> f64 {
    if high <= low {
        return 0.5 * (low + high);
    }
    let once = if value < low { 2.0 * low - value } else { value };
    let twice = if once > high { 2.0 * high - once } else { once };
    twice.clamp(low, high)
}

fn length(x: f64, y: f64) -> f64 {
    (x * x + y * y).sqrt()
}
