//! A vision transformer as a list of dispatches, all buffers planned once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wgpu::{Buffer, BufferUsages, CommandEncoderDescriptor, ComputePassDescriptor, MapMode};

use super::device::{Array, Gpu, Number};
use super::kernels::{Dispatch, OfPatches, Product, Then};
use super::weights::{Layer, NormOnGpu, OnGpu, Weights, digest};
use crate::embed::GpuFloats;
use crate::embed::blocks::{Block, Patches, stretched};
use crate::embed::kernels::{bytes_of, bytes_of_mut};

/// A model on a graphics processor: its weights serve all input sizes.
pub struct Resident {
    gpu: Arc<Gpu>,
    number: Number,
    /// And what the blocks were that they are of.
    weights: Option<(u64, Arc<Weights>)>,
}

impl Resident {
    /// On the best processor, one that a driver only plays on the CPU if it may be `software`. Its first frame may take `patience_s`
    /// seconds. What its driver compiles is kept in
    /// `folder`.
    ///
    /// # Errors
    /// As of [`Gpu::open`], and when the processor does not compute in what it is to.
    pub fn open(software: bool, floats: GpuFloats, patience_s: u64, folder: Option<&Path>) -> Result<Resident, String> {
        let gpu = Gpu::open(software, Duration::from_secs(patience_s), folder)?;
        let number = match floats {
            GpuFloats::F32 => Number::F32,
            // A program has to make them of others.
            GpuFloats::Auto if gpu.adapter().is_software() || !gpu.has(Number::F16) => Number::F32,
            GpuFloats::Auto => Number::F16,
            GpuFloats::F16 if gpu.has(Number::F16) => Number::F16,
            GpuFloats::F16 => return Err(format!("{} has no floats of 16 bits", gpu.adapter().name)),
        };
        Ok(Resident::new(gpu, number))
    }

    /// Goes over to floats of 32 bits, if it is not there; tells whether it was not.
    pub fn refine(&mut self) -> bool {
        self.weights = None;
        std::mem::replace(&mut self.number, Number::F32) != Number::F32
    }

    pub fn new(gpu: Gpu, number: Number) -> Resident {
        Resident { gpu: Arc::new(gpu), number, weights: None }
    }

    /// The processor and what it computes in.
    pub fn name(&self) -> String {
        format!("{} in {}", self.gpu.adapter().name, self.number.name())
    }

    /// As [`Gpu::hangs`].
    pub fn hangs(&self) -> bool {
        self.gpu.hangs()
    }

    /// The network of these blocks for pictures of `size`, [height, width].
    ///
    /// # Errors
    /// When something about a block is not as the kernels take it, memory is lacking, or the driver refuses something.
    pub fn network(&mut self, patches: Patches, blocks: Vec<Block>, size: [usize; 2]) -> Result<GpuNetwork, String> {
        let digest = digest(&patches, &blocks);
        let weights = match &self.weights {
            Some((of, weights)) if *of == digest => Arc::clone(weights),
            _ => Arc::new(self.gpu.checked(|| Weights::new(&self.gpu, self.number, &patches, blocks))?),
        };
        self.weights = Some((digest, Arc::clone(&weights)));
        let network = GpuNetwork::new(&self.gpu, &weights, size, patches.added)?;
        self.gpu.kernels().keep();
        Ok(network)
    }

    #[cfg(test)]
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }
}

/// A network on a graphics processor, for one input size.
pub struct GpuNetwork {
    gpu: Arc<Gpu>,
    weights: Arc<Weights>,
    /// (3, height, width)
    picture: Array,
    /// What is added to tokens, whose first rows are the prefix itself: (tokens, width)
    added: Vec<f32>,
    added_there: Array,
    /// What the first block takes: (tokens, width)
    first: Array,
    dispatches: Vec<Dispatch>,
    /// (tokens, dim)
    last: Array,
    /// As `last`, where the processor's owner can read it.
    read: Buffer,
    size: [usize; 2],
    tokens: usize,
    prefix: usize,
}

/// Buffers that hold the tokens by turns, and what is inside a block.
struct Planner<'g> {
    gpu: &'g Gpu,
    tokens: usize,
    /// The residual stream is in the first: (tokens, widest), f32
    stream: [Array; 2],
    /// What a block's products take: (tokens, widest)
    normal: Array,
    /// Queries, keys and values, or what is hidden in an MLP.
    inside: Array,
    dispatches: Vec<Dispatch>,
}

