//! A camera that stands still: what did not change is taken over, camera by camera.

use std::path::Path;

use tagalong::embed::{Backbone, Backend, ModelConfig, load};
use tagalong::model::import::{Import, import};
use tagalong::model::vit::Hints;
use tagalong::types::{Features, InputTensor};

const SIZE: [usize; 2] = [70, 98];
const PATCH: usize = 14;

fn model(folder: &Path, backend: Backend, reuse: f32) -> Box<dyn Backbone> {
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints/dinov2-reg.pth");
    let hints = Hints { heads: Some(2), ..Hints::default() };
    let wanted = Import { hints, input_sizes: vec![SIZE], name: "small".into(), ..Import::default() };
    let manifest = folder.join("small.toml");
    if !manifest.exists() {
        import(&checkpoint, &wanted, folder).unwrap();
    }
    let plain = ModelConfig::new(manifest.to_string_lossy());
    load(&ModelConfig { threads: 1, backend, reuse, refresh_frames: 100, ..plain }).unwrap()
}

/// A picture in which patch (1, 2) is brighter by `by` than it should be.
fn picture(by: f32) -> InputTensor {
    let [height, width] = SIZE;
    let inside = |at: usize| {
        let (y, x) = (at / width % height, at % width);
        (y / PATCH, x / PATCH) == (1, 2)
    };
    let value = |at: usize| (at as f32 * 0.37).sin() + if inside(at) { by } else { 0.0 };
    InputTensor { height, width, data: (0..3 * height * width).map(value).collect() }
}

fn embedded(model: &mut dyn Backbone, camera: usize, input: &InputTensor) -> (Vec<f32>, f32) {
    let mut features = Features::zeros(model.spec().grids[0], model.spec().dim);
    let computed = model.follow(camera, input, &mut features).unwrap();
    (features.data, computed)
}

#[test]
fn only_what_changed_is_computed_for_each_camera() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = model(folder.path(), Backend::Int8, 0.02);
    let (still, moved) = (picture(0.0), picture(0.5));
    let (first, whole) = embedded(model.as_mut(), 0, &still);
    assert_eq!(whole, 1.0);
    // A class token and four registers stand before 35 patches.
    let few = |patches: f32| (5.0 + patches) / 40.0;
    assert_eq!(embedded(model.as_mut(), 0, &still), (first.clone(), few(0.0)));
    let (changed, computed) = embedded(model.as_mut(), 0, &moved);
    assert_eq!(computed, few(1.0));
    let dim = model.spec().dim;
    for (patch, (new, old)) in changed.chunks_exact(dim).zip(first.chunks_exact(dim)).enumerate() {
        assert_eq!(new != old, patch == 7 + 2, "patch {patch}");
    }
    // Another camera has looked at nothing yet, and a camera that is told to forget begins anew.
    assert_eq!(embedded(model.as_mut(), 1, &moved).1, 1.0);
    assert_eq!(embedded(model.as_mut(), 0, &moved).1, few(0.0));
    model.forget(0);
    let (again, computed) = embedded(model.as_mut(), 0, &moved);
    assert_eq!(computed, 1.0);
    let mut plain = Features::zeros(model.spec().grids[0], dim);
    model.embed(&moved, &mut plain).unwrap();
    assert_eq!(again, plain.data, "what is computed whole is what is computed without a memory");
}

#[test]
fn without_it_and_with_tract_alone_every_frame_is_computed() {
    let folder = tempfile::tempdir().unwrap();
    let still = picture(0.0);
    for (backend, reuse) in [(Backend::Int8, 0.0), (Backend::Reference, 0.02)] {
        let mut model = model(folder.path(), backend, reuse);
        assert_eq!([0, 0].map(|camera| embedded(model.as_mut(), camera, &still).1), [1.0, 1.0], "{backend:?}");
    }
}
