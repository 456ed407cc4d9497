//! Hard cases that are written: synthetic scenes of one difficulty each.

use super::film::{FPS, Film, Staged};
use super::{Case, TrialError};
use crate::capture::synthetic::arithmetic::Random;
use crate::capture::synthetic::{Actor, Keyframes, Scene, SceneOptions, Script};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 480.0;
/// Frames before anything happens, in which tracks are confirmed.
const CALM: u64 = 15;
/// Frames in which an object comes or goes.
const PASSING: u64 = 20;
/// Frames after everything has happened.
const AFTER: u64 = 30;
/// Frames in which a tracker must not find what is gone.
const NEVER: u64 = 60;

/// How a film is made from its seed.
type Writer = fn(&mut Writing, u64);

/// The kinds of cases: their names, how long what is hard lasts in frames, and how they are written.
const KINDS: [(&str, u64, Writer); 19] = [
    ("hidden 1", 1, Writing::hide),
    ("hidden 3", 3, Writing::hide),
    ("hidden 10", 10, Writing::hide),
    ("hidden 30", 30, Writing::hide),
    ("hidden 100", 100, Writing::hide),
    ("hidden 300", 300, Writing::hide),
    ("away 10", 10, Writing::leave),
    ("away 60", 60, Writing::leave),
    ("away 300", 300, Writing::leave),
    ("camera away 60", 60, Writing::pan),
    ("lights change 30", 30, Writing::hide_in_changing_light),
    ("blur 30", 30, Writing::leave_in_a_blur),
    ("twins cross", 0, Writing::cross),
    ("twin stays", 60, Writing::leave_a_twin),
    ("gone", NEVER, Writing::vanish),
    ("gone, twin stays", NEVER, Writing::vanish_beside_a_twin),
    ("gone in the dark", NEVER, Writing::vanish_in_the_dark),
    ("restart", AFTER, Writing::restart),
    ("restart absent", NEVER, Writing::restart_without),
];

/// Every kind of case under one seed; `wanted` chooses by name, all where it is empty. Of each the error when its scene cannot
/// be made.
pub fn cases(seed: u64, wanted: &[String]) -> impl Iterator<Item = Result<Case, TrialError>> {
    let kinds = KINDS.iter().filter(|(kind, ..)| wanted.is_empty() || wanted.iter().any(|name| name == kind));
    kinds.map(move |(kind, frames, write)| {
        let mut writing = Writing::new(seed);
        write(&mut writing, *frames);
        writing.finish(kind)
    })
}

/// The names of all kinds.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(kind, ..)| *kind)
}

/// A script in the making. Object 1 is what it is about.
struct Writing {
    seed: u64,
    random: Random,
    script: Script,
    tagged: Vec<usize>,
    frames: u64,
    restart: Option<u64>,
    /// Pixels, of object 1.
    radius: f64,
    /// Where object 1 begins.
    place: [f64; 2],
}

/// Which look the object has that the case is about; others have the next ones, and twins the same.
const LOOK: usize = 0;
const TURNS: f64 = 0.1;

impl Writing {
    fn new(seed: u64) -> Writing {
        let mut random = Random::new(seed, 0x0054_5249_414c);
        let radius = random.within(42.0, 60.0);
        let place = [random.within(0.4, 0.6) * WIDTH, random.within(0.4, 0.6) * HEIGHT];
        let mut writing = Writing {
            seed,
            random,
            script: Script { light: Keyframes::still([1.0]), ..Script::default() },
            tagged: vec![1],
            frames: 0,
            restart: None,
            radius,
            place,
        };
        writing.add(LOOK, radius, Keyframes::default());
        writing
    }

    fn add(&mut self, look: usize, radius: f64, path: Keyframes<4>) -> usize {
        self.script.actors.push(Actor { look, radius, path });
        self.script.actors.len()
    }

