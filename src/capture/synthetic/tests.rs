use proptest::prelude::*;

use super::screenplay::{BEAT_US, BEATS, MAX_SCALE, MIN_SCALE};
use super::sprite::Outline;
use super::*;

fn scene(width: usize, height: usize, seed: u64, objects: usize) -> Scene {
    Scene::new(SceneOptions { width, height, seed, objects, ..SceneOptions::default() }).unwrap()
}

fn rendered(scene: &Scene, index: u64) -> SceneFrame {
    let mut frame = SceneFrame::default();
    scene.render(index, &mut frame);
    frame
}

#[test]
fn frames_are_the_same_in_any_order_and_in_any_scene_of_the_same_options() {
    let (one, two) = (scene(160, 120, 5, 6), scene(160, 120, 5, 6));
    let mut frame = SceneFrame::default();
    let mut forward = Vec::new();
    for index in 0..40 {
        one.render(index * 9, &mut frame);
        forward.push((frame.rgb.clone(), frame.truth.clone()));
    }
    for index in (0..40).rev() {
        let fresh = rendered(&two, index * 9);
        assert!(fresh.rgb == forward[index as usize].0, "frame {}", index * 9);
        assert!(fresh.truth == forward[index as usize].1, "truth of frame {}", index * 9);
        assert!(two.truth(index * 9) == fresh.truth, "truth alone of frame {}", index * 9);
    }
    assert!(forward.windows(2).all(|pair| pair[0].0 != pair[1].0), "every frame differs from the one before");
    assert!(rendered(&scene(160, 120, 6, 6), 0).rgb != forward[0].0, "another seed is another scene");
}

#[test]
fn each_pixel_belongs_to_the_frontmost_object_that_covers_it() {
    for (seed, objects) in [(1, 4), (2, 13), (3, 64)] {
        let scene = scene(320, 240, seed, objects);
        for index in [0, 97, 150, 222, 1031] {
            let frame = rendered(&scene, index);
            let mut expected = vec![0u8; 320 * 240];
            for &object in scene.order(index) {
                scene.silhouette(index, usize::from(object) + 1).paint(&mut expected, object + 1);
            }
            assert!(frame.truth.instances == expected, "seed {seed}, frame {index}");
            for (object, truth) in (1..).zip(&frame.truth.objects) {
                let mask = frame.truth.mask(object);
                assert_eq!(mask, Mask::from_pixels(320, 240, &expected, object as u8));
                assert_eq!(mask.area(), truth.visible_area as usize);
                assert_eq!(scene.silhouette(index, object).area(), truth.full_area as usize);
            }
        }
        assert!(scene.truth(0).mask(0).is_empty() && scene.truth(0).mask(objects + 1).is_empty());
    }
}

/// The oracle knows the outline alone, not the sprite, and uses the mathematics library.
#[test]
fn silhouettes_are_the_outlines_moved_turned_and_scaled() {
    for seed in 0..3 {
        let scene = scene(640, 480, seed, 8);
        for (object, index) in (0..8).flat_map(|object| [(object, 0), (object, 333), (object, 801)]) {
            let outline = Outline::new(seed, object, &mut Random::new(seed, 0x0b_0000 + object as u64));
            let pose = scene.pose(object, index);
            let size = f64::from(scene.sprites[object].radius) * pose.scale;
            let pixels = scene.silhouette(index, object + 1).to_pixels();
            let (sine, cosine) = (pose.turns * std::f64::consts::TAU).sin_cos();
            let (mut sure, mut wrong) = (0, 0);
            for (at, inside) in pixels.iter().enumerate() {
                let (dx, dy) = ((at % 640) as f64 + 0.5 - pose.x, (at / 640) as f64 + 0.5 - pose.y);
                let local = [(dx * cosine + dy * sine) / size, (dy * cosine - dx * sine) / size];
                let distance = f64::from(outline.distance(local.map(|v| v as f32))) * size;
                if distance.abs() > 0.6 {
                    sure += usize::from(distance > 0.0);
                    wrong += usize::from(*inside != (distance > 0.0));
                }
            }
            // Sampling rounds off the sharpest corners.
            assert!(wrong * 100 <= sure, "seed {seed}, object {object}, frame {index}: {wrong} wrong, {sure} inside");
        }
    }
}

