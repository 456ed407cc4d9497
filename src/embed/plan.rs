//! A graph made ready for one input size: a network of our layers or a graphics processor's where all of it is recognised, else a
//! plan of tract's.

use std::path::Path;
use std::sync::Arc;

use ndarray::{ArrayView2, s};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::bail;

use super::cores;
use super::gpu::{GpuNetwork, Resident};
use super::kernels;
use super::layers::{Gate, Memory, Network, Picture, Workers};
use super::ops::{self, Rewritten, Scope};
use super::tract::{OutputLayout, guarded, one_line};
use super::{Backend, Execution, GpuFloats, Runtime};
use crate::types::{InputTensor, PatchGrid};

/// What computes the tokens of one input size.
pub struct Plan {
    engine: Engine,
    grid: PatchGrid,
    /// Of the output: the dropped ones counted.
    pub dim: usize,
    /// Tokens before those of the patches.
    pub prefix_tokens: usize,
    pub rewritten: Rewritten,
}

enum Engine {
    Ours {
        network: Network,
        workers: Arc<Workers>,
        /// (tokens, dim)
        tokens: Vec<f32>,
    },
    Gpu {
        network: GpuNetwork,
        /// (tokens, dim)
        tokens: Vec<f32>,
    },
    Tract {
        runnable: Arc<TypedRunnableModel>,
        state: TypedSimpleState,
        /// (1, 3, height, width), used again once the graph lets go of it
        input: Option<Arc<Tensor>>,
        /// (1, tokens, dim)
        output: Option<TValue>,
    },
}

/// A parsed graph, its shapes still open, with the wanted output only.
#[derive(Clone)]
pub struct Graph {
    pub model: InferenceModel,
    /// Whether it computes in 8-bit integers somewhere.
    pub quantized: bool,
}

/// Who computes, and on how many threads; they are started when they are first needed.
pub struct Arithmetic {
    threads: usize,
    backend: Backend,
    workers: Option<Arc<Workers>>,
    executor: Option<multithread::Executor>,
    gpu: Option<Resident>,
    /// Whether that may go over to finer numbers than it has.
    may_refine: bool,
    /// Why there is none, where one was asked for.
    instead: Option<String>,
}

impl Arithmetic {
    /// Opens the graphics processor, where there is one, it is to compute, and was not `refused`. What its driver compiles is kept in
    /// `folder`.
    pub fn new(execution: Execution, refused: Option<&str>, folder: Option<&Path>) -> Arithmetic {
        let Execution { threads, runtime, gpu_floats, gpu_patience_s, backend, .. } = execution;
        let threads = match threads {
            0 => cores::physical(),
            some => some,
        };
        let opened = match (runtime, backend) {
            // Who chooses among the CPU's operators wants the CPU.
            (Runtime::Cpu, _) | (Runtime::Auto, Backend::Int8 | Backend::Reference) => None,
            (Runtime::Auto, Backend::Auto) if !cfg!(feature = "wgpu") => None,
            _ if refused.is_some() => refused.map(|why| Err(why.to_owned())),
            _ => {
                let software = runtime == Runtime::Wgpu;
                Some(guarded(|| Resident::open(software, gpu_floats, gpu_patience_s, folder).map_err(TractError::msg)))
            }
        };
        let (gpu, instead) = match opened {
            None => (None, None),
            Some(Ok(gpu)) => (Some(gpu), None),
            Some(Err(problem)) => (None, Some(problem)),
        };
        let may_refine = gpu_floats == GpuFloats::Auto;
        Arithmetic { threads, backend, workers: None, executor: None, gpu, may_refine, instead }
    }

    /// On this graphics processor.
    #[cfg(all(test, feature = "wgpu"))]
    pub fn on(gpu: Resident, execution: Execution) -> Arithmetic {
        Arithmetic { gpu: Some(gpu), instead: None, ..Arithmetic::new(execution, None, None) }
    }