    /// Objects of other looks in two corners, tagged too, that hardly move.
    fn add_bystanders(&mut self) {
        for (look, x, y) in [(1, 0.14, 0.18), (2, 0.86, 0.82)] {
            let radius = self.random.within(34.0, 48.0);
            let (dx, dy) = (self.random.within(-25.0, 25.0), self.random.within(-15.0, 15.0));
            let [x, y] = [x * WIDTH, y * HEIGHT];
            let path = Keyframes::still([x, y, 1.0, 0.0]).then(self.frames, [x + dx, y + dy, 1.0, 0.05]);
            let number = self.add(look, radius, path);
            self.tagged.push(number);
        }
    }

    fn finish(self, kind: &str) -> Result<Case, TrialError> {
        let options = SceneOptions { seed: self.seed, fps: FPS, ..SceneOptions::default() };
        let looks = self.script.actors.iter().map(|actor| actor.look).collect();
        let film = Film::Staged(Staged::new(Scene::written(options, self.script)?, looks));
        let (kind, name) = (kind.to_owned(), self.seed.to_string());
        Ok(Case { kind, name, frames: self.frames, tagged: self.tagged, restart: self.restart, film })
    }

    /// Something larger comes from the side, covers the object for so many frames, and goes on.
    fn hide(&mut self, hidden: u64) {
        let (from, to) = (CALM + PASSING, CALM + PASSING + hidden - 1);
        self.frames = to + PASSING + AFTER;
        self.add_bystanders();
        let [x, y] = self.place;
        let end = [x + self.random.within(-40.0, 40.0), y + self.random.within(-30.0, 30.0)];
        self.script.actors[0].path = Keyframes::still(pose(self.place)).then(self.frames, pose(end));
        let at = |frame: u64, path: &Keyframes<4>| path.at(frame).map_or(self.place, |[x, y, ..]| [x, y]);
        let (first, last) = (at(from, &self.script.actors[0].path), at(to, &self.script.actors[0].path));
        let radius = 2.4 * self.radius;
        let beyond = WIDTH + radius + 10.0;
        let path = Keyframes::still([-radius - 10.0, first[1], 1.0, 0.0])
            .then(CALM, [-radius - 10.0, first[1], 1.0, 0.0])
            .then(from, [first[0], first[1], 1.0, 0.0])
            .then(to, [last[0], last[1], 1.0, 0.0])
            .then(to + PASSING, [beyond, last[1], 1.0, 0.0]);
        // A look whose outline has no deep notch, or it would hide nothing.
        let look = (3..11).find(|look| self.covers(*look, radius)).unwrap_or(3);
        self.add(look, radius, path);
    }

    /// Whether an object of that look and size hides object 1 when it is right before it.
    fn covers(&self, look: usize, radius: f64) -> bool {
        let middle = Keyframes::still([WIDTH / 2.0, HEIGHT / 2.0, 1.0, TURNS]);
        let actor = |look, radius| Actor { look, radius, path: middle.clone() };
        let script = Script { actors: vec![actor(LOOK, self.radius), actor(look, radius)], ..Script::default() };
        let options = SceneOptions { seed: self.seed, ..SceneOptions::default() };
        Scene::written(options, script).is_ok_and(|scene| scene.truth(0).objects[0].visible_area == 0)
    }

    /// The object leaves the picture, and comes back from another side after so many frames, if it does.
    fn go(&mut self, away: u64, returns: bool) {
        let out = CALM + PASSING;
        let back = out + away;
        self.frames = if returns { back + PASSING + AFTER } else { back };
        let beyond = self.radius + 5.0;
        let sides = [
            [-beyond, self.place[1]],
            [WIDTH + beyond, self.place[1]],
            [self.place[0], -beyond],
            [self.place[0], HEIGHT + beyond],
        ];
        let by = self.random.below(4);
        let (left, entered) = (pose(sides[by]), pose(sides[(by + 1 + self.random.below(3)) % 4]));
        let path = Keyframes::still(pose(self.place)).then(CALM, pose(self.place)).then(out, left);
        self.script.actors[0].path = match returns {
            true => path.then(back, left).then(back, entered).then(back + PASSING, pose(self.place)),
            false => path,
        };
    }

    fn leave(&mut self, away: u64) {
        self.go(away, true);
        self.add_bystanders();
    }

    fn vanish(&mut self, frames: u64) {
        self.go(frames, false);
        self.add_bystanders();
    }

