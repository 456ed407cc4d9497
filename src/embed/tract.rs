//! An ONNX graph as a backbone: read by [tract](https://github.com/sonos/tract), and run by whoever a plan is made for.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::bail;

use super::files::ModelFiles;
use super::layers::{Gate, Memory, Network};
use super::onnx::OnnxFile;
use super::ops::Rewritten;
use super::packed::Packed;
use super::plan::{Arithmetic, Graph, Plan};
use super::transform::Transform;
use super::{Backbone, BackboneSpec, EmbedError, Execution, MAX_INPUT_SIDE, Reuse, Running};
use crate::types::{Features, InputTensor, PatchGrid};

/// An ONNX graph as a backbone.
pub struct TractBackbone {
    spec: BackboneSpec,
    layout: OutputLayout,
    plans: Plans,
    /// (patches, dimensions left), before they are transformed
    untransformed: Vec<f32>,
    reuse: Option<Reuse>,
    /// What is kept of each camera, and the grid that its pictures had.
    memories: Vec<(Option<PatchGrid>, Memory)>,
}

/// A larger share of changed patches has all of them computed: the few others would save little, and what they saw of the
/// rest is old.
const MOST_CHANGED: f32 = 0.7;

/// Plans of stretched networks that are kept: the newest. A camera goes through as many as it has input sizes.
const MOST_STRETCHED: usize = 8;

/// What the plan of the first input size is made of.
pub(super) enum Start {
    Graph(Box<OnnxFile>),
    Network(Network),
}

/// Where the plans of further input sizes come from.
pub(super) enum Source {
    Graph(Box<Graph>),
    Files(Box<ModelFiles>),
}

/// One plan for each input size: that of the first at once, the others when first asked for. A network of our layers is
/// stretched to grids that are not of the spec, too.
struct Plans {
    /// Let go of where it serves one input size, and nobody but the CPU computes.
    source: Option<Source>,
    packed: Option<Packed>,
    arithmetic: Arithmetic,
    /// That of the spec's first grid first.
    made: Vec<(PatchGrid, Plan)>,
}

/// What of a graph's output are the patch embeddings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputLayout {
    /// Name of the graph's output: (1, prefix_tokens + patches, dimensions).
    pub name: String,
    /// Tokens before those of the patches; `None` for as many as there are.
    pub prefix_tokens: Option<usize>,
    /// Dimensions that are left out, in rising order.
    pub dropped_dimensions: Vec<usize>,
    /// What is done with those that are left.
    pub transform: Option<Transform>,
}

impl Plans {
    /// The plan of a grid, one of the spec's or one that was stretched to.
    fn get(&mut self, grid: PatchGrid, spec: &BackboneSpec, layout: &OutputLayout) -> Result<&mut Plan, EmbedError> {
        let at = match self.made.iter().position(|(made, _)| *made == grid) {
            Some(at) => at,
            None => {
                let plan = self.make(grid, layout).map_err(EmbedError::Runtime)?;
                if layout.outputs(plan.dim) != spec.dim {
                    return Err(EmbedError::Output("has another length at this input size".into()));
                }
                self.made.push((grid, plan));
                self.made.len() - 1
            }
        };
        Ok(&mut self.made[at].1)
    }

    /// Runs a frame through the plan of a grid. A graphics processor that fails is given up; the frame then goes through again.
    fn run(
        &mut self,
        grid: PatchGrid,
        spec: &BackboneSpec,
        layout: &OutputLayout,
        mut frame: impl FnMut(&mut Plan) -> Result<(), String>,
    ) -> Result<(), EmbedError> {
        let mut once = |plans: &mut Plans| frame(plans.get(grid, spec, layout)?).map_err(EmbedError::Runtime);
        match once(self) {
            Err(error) if self.give_up_gpu(&error.to_string(), spec, layout)? => once(self),
            done => done,
        }
    }

    /// The first plan, as `make` makes it, or on the CPU where that fails on a graphics processor.
    fn first(
        &mut self,
        make: impl FnOnce(&mut Plans) -> Result<Plan, String>,
        grid: PatchGrid,
        spec: &BackboneSpec,
        layout: &OutputLayout,
    ) -> Result<Plan, String> {
        match make(self) {
            Err(problem) if self.give_up_gpu(&problem, spec, layout).map_err(|error| error.to_string())? => {
                self.make(grid, layout)
            }
            made => made,
        }
    }

