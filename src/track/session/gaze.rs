//! Which part of the frame to look at next. One pass of a model has so many patches: an object gets more of them where less is looked
//! at besides.

use super::object::Object;
use super::seek::SOUGHT;
use super::{Session, seconds};
use crate::types::{PatchGrid, View};

/// What an object takes up of a side of the frame, and how far it goes on from one frame to the next, in shares of that side.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Extent {
    from: f32,
    to: f32,
    step: f32,
}

/// Objects, and where they will be by the time that the next part is chosen, fill so much of what is looked at.
const FILL: f32 = 0.7;
/// So many frames of their way are looked ahead.
const AHEAD: f32 = 4.0;
/// Parts are 1, 1.12, 1.12 * 1.12 times and so on smaller than the frame: features depend on scale, so it does not follow each breath.
const STEP: f32 = 1.12;
/// What is looked at grows where objects fill it by so much more than they should ...
const TIGHT: f32 = 1.1;
/// ... and moves where they are this near to its edge, as a share of it.
const MARGIN: f32 = 0.1;

/// Frames that are wanted whole where something is pointed at that was not looked at: some are on their way already.
const LOOK_UP: u32 = 8;
/// So many frames after one with noise, all is looked at: what noise leaves of details is no truer where it is enlarged.
const NOISY: u32 = 30;
/// For each frame of which all is looked at for the sake of what may come, so many are not.
const AROUND: u32 = 15;

/// What was looked at of late.
#[derive(Default)]
pub(super) struct Looking {
    /// So many frames more are wanted whole.
    up: u32,
    /// For so many frames more, noise is to be reckoned with.
    noisy: u32,
    /// Of so many frames in a row all was looked at, or not all.
    alike: u32,
}

impl Looking {
    /// Takes in a frame: whether as much of it was looked at as of the one before, and whether it has noise.
    pub(super) fn went_on(&mut self, is_alike: bool, is_noisy: bool) {
        self.up = self.up.saturating_sub(1);
        self.noisy = if is_noisy { NOISY } else { self.noisy.saturating_sub(1) };
        self.alike = if is_alike { self.alike.saturating_add(1) } else { 1 };
    }
}

impl Session {
    /// The part of the frame to look at next, as the propagation's `zoom` allows. All of it where an object is not seen, or where there
    /// is noise; from time to time where one may come that is known.
    pub fn gaze(&self) -> View {
        let Some(meta) = self.recent.back() else { return View::WHOLE };
        let zoom = self.memory.config().zoom;
        if zoom <= 1.0 || self.looking.up > 0 || self.looking.noisy > 0 || self.looks_around() {
            return View::WHOLE;
        }
        let before = self.recent.iter().rev().nth(1).unwrap_or(meta);
        let (frame, size) = (seconds(meta) - seconds(before), [meta.width, meta.height]);
        let extent = |object: &Object| -> Option<[Extent; 2]> {
            let is_seen = object.is_recognisable(&self.config) || !self.config.recover;
            let bounds = object.mask.bounds().filter(|_| is_seen)?;
            Some(std::array::from_fn(|axis| {
                let (from, share) = (bounds[axis] as f32, 1.0 / size[axis] as f32);
                let step = (object.velocity[axis] * frame) as f32 * share;
                Extent { from: from * share, to: (from + bounds[2 + axis] as f32) * share, step }
            }))
        };
        let extents: Option<Vec<[Extent; 2]>> = self.objects.iter().map(extent).collect();
        let Some(extents) = extents else { return View::WHOLE };
        next(self.memory.view(), self.memory.grid(), &extents, zoom)
    }

    /// Wants all of the next frames. False where all of the newest was looked at.
    pub(super) fn look_up(&mut self) -> bool {
        let looked_down = self.memory.known(0).is_some_and(|known| known != View::WHOLE);
        if looked_down {
            self.looking.up = LOOK_UP;
        }
        looked_down
    }

    /// Whether it is time to look for what is known and not followed: it is looked for where all of a frame is looked at.
    fn looks_around(&self) -> bool {
        let round = self.known.len().div_ceil(SOUGHT) as u32;
        let is_found = self.known.iter().any(|known| known.looks > 0);
        let is_due =
            if self.sees_all() { is_found || self.looking.alike < round } else { self.looking.alike >= AROUND * round };
        round > 0 && is_due
    }

    pub(super) fn sees_all(&self) -> bool {
        self.memory.view() == View::WHOLE
    }
}

