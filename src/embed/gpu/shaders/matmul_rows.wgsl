// Rows that lie in memory as they are.
//
// Constants that stand before this text:
//   In         numbers of the input: f32 or f16

alias Input = vec4<In>;

fn input_at(row: u32, four: u32) -> vec4<Number> {
    return vec4<Number>(input[row * (sizes.inner / 4u) + four]);
}