    /// Makes a plan for a grid that the model was not exported for, from the first one's network.
    fn stretch(&mut self, grid: PatchGrid, spec: &BackboneSpec, layout: &OutputLayout) -> Result<(), EmbedError> {
        if grid.input_width().max(grid.input_height()) > MAX_INPUT_SIDE {
            let (width, height) = (grid.input_width(), grid.input_height());
            let problem = format!("an input of {width}x{height} pixels has a side of more than {MAX_INPUT_SIDE}");
            return Err(EmbedError::Runtime(problem));
        }
        let first = spec.grids[0];
        let stretched = self.get(first, spec, layout)?.stretched(layout, grid).ok_or_else(|| fixed(first, grid))?;
        let plan = stretched.map_err(EmbedError::Runtime)?;
        // Whoever goes from density to density must not fill the memory.
        let is_stretched = |(made, _): &(PatchGrid, Plan)| !spec.grids.contains(made);
        if self.made.iter().filter(|made| is_stretched(made)).count() >= MOST_STRETCHED {
            let oldest = self.made.iter().position(is_stretched).expect("there are some");
            self.made.remove(oldest);
        }
        self.made.push((grid, plan));
        Ok(())
    }

    /// Has the CPU compute from now on, with plans for the same grids, if it was a graphics processor that has a `problem`; tells
    /// whether it was.
    ///
    /// # Errors
    /// When the CPU cannot run the model on them.
    fn give_up_gpu(&mut self, problem: &str, spec: &BackboneSpec, layout: &OutputLayout) -> Result<bool, EmbedError> {
        let Some(gpu) = self.arithmetic.give_up_gpu(problem) else { return Ok(false) };
        log::warn!("the graphics processor computes no more, the CPU goes on: {problem}");
        let grids: Vec<PatchGrid> = self.made.iter().map(|(grid, _)| *grid).collect();
        let left = (std::mem::take(&mut self.made), gpu);
        if left.1.hangs() {
            // To let go of it would wait for it.
            std::mem::forget(left);
        }
        for grid in grids {
            match spec.grids.contains(&grid) {
                true => self.get(grid, spec, layout).map(drop)?,
                false => self.stretch(grid, spec, layout)?,
            }
        }
        Ok(true)
    }

    fn make(&mut self, grid: PatchGrid, layout: &OutputLayout) -> Result<Plan, String> {
        let kept = self.packed.as_ref().filter(|_| self.arithmetic.gpu().is_none());
        if let Some(network) = kept.and_then(|packed| packed.read(grid)) {
            return Plan::of_network(network, layout, grid, self.arithmetic.workers()?);
        }
        match self.source.as_ref().expect("it is kept for a second size") {
            Source::Graph(graph) => Plan::of_graph(Graph::clone(graph), layout, grid, &mut self.arithmetic),
            Source::Files(files) => {
                let graph = files.graph().map_err(|error| error.to_string())?;
                self.make_of(guarded(|| pruned(graph, &layout.name))?, grid, layout)
            }
        }
    }

    /// Of a graph out of a file, which need not be read again next time.
    fn make_of(&mut self, graph: Graph, grid: PatchGrid, layout: &OutputLayout) -> Result<Plan, String> {
        let plan = Plan::of_graph(graph, layout, grid, &mut self.arithmetic)?;
        if let (Some(network), Some(packed)) = (plan.network(), &self.packed) {
            packed.write(network, grid);
        }
        Ok(plan)
    }
}

