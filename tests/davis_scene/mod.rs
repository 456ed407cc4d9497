//! The built-in scene as a data set in DAVIS layout.

use std::fs;
use std::path::Path;

use tagalong::capture::synthetic::{Scene, SceneFrame, SceneOptions};
use tagalong::eval::davis::write_masks;
use tagalong::picture;

/// Writes a video of every `stride`-th frame of a scene, with the masks of its first two objects.
pub fn write_video(root: &Path, name: &str, seed: u64, [height, width]: [usize; 2], frames: u64, stride: u64) {
    let options = SceneOptions { width, height, objects: 2, seed, ..SceneOptions::default() };
    let scene = Scene::new(options).unwrap();
    let mut frame = SceneFrame::default();
    for kind in ["JPEGImages", "Annotations"] {
        fs::create_dir_all(root.join(kind).join("480p").join(name)).unwrap();
    }
    for index in 0..frames {
        scene.render(index * stride, &mut frame);
        let jpeg = picture::encode_jpeg(&frame.rgb, width, height, 95).unwrap();
        fs::write(root.join(format!("JPEGImages/480p/{name}/{index:05}.jpg")), jpeg).unwrap();
        let masks = [1, 2].map(|object| scene.silhouette(index * stride, object));
        write_masks(&root.join(format!("Annotations/480p/{name}/{index:05}.png")), &masks).unwrap();
    }
}
