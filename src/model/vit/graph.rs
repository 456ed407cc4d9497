//! A vision transformer as an ONNX graph: `pixel_values` (1, 3, height, width) to `last_hidden_state`
//! (1, prefix tokens + patches, dim).

use std::io;

use super::{EPSILON, Kind, Tap, Vit};
use crate::model::checkpoint::CheckpointError;
use crate::model::onnx::{Attribute, Graph, Side, TO_INT64, Value};

/// Name of the graph's output.
pub const OUTPUT: &str = "last_hidden_state";

impl<'a> Vit<'a> {
    /// The graph for inputs of `sizes`, (height, width) in pixels, cut behind `tap`. Weights are read when it is
    /// written.
    ///
    /// # Errors
    /// When the checkpoint cannot be read.
    pub fn graph<'g>(&'g self, sizes: &[[usize; 2]], tap: Tap) -> Result<Graph<'g>, CheckpointError>
    where
        'a: 'g,
    {
        let (dim, patch) = (self.sizes.dim as i64, self.sizes.patch as i64);
        let mut writer = Writer { vit: self, g: Graph::new(self.family.name) };
        let sides = match sizes {
            [[height, width]] => [Side::Fixed(*height as i64), Side::Fixed(*width as i64)],
            _ => [Side::Open("height"), Side::Open("width")],
        };
        let pixels = writer.g.input("pixel_values", &[Side::Fixed(1), Side::Fixed(3), sides[0], sides[1]]);
        let kernels = writer.weights("patch_embed.proj.weight", &[dim, 3, patch, patch]);
        let bias = writer.weights("patch_embed.proj.bias", &[dim]);
        let square = [patch, patch];
        let attributes = [Attribute::Ints("kernel_shape", &square), Attribute::Ints("strides", &square)];
        let patches = writer.g.node("Conv", &[&pixels, &kernels, &bias], &attributes);
        let positions = writer.positions(sizes, &patches)?;
        let flat = writer.g.ints(&[1, dim, -1]);
        let patches = writer.g.node("Reshape", &[&patches, &flat], &[]);
        let patches = writer.g.node("Transpose", &[&patches], &[Attribute::Ints("perm", &[0, 2, 1])]);
        let patches = writer.g.node("Add", &[&patches, &positions], &[]);
        let prefix = writer.g.floats(&[1, self.prefix_tokens() as i64, dim], self.prefix()?);
        let mut tokens = writer.g.node("Concat", &[&prefix, &patches], &[Attribute::Int("axis", 1)]);
        for block in 0..tap.layer {
            if tap.kind == Kind::Keys && block + 1 == tap.layer {
                tokens = writer.keys(block, &tokens);
            } else {
                let changed = writer.attention(block, &tokens);
                tokens = writer.mlp(block, &changed);
            }
        }
        if self.ends_in_norm(tap) {
            tokens = writer.layer_norm("norm", &tokens);
        }
        writer.g.output(OUTPUT, &tokens, &[Side::Fixed(1), Side::Open("tokens"), Side::Fixed(dim)]);
        Ok(writer.g)
    }
}

struct Writer<'g, 'a> {
    vit: &'g Vit<'a>,
    g: Graph<'g>,
}

