//! Budgets on simulated machines, which do what the level in force lets them.

use proptest::prelude::*;

use super::*;

fn grid(rows: usize, cols: usize) -> PatchGrid {
    PatchGrid { rows, cols, patch: 16 }
}

/// As a manifest has them: the configured one first, others in any order, one of them larger.
fn grids() -> Vec<PatchGrid> {
    vec![grid(30, 40), grid(15, 20), grid(45, 80), grid(23, 40), grid(21, 28)]
}

fn config(target_fps: f32, cpu_share: f32) -> BudgetConfig {
    BudgetConfig { target_fps, cpu_share, min_input: "auto".into(), min_fps: 1.0, window_s: 1.0, climb_after_s: 10.0 }
}

/// A machine with cameras. Times are in seconds.
#[derive(Clone, Debug)]
struct Machine {
    /// Frames a second of each camera.
    cameras: Vec<f64>,
    /// Of one patch, and of a frame apart from its patches.
    patch_s: f64,
    frame_s: f64,
    /// The time grows with the number of patches to this power.
    power: f64,
    /// How many cores a frame keeps busy while it is embedded, of how many.
    busy: f64,
    cores: f64,
    /// How much slower other programs make it.
    slowed: f64,
    /// Fraction of a frame that waits for the next measurement, of each camera.
    left: Vec<f64>,
}

impl Machine {
    /// One camera of `fps`, and frames of `full_s` at the configured size.
    fn new(fps: f64, full_s: f64) -> Machine {
        let patch_s = full_s / 1200.0;
        Machine {
            cameras: vec![fps],
            patch_s,
            frame_s: 0.0,
            power: 1.0,
            busy: 1.0,
            cores: 2.0,
            slowed: 1.0,
            left: vec![],
        }
    }

    fn frame_s(&self, level: Level) -> f64 {
        let patches = 1200.0 * (level.grid.len() as f64 / 1200.0).powf(self.power);
        self.slowed * (self.frame_s + self.patch_s * patches)
    }

    fn run(&mut self, level: Level, seconds: f64) -> Load {
        self.left.resize(self.cameras.len(), 0.0);
        let wanted: Vec<f64> = self.cameras.iter().map(|fps| fps.min(level.max_fps.map_or(1e9, f64::from))).collect();
        // Cameras are served in turn: what one does not need, the others share.
        let (mut capacity, mut order) = (1.0 / self.frame_s(level), (0..wanted.len()).collect::<Vec<_>>());
        order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
        let mut served = wanted.clone();
        for (place, camera) in order.iter().enumerate() {
            served[*camera] = wanted[*camera].min(capacity / (wanted.len() - place) as f64);
            capacity -= served[*camera];
        }
        let reported: Vec<u64> = served
            .iter()
            .zip(&mut self.left)
            .map(|(fps, left)| {
                *left += fps * seconds;
                let whole = left.floor();
                *left -= whole;
                whole as u64
            })
            .collect();
        let embedding_s = reported.iter().sum::<u64>() as f64 * self.frame_s(level);
        let cameras = self.cameras.iter().zip(&reported).map(|(fps, reported)| CameraLoad {
            name: "front".into(),
            offered: (fps * seconds).round() as u64,
            reported: *reported,
            tracking_s: 0.1 * embedding_s,
        });
        let cpu_share = self.busy * embedding_s / self.slowed / seconds / self.cores;
        Load { seconds, cpu_share, embedding_s, cameras: cameras.collect() }
    }

    /// Lets time pass, and returns the levels that were in force, each once.
    fn pass(&mut self, governor: &mut Governor, seconds: f64) -> Vec<Level> {
        let mut levels = vec![governor.level()];
        let mut passed = 0.0;
        while passed < seconds {
            let window_s = governor.window_s();
            let load = self.run(governor.level(), window_s);
            let before = governor.level();
            let change = governor.observe(&load);
            assert_eq!(change.as_ref().map_or(before, |change| change.to), governor.level());
            levels.extend(change.map(|change| change.to));
            passed += window_s;
        }
        levels
    }
}

const HOUR: f64 = 3600.0;

#[test]
fn without_a_budget_nothing_changes() {
    let mut governor = Governor::new(config(0.0, 0.0), &grids());
    let levels = Machine::new(30.0, 2.0).pass(&mut governor, HOUR);
    assert_eq!(levels, [Level { grid: grid(30, 40), max_fps: None }]);
    assert_eq!(governor.status(), None);
}

