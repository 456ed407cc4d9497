//! Videos as the tasks see them: embeddings of frames, and what each patch of them shows.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2, ArrayView5};

use super::treatment::Fitted;
use super::{Degradation, Plan, StudyError, mix};
use crate::embed::{Backbone, EmbedError, Preprocessor, TractBackbone};
use crate::eval::Sequence;
use crate::eval::davis::{Annotation, VOID};
use crate::propagate::SeedRule;
use crate::propagate::seed::seed_mask;
use crate::types::{Features, FrameMeta, InputTensor, Mask, PatchGrid, PixelBuf};

/// Gives the embeddings of pictures.
pub trait Extractor {
    fn name(&self) -> String;

    /// Of the graph, hex; empty where there is none.
    fn sha256(&self) -> String;

    fn grid(&self) -> PatchGrid;

    /// Length of an embedding.
    fn dim(&self) -> usize;

    /// A picture's embeddings, not normalised: (patches, dimensions).
    ///
    /// # Errors
    /// When the model fails to run.
    fn embed(&mut self, picture: &PixelBuf) -> Result<Array2<f32>, EmbedError>;
}

/// A model, at the first of its input sizes.
pub struct Model {
    backbone: TractBackbone,
    preprocessor: Preprocessor,
    input: InputTensor,
}

impl Model {
    pub fn new(backbone: TractBackbone) -> Model {
        let spec = backbone.spec();
        let grid = spec.grids[0];
        let preprocessor = Preprocessor::new(grid.input_width(), grid.input_height(), spec.mean, spec.std);
        Model { backbone, preprocessor, input: InputTensor::default() }
    }
}

impl Extractor for Model {
    fn name(&self) -> String {
        self.backbone.spec().name.clone()
    }

    fn sha256(&self) -> String {
        self.backbone.spec().sha256.clone()
    }

    fn grid(&self) -> PatchGrid {
        self.backbone.spec().grids[0]
    }

    fn dim(&self) -> usize {
        self.backbone.spec().dim
    }

    fn embed(&mut self, picture: &PixelBuf) -> Result<Array2<f32>, EmbedError> {
        self.preprocessor.run(picture, &mut self.input)?;
        let mut rows = Array2::zeros((self.grid().len(), self.dim()));
        self.backbone.embed_unnormalised(&self.input, rows.as_slice_mut().expect("in one piece"))?;
        Ok(rows)
    }
}

/// A patch's pixels as its features: what there is to go by without any network, trained or not.
pub struct Pixels {
    grid: PatchGrid,
    preprocessor: Preprocessor,
    input: InputTensor,
}

impl Pixels {
    /// Of pictures made ready as for a model.
    pub fn new(model: &Model) -> Pixels {
        let spec = model.backbone.spec();
        let grid = spec.grids[0];
        let preprocessor = Preprocessor::new(grid.input_width(), grid.input_height(), spec.mean, spec.std);
        Pixels { grid, preprocessor, input: InputTensor::default() }
    }
}

impl Extractor for Pixels {
    fn name(&self) -> String {
        "pixels".into()
    }

    fn sha256(&self) -> String {
        String::new()
    }

    fn grid(&self) -> PatchGrid {
        self.grid
    }

    fn dim(&self) -> usize {
        3 * self.grid.patch * self.grid.patch
    }

    fn embed(&mut self, picture: &PixelBuf) -> Result<Array2<f32>, EmbedError> {
        self.preprocessor.run(picture, &mut self.input)?;
        let PatchGrid { rows, cols, patch } = self.grid;
        // (channel, row, y, column, x) to (row, column, channel, y, x)
        let pixels =
            ArrayView5::from_shape((3, rows, patch, cols, patch), &self.input.data).expect("a grid of patches");
        let patches = pixels.permuted_axes([1, 3, 0, 2, 4]);
        let data: Vec<f32> = patches.iter().copied().collect();
        Ok(Array2::from_shape_vec((self.grid.len(), self.dim()), data).expect("whole rows"))
    }
}

/// Features that know nothing of the picture: where they score is chance.
pub struct Noise {
    grid: PatchGrid,
    dim: usize,
    seed: u64,
    /// Pictures so far.
    pictures: u64,
}

impl Noise {
    pub fn new(grid: PatchGrid, dim: usize, seed: u64) -> Noise {
        Noise { grid, dim, seed, pictures: 0 }
    }
}

impl Extractor for Noise {
    fn name(&self) -> String {
        "noise".into()
    }

    fn sha256(&self) -> String {
        String::new()
    }

    fn grid(&self) -> PatchGrid {
        self.grid
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn embed(&mut self, _: &PixelBuf) -> Result<Array2<f32>, EmbedError> {
        self.pictures += 1;
        let mut at = 0;
        Ok(Array2::from_shape_simple_fn((self.grid.len(), self.dim), || {
            at += 1;
            (mix(&[self.seed, self.pictures, at]) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        }))
    }
}

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
            let fractions: Vec<Vec<f32>> =
                annotation.masks(objects).iter().map(|mask| seed_mask(mask, grid, SeedRule::Area)).collect();
            let classes = classes(&annotation, &fractions, grid);
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
            let mut features = Features { grid: look.grid, dim, data: rows.iter().copied().collect() };
            features.normalise();
            features
        };
        View { video: self, features: self.looks.iter().map(features).collect::<Vec<_>>().into() }
    }
}

/// What most of each patch shows.
fn classes(annotation: &Annotation, fractions: &[Vec<f32>], grid: PatchGrid) -> Vec<u8> {
    let (width, height) = (annotation.width, annotation.height);
    let void = seed_mask(&Mask::from_pixels(width, height, &annotation.pixels, VOID), grid, SeedRule::Area);
    let class = |patch: usize| {
        if void[patch] > 0.5 {
            return VOID;
        }
        let background = 1.0 - void[patch] - fractions.iter().map(|object| object[patch]).sum::<f32>();
        let most = |(class, most): (u8, f32), (k, object): (usize, &Vec<f32>)| {
            if object[patch] > most { (k as u8 + 1, object[patch]) } else { (class, most) }
        };
        fractions.iter().enumerate().fold((0, background), most).0
    };
    (0..grid.len()).map(class).collect()
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
        let annotation = Annotation { width: 16, height: 4, pixels };
        let fractions: Vec<Vec<f32>> =
            annotation.masks(1).iter().map(|mask| seed_mask(mask, grid, SeedRule::Area)).collect();
        assert_eq!(fractions, [[1.0, 0.75, 0.25, 0.25]]);
        assert_eq!(classes(&annotation, &fractions, grid), [1, 1, 0, VOID]);
    }

    #[test]
    fn noise_is_the_same_again_and_another_in_each_picture() {
        let grid = PatchGrid { rows: 2, cols: 3, patch: 16 };
        let picture = PixelBuf::packed(crate::types::PixelFormat::Grey, 1, 1, vec![0]).unwrap();
        let [mut first, mut again] = [0, 1].map(|_| Noise::new(grid, 8, 5));
        let rows = first.embed(&picture).unwrap();
        assert_eq!(rows.dim(), (6, 8));
        assert_eq!(rows, again.embed(&picture).unwrap());
        assert_ne!(rows, again.embed(&picture).unwrap());
        assert!(rows.iter().all(|v| (-1.0..=1.0).contains(v)) && rows.mean().unwrap().abs() < 0.3);
    }
}