    #[cfg(all(test, feature = "wgpu"))]
    pub fn resident(&self) -> Option<&Resident> {
        self.gpu.as_ref()
    }

    /// The graphics processor that computes, and what in.
    pub fn gpu(&self) -> Option<String> {
        self.gpu.as_ref().map(Resident::name)
    }

    /// Has the graphics processor compute in finer numbers from now on, where there are some and it may; tells whether it does.
    pub fn refine_gpu(&mut self) -> bool {
        self.may_refine && self.gpu.as_mut().is_some_and(Resident::refine)
    }

    /// Why no graphics processor computes, where one was to.
    pub fn instead(&self) -> Option<&str> {
        self.instead.as_deref()
    }

    /// Has the CPU compute from now on, because of a `problem`. What is left of the graphics processor is to be let go of, unless it
    /// hangs.
    pub fn give_up_gpu(&mut self, problem: &str) -> Option<Resident> {
        let gpu = self.gpu.take()?;
        self.instead = Some(problem.to_owned());
        Some(gpu)
    }

    /// What our operators take over of a graph; nothing for tract alone.
    fn scope(&self, quantized: bool) -> Option<Scope> {
        match self.backend {
            Backend::Reference => None,
            Backend::Auto => quantized.then_some(Scope::Quantized),
            Backend::Int8 => Some(Scope::All),
        }
    }

    /// The threads of our layers.
    ///
    /// # Errors
    /// When they cannot be started, or the processor lacks the kernel that is asked for.
    pub fn workers(&mut self) -> Result<Arc<Workers>, String> {
        if self.workers.is_none() {
            self.workers = Some(Arc::new(Workers::new(kernels::chosen()?, self.threads)?));
        }
        Ok(Arc::clone(self.workers.as_ref().expect("it was just set")))
    }

    /// The kernel of our layers, where they were needed.
    pub fn kernel(&self) -> Option<String> {
        self.workers.as_ref().map(|workers| workers.kernel().to_owned())
    }

    /// The threads of tract's operators.
    fn executor(&mut self) -> multithread::Executor {
        let threads = self.threads;
        let start = || match threads {
            1 => multithread::Executor::SingleThread,
            many => multithread::Executor::multithread_with_name(many, "embed"),
        };
        self.executor.get_or_insert_with(start).clone()
    }
}

impl Plan {
    /// Takes the graph, so that its weights are not in memory twice; who needs it again gives a clone.
    ///
    /// # Errors
    /// A sentence that says what about the graph is not as it must be. A panic of tract becomes one too.
    pub fn of_graph(
        Graph { model, quantized }: Graph,
        layout: &OutputLayout,
        grid: PatchGrid,
        arithmetic: &mut Arithmetic,
    ) -> Result<Plan, String> {
        guarded(|| {
            let shape = [1, 3, grid.input_height(), grid.input_width()];
            let model = model.with_input_fact(0, f32::fact(shape).into())?.into_typed()?;
            if let Some(gpu) = &mut arithmetic.gpu {
                let (patches, blocks) = ops::chain(model)?.map_err(TractError::msg)?;
                let network = gpu.network(patches, blocks, [grid.input_height(), grid.input_width()]);
                return network.and_then(|network| Plan::of_gpu(network, layout, grid)).map_err(TractError::msg);
            }
            let (model, rewritten) = match arithmetic.scope(quantized) {
                Some(scope) => ops::rewrite(model, &arithmetic.workers().map_err(TractError::msg)?, scope)?,
                None => (model.into_decluttered()?, Rewritten::default()),
            };
            if let Some(network) = ops::network(&model) {
                let workers = arithmetic.workers().map_err(TractError::msg)?;
                return Plan::of_network(network, layout, grid, workers).map_err(TractError::msg);
            }
            let model = model.into_optimized()?;
            let fact = model.output_fact(0)?;
            let Some(shape) = fact.shape.as_concrete() else {
                bail!("the output `{}` has no fixed shape", layout.name);
            };
            let (dim, prefix_tokens) = layout.fits(shape, grid).map_err(TractError::msg)?;
            if fact.datum_type != f32::datum_type() {
                bail!("the output `{}` is of type {:?}; it must be 32-bit float", layout.name, fact.datum_type);
            }
            let options = RunOptions { executor: Some(arithmetic.executor()), ..RunOptions::default() };
            let runnable = model.into_runnable_with_options(&options)?;
            let state = runnable.spawn()?;
            let engine = Engine::Tract { runnable, state, input: None, output: None };
            Ok(Plan { engine, grid, dim, prefix_tokens, rewritten })
        })
    }

