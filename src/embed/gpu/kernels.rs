//! The kernels: shaders made ready, and what each is given.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use wgpu::{BindGroup, BufferBindingType, BufferUsages, ComputePipeline, ShaderRuntimeChecks, ShaderStages};

use super::cache::Compiled;
use super::device::{Array, Gpu, Number};
use crate::embed::kernels::bytes_of;

const MATMUL: &str = include_str!("shaders/matmul.wgsl");
const ROWS_AS_THEY_ARE: &str = include_str!("shaders/matmul_rows.wgsl");
const ROWS_OF_PATCHES: &str = include_str!("shaders/matmul_patches.wgsl");
const NORM: &str = include_str!("shaders/norm.wgsl");
const ATTENTION: &str = include_str!("shaders/attention.wgsl");

/// Rows and columns of the threads of a product's workgroup, and the columns that each of them makes.
const SIDE: u32 = 16;
const COLUMNS_A_THREAD: u32 = 4;
/// Most rows of an output that a thread of a product makes.
const MOST_ROWS: u32 = 8;
/// Workgroups of a product below which smaller tiles keep more of a processor busy.
const FEW_TILES: u32 = 64;

/// Queries of an attention's workgroup, one a thread.
const QUERIES: u32 = 64;
/// Keys whose scores are made before the softmax goes on.
const KEY_CHUNK: u32 = 8;
/// Shared memory for keys and values: what every device has, in bytes.
const SHARED: u32 = 16_384;
/// Of a head: a thread holds a query and what is gathered for it in its registers.
pub const MOST_WIDTH: usize = 128;

/// Shaders that were made ready, by their text.
pub struct Kernels {
    compiled: Option<Compiled>,
    ready: Mutex<HashMap<String, ComputePipeline>>,
}

/// What becomes of the sums of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Store,
    Gelu,
    /// Columns in fours: two gates and their values. Half as many go out.
    SwiGlu,
    /// To what is there.
    Add,
}

impl Then {
    fn name(self) -> &'static str {
        match self {
            Then::Store => "STORE",
            Then::Gelu => "GELU",
            Then::SwiGlu => "SWIGLU",
            Then::Add => "ADD",
        }
    }
}

/// A product's sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    pub rows: usize,
    /// Numbers of a row that come in, and go out; multiples of 4.
    pub inner: usize,
    pub columns: usize,
}

/// Of a picture whose patches are a product's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfPatches {
    /// [height, width] in pixels
    pub size: [usize; 2],
    pub patch: usize,
    /// Tokens before those of the patches.
    pub prefix: usize,
}

/// One kernel with all that it is given.
pub struct Dispatch {
    pipeline: ComputePipeline,
    buffers: BindGroup,
    groups: [u32; 3],
}

impl Dispatch {
    pub fn record(&self, pass: &mut wgpu::ComputePass) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.buffers, &[]);
        let [x, y, z] = self.groups;
        pass.dispatch_workgroups(x, y, z);
    }
}

/// What a shader is given: numbers that it reads, then the one that it writes.
struct Given<'b> {
    sizes: [u32; 8],
    read: &'b [&'b Array],
    written: &'b Array,
    /// Behind the written one.
    read_last: Option<&'b Array>,
}

/// What makes it sound that shaders compare no index with the length of an array.
///
/// # Panics
/// When an array holds fewer numbers than it is to: a mistake of this program.
fn holds(arrays: &[(&Array, usize)]) {
    for (array, count) in arrays {
        assert!(array.length >= *count, "an array of {} numbers holds {count}", array.length);
    }
}

/// The same for arrays that shaders take for floats of 32 bits.
fn holds_f32(arrays: &[(&Array, usize)]) {
    assert!(arrays.iter().all(|(array, _)| array.number == Number::F32), "floats of 32 bits");
    holds(arrays);
}

impl Kernels {
    pub fn new(compiled: Option<Compiled>) -> Kernels {
        Kernels { compiled, ready: Mutex::default() }
    }

    /// Keeps what was compiled for the next start.
    pub fn keep(&self) {
        if let Some(compiled) = &self.compiled {
            compiled.keep();
        }
    }
}

