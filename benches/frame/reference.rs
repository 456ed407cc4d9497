//! The published rule in NumPy behind ONNX Runtime, in a process of its own that embeds and propagates a frame when
//! asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{env, fs};

use tagalong::types::PatchGrid;

pub struct Reference {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// For each line that it reads: a picture to embeddings, labels from eight frames of them, a mask; then how many
/// milliseconds of processor time that took.
const SCRIPT: &str = r#"
import sys, time
folder, model, picture, width, height, rows, cols, patch = sys.argv[1:]
width, height, rows, cols, patch = map(int, (width, height, rows, cols, patch))
sys.path.insert(0, folder)
import cv2, numpy as np, onnxruntime, propagate as p
cv2.setNumThreads(1)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
half = np.float32([0.5] * 3)
y, x = np.divmod(np.arange(rows * cols), cols)
window = (abs(y[:, None] - y) <= 12) & (abs(x[:, None] - x) <= 12)
labels = np.eye(2, dtype=np.float32)[((y > 7) & (y < 16) & (x > 9) & (x < 20)).astype(int)]
embed = lambda: p.embed(session, "last_hidden_state", picture, rows * patch, cols * patch, half, half)
memory = [(embed(), labels) for _ in range(8)]
print("ready", flush=True)
for _ in sys.stdin:
    start = time.process_time()
    query = embed()
    field = p.propagate(query, memory, window, 5, 0.1)
    p.to_mask(field, rows, cols, patch, height, width, False)
    memory = [memory[0], *memory[2:], (query, field)]
    print((time.process_time() - start) * 1e3, flush=True)
"#;

impl Reference {
    /// # Errors
    /// Why there is none, or what it says of itself.
    pub fn start(onnx: &Path, rgb: &[u8], [width, height]: [usize; 2], grid: PatchGrid) -> Result<Reference, String> {
        let variable = |name: &str| {
            env::var(name).ok().filter(|value| !value.is_empty()).ok_or_else(|| format!("{name} is not set"))
        };
        let (python, folder) = (variable("TAGALONG_REFERENCE_PYTHON")?, variable("TAGALONG_REFERENCE")?);
        // A picture that takes no time to decode.
        let picture = onnx.with_extension("ppm");
        let mut bytes = format!("P6 {width} {height} 255\n").into_bytes();
        bytes.extend(rgb);
        fs::write(&picture, bytes).map_err(|e| format!("{}: {e}", picture.display()))?;
        let numbers = [width, height, grid.rows, grid.cols, grid.patch].map(|number| number.to_string());
        let mut process = Command::new(&python)
            .args(["-c", SCRIPT, &folder])
            .args([onnx, &picture])
            .args(numbers)
            .envs([("OMP_NUM_THREADS", "1"), ("OPENBLAS_NUM_THREADS", "1")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{python}: {e}"))?;
        let requests = process.stdin.take().expect("it is piped");
        let answers = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut reference = Reference { process, requests, answers };
        reference.answer()?;
        Ok(reference)
    }

    /// How many milliseconds one frame took.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn frame(&mut self) -> Result<f64, String> {
        writeln!(self.requests, "frame").map_err(|e| e.to_string())?;
        let answer = self.answer()?;
        answer.parse().map_err(|_| format!("it answered {answer:?}"))
    }

    fn answer(&mut self) -> Result<String, String> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line).map_err(|e| e.to_string())?;
        if read > 0 {
            return Ok(line.trim().to_owned());
        }
        let mut said = String::new();
        if let Some(errors) = &mut self.process.stderr {
            let _ = errors.read_to_string(&mut said);
        }
        Err(said.trim().lines().last().unwrap_or("it ended").to_owned())
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // It is of no more use.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
