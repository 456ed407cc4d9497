//! What is told of a graphics processor.

/// A graphics processor, as its driver tells of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Adapter {
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: &'static str,
    /// The driver's name and version.
    pub driver: String,
    /// Whether shaders may compute in 16-bit floats.
    pub f16: bool,
    /// Whether threads of a shader can hand numbers to each other.
    pub subgroups: bool,
    /// Largest buffer that a shader is given, in bytes.
    pub largest_buffer: u64,
    /// Why the backbone cannot run there.
    pub unfit: Option<String>,
}

impl Adapter {
    /// Whether it is a program on the processor, and so slower than what this program does there itself.
    pub fn is_software(&self) -> bool {
        self.kind == "software"
    }
}
