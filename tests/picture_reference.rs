//! JPEG pixels against those of libjpeg-turbo, which Python's Pillow decodes with, on real frames.

use std::path::Path;
use std::process::Command;

use tagalong::picture;

/// Prints a picture's pixels: (height, width, 3), RGB.
const DECODE: &str = "import sys; from PIL import Image; \
                      sys.stdout.buffer.write(Image.open(sys.argv[1]).convert('RGB').tobytes())";

#[test]
fn jpeg_pixels_are_those_of_libjpeg_turbo() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/davis/JPEGImages/480p");
    let python = std::env::var("TAGALONG_REFERENCE_PYTHON").ok().filter(|python| !python.is_empty());
    let python = python.unwrap_or_else(|| "python3".into());
    let has_pillow = Command::new(&python).args(["-c", "import PIL"]).output().is_ok_and(|run| run.status.success());
    if !folder.exists() || !has_pillow {
        eprintln!("SKIPPED: this needs {} and Python with Pillow", folder.display());
        return;
    }
    for sequence in ["boat", "bus", "tennis"] {
        let path = folder.join(sequence).join("00005.jpg");
        let reference = Command::new(&python).args(["-c", DECODE]).arg(&path).output().unwrap().stdout;
        let mut pixels = Vec::new();
        let size = picture::decode(&std::fs::read(&path).unwrap(), &mut pixels).unwrap();
        assert_eq!((size, pixels.len()), ((854, 480), reference.len()));
        let different = pixels.iter().zip(&reference).filter(|(a, b)| a != b).count();
        assert_eq!(different, 0, "{sequence}: of {} values", pixels.len());
    }
}
