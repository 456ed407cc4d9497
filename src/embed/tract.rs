//! Backbones that [tract](https://github.com/sonos/tract) runs on the CPU.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ndarray::{Array2, ArrayViewMut2, s};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::bail;

use super::kernels;
use super::layers::Workers;
use super::onnx::OnnxFile;
use super::ops::{self, Rewritten, Scope};
use super::transform::Transform;
use super::{Backbone, BackboneSpec, Backend, EmbedError, Runtime};
use crate::types::{Features, InputTensor, PatchGrid};

/// An ONNX graph as a backbone. It has one plan for each input size: that of the first at once, the others when
/// first asked for.
pub struct TractBackbone {
    spec: BackboneSpec,
    layout: OutputLayout,
    /// Parsed, its shapes still open, with the wanted output only; let go of where it serves one input size.
    model: Option<InferenceModel>,
    arithmetic: Arithmetic,
    /// One for each of the spec's grids.
    plans: Vec<Option<Plan>>,
    /// (patches, dimensions left), before they are transformed
    untransformed: Vec<f32>,
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

/// A graph made ready for one input size.
struct Plan {
    runnable: Arc<TypedRunnableModel>,
    state: TypedSimpleState,
    /// (1, 3, height, width), used again once the graph lets go of it
    input: Option<Arc<Tensor>>,
    /// Dimensions of the output, the dropped ones counted.
    dim: usize,
    /// Tokens before those of the patches.
    prefix_tokens: usize,
    rewritten: Rewritten,
}

/// Who computes, and on how many threads.
struct Arithmetic {
    /// Our operators' threads, and what they take over; none for tract alone.
    ours: Option<(Arc<Workers>, Scope)>,
    /// Of tract's operators.
    executor: multithread::Executor,
}

impl Arithmetic {
    fn new(Runtime { threads, backend }: Runtime, quantized: bool) -> Result<Arithmetic, String> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            some => some,
        };
        let scope = match backend {
            Backend::Reference => None,
            Backend::Auto => quantized.then_some(Scope::Quantized),
            Backend::Int8 => Some(Scope::All),
        };
        let ours = scope.map(|scope| Ok::<_, String>((Arc::new(Workers::new(kernels::chosen()?, threads)?), scope)));
        let executor = match threads {
            1 => multithread::Executor::SingleThread,
            many => guarded(|| Ok(multithread::Executor::multithread_with_name(many, "embed")))?,
        };
        Ok(Arithmetic { ours: ours.transpose()?, executor })
    }

    /// The kernel of our operators, where there are any.
    fn kernel(&self, rewritten: Rewritten) -> Option<String> {
        let ours = self.ours.as_ref().filter(|_| rewritten != Rewritten::default());
        ours.map(|(workers, _)| workers.kernel().to_owned())
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
        mut spec: BackboneSpec,
        layout: OutputLayout,
        runtime: Runtime,
    ) -> Result<TractBackbone, String> {
        let quantized = graph.is_quantized();
        let model = guarded(|| pruned(graph, &layout.name))?;
        let arithmetic = Arithmetic::new(runtime, quantized)?;
        let grid = *spec.grids.first().ok_or("the model has no input size")?;
        let plan = make_plan(&model, &layout, grid, &arithmetic)?;
        spec.dim = layout.outputs(plan.dim);
        spec.kernel = arithmetic.kernel(plan.rewritten);
        let mut plans: Vec<Option<Plan>> = spec.grids.iter().map(|_| None).collect();
        plans[0] = Some(plan);
        let model = (spec.grids.len() > 1).then_some(model);
        Ok(TractBackbone { spec, layout, model, arithmetic, plans, untransformed: Vec::new() })
    }

    /// Tokens before those of the patches, at the first input size.
    pub fn prefix_tokens(&self) -> usize {
        self.plans[0].as_ref().map_or(0, |plan| plan.prefix_tokens)
    }

    /// Which of the graph's operators are ours, at the first input size.
    pub fn rewritten(&self) -> Rewritten {
        self.plans[0].as_ref().map_or(Rewritten::default(), |plan| plan.rewritten)
    }

    /// The patches' tokens as they leave the graph, all dimensions, not normalised: (patches, dimensions).
    ///
    /// # Errors
    /// As [`Backbone::embed`].
    pub fn tokens(&mut self, input: &InputTensor) -> Result<Array2<f32>, EmbedError> {
        let (grid, dim, output) = self.run(input)?;
        let mut tokens = vec![0.0; grid.len() * dim];
        copy_patches(&output, grid, &[], &mut tokens)?;
        Ok(Array2::from_shape_vec((grid.len(), dim), tokens).expect("a row for each patch"))
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
        let (grid, dim, output) = self.run(input)?;
        let dropped = &self.layout.dropped_dimensions;
        match &self.layout.transform {
            None => copy_patches(&output, grid, dropped, out),
            Some(transform) => {
                self.untransformed.resize(grid.len() * (dim - dropped.len()), 0.0);
                copy_patches(&output, grid, dropped, &mut self.untransformed)?;
                transform.apply(&mut self.untransformed, out);
                Ok(())
            }
        }
    }

    /// The graph's output for an input of one of the spec's grids, with that grid and the output's dimensions.
    fn run(&mut self, input: &InputTensor) -> Result<(PatchGrid, usize, TValue), EmbedError> {
        let index = self.grid_of(input.width, input.height)?;
        let grid = self.spec.grids[index];
        if input.data.len() != 3 * input.width * input.height {
            return Err(EmbedError::Runtime("the input's data are not of the input's size".into()));
        }
        let plan = self.plan(index)?;
        let dim = plan.dim;
        let output = plan.run(input).map_err(EmbedError::Runtime)?;
        if self.layout.dim_of(output.shape(), grid) != Some(dim) {
            return Err(EmbedError::Output(self.layout.wrong_shape(output.shape(), grid)));
        }
        Ok((grid, dim, output))
    }

    /// The plan of a grid, made where there is none yet.
    fn plan(&mut self, index: usize) -> Result<&mut Plan, EmbedError> {
        match &mut self.plans[index] {
            Some(plan) => Ok(plan),
            none => {
                let (model, grid) =
                    (self.model.as_ref().expect("it is kept for a second size"), self.spec.grids[index]);
                let plan = make_plan(model, &self.layout, grid, &self.arithmetic).map_err(EmbedError::Runtime)?;
                if self.layout.outputs(plan.dim) != self.spec.dim {
                    return Err(EmbedError::Output("has another length at this input size".into()));
                }
                Ok(none.insert(plan))
            }
        }
    }

    pub(super) fn spec_mut(&mut self) -> &mut BackboneSpec {
        &mut self.spec
    }

    fn grid_of(&self, width: usize, height: usize) -> Result<usize, EmbedError> {
        let size = |grid: &PatchGrid| (grid.input_width(), grid.input_height());
        self.spec.grids.iter().position(|grid| size(grid) == (width, height)).ok_or_else(|| {
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
        let index = self.grid_of(grid.input_width(), grid.input_height())?;
        self.plan(index).map(|_| ())
    }

    fn embed(&mut self, input: &InputTensor, out: &mut Features) -> Result<(), EmbedError> {
        (out.grid, out.dim) = (self.spec.grids[self.grid_of(input.width, input.height)?], self.spec.dim);
        out.data.resize(out.grid.len() * out.dim, 0.0);
        self.embed_unnormalised(input, &mut out.data)?;
        out.normalise();
        Ok(())
    }
}

impl Plan {
    fn run(&mut self, input: &InputTensor) -> Result<TValue, String> {
        // The graph holds a value while it runs and then lets go: the tensor is ours alone again, unless an
        // operator kept it.
        let mut tensor = match self.input.take().map(Arc::try_unwrap) {
            Some(Ok(tensor)) => tensor,
            _ => Tensor::zero::<f32>(&[1, 3, input.height, input.width]).map_err(one_line)?,
        };
        let mut values = tensor.try_as_plain_ram_mut().map_err(one_line)?;
        values.as_slice_mut::<f32>().map_err(one_line)?.copy_from_slice(&input.data);
        let tensor = Arc::new(tensor);
        self.input = Some(Arc::clone(&tensor));
        let result = guarded(|| self.state.run(tvec![TValue::from_const(tensor)]));
        if result.is_err() {
            // What a failed run leaves behind is not relied on.
            self.state = guarded(|| self.runnable.spawn())?;
        }
        result?.into_iter().next().ok_or_else(|| "it gave no output".into())
    }
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
    /// The dimensions of an output of this shape, where it fits the grid.
    fn dim_of(&self, shape: &[usize], grid: PatchGrid) -> Option<usize> {
        let &[1, tokens, dim] = shape else { return None };
        let prefix = tokens.checked_sub(grid.len())?;
        (dim > 0 && self.prefix_tokens.is_none_or(|expected| prefix == expected)).then_some(dim)
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

    /// Length of an embedding, where the graph gives `dim` dimensions.
    fn outputs(&self, dim: usize) -> usize {
        self.transform.as_ref().map_or(dim.saturating_sub(self.dropped_dimensions.len()), Transform::outputs)
    }
}

/// Copies the patches' tokens, without the dropped dimensions: (patches, dimensions - dropped).
fn copy_patches(output: &Tensor, grid: PatchGrid, dropped: &[usize], out: &mut [f32]) -> Result<(), EmbedError> {
    let tokens = output.to_plain_array_view::<f32>().map_err(|e| EmbedError::Output(one_line(e)))?;
    let patches = tokens.slice(s![0, tokens.shape()[1] - grid.len().., ..]); // (patches, dim)
    let dim = patches.ncols();
    let mut out =
        ArrayViewMut2::from_shape((grid.len(), dim - dropped.len()), out).expect("out holds a row for each patch");
    let (mut from, mut to) = (0, 0);
    for &dropped in dropped.iter().chain([&dim]) {
        let run = dropped - from;
        out.slice_mut(s![.., to..to + run]).assign(&patches.slice(s![.., from..dropped]));
        (from, to) = (dropped + 1, to + run);
    }
    Ok(())
}

/// Prunes a graph to what the output `output` needs.
fn pruned(file: OnnxFile, output: &str) -> TractResult<InferenceModel> {
    let proto = file.into_proto(output).map_err(TractError::msg)?;
    let mut model = onnx_framework().model_for_proto_model(&proto)?;
    drop(proto);
    model.select_outputs_by_name([output])?;
    if model.inputs.len() != 1 {
        bail!("it takes {} inputs; a backbone takes one, the picture", model.inputs.len());
    }
    Ok(model)
}

/// Shapes that a file states are not to be trusted in place of those that follow from the operators.
fn onnx_framework() -> tract_onnx::Onnx {
    tract_onnx::onnx().with_ignore_value_info(true)
}

fn make_plan(
    model: &InferenceModel,
    layout: &OutputLayout,
    grid: PatchGrid,
    arithmetic: &Arithmetic,
) -> Result<Plan, String> {
    guarded(|| {
        let shape = [1, 3, grid.input_height(), grid.input_width()];
        let model = model.clone().with_input_fact(0, f32::fact(shape).into())?.into_typed()?;
        let (model, rewritten) = match &arithmetic.ours {
            Some((workers, scope)) => ops::rewrite(model, workers, *scope)?,
            None => (model.into_decluttered()?, Rewritten::default()),
        };
        let model = model.into_optimized()?;
        let fact = model.output_fact(0)?;
        let Some(shape) = fact.shape.as_concrete() else {
            bail!("the output `{}` has no fixed shape", layout.name);
        };
        let Some(dim) = layout.dim_of(shape, grid) else {
            bail!("the output {}", layout.wrong_shape(shape, grid));
        };
        let prefix_tokens = shape[1] - grid.len();
        if fact.datum_type != f32::datum_type() {
            bail!("the output `{}` is of type {:?}; it must be 32-bit float", layout.name, fact.datum_type);
        }
        match layout.dropped_dimensions.last() {
            Some(last) if *last >= dim => bail!("dimension {last} is dropped, but the output has only {dim}"),
            _ if layout.dropped_dimensions.len() == dim => bail!("all {dim} dimensions are dropped"),
            _ if layout.transform.as_ref().is_some_and(|t| t.inputs() != dim - layout.dropped_dimensions.len()) => {
                let transformed = layout.transform.as_ref().map_or(0, Transform::inputs);
                bail!(
                    "its transform takes {transformed} dimensions, but {} are left of the output",
                    dim - layout.dropped_dimensions.len()
                )
            }
            _ => {}
        }
        let options = RunOptions { executor: Some(arithmetic.executor.clone()), ..RunOptions::default() };
        let runnable = model.into_runnable_with_options(&options)?;
        let state = runnable.spawn()?;
        Ok(Plan { runnable, state, input: None, dim, prefix_tokens, rewritten })
    })
}

/// Runs `f`, and makes one line of its error or of its panic: tract panics on some graphs.
fn guarded<T>(f: impl FnOnce() -> TractResult<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.map_err(one_line),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
            Err(format!("the runtime panicked: {}", shorten(text)))
        }
    }
}

fn one_line(error: TractError) -> String {
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