impl TractBackbone {
    /// Takes a graph, picks its output and makes the plan of the first of the spec's grids ready. The spec's `dim`
    /// is set from the graph. The threads are those that our operators, or tract's products of matrices, are spread over;
    /// with one, no pool is made.
    ///
    /// # Errors
    /// A sentence that says what about the graph is not as it must be. A panic of tract becomes one too.
    pub fn new(
        graph: OnnxFile,
        spec: BackboneSpec,
        layout: OutputLayout,
        execution: Execution,
    ) -> Result<TractBackbone, String> {
        let graph = guarded(|| pruned(graph, &layout.name))?;
        let grid = *spec.grids.first().ok_or("the model has no input size")?;
        let (source, arithmetic) =
            (Some(Source::Graph(Box::new(graph.clone()))), Arithmetic::new(execution, None, None));
        let mut plans = Plans { source, packed: None, arithmetic, made: Vec::new() };
        let first = |plans: &mut Plans| Plan::of_graph(graph, &layout, grid, &mut plans.arithmetic);
        let plan = plans.first(first, grid, &spec, &layout)?;
        Ok(TractBackbone::with_first(plan, plans, spec, layout, execution.reuse))
    }

    /// As [`TractBackbone::new`], of files.
    pub(super) fn open(
        start: Start,
        source: Source,
        packed: Option<Packed>,
        spec: BackboneSpec,
        layout: OutputLayout,
        arithmetic: Arithmetic,
        reuse: Option<Reuse>,
    ) -> Result<TractBackbone, String> {
        let grid = *spec.grids.first().ok_or("the model has no input size")?;
        let mut plans = Plans { source: Some(source), packed, arithmetic, made: Vec::new() };
        let plan = match start {
            Start::Network(network) => Plan::of_network(network, &layout, grid, plans.arithmetic.workers()?)?,
            Start::Graph(graph) => {
                let graph = guarded(|| pruned(*graph, &layout.name))?;
                plans.first(|plans| plans.make_of(graph, grid, &layout), grid, &spec, &layout)?
            }
        };
        Ok(TractBackbone::with_first(plan, plans, spec, layout, reuse))
    }

    fn with_first(
        plan: Plan,
        mut plans: Plans,
        mut spec: BackboneSpec,
        layout: OutputLayout,
        reuse: Option<Reuse>,
    ) -> TractBackbone {
        spec.dim = layout.outputs(plan.dim);
        plans.made.push((spec.grids[0], plan));
        if spec.grids.len() == 1 && plans.arithmetic.gpu().is_none() {
            plans.source = None;
        }
        TractBackbone { spec, layout, plans, untransformed: Vec::new(), reuse, memories: Vec::new() }
    }

    /// Tokens before those of the patches, at the first input size.
    pub fn prefix_tokens(&self) -> usize {
        self.plans.made[0].1.prefix_tokens
    }

    /// Which of the graph's operators are ours, at the first input size.
    pub fn rewritten(&self) -> Rewritten {
        self.plans.made[0].1.rewritten
    }

    /// The patches' tokens as they leave the graph, all dimensions, not normalised: (patches, dimensions).
    ///
    /// # Errors
    /// As [`Backbone::embed`].
    pub fn tokens(&mut self, input: &InputTensor) -> Result<Array2<f32>, EmbedError> {
        let grid = self.grid_of_input(input)?;
        let mut tokens = None;
        self.plans.run(grid, &self.spec, &self.layout, |plan| {
            tokens = Some(plan.run(input)?.to_owned());
            Ok(())
        })?;
        Ok(tokens.expect("the plan ran"))
    }

    /// Has a graphics processor compute in finer numbers from now on, where it has some; tells whether it does.
    ///
    /// # Errors
    /// When nobody can run the model then.
    pub(super) fn refine_gpu(&mut self) -> Result<bool, EmbedError> {
        let TractBackbone { plans, spec, layout, .. } = self;
        if !plans.arithmetic.refine_gpu() {
            return Ok(false);
        }
        plans.made.clear();
        let first = |plans: &mut Plans| plans.get(spec.grids[0], spec, layout).map(drop);
        match first(plans) {
            Err(error) if plans.give_up_gpu(&error.to_string(), spec, layout)? => first(plans)?,
            made => made?,
        }
        Ok(true)
    }

    /// Has the CPU compute from now on if it was a graphics processor that has a `problem`; tells whether it was.
    ///
    /// # Errors
    /// When the CPU cannot run the model.
    pub(super) fn give_up_gpu(&mut self, problem: &str) -> Result<bool, EmbedError> {
        self.plans.give_up_gpu(problem, &self.spec, &self.layout)
    }

