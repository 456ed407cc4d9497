//! A graph made ready for one input size: a network of our layers where all of it is recognised, else a plan of tract's.

use std::sync::Arc;

use ndarray::{ArrayView2, s};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::bail;

use super::cores;
use super::kernels;
use super::layers::{Gate, Memory, Network, Picture, Workers};
use super::ops::{self, Rewritten, Scope};
use super::tract::{OutputLayout, guarded, one_line};
use super::{Backend, Runtime};
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
}

impl Arithmetic {
    pub fn new(Runtime { threads, backend, .. }: Runtime) -> Arithmetic {
        let threads = match threads {
            0 => cores::physical(),
            some => some,
        };
        Arithmetic { threads, backend, workers: None, executor: None }
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

    /// The network, where all of the graph is ours.
    pub fn network(&self) -> Option<&Network> {
        match &self.engine {
            Engine::Ours { network, .. } => Some(network),
            Engine::Tract { .. } => None,
        }
    }

    /// As [`Plan::run`], with what `memory` kept of earlier pictures of the same scene; and the share of tokens that were
    /// computed. tract computes all of them.
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

    /// As [`Plan::run`], for several pictures; `give` gets each one's place and tokens. tract runs them one after the other.
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