struct Case(usize, usize, usize);

const CASES: [Case; 9] = [
    Case(640, 480, 1),
    Case(640, 480, 2),
    Case(640, 480, 3),
    Case(640, 480, 4),
    Case(320, 240, 7),
    Case(64, 48, 5),
    Case(640, 480, 64),
    Case(240, 320, 12),
    Case(1920, 1080, 4),
];

/// Ten seconds: every object is passed behind, and one leaves and returns.
#[test]
fn the_first_ten_seconds_hold_what_they_promise() {
    for (seed, Case(width, height, objects)) in (0..3).flat_map(|seed| CASES.map(|case| (seed, case))) {
        let what = format!("seed {seed}, {width}x{height}, {objects} objects");
        let scene = scene(width, height, seed, objects);
        let mut covered = vec![0f32; objects];
        for index in (0..300).step_by(3) {
            let truth = scene.truth(index);
            for (most, object) in covered.iter_mut().zip(&truth.objects) {
                *most = most.max(object.occluded());
            }
            let first = &truth.objects[0];
            if index < 90 {
                assert!(first.occluded() == 0.0 && !first.out_of_view(), "{what}: object 1 at frame {index}");
            }
            if index == 0 {
                assert!(truth.objects.iter().all(|o| o.visible_area > 0), "{what}: all are seen at first");
            }
        }
        if objects > 1 {
            let crossings = scene.crossings(0..300);
            for (object, most) in (1..).zip(&covered) {
                assert!(*most > 0.1, "{what}: object {object} is never covered: {most}");
                assert!(crossings.iter().any(|c| c.behind == object), "{what}: object {object} passes behind none");
            }
        }
        let absences = scene.absences(objects, 0..400);
        let first = absences.first().unwrap_or_else(|| panic!("{what}: object {objects} never leaves"));
        assert!(first.start > 90 && first.end < 330, "{what}: away in {first:?}");
        let place = |index| scene.pose(objects - 1, index);
        let (gone, back) = (place(first.start), place(first.end));
        let apart = (gone.x - back.x).hypot(gone.y - back.y);
        assert!(apart > 0.2 * height.min(width) as f64, "{what}: returns where it left");
    }
}

/// The whole plan, to its end and over it: absences are short, speeds differ and have a bound, scales theirs.
#[test]
fn the_whole_plan_keeps_its_bounds() {
    for (seed, Case(width, height, objects)) in (3..5).flat_map(|seed| CASES.map(|case| (seed, case))) {
        if objects == 64 || width == 1920 {
            continue;
        }
        let what = format!("seed {seed}, {width}x{height}, {objects} objects");
        let scene = scene(width, height, seed, objects);
        let unit = (height as f64).min(width as f64 * 0.75) / 480.0;
        let frames = BEATS as u64 * BEAT_US * 30 / 1_000_000 + 60;
        let mut speeds = Vec::new();
        for object in 0..objects {
            for absence in scene.absences(object + 1, 0..frames) {
                let length = absence.end - absence.start;
                assert!((30..=90).contains(&length), "{what}: object {} away in {absence:?}", object + 1);
            }
            let (mut fastest, mut way) = (0f64, 0.0);
            for index in 0..frames {
                let (a, b) = (scene.pose(object, index), scene.pose(object, index + 1));
                assert!((MIN_SCALE..=MAX_SCALE).contains(&a.scale), "{what}: scale {}", a.scale);
                let step = (a.x - b.x).hypot(a.y - b.y) / unit;
                // Out of the picture it may jump.
                if !scene.is_absent(object, index) && !scene.is_absent(object, index + 1) {
                    assert!(step < 18.0, "{what}: object {} makes {step} pixels at frame {index}", object + 1);
                    fastest = fastest.max(step);
                    way += step;
                }
            }
            assert!(fastest > 2.0, "{what}: object {} hardly moves: {fastest}", object + 1);
            speeds.push(way / frames as f64);
        }
        let (slow, fast) = speeds.iter().fold((9e9f64, 0f64), |(s, f), v| (s.min(*v), f.max(*v)));
        assert!(objects < 4 || fast > 1.5 * slow, "{what}: mean speeds {slow} to {fast}");
    }
}