impl<'g, 'a: 'g> Writer<'g, 'a> {
    fn weights(&mut self, part: &str, dims: &[i64]) -> Value {
        let (vit, name) = (self.vit, part.to_owned());
        self.g.weights(part, dims, Box::new(move || vit.read(&name).map_err(io::Error::other)))
    }

    /// Rows `from` to `from + outputs` of a linear layer's weights, (outputs, inputs) in the checkpoint, as a product
    /// takes them: (inputs, outputs).
    fn transposed(&mut self, part: &str, from: usize, [inputs, outputs]: [usize; 2]) -> Value {
        let (vit, name) = (self.vit, format!("{part}.weight"));
        let numbers = move || {
            let stored = vit.read(&name).map_err(io::Error::other)?;
            let stored = &stored[from * inputs..(from + outputs) * inputs];
            Ok((0..inputs).flat_map(|i| (0..outputs).map(move |o| stored[o * inputs + i])).collect())
        };
        self.g.weights(&format!("{part}.weight"), &[inputs as i64, outputs as i64], Box::new(numbers))
    }

    fn linear(&mut self, part: &str, sizes: [usize; 2], bias: bool, input: &Value) -> Value {
        let weights = self.transposed(part, 0, sizes);
        let product = self.g.node("MatMul", &[input, &weights], &[]);
        if !bias {
            return product;
        }
        let bias = self.weights(&format!("{part}.bias"), &[sizes[1] as i64]);
        self.g.node("Add", &[&product, &bias], &[])
    }

    fn layer_norm(&mut self, part: &str, input: &Value) -> Value {
        let dim = self.vit.sizes.dim as i64;
        let weight = self.weights(&format!("{part}.weight"), &[dim]);
        let bias = self.weights(&format!("{part}.bias"), &[dim]);
        let attributes = [Attribute::Int("axis", -1), Attribute::Float("epsilon", EPSILON)];
        self.g.node("LayerNormalization", &[input, &weight, &bias], &attributes)
    }

    /// `input` and what `change` adds to it, through LayerScale where the network has it.
    fn residual(&mut self, scale: &str, input: &Value, change: Value) -> Value {
        let mut change = change;
        if self.vit.scaled {
            let gamma = self.weights(scale, &[self.vit.sizes.dim as i64]);
            change = self.g.node("Mul", &[&change, &gamma], &[]);
        }
        self.g.node("Add", &[input, &change], &[])
    }

    fn attention(&mut self, block: usize, input: &Value) -> Value {
        let (dim, heads) = (self.vit.sizes.dim, self.vit.sizes.heads);
        let width = dim / heads;
        let normed = self.layer_norm(&format!("blocks.{block}.norm1"), input);
        let qkv_bias = self.vit.qkv_bias;
        let qkv = self.linear(&format!("blocks.{block}.attn.qkv"), [dim, 3 * dim], qkv_bias, &normed);
        let apart = self.g.ints(&[1, -1, 3, heads as i64, width as i64]);
        let qkv = self.g.node("Reshape", &[&qkv, &apart], &[]);
        let qkv = self.g.node("Transpose", &[&qkv], &[Attribute::Ints("perm", &[2, 0, 3, 1, 4])]);
        let [queries, keys, values] = [0, 1, 2].map(|of| {
            let of = self.g.int(of);
            self.g.node("Gather", &[&qkv, &of], &[Attribute::Int("axis", 0)])
        });
        let scale = self.g.floats(&[], vec![(width as f32).powf(-0.5)]);
        let queries = self.g.node("Mul", &[&queries, &scale], &[]);
        let keys = self.g.node("Transpose", &[&keys], &[Attribute::Ints("perm", &[0, 1, 3, 2])]);
        let scores = self.g.node("MatMul", &[&queries, &keys], &[]);
        let weights = self.g.node("Softmax", &[&scores], &[Attribute::Int("axis", -1)]);
        let attended = self.g.node("MatMul", &[&weights, &values], &[]);
        let attended = self.g.node("Transpose", &[&attended], &[Attribute::Ints("perm", &[0, 2, 1, 3])]);
        let together = self.g.ints(&[1, -1, dim as i64]);
        let attended = self.g.node("Reshape", &[&attended, &together], &[]);
        let change = self.linear(&format!("blocks.{block}.attn.proj"), [dim, dim], true, &attended);
        self.residual(&format!("blocks.{block}.ls1.gamma"), input, change)
    }

    /// The keys of a block's attention, all heads side by side.
    fn keys(&mut self, block: usize, input: &Value) -> Value {
        let dim = self.vit.sizes.dim;
        let part = format!("blocks.{block}.attn.qkv");
        let normed = self.layer_norm(&format!("blocks.{block}.norm1"), input);
        let weights = self.transposed(&part, dim, [dim, dim]);
        let keys = self.g.node("MatMul", &[&normed, &weights], &[]);
        if !self.vit.qkv_bias {
            return keys;
        }
        let (vit, name) = (self.vit, format!("{part}.bias"));
        let of_keys = move || Ok(vit.read(&name).map_err(io::Error::other)?[dim..2 * dim].to_vec());
        let bias = self.g.weights(&format!("{part}.bias"), &[dim as i64], Box::new(of_keys));
        self.g.node("Add", &[&keys, &bias], &[])
    }

    fn mlp(&mut self, block: usize, input: &Value) -> Value {
        let (dim, hidden) = (self.vit.sizes.dim, self.vit.sizes.hidden);
        let [into, out] = self.vit.mlp_names().map(|name| format!("blocks.{block}.{name}"));
        let normed = self.layer_norm(&format!("blocks.{block}.norm2"), input);
        let wide = if self.vit.gated { 2 * hidden } else { hidden };
        let inside = self.linear(&into, [dim, wide], true, &normed);
        let inside = if self.vit.gated { self.swiglu(hidden as i64, &inside) } else { self.gelu(&inside) };
        let change = self.linear(&out, [hidden, dim], true, &inside);
        self.residual(&format!("blocks.{block}.ls2.gamma"), input, change)
    }

    fn gelu(&mut self, input: &Value) -> Value {
        let [root, one, half] =
            [std::f32::consts::FRAC_1_SQRT_2, 1.0, 0.5].map(|value| self.g.floats(&[], vec![value]));
        let scaled = self.g.node("Mul", &[input, &root], &[]);
        let erf = self.g.node("Erf", &[&scaled], &[]);
        let raised = self.g.node("Add", &[&erf, &one], &[]);
        let product = self.g.node("Mul", &[input, &raised], &[]);
        self.g.node("Mul", &[&product, &half], &[])
    }

    /// silu(first half) * second half
    fn swiglu(&mut self, hidden: i64, both: &Value) -> Value {
        let halves = self.g.ints(&[hidden, hidden]);
        let [gate, value] = self.g.nodes("Split", &[both, &halves], &[Attribute::Int("axis", 2)]);
        let sigmoid = self.g.node("Sigmoid", &[&gate], &[]);
        let silu = self.g.node("Mul", &[&gate, &sigmoid], &[]);
        self.g.node("Mul", &[&silu, &value], &[])
    }

    /// Position embeddings of the patches, (1, patches, dim), for the size of the input: the trained grid between two
    /// small matrices, of which there is a pair for each size. A runtime that knows the size folds all of it.
    fn positions(&mut self, sizes: &[[usize; 2]], patches: &Value) -> Result<Value, CheckpointError> {
        let (dim, patch) = (self.vit.sizes.dim, self.vit.sizes.patch);
        let grids: Vec<[usize; 2]> = sizes.iter().map(|size| size.map(|side| side / patch)).collect();
        let longest = grids.as_flattened().iter().copied().max().unwrap_or(1);
        let positions = self.vit.positions(longest)?;
        let side = positions.grid;
        // A row for each patch, so that whoever stores it in fewer bits can give each patch a scale.
        let stored = positions.data.clone();
        let grid = [(side * side) as i64, dim as i64];
        let grid = self.g.weights("pos_embed", &grid, Box::new(move || Ok(stored.clone())));
        let lines = self.g.ints(&[side as i64, (side * dim) as i64]);
        let grid = self.g.node("Reshape", &[&grid, &lines], &[]);
        let matrices: Vec<[Vec<f32>; 2]> = grids.iter().map(|[rows, cols]| positions.matrices(*rows, *cols)).collect();
        let [down, across] = [0, 1].map(|axis| {
            let all: Vec<f32> = matrices.iter().flat_map(|pair| pair[axis].iter().copied()).collect();
            self.g.floats(&[(all.len() / side) as i64, side as i64], all)
        });
        let [down, across] = match &grids[..] {
            [_] => [down, across],
            _ => self.matrices_of_size(&grids, patches, [down, across]),
        };
        let rows = self.g.node("MatMul", &[&down, &grid], &[]);
        let apart = self.g.ints(&[-1, side as i64, dim as i64]);
        let rows = self.g.node("Reshape", &[&rows, &apart], &[]);
        let stretched = self.g.node("MatMul", &[&across, &rows], &[]);
        let flat = self.g.ints(&[1, -1, dim as i64]);
        Ok(self.g.node("Reshape", &[&stretched, &flat], &[]))
    }

    /// Of the matrices of all sizes, one under the other, those of the size that `patches`, (1, dim, rows, cols), has.
    fn matrices_of_size(&mut self, grids: &[[usize; 2]], patches: &Value, all: [Value; 2]) -> [Value; 2] {
        let shape = self.g.node("Shape", &[patches], &[]);
        let [two, four] = [2, 4].map(|at| self.g.ints(&[at]));
        let grid = self.g.node("Slice", &[&shape, &two, &four], &[]);
        let known: Vec<[i64; 2]> = grids.iter().map(|grid| grid.map(|side| side as i64)).collect();
        let known = self.g.int_rows(&known);
        let alike = self.g.node("Equal", &[&known, &grid], &[]);
        let alike = self.g.node("Cast", &[&alike], &[Attribute::Int("to", TO_INT64)]);
        let both = [Attribute::Ints("axes", &[1]), Attribute::Int("keepdims", 0)];
        let alike = self.g.node("ReduceMin", &[&alike], &both);
        // Its place in the list: the sum of all places, each times whether it is this one.
        let places = self.g.ints(&(0..grids.len() as i64).collect::<Vec<i64>>());
        let which = self.g.node("Mul", &[&alike, &places], &[]);
        let zero = self.g.ints(&[0]);
        let which = self.g.node("ReduceSum", &[&which, &zero], &[Attribute::Int("keepdims", 1)]);
        let mut axis = 0;
        all.map(|matrices| {
            let bounds = grids.iter().scan(0, |place, grid| {
                let start = *place;
                *place += grid[axis] as i64;
                Some([start, *place])
            });
            let (starts, ends): (Vec<i64>, Vec<i64>) = bounds.map(|[start, end]| (start, end)).unzip();
            axis += 1;
            let [start, end] = [starts, ends].map(|places| {
                let places = self.g.ints(&places);
                self.g.node("Gather", &[&places, &which], &[Attribute::Int("axis", 0)])
            });
            self.g.node("Slice", &[&matrices, &start, &end, &zero], &[])
        })
    }
}