/// The part to look at after `now`, on `grid`, for objects that take up such [across, down] of the frame, up to `zoom` times larger than
/// in the whole. It moves by whole patches where its size stays, so that nothing is blurred.
fn next(now: View, grid: PatchGrid, objects: &[[Extent; 2]], zoom: f32) -> View {
    if objects.is_empty() || zoom <= 1.0 {
        return View::WHOLE;
    }
    let spans: [(f32, f32); 2] = std::array::from_fn(|axis| {
        let from = objects.iter().map(|o| o[axis].from + AHEAD * o[axis].step.min(0.0)).fold(1.0, f32::min);
        let to = objects.iter().map(|o| o[axis].to + AHEAD * o[axis].step.max(0.0)).fold(0.0, f32::max);
        (from.max(0.0), to.min(1.0))
    });
    let largest = spans.iter().map(|(from, to)| to - from).fold(0.0, f32::max);
    let wanted = (FILL / largest.max(f32::MIN_POSITIVE)).clamp(1.0, zoom);
    let is = 1.0 / now.width;
    let scale = if (is / TIGHT..is * STEP * TIGHT).contains(&wanted) {
        is
    } else {
        STEP.powf((wanted.ln() / STEP.ln() + 1e-3).floor())
    };
    if scale < STEP - 1e-3 {
        return View::WHOLE;
    }
    let stays = scale == is;
    // Its size to the bit: another would have the memory resampled.
    let length = if stays { now.width } else { 1.0 / scale };
    let side = |(from, to): (f32, f32), was: f32, cells: usize| {
        let margin = MARGIN * length;
        let clear = (from >= was + margin || was <= 0.0) && (to <= was + length - margin || was + length >= 1.0);
        if stays && clear {
            return was;
        }
        let wanted = ((from + to - length) / 2.0).clamp(0.0, 1.0 - length);
        if !stays {
            return wanted;
        }
        let patch = length / cells as f32;
        was + (((wanted - was) / patch).round() * patch).clamp(-was, 1.0 - length - was)
    };
    let [left, top] = [side(spans[0], now.left, grid.cols), side(spans[1], now.top, grid.rows)];
    View { left, top, width: length, height: length }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRID: PatchGrid = PatchGrid { rows: 30, cols: 53, patch: 16 };

    fn still(from: [f32; 2], to: [f32; 2]) -> [Extent; 2] {
        std::array::from_fn(|axis| Extent { from: from[axis], to: to[axis], step: 0.0 })
    }

    #[test]
    fn where_there_is_nothing_or_much_all_is_looked_at() {
        assert_eq!(next(View::WHOLE, GRID, &[], 2.0), View::WHOLE);
        let small = still([0.4, 0.4], [0.5, 0.5]);
        assert_eq!(next(View::WHOLE, GRID, &[small], 1.0), View::WHOLE);
        assert_eq!(next(View::WHOLE, GRID, &[still([0.1, 0.4], [0.9, 0.5])], 2.0), View::WHOLE);
        assert_eq!(
            next(View::WHOLE, GRID, &[small, still([0.0, 0.0], [0.1, 0.1]), still([0.9, 0.0], [1.0, 0.1])], 2.0),
            View::WHOLE
        );
    }

    #[test]
    fn a_small_object_is_looked_at_as_large_as_is_allowed_and_no_part_is_left_for_a_trifle() {
        let object = still([0.4, 0.4], [0.5, 0.5]);
        let view = next(View::WHOLE, GRID, &[object], 2.0);
        assert!((1.0 / view.width - 2.0).abs() < 0.25 && view.width == view.height, "{view:?}");
        assert!(
            (view.left + view.width / 2.0 - 0.45).abs() < 1e-3 && (view.top + view.height / 2.0 - 0.45).abs() < 1e-3
        );
        assert_eq!(next(view, GRID, &[object], 2.0), view);
        let nearby = still([0.43, 0.38], [0.54, 0.49]);
        assert_eq!(next(view, GRID, &[nearby], 2.0), view);
    }

    #[test]
    fn it_is_where_an_object_goes() {
        let mut object = still([0.4, 0.4], [0.5, 0.5]);
        let view = next(View::WHOLE, GRID, &[object], 2.0);
        object[0].step = 0.04;
        let ahead = next(view, GRID, &[object], 2.0);
        assert!(ahead.left > view.left && ahead.top == view.top && ahead.width == view.width, "{view:?} {ahead:?}");
        let patches = (ahead.left - view.left) / ahead.width * GRID.cols as f32;
        assert!((patches - patches.round()).abs() < 1e-2, "{patches}");
    }

    proptest! {
        /// Whatever was looked at before and wherever objects are, they are in what is looked at next, which is in the frame.
        #[test]
        fn every_object_is_in_what_is_looked_at(
            boxes in proptest::collection::vec([0.0f32..1.0, 0.0f32..1.0, 0.01f32..0.4, 0.01f32..0.4, -0.05f32..0.05, -0.05f32..0.05], 1..4),
            zoom in 1.0f32..4.0, rounds in 1usize..6,
        ) {
            let mut view = View::WHOLE;
            for round in 0..rounds {
                let objects: Vec<[Extent; 2]> = boxes.iter().map(|b| std::array::from_fn(|axis| {
                    let from = (b[axis] + round as f32 * b[4 + axis]).clamp(0.0, 0.95);
                    Extent { from, to: (from + b[2 + axis]).min(1.0), step: b[4 + axis] }
                })).collect();
                view = next(view, GRID, &objects, zoom);
                prop_assert!(view.width >= 1.0 / zoom - 1e-3 && view.width <= 1.0);
                for (from, length, axis) in [(view.left, view.width, 0), (view.top, view.height, 1)] {
                    prop_assert!(from >= -1e-5 && from + length <= 1.0 + 1e-5, "{view:?}");
                    for object in &objects {
                        prop_assert!(object[axis].from >= from - 1e-3 && object[axis].to <= from + length + 1e-3, "{object:?} in {view:?}");
                    }
                }
            }
        }
    }
}
