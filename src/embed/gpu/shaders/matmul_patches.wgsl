// Rows that are a picture's patches, channel by channel, line by line.

alias Input = f32;

fn pixel(row: u32, number: u32) -> f32 {
    let area = sizes.side * sizes.side;
    if (number >= 3u * area) {
        return 0.0;
    }
    let across = sizes.width / sizes.side;
    let y = row / across * sizes.side + number % area / sizes.side;
    let x = row % across * sizes.side + number % sizes.side;
    return input[(number / area * sizes.height + y) * sizes.width + x];
}

fn input_at(row: u32, four: u32) -> vec4<Number> {
    let start = 4u * four;
    let pixels = vec4<f32>(pixel(row, start), pixel(row, start + 1u), pixel(row, start + 2u), pixel(row, start + 3u));
    return vec4<Number>(pixels);
}