/// What is told of a crossing is true of the picture: there and then the one hides the other.
#[test]
fn crossings_happen_when_they_are_told() {
    for seed in 0..4 {
        let scene = scene(640, 480, seed, 6);
        let crossings = scene.crossings(100..3000);
        assert!(crossings.len() > 20);
        assert!(crossings.windows(2).all(|pair| pair[0].frame <= pair[1].frame));
        for Crossing { frame, behind, front } in crossings {
            let (back, before) = (scene.silhouette(frame, behind), scene.silhouette(frame, front));
            let order = scene.order(frame);
            let rank = |number: usize| order.iter().position(|o| usize::from(*o) + 1 == number).unwrap();
            assert!(rank(behind) < rank(front), "seed {seed}, frame {frame}");
            assert!(
                back.intersection_area(&before) * 10 > back.area().min(before.area()),
                "seed {seed}, frame {frame}"
            );
        }
    }
    // The second time through the plan is told as the first.
    let scene = scene(64, 48, 0, 3);
    let turn = BEATS as u64 * BEAT_US * 30 / 1_000_000;
    let shifted: Vec<_> = scene.crossings(0..900).iter().map(|c| Crossing { frame: c.frame + turn, ..*c }).collect();
    assert_eq!(scene.crossings(turn..turn + 900), shifted);
    assert_eq!(rendered(&scene, 17).truth.instances, rendered(&scene, 17 + turn).truth.instances);
}

#[test]
fn the_light_changes_slowly_and_in_steps() {
    let scene = scene(160, 120, 2, 2);
    let mean = |index: u64| {
        let frame = rendered(&scene, index);
        frame.rgb.iter().map(|v| f64::from(*v)).sum::<f64>() / frame.rgb.len() as f64
    };
    // The first step comes after eight seconds.
    let step = mean(246) / mean(239);
    assert!((step - 1.0).abs() > 0.1, "the step is {step}");
    assert!((step - scene.gain(246) / scene.gain(239)).abs() < 0.03, "the picture follows the gain");
    let gains: Vec<f64> = (0..4608).map(|index| scene.gain(index)).collect();
    let slow = gains.windows(2).filter(|pair| (pair[0] - pair[1]).abs() < 0.01).count();
    assert!(slow > 4400, "{slow} slow changes");
    let (low, high) = gains.iter().fold((9f64, 0f64), |(l, h), v| (l.min(*v), h.max(*v)));
    assert!((0.6..0.8).contains(&low) && (1.2..1.4).contains(&high), "{low} to {high}");
    assert_eq!(gains[0], 1.0);
}

#[test]
fn noise_is_as_strong_as_asked_and_differs_from_frame_to_frame() {
    let options = SceneOptions { width: 320, height: 240, noise: 0.0, light_changes: false, ..SceneOptions::default() };
    let clean = Scene::new(options.clone()).unwrap();
    for noise in [1.0, 2.5, 8.0] {
        let noisy = Scene::new(SceneOptions { noise, ..options.clone() }).unwrap();
        let of_frame = |index: u64| -> Vec<f64> {
            let (with, without) = (rendered(&noisy, index).rgb, rendered(&clean, index).rgb);
            with.iter().zip(&without).map(|(a, b)| f64::from(*a) - f64::from(*b)).collect()
        };
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / a.len() as f64;
        let (first, second) = (of_frame(0), of_frame(1));
        let variance = product(&first, &first);
        assert!((variance.sqrt() / f64::from(noise) - 1.0).abs() < 0.1, "{noise}: {}", variance.sqrt());
        // What rounding took from the frames without noise is much the same in both.
        let correlation = product(&first, &second) / variance;
        assert!(correlation.abs() < 0.1, "{noise}: frames correlate by {correlation}");
        let rows = product(&first[..320 * 3 * 239], &first[320 * 3..]) / variance;
        assert!(rows.abs() < 0.05, "{noise}: rows correlate by {rows}");
    }
}

