// softmax(queries * keys) * values of one head, for as many queries as a workgroup has threads, in one pass over the keys: the
// largest score so far, and the sum of the weights relative to it, go along, and what was gathered is scaled when it changes.
//
// Constants that stand before this text:
//   WIDTH      of a head in fours
//   KEYS       keys that are in shared memory at once, a multiple of CHUNK
//   Number     of what comes in and goes out, and of products: f32 or f16
//
// Sums are in f32 but for those of CHUNK keys, and of a quarter of a score.
// The scale of scores is in the weights that made the queries.

struct Sizes {
    tokens: u32,
    heads: u32,
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
// (tokens, 3, heads, WIDTH): queries, keys, values
@group(0) @binding(1) var<storage, read> input: array<vec4<Number>>;
// (tokens, heads, WIDTH)
@group(0) @binding(2) var<storage, read_write> out: array<vec4<Number>>;

const THREADS = 64u;
// Keys whose scores are made before the softmax goes on.
const CHUNK = 8u;

var<workgroup> keys: array<vec4<Number>, KEYS * WIDTH>;
var<workgroup> values: array<vec4<Number>, KEYS * WIDTH>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let head = group.y;
    let token = group.x * THREADS + thread;
    let stride = sizes.heads * WIDTH;
    var query: array<vec4<Number>, WIDTH>;
    var gathered: array<vec4<f32>, WIDTH>;
    if (token < sizes.tokens) {
        for (var at = 0u; at < WIDTH; at++) {
            query[at] = input[token * 3u * stride + head * WIDTH + at];
        }
    }
    var largest = -3.0e38;
    var total = 0.0;
    for (var start = 0u; start < sizes.tokens; start += KEYS) {
        workgroupBarrier();
        for (var at = thread; at < KEYS * WIDTH; at += THREADS) {
            let key = start + at / WIDTH;
            var k = vec4<Number>();
            var v = vec4<Number>();
            if (key < sizes.tokens) {
                let place = (3u * key + 1u) * stride + head * WIDTH + at % WIDTH;
                k = input[place];
                v = input[place + stride];
            }
            keys[at] = k;
            values[at] = v;
        }
        workgroupBarrier();
        let here = min(KEYS, sizes.tokens - start);
        for (var chunk = 0u; chunk < here; chunk += CHUNK) {
            var scores: array<f32, CHUNK>;
            var most = largest;
            for (var each = 0u; each < CHUNK; each++) {
                var products = vec4<Number>();
                for (var at = 0u; at < WIDTH; at++) {
                    products = fma(query[at], keys[(chunk + each) * WIDTH + at], products);
                }
                let score = dot(vec4<f32>(products), vec4<f32>(1.0));
                scores[each] = select(-3.0e38, score, chunk + each < here);
                most = max(most, scores[each]);
            }
            let shrink = exp(largest - most);
            largest = most;
            total *= shrink;
            for (var each = 0u; each < CHUNK; each++) {
                scores[each] = exp(scores[each] - most);
                total += scores[each];
            }
            for (var at = 0u; at < WIDTH; at++) {
                var part = vec4<Number>();
                for (var each = 0u; each < CHUNK; each++) {
                    part = fma(vec4<Number>(Number(scores[each])), values[(chunk + each) * WIDTH + at], part);
                }
                gathered[at] = fma(gathered[at], vec4<f32>(shrink), vec4<f32>(part));
            }
        }
    }
    if (token < sizes.tokens) {
        for (var at = 0u; at < WIDTH; at++) {
            out[token * stride + head * WIDTH + at] = vec4<Number>(gathered[at] / total);
        }
    }
}