    /// The patches' embeddings before they are normalised, (patches, spec's dim): without the dropped dimensions, and
    /// transformed.
    ///
    /// # Errors
    /// As [`Backbone::embed`].
    ///
    /// # Panics
    /// When `out` has another length.
    pub fn embed_unnormalised(&mut self, input: &InputTensor, out: &mut [f32]) -> Result<(), EmbedError> {
        let grid = self.grid_of_input(input)?;
        let TractBackbone { plans, spec, layout, untransformed, .. } = self;
        plans.run(grid, spec, layout, |plan| {
            layout.embeddings(plan.run(input)?, untransformed, out);
            Ok(())
        })
    }

    #[cfg(all(test, feature = "wgpu"))]
    pub(super) fn resident(&self) -> Option<&super::gpu::Resident> {
        self.plans.arithmetic.resident()
    }

    pub(super) fn spec_mut(&mut self) -> &mut BackboneSpec {
        &mut self.spec
    }

    /// The grid that an input is of.
    fn grid_of_input(&self, input: &InputTensor) -> Result<PatchGrid, EmbedError> {
        if input.data.len() != 3 * input.width * input.height {
            return Err(EmbedError::Runtime("the input's data are not of the input's size".into()));
        }
        self.grid_of(input.width, input.height)
    }

    /// The grid of pictures of this size: one of the spec's, or one that was made ready.
    fn grid_of(&self, width: usize, height: usize) -> Result<PatchGrid, EmbedError> {
        let size = |grid: &PatchGrid| (grid.input_width(), grid.input_height());
        let mut known = self.spec.grids.iter().chain(self.plans.made.iter().map(|(grid, _)| grid));
        known.find(|grid| size(grid) == (width, height)).copied().ok_or_else(|| {
            let accepted: Vec<String> =
                self.spec.grids.iter().map(size).map(|(width, height)| format!("{width}x{height}")).collect();
            EmbedError::Size { width, height, accepted: accepted.join(", ") }
        })
    }
}

impl Backbone for TractBackbone {
    fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    fn prepare(&mut self, grid: PatchGrid) -> Result<(), EmbedError> {
        let known = self.grid_of(grid.input_width(), grid.input_height());
        let TractBackbone { plans, spec, layout, .. } = self;
        let make = |plans: &mut Plans| match &known {
            Ok(grid) => plans.get(*grid, spec, layout).map(drop),
            Err(_) => plans.stretch(grid, spec, layout),
        };
        match make(plans) {
            Err(error) if plans.give_up_gpu(&error.to_string(), spec, layout)? => make(plans),
            made => made,
        }
    }

    fn embed(&mut self, input: &InputTensor, out: &mut Features) -> Result<(), EmbedError> {
        (out.grid, out.dim) = (self.grid_of_input(input)?, self.spec.dim);
        out.data.resize(out.grid.len() * out.dim, 0.0);
        self.embed_unnormalised(input, &mut out.data)?;
        out.normalise();
        Ok(())
    }

    fn follow(&mut self, camera: usize, input: &InputTensor, out: &mut Features) -> Result<f32, EmbedError> {
        let Some(Reuse { change, refresh }) = self.reuse else {
            return self.embed(input, out).map(|()| 1.0);
        };
        let grid = self.grid_of_input(input)?;
        (out.grid, out.dim) = (grid, self.spec.dim);
        out.data.resize(out.grid.len() * out.dim, 0.0);
        if self.memories.len() <= camera {
            self.memories.resize_with(camera + 1, Default::default);
        }
        let (of, memory) = &mut self.memories[camera];
        if *of != Some(grid) {
            (*of, *memory) = (Some(grid), Memory::default());
        }
        let gate = Gate { change: self.spec.std.map(|std| change / std), refresh, most: MOST_CHANGED };
        let mut share = 1.0;
        self.plans.run(grid, &self.spec, &self.layout, |plan| {
            let (tokens, computed) = plan.run_reusing(input, gate, memory)?;
            share = computed;
            self.layout.embeddings(tokens, &mut self.untransformed, &mut out.data);
            Ok(())
        })?;
        out.normalise();
        Ok(share)
    }