#[test]
fn a_missed_rate_lowers_the_size_until_it_is_met_and_no_further() {
    let mut governor = Governor::new(config(15.0, 0.0), &grids());
    // 10 frames a second at the full size, 13 at the next, 20.4 at the one after that.
    let mut machine = Machine::new(30.0, 0.1);
    let levels = machine.pass(&mut governor, 10.0);
    assert_eq!(levels.iter().map(|level| level.grid.rows).collect::<Vec<_>>(), [30, 23, 21]);
    let status = governor.status().unwrap();
    assert!(status.met && status.problem.is_none(), "{status:?}");
    assert_eq!((status.input, status.configured_input, status.max_fps), ([448, 336], [640, 480], None));
    assert_eq!((status.reason, status.target_fps, status.cpu_share), (BudgetReason::FpsMissed, Some(15.0), None));
    assert_eq!(machine.pass(&mut governor, HOUR).len(), 1, "it stays where it is");
}

#[test]
fn a_miss_is_told_with_its_numbers() {
    let mut governor = Governor::new(config(15.0, 0.0), &[grid(30, 40)]);
    assert_eq!(Machine::new(30.0, 0.1).pass(&mut governor, 60.0).len(), 1, "there is no smaller size");
    let status = governor.status().unwrap();
    assert!(!status.met);
    assert_eq!(status.problem.as_deref(), Some("front reports 9.8 of 15.0 frames a second"));
}

#[test]
fn one_bad_measurement_is_a_hiccup() {
    let mut governor = Governor::new(config(15.0, 0.0), &grids());
    let mut machine = Machine::new(30.0, 0.03);
    for slowed in [1.0, 9.0, 1.0, 9.0, 1.0] {
        machine.slowed = slowed;
        assert_eq!(machine.pass(&mut governor, 0.5).len(), 1);
    }
}

#[test]
fn it_climbs_back_when_the_load_goes() {
    let mut governor = Governor::new(config(15.0, 0.0), &grids());
    let mut machine = Machine::new(30.0, 0.04);
    assert_eq!(machine.pass(&mut governor, 60.0).len(), 1);
    machine.slowed = 4.0;
    let levels = machine.pass(&mut governor, 60.0);
    assert_eq!(levels.last().unwrap().grid.rows, 15, "{levels:?}");
    machine.slowed = 1.0;
    let levels = machine.pass(&mut governor, 60.0);
    assert_eq!(levels.iter().map(|level| level.grid.rows).collect::<Vec<_>>(), [15, 21, 23, 30]);
    assert_eq!(governor.status().unwrap().reason, BudgetReason::Room);
}

#[test]
fn room_is_measured_several_times_however_long_a_measurement_is() {
    let mut governor = Governor::new(config(1.0, 0.0), &grids());
    let mut machine = Machine::new(30.0, 2.0);
    machine.pass(&mut governor, 600.0);
    assert_eq!((governor.level().grid.rows, governor.window_s()), (21, 20.0));
    machine.slowed = 0.1;
    assert_eq!(machine.pass(&mut governor, 60.0).len(), 1, "three measurements");
    assert_eq!(machine.pass(&mut governor, 20.0).len(), 2, "and a fourth");
}

#[test]
fn there_is_room_where_all_cameras_together_have_it() {
    let mut governor = Governor::new(config(10.0, 0.0), &grids());
    let mut machine = Machine { cameras: vec![30.0, 30.0], ..Machine::new(30.0, 0.04) };
    assert_eq!(machine.pass(&mut governor, 60.0).len(), 1);
    machine.slowed = 2.0;
    machine.pass(&mut governor, 60.0);
    assert_eq!(governor.level().grid.rows, 21);
    // Twenty frames a second of the full size would take all of the time, and of the next size 0.8 of it.
    machine.slowed = 1.3;
    machine.pass(&mut governor, HOUR);
    assert_eq!(governor.level().grid.rows, 23);
}

#[test]
fn nothing_goes_up_while_frames_are_missing() {
    let mut governor = Governor::new(config(15.0, 0.0), &grids());
    // Little time is spent on frames, and still they do not come: something else holds them up.
    let camera = CameraLoad { name: "front".into(), offered: 30, reported: 5, tracking_s: 0.1 };
    let load = Load { seconds: 1.0, cpu_share: 0.1, embedding_s: 0.1, cameras: vec![camera] };
    let changes: Vec<Change> = (0..1000).filter_map(|_| governor.observe(&load)).collect();
    assert_eq!(changes.iter().map(|change| change.to.grid.rows).collect::<Vec<_>>(), [23, 21, 15]);
}

