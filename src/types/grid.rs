//! The patch grid, and all geometry between it and pixels. It lives here and nowhere else.
//!
//! A frame of any size is resized, its sides independently, to `cols * patch` x `rows * patch` pixels;
//! so a patch covers `frame_width / cols` by `frame_height / rows` pixels of the captured frame.

/// A grid of square patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PatchGrid {
    pub rows: usize,
    pub cols: usize,
    /// Side of a patch in pixels of the model's input.
    pub patch: usize,
}

impl PatchGrid {
    /// Number of patches.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The grid with so many times as many patches along each side, rounded, one at least.
    pub fn scaled(&self, density: f32) -> PatchGrid {
        let side = |patches: usize| ((patches as f32 * density).round() as usize).max(1);
        PatchGrid { rows: side(self.rows), cols: side(self.cols), patch: self.patch }
    }

    /// Width of the model's input in pixels.
    pub fn input_width(&self) -> usize {
        self.cols * self.patch
    }

    /// Height of the model's input in pixels.
    pub fn input_height(&self) -> usize {
        self.rows * self.patch
    }

    /// The (row, column) of the patch under a point of a `width` x `height` frame; points outside are clamped.
    pub fn patch_at(&self, x: f32, y: f32, width: usize, height: usize) -> (usize, usize) {
        let cell = |v: f32, size: usize, cells: usize| {
            let c = (v / size as f32 * cells as f32).floor();
            if c.is_nan() { 0 } else { (c.max(0.0) as usize).min(cells - 1) }
        };
        (cell(y, height, self.rows), cell(x, width, self.cols))
    }

    /// The area of patch (row, col) in a `width` x `height` frame: x, y, width, height in pixels.
    pub fn patch_area(&self, row: usize, col: usize, width: usize, height: usize) -> [f32; 4] {
        let (w, h) = (width as f32 / self.cols as f32, height as f32 / self.rows as f32);
        [col as f32 * w, row as f32 * h, w, h]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_patch_holds_its_own_centre() {
        let grid = PatchGrid { rows: 30, cols: 53, patch: 16 };
        for (width, height) in [(854, 480), (640, 480), (53, 30), (1921, 1079)] {
            for row in 0..grid.rows {
                for col in 0..grid.cols {
                    let [x, y, w, h] = grid.patch_area(row, col, width, height);
                    assert_eq!(grid.patch_at(x + w / 2.0, y + h / 2.0, width, height), (row, col));
                }
            }
        }
        assert_eq!(grid.patch_at(-5.0, 1e9, 640, 480), (29, 0));
        assert_eq!(grid.patch_at(f32::NAN, 0.0, 640, 480), (0, 0));
    }
}
