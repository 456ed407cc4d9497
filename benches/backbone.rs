//! Our backbone as one row of `make bench`, which times it beside other engines.
//!
//! `backbone --engine tagalong|tract MODEL.onnx HEIGHTxWIDTH THREADS` reads the picture, (1, 3, height, width)
//! little-endian 32-bit floats, from the file that `BENCH_INPUT` names, prints `ready`, and then answers the commands
//! of `benches/backbone/peers.py`, which describes them.

#[path = "backbone/peak.rs"]
mod peak;

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs};

use tagalong::embed::{Backend, BareModel, Execution, LoadError, TractBackbone, load_bare};
use tagalong::types::InputTensor;

/// Side of a patch of DINOv2 in pixels.
const PATCH: usize = 14;

/// Who computes.
#[derive(Clone, Copy)]
enum Engine {
    Tagalong,
    Tract,
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ["--engine", engine, model, size, threads] = args[..] else {
        // `cargo bench` and `cargo test` run every benchmark.
        println!("the backbone is timed beside other engines: make bench");
        return ExitCode::SUCCESS;
    };
    match serve(engine, model, size, threads) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(engine: &str, model: &str, size: &str, threads: &str) -> Result<(), Box<dyn Error>> {
    let engine = match engine {
        "tagalong" => Engine::Tagalong,
        "tract" => Engine::Tract,
        other => return Err(format!("there is no engine {other}; there are tagalong and tract").into()),
    };
    let (height, width) = size.split_once('x').ok_or("a size is HEIGHTxWIDTH")?;
    let [height, width]: [usize; 2] = [height.parse()?, width.parse()?];
    let picture = InputTensor { width, height, data: floats(&fs::read(env::var("BENCH_INPUT")?)?) };
    let mut backbone = load(engine, Path::new(model), [height, width], threads.parse()?)?;
    answer("ready")?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("run", "") => {
                let start = Instant::now();
                backbone.tokens(&picture)?;
                answer(&format!("{:.4}", start.elapsed().as_secs_f64() * 1e3))?;
            }
            ("features", path) => {
                let tokens = backbone.tokens(&picture)?; // (patches, dim)
                let bytes: Vec<u8> = tokens.iter().flat_map(|value| value.to_le_bytes()).collect();
                fs::write(path, bytes)?;
                answer("ok")?;
            }
            ("about", "") => answer(concat!("tagalong ", env!("CARGO_PKG_VERSION")))?,
            ("peak", "") => {
                let peaks: Vec<String> =
                    peak::peaks().iter().map(|(name, peak)| format!("{name:?}: {peak:.1}")).collect();
                answer(&format!("{{{}}}", peaks.join(", ")))?;
            }
            ("quit", "") => break,
            _ => answer("unknown")?,
        }
    }
    Ok(())
}

fn load(engine: Engine, onnx: &Path, size: [usize; 2], threads: usize) -> Result<TractBackbone, LoadError> {
    let model = BareModel {
        onnx: PathBuf::from(onnx),
        output: "last_hidden_state".into(),
        patch: PATCH,
        // The picture comes ready made.
        mean: [0.0; 3],
        std: [1.0; 3],
        input_sizes: vec![size],
    };
    match engine {
        Engine::Tagalong => load_bare(&model, Execution { threads, backend: Backend::Int8, ..Execution::default() }),
        Engine::Tract => load_bare(&model, Execution { threads, backend: Backend::Reference, ..Execution::default() }),
    }
}

fn answer(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
}