    /// # Errors
    /// When its output does not fit the grid.
    pub fn of_network(
        network: Network,
        layout: &OutputLayout,
        grid: PatchGrid,
        workers: Arc<Workers>,
    ) -> Result<Plan, String> {
        let (dim, prefix_tokens) = layout.fits(&[1, network.tokens(), network.dim()], grid)?;
        let rewritten = Rewritten::of(&network);
        Ok(Plan { engine: Engine::Ours { network, workers, tokens: Vec::new() }, grid, dim, prefix_tokens, rewritten })
    }

    fn of_gpu(network: GpuNetwork, layout: &OutputLayout, grid: PatchGrid) -> Result<Plan, String> {
        let (dim, prefix_tokens) = layout.fits(&[1, network.tokens(), network.dim()], grid)?;
        let engine = Engine::Gpu { network, tokens: Vec::new() };
        Ok(Plan { engine, grid, dim, prefix_tokens, rewritten: Rewritten::default() })
    }

    /// The network, where all of the graph is ours.
    pub fn network(&self) -> Option<&Network> {
        match &self.engine {
            Engine::Ours { network, .. } => Some(network),
            Engine::Gpu { .. } | Engine::Tract { .. } => None,
        }
    }

    /// Operations of a frame's products, a multiplication and an addition each counted; `None` where nobody knows.
    pub fn operations(&self) -> Option<u64> {
        match &self.engine {
            Engine::Ours { network, .. } => Some(network.operations()),
            Engine::Gpu { network, .. } => Some(network.operations()),
            Engine::Tract { .. } => None,
        }
    }

    /// The same for another grid, where positions can be stretched.
    ///
    /// # Errors
    /// When memory for it is lacking.
    pub fn stretched(&self, layout: &OutputLayout, grid: PatchGrid) -> Option<Result<Plan, String>> {
        let [from, to] = [self.grid, grid].map(|grid| [grid.rows, grid.cols]);
        match &self.engine {
            Engine::Ours { network, workers, .. } => {
                Some(Plan::of_network(network.stretched(from, to), layout, grid, Arc::clone(workers)))
            }
            Engine::Gpu { network, .. } => {
                Some(network.stretched(from, to).and_then(|network| Plan::of_gpu(network, layout, grid)))
            }
            Engine::Tract { .. } => None,
        }
    }