    fn embed_together(&mut self, frames: &mut [(&InputTensor, &mut Features)]) -> Result<(), EmbedError> {
        let Some((first, _)) = frames.first() else { return Ok(()) };
        let grid = self.grid_of_input(first)?;
        for (input, out) in frames.iter_mut() {
            if self.grid_of_input(input)? != grid {
                return Err(EmbedError::Runtime("pictures that are embedded together are of one size".into()));
            }
            (out.grid, out.dim) = (grid, self.spec.dim);
            out.data.resize(out.grid.len() * out.dim, 0.0);
        }
        let (inputs, mut outs): (Vec<&InputTensor>, Vec<&mut Features>) =
            frames.iter_mut().map(|(input, out)| (*input, &mut **out)).unzip();
        self.plans.run(grid, &self.spec, &self.layout, |plan| {
            plan.run_together(inputs.iter().copied(), |frame, tokens| {
                self.layout.embeddings(tokens, &mut self.untransformed, &mut outs[frame].data);
                outs[frame].normalise();
            })
        })
    }

    fn operations(&self, grid: PatchGrid) -> Option<u64> {
        self.plans.made.iter().find(|(made, _)| *made == grid)?.1.operations()
    }

    fn running(&self) -> Running {
        let arithmetic = &self.plans.arithmetic;
        let ours = self.plans.made.first().is_some_and(|(_, plan)| plan.rewritten != Rewritten::default());
        Running {
            device: arithmetic.gpu(),
            kernel: arithmetic.kernel().filter(|_| ours),
            instead: arithmetic.instead().map(str::to_owned),
        }
    }

    fn forget(&mut self, camera: usize) {
        if let Some((_, memory)) = self.memories.get_mut(camera) {
            memory.forget();
        }
    }
}

/// What is said where a graph of the runtime's operators is asked for a grid that it was not exported for.
fn fixed(first: PatchGrid, grid: PatchGrid) -> EmbedError {
    let size = |grid: PatchGrid| format!("{}x{}", grid.input_height(), grid.input_width());
    EmbedError::Fixed { asked: size(grid), first: size(first) }
}

/// Values inside a graph, for looking at what it computes.
pub struct InnerValues {
    state: TypedSimpleState,
}

impl InnerValues {
    /// Makes a graph ready that gives the values of these names, for inputs of `height` x `width` pixels.
    ///
    /// # Errors
    /// A sentence that says what about the graph is not as it must be.
    pub fn new(graph: OnnxFile, names: &[String], [height, width]: [usize; 2]) -> Result<InnerValues, String> {
        guarded(|| {
            let mut model = onnx_framework().model_for_proto_model(graph.proto())?;
            drop(graph);
            model.select_outputs_by_name(names)?;
            let model = model.with_input_fact(0, f32::fact([1, 3, height, width]).into())?.into_optimized()?;
            Ok(InnerValues { state: model.into_runnable()?.spawn()? })
        })
    }

    /// The values for one input, each as (rows, length of its last axis).
    ///
    /// # Errors
    /// When the graph fails to run, or a value holds no floats.
    pub fn run(&mut self, input: &InputTensor) -> Result<Vec<Array2<f32>>, String> {
        guarded(|| {
            let tensor = Tensor::from_shape(&[1, 3, input.height, input.width], &input.data)?;
            let values = self.state.run(tvec![tensor.into_tvalue()])?;
            let rows = values.iter().map(|value| {
                let view = value.to_plain_array_view::<f32>()?;
                let last = view.shape().last().copied().unwrap_or(1).max(1);
                Ok(Array2::from_shape_vec((view.len() / last, last), view.iter().copied().collect())?)
            });
            rows.collect()
        })
    }
}