impl Gpu {
    /// `out = then(input * weights + bias)`, row by row, in the weights' numbers; the bias is in f32.
    ///
    /// # Errors
    /// What the driver says.
    pub fn matmul(
        &self,
        product: Product,
        then: Then,
        [input, weights, bias]: [&Array; 3],
        out: &Array,
    ) -> Result<Dispatch, String> {
        let Product { rows, inner, columns } = product;
        let gone_out = if then == Then::SwiGlu { columns / 2 } else { columns };
        holds(&[(input, rows * inner), (out, rows * gone_out)]);
        #[cfg(test)]
        let then = if self.is_garbled() && then == Then::Gelu { Then::Store } else { then };
        let sizes = [rows, inner, columns, 0, 0, 0, 0, 0].map(|v| v as u32);
        let source = format!("alias In = {};\n{ROWS_AS_THEY_ARE}", input.number.name());
        self.product(&source, then.name(), sizes, [input, weights, bias, bias], out)
    }

    /// The patches of `picture`, (3, height, width), times the weights, in their numbers, and what is added to each token; all else is
    /// in f32.
    ///
    /// # Errors
    /// What the driver says.
    pub fn embed_patches(
        &self,
        product: Product,
        of: OfPatches,
        [picture, weights, bias, added]: [&Array; 4],
        out: &Array,
    ) -> Result<Dispatch, String> {
        let (Product { rows, inner, columns }, OfPatches { size: [height, width], patch, prefix }) = (product, of);
        let patches = height / patch * (width / patch);
        assert!(rows <= patches, "a row for each patch");
        let tokens = (prefix + rows) * columns;
        holds_f32(&[(picture, 3 * height * width), (added, tokens), (out, tokens)]);
        let sizes = [rows, inner, columns, width, height, patch, prefix, 0].map(|v| v as u32);
        self.product(ROWS_OF_PATCHES, "PLACE", sizes, [picture, weights, bias, added], out)
    }

    fn product(
        &self,
        input: &str,
        then: &str,
        sizes: [u32; 8],
        [left, weights, bias, added]: [&Array; 4],
        out: &Array,
    ) -> Result<Dispatch, String> {
        let [rows, inner, columns, ..] = sizes;
        assert!(inner.is_multiple_of(4) && columns.is_multiple_of(4), "numbers are read in fours");
        holds(&[(weights, inner as usize * columns as usize)]);
        holds_f32(&[(bias, columns as usize)]);
        let across = columns.div_ceil(SIDE * COLUMNS_A_THREAD);
        let down = |each: u32| rows.div_ceil(SIDE * each);
        let each = if across * down(MOST_ROWS) < FEW_TILES { MOST_ROWS / 2 } else { MOST_ROWS };
        let (number, written) = (weights.number.name(), out.number.name());
        let text = format!(
            "alias Number = {number};\nalias Out = {written};\nconst ROWS = {each}u;\nconst THEN = {then};\n{input}\n{MATMUL}"
        );
        let given = Given { sizes, read: &[left, weights, bias], written: out, read_last: Some(added) };
        self.dispatch(text, given, [across, down(each), 1])
    }

    /// LayerNorm of `input`, (rows, width), which is in f32, as gamma and beta are.
    ///
    /// # Errors
    /// What the driver says.
    pub fn norm(
        &self,
        [rows, width]: [usize; 2],
        epsilon: f32,
        [input, gamma, beta]: [&Array; 3],
        out: &Array,
    ) -> Result<Dispatch, String> {
        assert!(width.is_multiple_of(4), "numbers are read in fours");
        holds_f32(&[(input, rows * width), (gamma, width), (beta, width)]);
        holds(&[(out, rows * width)]);
        let (rows, fours) = (rows as u32, width as u32 / 4);
        let sizes = [rows, fours, epsilon.to_bits(), 0, 0, 0, 0, 0];
        let most = self.device().limits().max_compute_workgroups_per_dimension;
        let across = rows.min(most);
        let text = format!("alias Out = {};\n{NORM}", out.number.name());
        let given = Given { sizes, read: &[input, gamma, beta], written: out, read_last: None };
        self.dispatch(text, given, [across, rows.div_ceil(across), 1])
    }

