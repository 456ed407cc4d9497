//! What discovery finds on real weights and real video: CorLoc on the first frames of the development sequences.
//!
//! Without `../shared` the test says that it is skipped. `docs/discovery.md` has the numbers beside those of other
//! rules.

use std::path::Path;

use tagalong::discover::{Proposal, moving, salient};
use tagalong::embed::{Backbone, BareModel, Embedder, Execution, load_bare};
use tagalong::eval::Davis;
use tagalong::types::{Features, Mask};

/// A box of x, y, width, height in pixels.
type Area = [f32; 4];

fn overlap(a: Area, b: Area) -> f32 {
    let side = |axis: usize| ((a[axis] + a[axis + 2]).min(b[axis] + b[axis + 2]) - a[axis].max(b[axis])).max(0.0);
    let both = side(0) * side(1);
    both / (a[2] * a[3] + b[2] * b[3] - both)
}

/// The masks' boxes.
fn boxes(masks: &[Mask]) -> Vec<Area> {
    masks.iter().filter_map(|mask| mask.bounds().map(|bounds| bounds.map(|v| v as f32))).collect()
}

/// How many frames have the first proposal, and one of the first three, on an object's box by half and more.
#[derive(Debug, Default, PartialEq)]
struct Found {
    first: usize,
    of_three: usize,
}

impl Found {
    /// Counts a frame; gives the overlap of its first proposal.
    fn count(&mut self, proposals: &[Proposal], truths: &[Area], width: usize, height: usize) -> f32 {
        let on = |proposal: &Proposal| {
            truths.iter().map(|truth| overlap(proposal.area(width, height), *truth)).fold(0.0, f32::max)
        };
        let first = proposals.first().map_or(0.0, on);
        self.first += usize::from(first >= 0.5);
        self.of_three += usize::from(proposals.iter().take(3).any(|p| on(p) >= 0.5));
        first
    }
}

#[test]
fn objects_are_found_on_real_video() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let (onnx, davis) = (shared.join("models/vit_tiny_patch16_480x848.onnx"), shared.join("data/davis"));
    if !onnx.exists() || !davis.exists() {
        eprintln!("SKIPPED: {} or {} is not there", onnx.display(), davis.display());
        return;
    }
    let [mean, std] = [[0.5; 3]; 2];
    let model = BareModel { onnx, output: "x6".into(), patch: 16, mean, std, input_sizes: vec![] };
    let backbone = load_bare(&model, Execution::REFERENCE).unwrap();
    let grid = backbone.spec().grids[0];
    let mut embedder = Embedder::new(Box::new(backbone), grid);
    let davis = Davis::open(&davis, None).unwrap();
    let (mut still, mut going) = (Found::default(), Found::default());
    for name in davis.names() {
        let sequence = davis.sequence(name).unwrap();
        let mut features: [Features; 2] = [0, 1].map(|_| embedder.empty_features());
        for (index, out) in features.iter_mut().enumerate() {
            embedder.embed(&sequence.frame(index).unwrap().pixels, out).unwrap();
        }
        let truth = sequence.first();
        let truths = boxes(&truth.masks(sequence.instances()));
        let [first, second] = &features;
        // Nothing comes before the first frame, so it is seen against the one after it.
        let (stands_out, moves) = (salient(first, 3), moving(second, first, 3));
        let [a, b] = [(&mut still, &stands_out), (&mut going, &moves)]
            .map(|(found, proposals)| found.count(proposals, &truths, truth.width, truth.height));
        println!("{name:18} salient {a:.2}, moving {b:.2}");
    }
    println!("of {}: salient {still:?}, moving {going:?}", davis.names().len());
    // One less than was measured: a rounding here and there may turn a frame.
    assert_eq!(davis.names().len(), 16);
    assert!(still.first >= 10 && still.of_three >= 13, "salient: {still:?}");
    assert!(going.first >= 10, "moving: {going:?}");
}