impl OutputLayout {
    /// Dimensions and prefix tokens of an output of this shape.
    ///
    /// # Errors
    /// When it does not fit the grid, or what is dropped or transformed does not fit it.
    pub(super) fn fits(&self, shape: &[usize], grid: PatchGrid) -> Result<(usize, usize), String> {
        let (dim, prefix) = match *shape {
            [1, tokens, dim] if dim > 0 => match tokens.checked_sub(grid.len()) {
                Some(prefix) if self.prefix_tokens.is_none_or(|expected| prefix == expected) => (dim, prefix),
                _ => return Err(format!("the output {}", self.wrong_shape(shape, grid))),
            },
            _ => return Err(format!("the output {}", self.wrong_shape(shape, grid))),
        };
        let dropped = self.dropped_dimensions.len();
        match self.dropped_dimensions.last() {
            Some(last) if *last >= dim => Err(format!("dimension {last} is dropped, but the output has only {dim}")),
            _ if dropped == dim => Err(format!("all {dim} dimensions are dropped")),
            _ => match self.transform.as_ref().map(Transform::inputs) {
                Some(inputs) if inputs != dim - dropped => Err(format!(
                    "its transform takes {inputs} dimensions, but {} are left of the output",
                    dim - dropped
                )),
                _ => Ok((dim, prefix)),
            },
        }
    }

    fn wrong_shape(&self, shape: &[usize], grid: PatchGrid) -> String {
        let (width, height) = (grid.input_width(), grid.input_height());
        let prefix = self.prefix_tokens.unwrap_or(0);
        format!(
            "`{}` has the shape {shape:?}, but a picture of {width}x{height} pixels needs [1, {}, dimensions]: {prefix} \
             prefix tokens and {}x{} patches of {} pixels",
            self.name,
            prefix + grid.len(),
            grid.rows,
            grid.cols,
            grid.patch,
        )
    }

    /// Copies tokens, (patches, dimensions), to embeddings: without the dropped dimensions, and transformed.
    fn embeddings(&self, tokens: ArrayView2<f32>, untransformed: &mut Vec<f32>, out: &mut [f32]) {
        let dropped = &self.dropped_dimensions;
        match &self.transform {
            None => copy_kept(tokens, dropped, out),
            Some(transform) => {
                untransformed.resize(tokens.nrows() * (tokens.ncols() - dropped.len()), 0.0);
                copy_kept(tokens, dropped, untransformed);
                transform.apply(untransformed, out);
            }
        }
    }

    /// Length of an embedding, where the graph gives `dim` dimensions.
    fn outputs(&self, dim: usize) -> usize {
        self.transform.as_ref().map_or(dim.saturating_sub(self.dropped_dimensions.len()), Transform::outputs)
    }
}

/// Copies tokens, (patches, dimensions), without the dropped dimensions.
fn copy_kept(tokens: ArrayView2<f32>, dropped: &[usize], out: &mut [f32]) {
    let (patches, dim) = tokens.dim();
    let mut out =
        ArrayViewMut2::from_shape((patches, dim - dropped.len()), out).expect("out holds a row for each patch");
    let (mut from, mut to) = (0, 0);
    for &dropped in dropped.iter().chain([&dim]) {
        let run = dropped - from;
        out.slice_mut(s![.., to..to + run]).assign(&tokens.slice(s![.., from..dropped]));
        (from, to) = (dropped + 1, to + run);
    }
}

/// Prunes a graph to what the output `output` needs.
fn pruned(file: OnnxFile, output: &str) -> TractResult<Graph> {
    let quantized = file.is_quantized();
    let proto = file.into_proto(output).map_err(TractError::msg)?;
    let mut model = onnx_framework().model_for_proto_model(&proto)?;
    drop(proto);
    model.select_outputs_by_name([output])?;
    if model.inputs.len() != 1 {
        bail!("it takes {} inputs; a backbone takes one, the picture", model.inputs.len());
    }
    Ok(Graph { model, quantized })
}

/// Shapes that a file states are not to be trusted in place of those that follow from the operators.
fn onnx_framework() -> tract_onnx::Onnx {
    tract_onnx::onnx().with_ignore_value_info(true)
}

/// Runs `f`, and makes one line of its error or of its panic: tract panics on some graphs.
pub(super) fn guarded<T>(f: impl FnOnce() -> TractResult<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.map_err(one_line),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
            Err(format!("the runtime panicked: {}", shorten(text)))
        }
    }
}

pub(super) fn one_line(error: TractError) -> String {
    shorten(&format!("{error:#}"))
}

/// The first 400 characters, on one line: tract prints whole nodes and tensors.
fn shorten(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(400) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}
