//! Our operators in place of tract's: they are found in the graphs of every family, and compute the same to what 8-bit
//! integers lose, on every kernel that this processor has.

mod embed_support;

use std::path::Path;
use std::process::Command;

use embed_support::{CASES, DEPTH, cosines, imported, quantized, tokens};
use tagalong::embed::{Backend, Execution, Rewritten};
use tagalong::model::vit::Kind;

fn ours(threads: usize) -> Execution {
    Execution { threads, backend: Backend::Int8, ..Execution::default() }
}

#[test]
fn blocks_of_every_family_are_found_and_computed() {
    for case in &CASES {
        let folder = tempfile::tempdir().unwrap();
        let sizes = [[case.patch * 6, case.patch * 9], [case.patch * 13, case.patch * 5]];
        let (_, onnx) = imported(case, &sizes, Kind::Tokens, folder.path());
        for size in sizes {
            let (expected, none) = tokens(&onnx, case.patch, size, Execution::REFERENCE);
            let (got, rewritten) = tokens(&onnx, case.patch, size, ours(1));
            assert_eq!(none, Rewritten::default());
            let whole = Rewritten { patch_embeddings: 1, attentions: DEPTH, mlps: DEPTH, linears: 0 };
            assert_eq!(rewritten, whole, "{} at {size:?}", case.checkpoint);
            let (mean, least) = cosines(&got, &expected);
            assert!(mean > 0.999 && least > 0.995, "{} at {size:?}: {mean} {least}", case.checkpoint);
        }
    }
}

/// The last block gives its keys, so that a linear layer stands alone.
#[test]
fn a_layer_on_its_own_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let size = [16 * 6, 16 * 9];
    let (_, onnx) = imported(&CASES[0], &[size], Kind::Keys, folder.path());
    let (expected, _) = tokens(&onnx, 16, size, Execution::REFERENCE);
    let (got, rewritten) = tokens(&onnx, 16, size, ours(1));
    let whole = Rewritten { patch_embeddings: 1, attentions: DEPTH - 1, mlps: DEPTH - 1, linears: 1 };
    assert_eq!(rewritten, whole);
    let (mean, least) = cosines(&got, &expected);
    assert!(mean > 0.999 && least > 0.995, "{mean} {least}");
}

#[test]
fn threads_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let size = [14 * 25, 14 * 23];
    let (_, onnx) = imported(&CASES[3], &[size], Kind::Tokens, folder.path());
    let (one, _) = tokens(&onnx, 14, size, ours(1));
    for threads in [2, 3] {
        let (many, _) = tokens(&onnx, 14, size, ours(threads));
        assert_eq!(many, one, "{threads} threads");
    }
}

/// A graph of convolutions is no transformer.
#[test]
fn what_is_not_recognised_is_left_alone() {
    let onnx = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/bundled.onnx");
    let (expected, _) = tokens(&onnx, 16, [240, 320], Execution { threads: 1, ..Execution::REFERENCE });
    let (got, rewritten) = tokens(&onnx, 16, [240, 320], ours(1));
    assert_eq!(rewritten, Rewritten::default());
    assert_eq!(got, expected);
}

fn check(manifest: &Path, kernel: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tagalong"));
    command.args(["model", "check"]).arg(manifest).env("TAGALONG_CPU", kernel);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// Models in 8-bit integers, ours and ONNX Runtime's, give the features of their floats on each kernel.
#[test]
fn every_kernel_proves_a_quantized_model() {
    let folder = tempfile::tempdir().unwrap();
    let quantized = quantized(&CASES[3], [14 * 6, 14 * 9], folder.path());
    let auto = Execution { threads: 1, ..Execution::default() };
    let (_, rewritten) = tokens(&quantized.with_extension("onnx"), 14, [14 * 6, 14 * 9], auto);
    let whole = Rewritten { patch_embeddings: 1, attentions: DEPTH, mlps: DEPTH, linears: 0 };
    assert_eq!(rewritten, whole);
    let mut tried = 0;
    for kernel in ["amx", "avx512vnni", "avxvnni", "avx2", "i8mm", "dotprod", "neon", "scalar"] {
        let (proved, text) = check(&quantized, kernel);
        if !proved && text.contains("this processor has") {
            continue;
        }
        assert!(proved, "{kernel}: {text}");
        tried += 1;
    }
    assert!(tried > 0, "the portable kernel is always there");
    let (proved, text) = check(&quantized, "abacus");
    assert!(!proved && text.contains("TAGALONG_CPU=abacus: this processor has") && text.contains("scalar"), "{text}");
}

/// What ONNX Runtime's own tool makes of a graph: products of 8-bit integers with one scale for a whole tensor.
#[test]
fn products_that_others_quantized_are_found() {
    let Some(python) = std::env::var_os("TAGALONG_REFERENCE_PYTHON").filter(|python| !python.is_empty()) else {
        println!("skipped: TAGALONG_REFERENCE_PYTHON names no Python with onnxruntime");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let size = [14 * 6, 14 * 9];
    let (_, onnx) = imported(&CASES[3], &[size], Kind::Tokens, folder.path());
    let plain = folder.path().join("plain.onnx");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/quantize_dynamic.py");
    let made = Command::new(python).arg(script).arg(&onnx).arg(&plain).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (expected, _) = tokens(&onnx, 14, size, Execution::REFERENCE);
    let (got, rewritten) = tokens(&plain, 14, size, Execution { threads: 1, ..Execution::default() });
    assert_eq!((rewritten.attentions, rewritten.mlps), (DEPTH, DEPTH));
    let (mean, least) = cosines(&got, &expected);
    assert!(mean > 0.998 && least > 0.99, "{mean} {least}");
}