#[test]
fn a_camera_that_gives_fewer_frames_than_the_target_misses_nothing() {
    let mut governor = Governor::new(config(15.0, 0.0), &grids());
    assert_eq!(Machine::new(5.0, 0.1).pass(&mut governor, 60.0).len(), 1);
    assert!(governor.status().unwrap().met);
    // One that gives none at all says nothing of the load.
    let load = Load { seconds: 1.0, cameras: vec![CameraLoad::default()], ..Load::default() };
    assert_eq!((governor.observe(&load), governor.observe(&load)), (None, None));
}

/// What the larger size really costs is far from what it is taken to cost: every step up has to be taken back.
#[test]
fn steps_up_that_fail_become_rare() {
    let mut governor = Governor::new(config(15.0, 0.0), &grids());
    let mut machine = Machine { power: 3.0, ..Machine::new(30.0, 0.09) };
    let first = machine.pass(&mut governor, 300.0).len();
    assert!(first > 2, "the test is of steps that fail: {first}");
    let hours = machine.pass(&mut governor, 10.0 * HOUR).len();
    // One try each 16 times 10 seconds.
    assert!(hours <= 2 * 10 * 3600 / 160 + 2, "{hours} changes in ten hours");
}

#[test]
fn a_step_up_that_lasts_makes_the_next_ones_come_sooner() {
    let mut governor = Governor::new(config(15.0, 0.0), &grids());
    let mut machine = Machine { power: 3.0, ..Machine::new(30.0, 0.09) };
    machine.pass(&mut governor, HOUR);
    assert!(governor.wait_s > 100.0, "{}", governor.wait_s);
    machine.slowed = 0.1;
    machine.pass(&mut governor, 900.0);
    assert_eq!((governor.level().grid.rows, governor.wait_s), (30, 10.0));
}

#[test]
fn too_much_cpu_first_skips_frames_then_lowers_the_size_and_then_skips_more() {
    // A frame takes 20 ms of one of two cores: 30 a second take 0.3.
    for (share, expected) in [
        (0.20, Level { grid: grid(30, 40), max_fps: Some(19.0) }),
        (0.08, Level { grid: grid(23, 40), max_fps: Some(10.0) }),
        (0.02, Level { grid: grid(15, 20), max_fps: Some(7.6) }),
        (0.001, Level { grid: grid(15, 20), max_fps: Some(1.0) }),
    ] {
        let mut governor = Governor::new(config(10.0, share), &grids());
        let mut machine = Machine::new(30.0, 0.02);
        let levels = machine.pass(&mut governor, 120.0);
        let level = governor.level();
        assert_eq!(level.grid, expected.grid, "{share}: {levels:?}");
        let (fps, wanted) = (level.max_fps.unwrap(), expected.max_fps.unwrap());
        assert!((fps - wanted).abs() < 0.1 * wanted, "{share}: {levels:?}");
        let smallest_rate_at_full_size = levels.iter().filter(|l| l.grid.rows == 30).filter_map(|l| l.max_fps);
        assert!(smallest_rate_at_full_size.fold(f32::INFINITY, f32::min) >= 10.0, "{share}: {levels:?}");
        assert_eq!(machine.pass(&mut governor, HOUR).len(), 1, "it stays where it is");
        let status = governor.status().unwrap();
        assert_eq!(status.met, share >= 0.08, "{share}: {status:?}");
        assert_eq!(status.reason, BudgetReason::CpuExceeded);
    }
}

#[test]
fn without_a_target_the_size_is_lowered_before_frames_are_skipped_and_it_comes_back() {
    let mut governor = Governor::new(config(0.0, 0.06), &grids());
    let mut machine = Machine::new(30.0, 0.02);
    let levels = machine.pass(&mut governor, 120.0);
    assert!(levels.iter().filter(|level| level.grid.rows > 15).all(|level| level.max_fps.is_none()), "{levels:?}");
    let level = governor.level();
    assert!(level.grid.rows == 15 && (level.max_fps.unwrap() - 22.8).abs() < 1.0, "{level:?}");
    machine.busy = 0.1;
    let levels = machine.pass(&mut governor, 300.0);
    assert_eq!(governor.level(), Level { grid: grid(30, 40), max_fps: None }, "{levels:?}");
    // Frames first, then pixels.
    assert!(levels[1].grid.rows == 15 && levels[1].max_fps.is_none(), "{levels:?}");
}

