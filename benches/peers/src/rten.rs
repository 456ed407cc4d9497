//! [rten](https://github.com/robertknight/rten) as one row of `make bench-backbone`.
//!
//! `rten MODEL.onnx HEIGHTxWIDTH THREADS` reads the picture from the file that `BENCH_INPUT` names, prints `ready`, and
//! then answers the commands of `benches/backbone/peers.py`, which describes them.

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::time::Instant;
use std::{env, fs};

use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;

/// Side of a patch in pixels.
const PATCH: usize = 14;

struct Network {
    model: Model,
    input: NodeId,
    output: NodeId,
    options: RunOptions,
    /// (1, 3, height, width)
    picture: NdTensor<f32, 4>,
}

impl Network {
    fn load(path: &str, [height, width]: [usize; 2], threads: usize) -> Result<Network, Box<dyn Error>> {
        let picture = floats(&fs::read(env::var("BENCH_INPUT")?)?);
        let mut loading = ModelOptions::with_all_ops();
        loading.prepack_weights(true);
        let model = loading.load_file(path)?;
        let (input, output) = (model.input_ids()[0], model.output_ids()[0]);
        let pool = Arc::new(ThreadPool::with_num_threads(threads));
        let options = RunOptions::default().with_thread_pool(Some(pool));
        let picture = NdTensor::from_data([1, 3, height, width], picture);
        Ok(Network { model, input, output, options, picture })
    }

    /// (1, tokens, dim)
    fn run(&self) -> Result<NdTensor<f32, 3>, Box<dyn Error>> {
        let input = vec![(self.input, self.picture.view().into())];
        let [tokens] = self.model.run_n(input, [self.output], Some(self.options.clone()))?;
        Ok(tokens.try_into()?)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [model, size, threads] = &args[..] else {
        return Err("usage: rten MODEL.onnx HEIGHTxWIDTH THREADS".into());
    };
    let (height, width) = size.split_once('x').ok_or("a size is HEIGHTxWIDTH")?;
    let [height, width]: [usize; 2] = [height.parse()?, width.parse()?];
    let network = Network::load(model, [height, width], threads.parse()?)?;
    let patches = (height / PATCH) * (width / PATCH);
    answer("ready")?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ') {
            None if line == "run" => {
                let start = Instant::now();
                network.run()?;
                answer(&format!("{:.4}", start.elapsed().as_secs_f64() * 1e3))?;
            }
            Some(("features", path)) => {
                let tokens = network.run()?;
                let of_patches = tokens.slice((0, tokens.size(1) - patches..));
                let bytes: Vec<u8> = of_patches.iter().flat_map(|value| value.to_le_bytes()).collect();
                fs::write(path, bytes)?;
                answer("ok")?;
            }
            None if line == "about" => answer(&format!("rten {}", version()))?,
            None if line == "quit" => break,
            _ => answer("unknown")?,
        }
    }
    Ok(())
}

/// That of rten, as it was resolved.
fn version() -> &'static str {
    let locked = include_str!("../Cargo.lock").split("name = \"rten\"\nversion = \"").nth(1);
    locked.and_then(|rest| rest.split('"').next()).unwrap_or("of unknown version")
}

fn answer(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
}