    /// As [`Plan::run`], with what `memory` kept of earlier pictures of the same scene; and the share of tokens that were
    /// computed. Those who are not our layers compute all of them.
    ///
    /// # Errors
    /// As [`Plan::run`].
    pub fn run_reusing<'m>(
        &'m mut self,
        picture: &InputTensor,
        gate: Gate,
        memory: &'m mut Memory,
    ) -> Result<(ArrayView2<'m, f32>, f32), String> {
        let Engine::Ours { network, workers, .. } = &self.engine else {
            return Ok((self.run(picture)?, 1.0));
        };
        let size = [picture.height, picture.width];
        let seen = Picture { data: &picture.data, size };
        let (tokens, computed) = guarded(|| Ok(network.run_reusing(workers, seen, gate, memory)))?;
        let share = computed as f32 / network.tokens() as f32;
        let all = ArrayView2::from_shape((network.tokens(), self.dim), tokens).map_err(|e| e.to_string())?;
        Ok((all.slice_move(s![self.prefix_tokens.., ..]), share))
    }

    /// As [`Plan::run`], for several pictures; `give` gets each one's place and tokens. Those who are not our layers run them one
    /// after the other.
    ///
    /// # Errors
    /// As [`Plan::run`].
    pub fn run_together<'p>(
        &mut self,
        pictures: impl Iterator<Item = &'p InputTensor>,
        mut give: impl FnMut(usize, ArrayView2<'_, f32>),
    ) -> Result<(), String> {
        let Engine::Ours { network, workers, tokens } = &mut self.engine else {
            for (index, picture) in pictures.enumerate() {
                give(index, self.run(picture)?);
            }
            return Ok(());
        };
        let picture = |input: &'p InputTensor| Picture { data: &input.data, size: [input.height, input.width] };
        let pictures: Vec<Picture> = pictures.map(picture).collect();
        guarded(|| {
            network.run(workers, &pictures, tokens);
            Ok(())
        })?;
        let frame = (network.tokens(), self.dim);
        for (index, tokens) in tokens.chunks_exact(frame.0 * frame.1).enumerate() {
            let all = ArrayView2::from_shape(frame, tokens).map_err(|e| e.to_string())?;
            give(index, all.slice_move(s![self.prefix_tokens.., ..]));
        }
        Ok(())
    }

    /// The tokens of the patches, (patches, dim), for a picture of the plan's size.
    ///
    /// # Errors
    /// When the graph fails to run, or gives something else than it said.
    pub fn run(&mut self, picture: &InputTensor) -> Result<ArrayView2<'_, f32>, String> {
        let size = [picture.height, picture.width];
        let all = match &mut self.engine {
            Engine::Ours { network, workers, tokens } => {
                let pictures = [Picture { data: &picture.data, size }];
                guarded(|| {
                    network.run(workers, &pictures, tokens);
                    Ok(())
                })?;
                ArrayView2::from_shape((tokens.len() / self.dim, self.dim), &tokens[..]).map_err(|e| e.to_string())?
            }
            Engine::Gpu { network, tokens } => {
                guarded(|| network.run(&picture.data, tokens).map_err(TractError::msg))?;
                ArrayView2::from_shape((tokens.len() / self.dim, self.dim), &tokens[..]).map_err(|e| e.to_string())?
            }
            Engine::Tract { runnable, state, input, output } => {
                *output = None;
                // The graph holds a value while it runs and then lets go: the tensor is ours alone again, unless an
                // operator kept it.
                let mut tensor = match input.take().map(Arc::try_unwrap) {
                    Some(Ok(tensor)) => tensor,
                    _ => Tensor::zero::<f32>(&[1, 3, size[0], size[1]]).map_err(one_line)?,
                };
                let mut values = tensor.try_as_plain_ram_mut().map_err(one_line)?;
                values.as_slice_mut::<f32>().map_err(one_line)?.copy_from_slice(&picture.data);
                let tensor = Arc::new(tensor);
                *input = Some(Arc::clone(&tensor));
                let result = guarded(|| state.run(tvec![TValue::from_const(tensor)]));
                if result.is_err() {
                    // What a failed run leaves behind is not relied on.
                    *state = guarded(|| runnable.spawn())?;
                }
                let value = output.insert(result?.into_iter().next().ok_or("it gave no output")?);
                let view = value.to_plain_array_view::<f32>().map_err(one_line)?;
                view.into_dimensionality::<ndarray::Ix3>()
                    .map_err(|e| e.to_string())?
                    .index_axis_move(ndarray::Axis(0), 0)
            }
        };
        let expected = (self.prefix_tokens + self.grid.len(), self.dim);
        if all.dim() != expected {
            return Err(format!("its output has {:?} tokens and dimensions, and not {expected:?}", all.dim()));
        }
        Ok(all.slice_move(s![self.prefix_tokens.., ..]))
    }
}
