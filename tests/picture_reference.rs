//! JPEG pixels against those of libjpeg-turbo, which Python's Pillow decodes with, on real frames.

use std::path::Path;
use std::process::Command;

use tagalong::picture;

/// Prints a picture's pixels: (height, width, 3), RGB.
const DECODE: &str = "import sys; from PIL import Image; \
                      sys.stdout.buffer.write(Image.open(sys.argv[1]).convert('RGB').tobytes())";

#[test]
fn jpeg_pixels_are_nearly_those_of_libjpeg_turbo() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/davis/JPEGImages/480p");
    let has_pillow = Command::new("python3").args(["-c", "import PIL"]).output().is_ok_and(|run| run.status.success());
    if !folder.exists() || !has_pillow {
        eprintln!("SKIPPED: this needs {} and Python with Pillow", folder.display());
        return;
    }
    for sequence in ["boat", "bus", "tennis"] {
        let path = folder.join(sequence).join("00005.jpg");
        let reference = Command::new("python3").args(["-c", DECODE]).arg(&path).output().unwrap().stdout;
        let mut pixels = Vec::new();
        let size = picture::decode(&std::fs::read(&path).unwrap(), &mut pixels).unwrap();
        assert_eq!((size, pixels.len()), ((854, 480), reference.len()));
        let differences = || pixels.iter().zip(&reference).map(|(a, b)| a.abs_diff(*b));
        let mean = differences().map(f64::from).sum::<f64>() / pixels.len() as f64;
        let max = differences().max().unwrap();
        eprintln!("{sequence}: {mean:.3} on average, {max} at most");
        assert!(mean < 0.25 && max <= 4, "{sequence}: {mean} on average, {max} at most");
    }
}