#[test]
fn options_out_of_range_are_refused() {
    let new = |options: SceneOptions| Scene::new(options).err().map(|error| error.to_string());
    let good = SceneOptions { width: 16, height: 16, ..SceneOptions::default() };
    assert_eq!(new(good.clone()), None);
    for bad in [
        SceneOptions { width: 15, ..good.clone() },
        SceneOptions { height: 8193, ..good.clone() },
        SceneOptions { objects: 0, ..good.clone() },
        SceneOptions { objects: 65, ..good.clone() },
        SceneOptions { fps: 0.0, ..good.clone() },
        SceneOptions { fps: f32::NAN, ..good.clone() },
        SceneOptions { noise: -1.0, ..good.clone() },
        SceneOptions { noise: f32::INFINITY, ..good.clone() },
    ] {
        assert!(new(bad.clone()).is_some_and(|error| error.contains("a synthetic scene")), "{bad:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_options_and_no_frame_make_it_panic(
        width in 16usize..300,
        height in 16usize..300,
        seed: u64,
        objects in 1usize..=64,
        fps in 0.1f32..1000.0,
        noise in 0f32..32.0,
        light_changes: bool,
        vignette: bool,
        index: u64,
    ) {
        let options = SceneOptions { width, height, seed, objects, fps, noise, light_changes, vignette };
        let scene = Scene::new(options).unwrap();
        let mut frame = SceneFrame::default();
        for index in [0, index, u64::MAX] {
            scene.render(index, &mut frame);
            prop_assert_eq!(frame.rgb.len(), width * height * 3);
            let seen: usize = frame.truth.objects.iter().map(|o| o.visible_area as usize).sum();
            prop_assert_eq!(seen, frame.truth.instances.iter().filter(|v| **v > 0).count());
            for object in &frame.truth.objects {
                prop_assert!(object.visible_area <= object.full_area);
            }
            for number in 1..=objects {
                prop_assert_eq!(frame.truth.mask(number).area(), frame.truth.objects[number - 1].visible_area as usize);
                let absent = !scene.absences(number, index..index.saturating_add(1)).is_empty();
                prop_assert!(index == u64::MAX || absent == frame.truth.objects[number - 1].out_of_view());
            }
            scene.crossings(index..index.saturating_add(100));
        }
    }
}

/// Object 0 passes from left to right before a still one, while the camera pans.
fn written() -> Scene {
    let still = Actor { look: 1, radius: 20.0, path: Keyframes::still([80.0, 60.0, 1.0, 0.0]) };
    let passes = Keyframes::still([20.0, 60.0, 1.5, 0.0]).then(100, [140.0, 60.0, 1.5, 0.0]);
    let script = Script {
        actors: vec![still, Actor { look: 0, radius: 20.0, path: passes }],
        camera: Keyframes::still([0.0, 0.0]).then(100, [0.0, 0.0]).then(110, [300.0, 0.0]).then(110, [0.0, 20.0]),
        light: Keyframes::still([1.0]).then(50, [1.0]).then(50, [0.5]),
        blur: Keyframes::still([0.0]).then(60, [0.0]).then(61, [6.0]),
    };
    Scene::written(SceneOptions { width: 160, height: 120, noise: 0.0, ..SceneOptions::default() }, script).unwrap()
}

#[test]
fn what_is_written_is_shown() {
    let scene = written();
    let centre = |frame: u64, object: usize| scene.truth(frame).objects[object].centre;
    assert_eq!(centre(50, 1), [80.0, 60.0], "half of the way in half of the time");
    assert!(scene.truth(0).objects[0].occluded() < 0.1);
    assert!(scene.truth(50).objects[0].occluded() > 0.9, "{}", scene.truth(50).objects[0].occluded());
    // The camera looks away, and is back a frame later, lower.
    assert_eq!((centre(109, 0), centre(110, 0)), ([80.0 - 270.0, 60.0], [80.0, 40.0]));
    assert!(scene.truth(109).objects[0].out_of_view());
    assert_eq!((scene.gain(49), scene.gain(50), scene.gain(1000)), (1.0, 0.5, 0.5));
    let sharpness = |frame: u64| {
        let pixels = rendered(&scene, frame).rgb;
        pixels.windows(4).map(|w| i64::from(w[0].abs_diff(w[3]))).sum::<i64>()
    };
    assert!(sharpness(60) > 2 * sharpness(61), "{} {}", sharpness(60), sharpness(61));
    assert!(scene.crossings(0..1000).is_empty());
}

#[test]
fn two_of_one_look_are_the_same_to_the_last_pixel() {
    let actor = |x: f64| Actor { look: 3, radius: 24.0, path: Keyframes::still([x, 60.0, 1.0, 0.1]) };
    let script = Script { actors: vec![actor(40.0), actor(120.0)], ..Script::default() };
    let options = SceneOptions { width: 160, height: 120, noise: 0.0, vignette: false, ..SceneOptions::default() };
    let frame = rendered(&Scene::written(options, script).unwrap(), 0);
    let [left, right] = [1, 2].map(|number| frame.truth.mask(number));
    assert!(left.area() > 500 && left.area() == right.area());
    let inside = |x: usize, y: usize| frame.truth.instances[y * 160 + x] == 1;
    let same = (0..80 * 120).filter(|i| inside(i % 80, i / 80)).all(|i| {
        let at = (i / 80 * 160 + i % 80) * 3;
        // Half of the outline's own pixels show what lies beneath.
        let deep = (1..79).contains(&(i % 80))
            && [at - 3, at + 3, at - 480, at + 480].iter().all(|n| inside(n / 3 % 160, n / 480));
        !deep || frame.rgb[at..at + 3] == frame.rgb[at + 240..at + 243]
    });
    assert!(same);
}

#[test]
fn a_script_that_cannot_be_shown_is_refused() {
    let options = SceneOptions::default();
    let actor = |radius: f64, path| Script { actors: vec![Actor { look: 0, radius, path }], ..Script::default() };
    let still = Keyframes::still([80.0, 60.0, 1.0, 0.0]);
    let refused = |script: Script| Scene::written(options.clone(), script).err();
    assert_eq!(refused(actor(20.0, still.clone())), None);
    assert_eq!(refused(Script::default()), Some(SceneError::Objects(0)));
    assert_eq!(refused(actor(20.0, Keyframes::default())), Some(SceneError::Actor(0)));
    assert_eq!(refused(actor(f64::NAN, still.clone())), Some(SceneError::Actor(0)));
    assert_eq!(refused(actor(20.0, Keyframes::still([0.0, 0.0, 0.0, 0.0]))), Some(SceneError::Actor(0)));
    let far = Script { camera: Keyframes::still([1e9, 0.0]), ..actor(20.0, still) };
    assert_eq!(refused(far), Some(SceneError::Camera));
}

proptest! {
    /// The running sums are the means that they stand for.
    #[test]
    fn a_blur_is_the_mean_of_a_square_twice(width in 1usize..9, height in 1usize..9, radius in 1usize..5, seed: u64) {
        let mut random = Random::new(seed, 0);
        let mut pixels: Vec<u8> = (0..3 * width * height).map(|_| random.below(256) as u8).collect();
        let mut expected = pixels.clone();
        let r = radius as isize;
        let mean = |from: &[u8], at: [isize; 2], step: [isize; 2], channel: usize| {
            let value = |k: isize| {
                let x = (at[0] + k * step[0]).clamp(0, width as isize - 1) as usize;
                let y = (at[1] + k * step[1]).clamp(0, height as isize - 1) as usize;
                f64::from(from[(y * width + x) * 3 + channel])
            };
            ((-r..=r).map(value).sum::<f64>() / (2 * r + 1) as f64 + 0.5).floor() as u8
        };
        for step in [[1, 0], [0, 1], [1, 0], [0, 1]] {
            let before = expected.clone();
            for (i, value) in expected.iter_mut().enumerate() {
                let at = [(i / 3 % width) as isize, (i / 3 / width) as isize];
                *value = mean(&before, at, step, i % 3);
            }
        }
        super::paint::blur(width, radius, &mut pixels);
        prop_assert_eq!(pixels, expected);
    }
}
