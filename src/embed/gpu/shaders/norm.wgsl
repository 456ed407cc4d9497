// LayerNorm: a row for each workgroup of 64 threads.
//
// Constants that stand before this text:
//   Out        numbers of the output: f32 or f16

struct Sizes {
    rows: u32,
    // Numbers of a row, in fours.
    fours: u32,
    epsilon: f32,
    filling: u32,
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
// (rows, fours)
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;
// (fours)
@group(0) @binding(2) var<storage, read> gamma: array<vec4<f32>>;
// (fours)
@group(0) @binding(3) var<storage, read> beta: array<vec4<f32>>;
// (rows, fours)
@group(0) @binding(4) var<storage, read_write> out: array<vec4<Out>>;

const THREADS = 64u;

var<workgroup> parts: array<f32, THREADS>;

// The sum of every thread's number.
fn sum(thread: u32, number: f32) -> f32 {
    parts[thread] = number;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if (thread < half) {
            parts[thread] += parts[thread + half];
        }
        workgroupBarrier();
    }
    let all = parts[0];
    workgroupBarrier();
    return all;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = group.y * groups.x + group.x;
    if (row >= sizes.rows) {
        return;
    }
    let start = row * sizes.fours;
    let count = f32(4u * sizes.fours);
    var total = vec4<f32>();
    for (var at = thread; at < sizes.fours; at += THREADS) {
        total += input[start + at];
    }
    let mean = sum(thread, dot(total, vec4<f32>(1.0))) / count;
    // In a second pass: squares of large numbers would cancel.
    var squares = 0.0;
    for (var at = thread; at < sizes.fours; at += THREADS) {
        let centred = input[start + at] - mean;
        squares += dot(centred, centred);
    }
    let scale = inverseSqrt(sum(thread, squares) / count + sizes.epsilon);
    for (var at = thread; at < sizes.fours; at += THREADS) {
        out[start + at] = vec4<Out>((input[start + at] - mean) * scale * gamma[at] + beta[at]);
    }
}