    fn vanish_in_the_dark(&mut self, frames: u64) {
        self.vanish(frames);
        let from = CALM + PASSING + 5;
        self.script.light = Keyframes::still([1.0]).then(from, [1.0]).then(from, [0.55]);
    }

    /// Another of the same look is in the picture all the time, and not tagged.
    fn add_twin(&mut self) {
        let place = [0.14 * WIDTH, 0.8 * HEIGHT];
        let path = Keyframes::still(pose(place)).then(self.frames, pose([place[0] + 30.0, place[1]]));
        self.add(LOOK, self.radius, path);
    }

    fn leave_a_twin(&mut self, away: u64) {
        self.leave(away);
        self.add_twin();
    }

    fn vanish_beside_a_twin(&mut self, frames: u64) {
        self.vanish(frames);
        self.add_twin();
    }

    /// The camera looks away to the right for so many frames.
    fn pan(&mut self, away: u64) {
        let out = CALM + PASSING;
        let back = out + away;
        self.frames = back + PASSING + AFTER;
        self.script.actors[0].path = Keyframes::still(pose(self.place));
        self.add_bystanders();
        let far = [WIDTH, 0.0];
        let home = [0.0, 0.0];
        self.script.camera =
            Keyframes::still(home).then(CALM, home).then(out, far).then(back, far).then(back + PASSING, home);
    }

    fn hide_in_changing_light(&mut self, hidden: u64) {
        self.hide(hidden);
        let (dark, bright) = (CALM / 2, CALM + PASSING + hidden / 2);
        self.script.light =
            Keyframes::still([1.0]).then(dark, [1.0]).then(dark, [0.65]).then(bright, [0.65]).then(bright, [1.3]);
    }

    fn leave_in_a_blur(&mut self, away: u64) {
        self.leave(away);
        let (from, to) = (CALM, CALM + PASSING + away + PASSING);
        self.script.blur = Keyframes::still([0.0]).then(from, [0.0]).then(from, [4.0]).then(to, [4.0]).then(to, [0.0]);
    }

    /// Two of the same look pass each other, the one half or wholly before the other.
    fn cross(&mut self, _: u64) {
        self.frames = 75;
        let apart = self.random.within(0.0, 0.5) * self.radius;
        let (left, right) = (0.2 * WIDTH, 0.8 * WIDTH);
        let y = self.place[1];
        let way = |from: [f64; 2], to: [f64; 2]| Keyframes::still(pose(from)).then(CALM, pose(from)).then(60, pose(to));
        self.script.actors[0].path = way([left, y], [right, y]);
        let twin = self.add(LOOK, self.radius, way([right, y + apart], [left, y + apart]));
        self.tagged.push(twin);
    }

    /// The tracker is begun anew, and before the next frame object 1 has gone to `place` at once. The others are not tagged.
    fn begin_anew(&mut self, after: u64, place: [f64; 2]) {
        let at = CALM + PASSING;
        (self.restart, self.frames) = (Some(at), at + after);
        let last = [self.place[0] + self.random.within(-40.0, 40.0), self.place[1] + self.random.within(-30.0, 30.0)];
        self.script.actors[0].path = Keyframes::still(pose(self.place)).then(at, pose(last)).then(at, pose(place));
        self.add_bystanders();
        self.tagged.truncate(1);
    }

    fn restart(&mut self, after: u64) {
        let [x, y] = if self.random.below(2) == 0 { [0.25, 0.72] } else { [0.75, 0.28] };
        self.begin_anew(after, [x * WIDTH, y * HEIGHT]);
    }

    /// Two others have come that were never there, one of them to where object 1 was.
    fn restart_without(&mut self, after: u64) {
        let beyond = [-200.0, HEIGHT / 2.0];
        self.begin_anew(after, beyond);
        let at = CALM + PASSING;
        for (look, place) in [(3, self.place), (4, [0.25 * WIDTH, 0.72 * HEIGHT])] {
            self.add(look, self.radius, Keyframes::still(pose(beyond)).then(at, pose(beyond)).then(at, pose(place)));
        }
    }
}

