//! Videos as the tasks see them: embeddings of frames, and what each patch of them shows.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2};

use super::treatment::Fitted;
use super::{Extractor, Plan, StudyError, mix};
use crate::embed::EmbedError;
use crate::eval::davis::{Annotation, VOID};
use crate::eval::{Degradation, Sequence};
use crate::propagate::SeedRule;
use crate::propagate::seed::seed_mask;
use crate::types::{Features, FrameMeta, Mask, PatchGrid};

/// Which frames of a video are looked at: every n-th, or more, so that 3 are.
pub(super) fn indices(sequence: &Sequence, every: usize) -> impl Iterator<Item = usize> + use<> {
    (0..sequence.annotated()).step_by(every.min((sequence.annotated() - 1) / 2).max(1))
}

/// A video, some of its frames embedded.
pub struct Video {
    pub name: String,
    pub objects: usize,
    /// In the order of time, 2 or more.
    pub looks: Vec<Look>,
}

/// One frame.
pub struct Look {
    /// As the model gives them: (patches, dimensions)
    pub rows: Array2<f32>,
    pub meta: FrameMeta,
    pub annotation: Annotation,
    /// What each patch shows for the most part: 0 for the background, the number of an object, or [`VOID`] where that
    /// is not known.
    pub classes: Vec<u8>,
    /// (objects, patches): how much of a patch is the object
    fractions: Vec<Vec<f32>>,
    grid: PatchGrid,
}

impl Look {
    /// How much of each patch is an object, counted from 0: (patches).
    pub fn fractions(&self, object: usize) -> &[f32] {
        &self.fractions[object]
    }

    /// The patches of one class, in order.
    pub fn patches(&self, class: u8) -> Vec<usize> {
        (0..self.classes.len()).filter(|patch| self.classes[*patch] == class).collect()
    }

    /// The patches of which it is known what they show.
    pub fn known(&self) -> Vec<usize> {
        (0..self.classes.len()).filter(|patch| self.classes[*patch] != VOID).collect()
    }
}

impl Video {
    pub(super) fn look(
        sequence: &Sequence,
        plan: &Plan,
        degradation: Option<Degradation>,
        extractor: &mut dyn Extractor,
    ) -> Result<Video, StudyError> {
        let (objects, grid) = (sequence.instances(), extractor.grid());
        let look = |index| {
            let frame = sequence.frame(index)?;
            let annotation = sequence.annotation(index)?;
            let letters = sequence.name().bytes().map(u64::from).chain([plan.seed, index as u64]);
            let seed = mix(&letters.collect::<Vec<u64>>());
            let (picture, annotation) = match degradation {
                None => (frame.pixels, annotation),
                Some(how) => (how.picture(&frame.pixels, seed), how.annotation(&annotation).into_owned()),
            };
            let failed = |source| StudyError::Embed { video: sequence.name().into(), frame: index, source };
            let rows = extractor.embed(&picture).map_err(failed)?;
            if rows.iter().any(|v| !v.is_finite()) {
                return Err(failed(EmbedError::Output("holds numbers that are not finite".into())));
            }
            let (fractions, classes) = shown(&annotation, objects, grid);
            Ok(Look { rows, meta: frame.meta, annotation, classes, fractions, grid })
        };
        let looks = indices(sequence, plan.every).map(look).collect::<Result<_, StudyError>>()?;
        Ok(Video { name: sequence.name().into(), objects, looks })
    }

    /// The video by features that were treated.
    pub(super) fn view(&self, fitted: &Fitted) -> View<'_> {
        let features = |look: &Look| {
            let rows = fitted.apply(look.rows.view());
            let dim = rows.ncols();
            let mut features = Features::new(look.grid, dim, rows.iter().copied().collect());
            features.normalise();
            features
        };
        View { video: self, features: self.looks.iter().map(features).collect::<Vec<_>>().into() }
    }
}

/// How much of each patch is each object, (objects, patches), and what most of it shows, (patches). Objects that were
/// not in the first frame are neither of those that are known nor background.
fn shown(annotation: &Annotation, objects: usize, grid: PatchGrid) -> (Vec<Vec<f32>>, Vec<u8>) {
    let (width, height) = (annotation.width, annotation.height);
    let fractions = |mask: Mask| seed_mask(&mask, grid, SeedRule::Area);
    let of_objects: Vec<Vec<f32>> = annotation.masks(objects).into_iter().map(fractions).collect();
    let unknown = |x: usize, y: usize| usize::from(annotation.pixels[y * width + x]) > objects;
    let unknown = fractions(Mask::from_fn(width, height, unknown));
    let class = |patch: usize| {
        if unknown[patch] > 0.5 {
            return VOID;
        }
        let background = 1.0 - unknown[patch] - of_objects.iter().map(|object| object[patch]).sum::<f32>();
        let most = |(class, most): (u8, f32), (k, object): (usize, &Vec<f32>)| {
            if object[patch] > most { (k as u8 + 1, object[patch]) } else { (class, most) }
        };
        of_objects.iter().enumerate().fold((0, background), most).0
    };
    let classes = (0..grid.len()).map(class).collect();
    (of_objects, classes)
}

/// A video and the features that are compared.
#[derive(Clone)]
pub struct View<'a> {
    pub video: &'a Video,
    /// Of each look; L2-normalised rows.
    pub features: Arc<[Features]>,
}

impl View<'_> {
    /// The rows of some patches of a look: (patches, dimensions).
    pub fn rows(&self, look: usize, patches: &[usize]) -> Array2<f32> {
        let features = &self.features[look];
        let all = ArrayView2::from_shape((features.grid.len(), features.dim), &features.data).expect("whole rows");
        all.select(ndarray::Axis(0), patches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_shows_what_most_of_it_is() {
        // Three patches of 4x4 pixels: the object in all, 3/4 and 1/4 of them; and one of which 3/4 are not known.
        let grid = PatchGrid { rows: 1, cols: 4, patch: 4 };
        let pixel = |x: usize, y: usize| match x / 4 {
            0 => 1,
            1 => u8::from(y < 3),
            2 => u8::from(y < 1),
            _ => [VOID, 1][usize::from(y == 0)],
        };
        let pixels = (0..64).map(|i| pixel(i % 16, i / 16)).collect();
        let mut annotation = Annotation { width: 16, height: 4, pixels };
        let (fractions, classes) = shown(&annotation, 1, grid);
        assert_eq!(fractions, [[1.0, 0.75, 0.25, 0.25]]);
        assert_eq!(classes, [1, 1, 0, VOID]);
        // An object that came later.
        annotation.pixels.iter_mut().filter(|v| **v == VOID).for_each(|v| *v = 2);
        assert_eq!(shown(&annotation, 1, grid), (fractions, classes));
    }
}