impl GpuNetwork {
    /// Plans for pictures of `size`, [height, width]. `added` is (tokens, width): the tokens before those of the patches, and position
    /// embeddings.
    ///
    /// # Errors
    /// When a buffer would be too large, or the driver refuses something.
    pub fn new(
        gpu: &Arc<Gpu>,
        weights: &Arc<Weights>,
        size: [usize; 2],
        added: Vec<f32>,
    ) -> Result<GpuNetwork, String> {
        let width = weights.patches.columns;
        let [height, across] = size;
        let patches = height / weights.patch * (across / weights.patch);
        let tokens = added.len() / width;
        let prefix = tokens.checked_sub(patches).ok_or("it adds to fewer tokens than the picture has patches")?;
        let network = gpu.checked(|| {
            let picture = gpu.array("picture", Number::F32, 3 * height * across)?;
            let added_there = gpu.filled("position embeddings", Number::F32, &added)?;
            let (widest, inside) = weights.widest();
            let tokens_of = |what, number, width| gpu.array(what, number, tokens * width);
            let stream = [tokens_of("tokens", Number::F32, widest)?, tokens_of("tokens", Number::F32, widest)?];
            let normal = tokens_of("tokens", weights.number, widest)?;
            let inside = tokens_of("activations", weights.number, inside.max(4))?;
            let first = stream[0].clone();
            let OnGpu { weights: matrix, bias, inner, columns } = &weights.patches;
            let product = Product { rows: patches, inner: *inner, columns: *columns };
            let of = OfPatches { size, patch: weights.patch, prefix };
            let embedding = gpu.embed_patches(product, of, [&picture, matrix, bias, &added_there], &first)?;
            let mut planner = Planner { gpu, tokens, stream, normal, inside, dispatches: vec![embedding] };
            for layer in &weights.layers {
                planner.layer(layer)?;
            }
            let Planner { stream: [last, _], dispatches, .. } = planner;
            let bytes = 4 * (tokens * weights.dim()) as u64;
            let read = gpu.buffer("features", bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?;
            let (gpu, weights) = (Arc::clone(gpu), Arc::clone(weights));
            Ok(GpuNetwork {
                gpu,
                weights,
                picture,
                added,
                added_there,
                first,
                dispatches,
                last,
                read,
                size,
                tokens,
                prefix,
            })
        })?;
        // Nothing of it is left for the first frame to wait for.
        network.frame(&vec![0.0; 3 * height * across], &mut Vec::new(), true)?;
        Ok(network)
    }

    /// The same network for pictures of another grid, [rows, columns]: positions are stretched, everything else is shared.
    ///
    /// # Errors
    /// As [`Resident::network`].
    pub fn stretched(&self, grid: [usize; 2], to: [usize; 2]) -> Result<GpuNetwork, String> {
        let added = stretched(&self.added, self.prefix, self.weights.patches.columns, grid, to);
        GpuNetwork::new(&self.gpu, &self.weights, to.map(|side| side * self.weights.patch), added)
    }

    /// Operations of a frame's products, a multiplication and an addition each counted.
    pub fn operations(&self) -> u64 {
        let tokens = self.tokens as u64;
        let product = |of: &OnGpu| 2 * (of.inner * of.columns) as u64;
        let of_layer = |layer: &Layer| match layer {
            Layer::Attention { heads, width, qkv, proj, .. } => {
                product(qkv) + product(proj) + 4 * tokens * (heads * width) as u64
            }
            Layer::Mlp { into, out, .. } => product(into) + product(out),
            Layer::Linear { linear, .. } => product(linear),
            Layer::Norm(_) => 0,
        };
        let patches = (tokens - self.prefix as u64) * product(&self.weights.patches);
        patches + tokens * self.weights.layers.iter().map(of_layer).sum::<u64>()
    }

    #[cfg(test)]
    pub fn dispatches(&self) -> usize {
        self.dispatches.len()
    }

    /// Tokens of a frame, those before the patches' counted.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Numbers of a token at the end.
    pub fn dim(&self) -> usize {
        self.weights.dim()
    }

    /// The tokens of a picture, (3, height, width), to `out`: (tokens, dim).
    ///
    /// # Errors
    /// What went wrong on the processor; it is of no use any more then.
    pub fn run(&self, picture: &[f32], out: &mut Vec<f32>) -> Result<(), String> {
        self.frame(picture, out, false)
    }

    fn frame(&self, picture: &[f32], out: &mut Vec<f32>, first: bool) -> Result<(), String> {
        assert_eq!(picture.len(), 3 * self.size[0] * self.size[1], "a picture of the network's size");
        out.resize(self.tokens * self.dim(), 0.0);
        let gpu = &self.gpu;
        gpu.sound()?;
        gpu.queue().write_buffer(&self.picture.buffer, 0, bytes_of(picture));
        let mut encoder = gpu.device().create_command_encoder(&CommandEncoderDescriptor::default());
        let prefix = 4 * (self.prefix * self.weights.patches.columns) as u64;
        if prefix > 0 {
            encoder.copy_buffer_to_buffer(&self.added_there.buffer, 0, &self.first.buffer, 0, prefix);
        }
        let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
        self.dispatches.iter().for_each(|dispatch| dispatch.record(&mut pass));
        drop(pass);
        encoder.copy_buffer_to_buffer(&self.last.buffer, 0, &self.read, 0, self.read.size());
        let submission = gpu.queue().submit([encoder.finish()]);
        self.read.map_async(MapMode::Read, .., |_| ());
        gpu.wait(submission, first)?;
        let view =
            self.read.get_mapped_range(..).map_err(|error| format!("its features could not be read: {error}"))?;
        bytes_of_mut(out).copy_from_slice(&view);
        drop(view);
        self.read.unmap();
        Ok(())
    }
}

impl Weights {
    /// Most numbers of a token between layers, and within one.
    fn widest(&self) -> (usize, usize) {
        let of_layer = |layer: &Layer| match layer {
            Layer::Attention { qkv, .. } => (qkv.inner, qkv.columns),
            Layer::Mlp { out, .. } => (out.columns, out.inner),
            Layer::Norm(_) => (0, 0),
            Layer::Linear { linear, .. } => (linear.columns, 0),
        };
        let most = |(a, b): (usize, usize), (c, d): (usize, usize)| (a.max(c), b.max(d));
        self.layers.iter().map(of_layer).fold((self.patches.columns, 0), most)
    }
}

impl Planner<'_> {
    fn layer(&mut self, layer: &Layer) -> Result<(), String> {
        let tokens = self.tokens;
        let [stream, other] = self.stream.clone();
        let (normal, inside) = (self.normal.clone(), self.inside.clone());
        match layer {
            Layer::Attention { norm, heads, width, qkv, proj } => {
                self.norm(norm, [&stream, &normal])?;
                self.matmul(qkv, Then::Store, [&normal, &inside])?;
                let attention = self.gpu.attention([tokens, *heads, *width], &inside, &normal)?;
                self.dispatches.push(attention);
                self.matmul(proj, Then::Add, [&normal, &stream])?;
            }
            Layer::Mlp { norm, into, then, out } => {
                self.norm(norm, [&stream, &normal])?;
                self.matmul(into, *then, [&normal, &inside])?;
                self.matmul(out, Then::Add, [&inside, &stream])?;
            }
            Layer::Norm(norm) => {
                self.norm(norm, [&stream, &other])?;
                self.stream.swap(0, 1);
            }
            Layer::Linear { norm: Some(norm), linear, then } => {
                self.norm(norm, [&stream, &normal])?;
                self.matmul(linear, *then, [&normal, &stream])?;
            }
            Layer::Linear { norm: None, linear, then } => {
                self.matmul(linear, *then, [&stream, &other])?;
                self.stream.swap(0, 1);
            }
        }
        Ok(())
    }

    fn norm(&mut self, norm: &NormOnGpu, [from, to]: [&Array; 2]) -> Result<(), String> {
        let NormOnGpu { gamma, beta, epsilon } = norm;
        let width = gamma.length;
        let dispatch = self.gpu.norm([self.tokens, width], *epsilon, [from, gamma, beta], to)?;
        self.dispatches.push(dispatch);
        Ok(())
    }

    fn matmul(&mut self, by: &OnGpu, then: Then, [from, to]: [&Array; 2]) -> Result<(), String> {
        let OnGpu { weights, bias, inner, columns } = by;
        let product = Product { rows: self.tokens, inner: *inner, columns: *columns };
        let dispatch = self.gpu.matmul(product, then, [from, weights, bias], to)?;
        self.dispatches.push(dispatch);
        Ok(())
    }
}
