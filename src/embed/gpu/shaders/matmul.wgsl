// out = then(input * weights + bias), a tile of it for each workgroup of 16 x 16 threads.
//
// Constants that stand before this text:
//   ROWS       rows of the output for each thread: a tile has 16 * ROWS
//   THEN       what becomes of a sum: STORE, GELU, SWIGLU, ADD (to what is in `out`) or PLACE (patches among tokens)
//   Number     of the weights, and of products: f32 or f16
//   Out        of the output: f32 or f16
//   Input      what `input_at` reads: see the files beside this one
//
// Sums are in f32, whatever the products are in: 16 of those at a time are added in their own numbers.
// A thread makes ROWS x 4 numbers of the output, so that each number that it reads of shared memory is used ROWS or 4 times.

const STORE = 0u;
const GELU = 1u;
const SWIGLU = 2u;
const ADD = 3u;
const PLACE = 4u;

struct Sizes {
    rows: u32,
    // Numbers of a row that come in, and go out: multiples of 4, but for patches, whose last four may be filled up with zeros.
    inner: u32,
    columns: u32,
    // Of the picture, where the rows are patches, and of those.
    width: u32,
    height: u32,
    side: u32,
    // Tokens before those of the patches.
    prefix: u32,
    filling: u32,
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
// (rows, inner), or a picture, (channels, height, width), as single numbers
@group(0) @binding(1) var<storage, read> input: array<Input>;
// (inner, columns / 4)
@group(0) @binding(2) var<storage, read> weights: array<vec4<Number>>;
// (columns / 4)
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
// (rows, columns / 2); half as many columns with SWIGLU
@group(0) @binding(4) var<storage, read_write> out: array<vec2<Out>>;
// (tokens, columns / 4): what PLACE adds
@group(0) @binding(5) var<storage, read> added: array<vec4<f32>>;

const TILE_ROWS = 16u * ROWS;
// Inner numbers of a step, in fours.
const DEPTH = 4u;

// (TILE_ROWS, DEPTH), of four inner numbers each
var<workgroup> left: array<vec4<Number>, TILE_ROWS * DEPTH>;
// (4 * DEPTH, 16), of four columns each
var<workgroup> right: array<vec4<Number>, 4u * DEPTH * 16u>;

fn read_input(row: u32, four: u32) -> vec4<Number> {
    if (row >= sizes.rows || 4u * four >= sizes.inner) {
        return vec4<Number>();
    }
    return input_at(row, four);
}

fn then_gelu(x: vec4<f32>) -> vec4<f32> {
    // The error function, by formula 7.1.26 of Abramowitz and Stegun: at most 1.5e-7 off.
    let z = abs(x) * 0.70710678;
    let t = 1.0 / (1.0 + 0.3275911 * z);
    let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    let erf = sign(x) * (1.0 - p * exp(-z * z));
    return 0.5 * x * (1.0 + erf);
}

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) tile: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let fours = sizes.columns / 4u;
    let first_row = tile.y * TILE_ROWS;
    let four = tile.x * 16u + local.x;
    var sums: array<vec4<f32>, ROWS>;
    for (var start = 0u; 4u * start < sizes.inner; start += DEPTH) {
        for (var at = thread; at < TILE_ROWS * DEPTH; at += 256u) {
            left[at] = read_input(first_row + at / DEPTH, start + at % DEPTH);
        }
        // 16 rows of 16: one for each thread.
        let row = 4u * start + local.y;
        var value = vec4<Number>();
        if (row < sizes.inner && four < fours) {
            value = weights[row * fours + four];
        }
        right[thread] = value;
        workgroupBarrier();
        var parts: array<vec4<Number>, ROWS>;
        for (var depth = 0u; depth < DEPTH; depth++) {
            let b0 = right[(4u * depth) * 16u + local.x];
            let b1 = right[(4u * depth + 1u) * 16u + local.x];
            let b2 = right[(4u * depth + 2u) * 16u + local.x];
            let b3 = right[(4u * depth + 3u) * 16u + local.x];
            for (var row = 0u; row < ROWS; row++) {
                let a = left[(local.y * ROWS + row) * DEPTH + depth];
                parts[row] += a.x * b0 + a.y * b1 + a.z * b2 + a.w * b3;
            }
        }
        for (var row = 0u; row < ROWS; row++) {
            sums[row] += vec4<f32>(parts[row]);
        }
        workgroupBarrier();
    }
    if (four >= fours) {
        return;
    }
    for (var each = 0u; each < ROWS; each++) {
        let row = first_row + local.y * ROWS + each;
        if (row >= sizes.rows) {
            return;
        }
        var value = sums[each] + bias[four];
        if (THEN == SWIGLU) {
            // Two gates and their two values.
            let gate = value.xy;
            out[row * fours + four] = vec2<Out>(gate / (1.0 + exp(-gate)) * value.zw);
            continue;
        }
        if (THEN == GELU) {
            value = then_gelu(value);
        }
        var at = 2u * (row * fours + four);
        if (THEN == PLACE) {
            let place = (sizes.prefix + row) * fours + four;
            value += added[place];
            at = 2u * place;
        }
        if (THEN == ADD) {
            value += vec4<f32>(vec2<f32>(out[at]), vec2<f32>(out[at + 1u]));
        }
        out[at] = vec2<Out>(value.xy);
        out[at + 1u] = vec2<Out>(value.zw);
    }
}
