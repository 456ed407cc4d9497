//! How long the synthetic scene takes: a frame of 640x480 pixels with four objects is to take at most 4 ms on one
//! core.

use tagalong::capture::synthetic::{Scene, SceneFrame, SceneOptions};

fn main() {
    divan::main();
}

/// Width, height, objects.
const SCENES: [(usize, usize, usize); 4] = [(640, 480, 1), (640, 480, 4), (640, 480, 64), (1920, 1080, 4)];

fn scene((width, height, objects): (usize, usize, usize)) -> Scene {
    Scene::new(SceneOptions { width, height, objects, ..SceneOptions::default() }).expect("the options are in range")
}

#[divan::bench(args = SCENES)]
fn render(bencher: divan::Bencher, size: (usize, usize, usize)) {
    let (scene, mut frame, mut index) = (scene(size), SceneFrame::default(), 0);
    bencher.bench_local(|| {
        scene.render(index, &mut frame);
        index += 7;
    });
}

#[divan::bench(args = SCENES)]
fn truth(bencher: divan::Bencher, size: (usize, usize, usize)) {
    let (scene, mut index) = (scene(size), 0);
    bencher.bench_local(|| {
        index += 7;
        scene.truth(index)
    });
}

#[divan::bench(args = SCENES, sample_count = 5)]
fn make(size: (usize, usize, usize)) -> Scene {
    scene(size)
}