    /// What the keys of each head gather for its queries: (tokens, 3, heads, width) to (tokens, heads, width), in the same numbers. The
    /// width of a head is a multiple of 4, and at most [`MOST_WIDTH`].
    ///
    /// # Errors
    /// What the driver says.
    pub fn attention(
        &self,
        [tokens, heads, width]: [usize; 3],
        input: &Array,
        out: &Array,
    ) -> Result<Dispatch, String> {
        assert!(width.is_multiple_of(4) && (4..=MOST_WIDTH).contains(&width), "a width that a thread can hold");
        assert_eq!(input.number, out.number, "the same numbers");
        holds(&[(input, 3 * tokens * heads * width), (out, tokens * heads * width)]);
        let [tokens, heads, fours] = [tokens, heads, width / 4].map(|v| v as u32);
        // A key and a value.
        let bytes = 2 * 4 * fours * input.number.bytes() as u32;
        let keys = (SHARED / bytes).min(64) / KEY_CHUNK * KEY_CHUNK;
        let number = input.number.name();
        let text = format!("alias Number = {number};\nconst WIDTH = {fours}u;\nconst KEYS = {keys}u;\n{ATTENTION}");
        let given = Given { sizes: [tokens, heads, 0, 0, 0, 0, 0, 0], read: &[input], written: out, read_last: None };
        self.dispatch(text, given, [tokens.div_ceil(QUERIES), heads, 1])
    }

    fn dispatch(&self, text: String, given: Given, groups: [u32; 3]) -> Result<Dispatch, String> {
        let most = self.device().limits().max_compute_workgroups_per_dimension;
        if groups.iter().any(|groups| *groups > most) {
            return Err(format!("{groups:?} workgroups are more than the {most} that it takes"));
        }
        let text = match text.contains("= f16") {
            true => format!("enable f16;\n{text}"),
            false => text,
        };
        let pipeline = self.pipeline(text, &given)?;
        let Given { sizes, read, written, read_last } = given;
        let usage = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let uniform = self.buffer("sizes", size_of_val(&sizes) as u64, usage)?;
        self.queue().write_buffer(&uniform, 0, bytes_of(&sizes));
        let arrays = read.iter().copied().chain([written]).chain(read_last).map(|array| &array.buffer);
        let all = [&uniform].into_iter().chain(arrays);
        let entries: Vec<wgpu::BindGroupEntry> = all
            .enumerate()
            .map(|(at, buffer)| wgpu::BindGroupEntry { binding: at as u32, resource: buffer.as_entire_binding() })
            .collect();
        let layout = &pipeline.get_bind_group_layout(0);
        let buffers =
            self.device().create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries });
        Ok(Dispatch { pipeline, buffers, groups })
    }

    /// A shader made ready, or as it was made ready before.
    fn pipeline(&self, text: String, given: &Given) -> Result<ComputePipeline, String> {
        let mut ready = self.kernels().ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = ready.get(&text) {
            return Ok(pipeline.clone());
        }
        let pipeline = self.checked(|| Ok(self.compile(&text, given)))?;
        ready.insert(text, pipeline.clone());
        Ok(pipeline)
    }

    fn compile(&self, text: &str, given: &Given) -> ComputePipeline {
        let device = self.device();
        let descriptor = wgpu::ShaderModuleDescriptor { label: None, source: wgpu::ShaderSource::Wgsl(text.into()) };
        // A loop that is checked cannot be unrolled, and what a thread holds then is not in its registers. A driver that is a program
        // has few of them, and takes seconds to unroll.
        let module = match self.is_unchecked() {
            // SAFETY: every index is within what `holds` saw that its buffer has, or behind a comparison with it; every index of
            // shared memory is within a tile, and every loop goes to a number that it was given.
            true => unsafe { device.create_shader_module_trusted(descriptor, ShaderRuntimeChecks::unchecked()) },
            false => device.create_shader_module(descriptor),
        };
        let storage = |read_only| BufferBindingType::Storage { read_only };
        let kinds = [BufferBindingType::Uniform]
            .into_iter()
            .chain(given.read.iter().map(|_| storage(true)))
            .chain([storage(false)])
            .chain(given.read_last.map(|_| storage(true)));
        let entries: Vec<wgpu::BindGroupLayoutEntry> = kinds
            .enumerate()
            .map(|(at, ty)| wgpu::BindGroupLayoutEntry {
                binding: at as u32,
                visibility: ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
                count: None,
            })
            .collect();
        let of_group =
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&of_group)],
            immediate_size: 0,
        });
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..wgpu::PipelineCompilationOptions::default()
            },
            cache: self.kernels().compiled.as_ref().map(Compiled::cache),
        })
    }
}