fn pose([x, y]: [f64; 2]) -> [f64; 4] {
    [x, y, 1.0, TURNS]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::synthetic::Truth;

    fn truth(case: &Case, frame: u64) -> Truth {
        let Film::Staged(staged) = &case.film else { panic!("what is written is staged") };
        staged.scene.truth(frame)
    }

    /// (frames), the part of object 1 that is to be seen, of what it has in the first.
    fn shown(case: &Case) -> Vec<f64> {
        let area = |frame: u64| f64::from(truth(case, frame).objects[0].visible_area);
        (0..case.frames).map(|frame| area(frame) / area(0)).collect()
    }

    #[test]
    fn each_case_is_what_its_name_says() {
        for seed in 0..3 {
            for case in cases(seed, &[]).map(Result::unwrap) {
                let name = format!("{} {seed}", case.kind);
                let first = truth(&case, 0);
                for number in &case.tagged {
                    let object = &first.objects[number - 1];
                    assert!(object.visible_area > 1500 && object.occluded() == 0.0, "{name}: object {number}");
                }
                let shown = shown(&case);
                let hidden = shown.iter().filter(|part| **part < 0.02).count() as u64;
                let end = shown[shown.len() - 1];
                let due = case.kind.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
                if case.kind.starts_with("gone") {
                    assert!(hidden >= NEVER - 1 && end == 0.0, "{name}: {hidden}");
                } else if let Some(due) = due {
                    // It is hidden from when the last of it goes, and goes and comes in some 20 frames.
                    assert!((due..=due + 24).contains(&hidden), "{name}: hidden in {hidden} frames");
                    assert!(end > 0.9, "{name}: {end}");
                }
                if case.kind == "restart" {
                    let at = case.restart.unwrap();
                    let centre = |frame: u64| truth(&case, frame).objects[0].centre;
                    let apart = (0..2).map(|axis| (centre(at - 1)[axis] - centre(at)[axis]).abs()).fold(0.0, f32::max);
                    assert!(hidden == 0 && end > 0.9 && apart > 40.0, "{name}: {hidden} {end} {apart}");
                    assert_eq!((case.tagged.as_slice(), at + AFTER), (&[1][..], case.frames));
                }
                if case.kind == "restart absent" {
                    let at = case.restart.unwrap();
                    assert_eq!((hidden, shown[at as usize]), (NEVER, 0.0), "{name}");
                    let new = |frame: u64| truth(&case, frame).objects[3..].iter().all(|o| o.visible_area > 1500);
                    assert!(!new(at - 1) && new(at), "{name}");
                }
                if case.kind == "twins cross" {
                    let least = shown.iter().copied().fold(1.0, f64::min);
                    assert!(least < 0.6 && end > 0.9, "{name}: {least} {end}");
                }
            }
        }
    }

    #[test]
    fn why_an_object_is_out_of_sight_is_as_it_is_written() {
        use crate::types::report::Reason::{self, Ambiguous, LeftView, Unseen};
        let rightly: [(&str, &[Reason]); 8] = [
            ("hidden 30", &[Unseen]),
            ("lights change 30", &[Unseen]),
            ("away 60", &[LeftView]),
            ("camera away 60", &[LeftView]),
            ("blur 30", &[LeftView]),
            ("twin stays", &[LeftView, Ambiguous]),
            ("gone", &[LeftView]),
            ("gone, twin stays", &[LeftView, Ambiguous]),
        ];
        for (kind, reasons) in rightly {
            let case = cases(1, &[kind.into()]).next().unwrap().unwrap();
            let hidden: Vec<u64> =
                (0..case.frames).filter(|frame| truth(&case, *frame).objects[0].visible_area == 0).collect();
            for frame in [hidden[0], hidden[hidden.len() - 1]] {
                let (_, truths) = case.film.shot(frame).unwrap();
                assert_eq!(truths[0].reasons, reasons, "{kind}, frame {frame}");
            }
        }
    }

    #[test]
    fn cases_are_chosen_by_name() {
        let names = |wanted: &[String]| cases(0, wanted).map(|case| case.unwrap().kind).collect::<Vec<_>>();
        assert_eq!(names(&["gone".into(), "twins cross".into()]), ["twins cross", "gone"]);
        assert_eq!(names(&[]), kinds().collect::<Vec<_>>());
    }
}