#[test]
fn the_floors_hold() {
    let floor = BudgetConfig { min_input: "336x448".into(), min_fps: 4.0, ..config(20.0, 0.01) };
    let mut governor = Governor::new(floor, &grids());
    let levels = Machine::new(30.0, 0.2).pass(&mut governor, 300.0);
    assert!(
        levels.iter().all(|level| level.grid.rows >= 21 && level.max_fps.is_none_or(|fps| fps >= 4.0)),
        "{levels:?}"
    );
    assert_eq!(governor.level().grid.rows, 21);
}

#[test]
fn a_size_that_cannot_be_used_is_given_up() {
    let mut governor = Governor::new(config(15.0, 0.0), &grids());
    let mut machine = Machine::new(30.0, 0.1);
    machine.pass(&mut governor, 2.0);
    assert_eq!(governor.level().grid.rows, 23);
    assert!(governor.give_up(grid(23, 40)));
    assert_eq!(governor.level().grid.rows, 30);
    let levels = machine.pass(&mut governor, 60.0);
    assert!(levels.iter().all(|level| level.grid.rows != 23), "{levels:?}");
    assert_eq!((governor.level().grid.rows, governor.sizes()), (21, 3));
    assert!(!governor.give_up(grid(30, 40)), "the configured one stays");
}

#[test]
fn another_budget_begins_anew() {
    let mut governor = Governor::new(config(15.0, 0.0), &grids());
    Machine::new(30.0, 0.1).pass(&mut governor, 60.0);
    let change = governor.configure(config(0.0, 0.0)).unwrap();
    assert_eq!((change.from.grid.rows, change.to.grid.rows), (21, 30));
    assert_eq!(governor.configure(config(0.0, 0.5)), None);
    let expected = "the configuration changed: from now on input 640x480 and every frame, instead of input 448x336 and every frame";
    assert_eq!(change.to_string(), expected);
}

#[test]
fn frames_of_a_duty_cycle_come_at_its_rate() {
    for (camera, limit, expected) in [(30.0, 20.0, 20.0), (30.0, 7.0, 7.0), (30.0, 29.9, 29.9), (10.0, 20.0, 10.0)] {
        let mut duty = DutyCycle::default();
        let taken = (0..(100.0 * camera) as u64)
            .filter(|i| duty.takes(1_000_000_000 + (*i as f64 * 1e9 / camera) as u64, Some(limit)))
            .count();
        assert!((taken as f64 - 100.0 * expected).abs() <= 2.0, "{camera}, {limit}: {taken}");
    }
    // After a pause the camera does not make up for it.
    let mut duty = DutyCycle::default();
    assert!(duty.takes(0, Some(1.0)) && !duty.takes(900_000_000, Some(1.0)));
    let taken: Vec<bool> = (0..4).map(|i| duty.takes(60_000_000_000 + i * 100_000_000, Some(1.0))).collect();
    assert_eq!(taken, [true, true, false, false]);
    assert!(duty.takes(60_400_000_000, None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Whatever a machine is like: the floors hold, it settles, and it is back at the top once there is room.
    #[test]
    fn it_settles_and_comes_back(
        fps in prop::collection::vec(1.0..60.0f64, 1..4), full_s in 0.001..0.5f64, overhead in 0.0..0.02f64,
        power in 0.8..1.6f64, busy in 0.3..2.0f64, target in prop_oneof![Just(0.0f32), 0.5..40.0f32],
        share in prop_oneof![Just(0.0f32), 0.01..1.0f32],
    ) {
        let budget = config(target, share);
        let mut governor = Governor::new(budget, &grids());
        let mut machine = Machine { cameras: fps, frame_s: overhead, power, busy, ..Machine::new(30.0, full_s) };
        machine.pass(&mut governor, 600.0);
        let levels = machine.pass(&mut governor, 2.0 * HOUR);
        // One step up that fails, each time that the longest wait has passed.
        prop_assert!(levels.len() <= 2 + 2 * 7200 / 160, "{} changes in two hours", levels.len());
        for level in &levels {
            prop_assert!(level.grid.len() <= 1200 && level.max_fps.is_none_or(|fps| fps >= 1.0), "{level:?}");
        }
        machine.slowed = 1e-3;
        machine.busy = 1e-6;
        machine.pass(&mut governor, HOUR);
        prop_assert_eq!(governor.level(), Level { grid: grid(30, 40), max_fps: None });
    }
}
