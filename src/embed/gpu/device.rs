//! Graphics processors: which there are, and one of them opened.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wgpu::{
    Backends, BufferUsages, DeviceDescriptor, DeviceType, ErrorFilter, Instance, InstanceDescriptor, InstanceFlags,
    Limits, MemoryHints, PollError, PollType, SubmissionIndex,
};

use super::Adapter;
use super::cache::Compiled;
use super::kernels::Kernels;
use crate::embed::kernels::bytes_of;

/// What a frame may take at most. A processor that needs longer hangs, or is of no use; the service manager's watchdog would end the
/// program later.
const PATIENCE: Duration = Duration::from_secs(5);

/// A graphics processor that is ready to compute.
pub struct Gpu {
    adapter: Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
    kernels: Kernels,
    limits: Limits,
    fault: Arc<Fault>,
    hangs: AtomicBool,
    unchecked: bool,
    #[cfg(test)]
    garbled: bool,
    /// Of the first frame, and of the others.
    patience: [Duration; 2],
}

/// What a graphics processor computes in, and keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    F32,
    F16,
}

impl Number {
    /// In shaders.
    pub fn name(self) -> &'static str {
        match self {
            Number::F32 => "f32",
            Number::F16 => "f16",
        }
    }

    pub fn bytes(self) -> usize {
        match self {
            Number::F32 => 4,
            Number::F16 => 2,
        }
    }
}

/// Numbers on a graphics processor.
#[derive(Clone)]
pub struct Array {
    pub buffer: wgpu::Buffer,
    pub number: Number,
    pub length: usize,
}

/// What went wrong outside of a call, or `None`.
#[derive(Default)]
struct Fault(Mutex<Option<String>>);

impl Fault {
    /// The first one is the cause of the others.
    fn set(&self, problem: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(problem);
    }

    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the kernels need.
fn needed() -> Limits {
    Limits {
        max_storage_buffers_per_shader_stage: 5,
        max_compute_workgroup_storage_size: 16_384,
        ..Limits::downlevel_defaults()
    }
}

fn described(adapter: &wgpu::Adapter) -> Adapter {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    let kind = match info.device_type {
        DeviceType::DiscreteGpu => "discrete",
        DeviceType::IntegratedGpu => "integrated",
        DeviceType::VirtualGpu => "virtual",
        DeviceType::Cpu => "software",
        DeviceType::Other => "other",
    };
    let mut unfit = None;
    needed().check_limits_with_fail_fn(&limits, true, |what, needed, has| {
        unfit = Some(format!("its {what} is {has}, and {needed} is needed"));
    });
    let driver = [info.driver, info.driver_info].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
    Adapter {
        name: info.name,
        kind,
        driver: driver.join(" "),
        f16: features.contains(wgpu::Features::SHADER_F16),
        subgroups: features.contains(wgpu::Features::SUBGROUP),
        largest_buffer: limits.max_storage_buffer_binding_size,
        unfit,
    }
}

fn found() -> Vec<(wgpu::Adapter, Adapter)> {
    let instance = Instance::new(InstanceDescriptor {
        backends: Backends::VULKAN,
        flags: InstanceFlags::empty(),
        ..InstanceDescriptor::new_without_display_handle()
    });
    let adapters = pollster::block_on(instance.enumerate_adapters(Backends::VULKAN));
    let mut all: Vec<_> =
        adapters.into_iter().map(|adapter| (described(&adapter), adapter)).map(|(a, b)| (b, a)).collect();
    let rank = |adapter: &Adapter| {
        ["discrete", "integrated", "virtual", "other"].iter().position(|kind| *kind == adapter.kind)
    };
    all.sort_by_key(|(_, adapter)| (adapter.unfit.is_some(), rank(adapter).unwrap_or(usize::MAX)));
    all
}

/// The processors that a Vulkan driver serves, the best first.
///
/// # Errors
/// None with this; where the program was built without graphics processors, that.
pub fn adapters() -> Result<Vec<Adapter>, String> {
    Ok(found().into_iter().map(|(_, adapter)| adapter).collect())
}

impl Gpu {
    /// Opens the best processor; one that a driver only plays on the CPU if it may be `software`. Its first frame, before which some
    /// drivers compile what was made ready, may take `first_patience`. What the driver compiles is kept in
    /// `folder`.
    ///
    /// # Errors
    /// A sentence that says why there is none, or what its driver says.
    pub fn open(software: bool, first_patience: Duration, folder: Option<&Path>) -> Result<Gpu, String> {
        let best = found().into_iter().next().ok_or("no Vulkan driver offers a graphics processor here")?;
        let (chosen, adapter) = best;
        if let Some(unfit) = adapter.unfit {
            return Err(format!("{} cannot run it: {unfit}", adapter.name));
        }
        if adapter.is_software() && !software {
            return Err(format!("{} is a program on the CPU", adapter.name));
        }
        let limits = Limits {
            max_storage_buffer_binding_size: Limits::defaults()
                .max_storage_buffer_binding_size
                .min(adapter.largest_buffer),
            ..needed()
        };
        let descriptor = DeviceDescriptor {
            label: None,
            required_features: chosen.features() & (wgpu::Features::SHADER_F16 | wgpu::Features::PIPELINE_CACHE),
            required_limits: limits.clone(),
            memory_hints: MemoryHints::MemoryUsage,
            ..DeviceDescriptor::default()
        };
        let (device, queue) = pollster::block_on(chosen.request_device(&descriptor))
            .map_err(|error| format!("{} could not be opened: {}", adapter.name, one_line(&error)))?;
        let fault = Arc::new(Fault::default());
        let of_device = Arc::clone(&fault);
        device.on_uncaptured_error(Arc::new(move |error| of_device.set(one_line(&error))));
        let of_device = Arc::clone(&fault);
        device.set_device_lost_callback(move |_, message| of_device.set(format!("it was lost: {message}")));
        let compiled = folder.and_then(|folder| Compiled::open(&device, &chosen.get_info(), folder));
        let (kernels, unchecked) = (Kernels::new(compiled), !adapter.is_software());
        Ok(Gpu {
            adapter,
            device,
            queue,
            kernels,
            limits,
            fault,
            hangs: AtomicBool::new(false),
            unchecked,
            #[cfg(test)]
            garbled: false,
            patience: [first_patience, PATIENCE],
        })
    }

    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    pub(super) fn device(&self) -> &wgpu::Device {
        &self.device
    }

    pub(super) fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    pub(super) fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// Whether it did not answer: then it is not to be waited for in any other way either, such as by letting go of it.
    pub fn hangs(&self) -> bool {
        self.hangs.load(Relaxed)
    }

    /// Whether it computes in these.
    pub fn has(&self, number: Number) -> bool {
        number == Number::F32 || self.adapter.f16
    }

    /// Whether shaders compare no index with the length of what it is of.
    pub(super) fn is_unchecked(&self) -> bool {
        self.unchecked
    }

    /// What has gone wrong so far.
    ///
    /// # Errors
    /// With a sentence, if something has.
    pub(super) fn sound(&self) -> Result<(), String> {
        self.fault.get().map_or(Ok(()), |problem| Err(format!("{}: {problem}", self.adapter.name)))
    }

    /// Runs what makes things on the processor, and gives its error where the driver refuses something in it.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn checked<T>(&self, make: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        let scopes = [ErrorFilter::Validation, ErrorFilter::OutOfMemory, ErrorFilter::Internal]
            .map(|filter| self.device.push_error_scope(filter));
        let made = make();
        // In reverse order; the innermost tells most.
        let errors = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop()));
        let problem = errors.map(|error| one_line(&error)).next();
        let made = made?;
        problem.map_or(Ok(made), |problem| Err(format!("{}: {problem}", self.adapter.name)))
    }

    /// A buffer of so many bytes. `what` is told where it is too large.
    ///
    /// # Errors
    /// When no shader could be given it.
    pub(super) fn buffer(&self, what: &str, bytes: u64, usage: BufferUsages) -> Result<wgpu::Buffer, String> {
        let most = self.limits.max_storage_buffer_binding_size;
        if bytes > most {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            return Err(format!("its {what} would take {} MiB, and {} are the most at a time", mib(bytes), mib(most)));
        }
        let size = bytes.next_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT);
        Ok(self.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false }))
    }

    /// Room for so many numbers.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub(super) fn array(&self, what: &str, number: Number, length: usize) -> Result<Array, String> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let buffer = self.buffer(what, (length * number.bytes()) as u64, usage)?;
        Ok(Array { buffer, number, length })
    }

    /// These numbers, rounded where they have to be.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub(super) fn filled(&self, what: &str, number: Number, numbers: &[f32]) -> Result<Array, String> {
        let array = self.array(what, number, numbers.len())?;
        match number {
            Number::F32 => self.queue.write_buffer(&array.buffer, 0, bytes_of(numbers)),
            Number::F16 => {
                let mut rounded: Vec<u16> = numbers.iter().map(|v| half::f16::from_f32(*v).to_bits()).collect();
                // What is written is a multiple of four bytes.
                rounded.resize(rounded.len().next_multiple_of(2), 0);
                self.queue.write_buffer(&array.buffer, 0, bytes_of(&rounded));
            }
        }
        Ok(array)
    }

    /// Waits until a submission is done; `first` is that of a frame before which a driver may compile.
    ///
    /// # Errors
    /// When it does not end, or something went wrong meanwhile.
    pub(super) fn wait(&self, submission: SubmissionIndex, first: bool) -> Result<(), String> {
        let patience = self.patience[usize::from(!first)];
        let poll = PollType::Wait { submission_index: Some(submission), timeout: Some(patience) };
        match self.device.poll(poll) {
            Ok(_) => self.sound(),
            Err(PollError::Timeout) => {
                self.hangs.store(true, Relaxed);
                self.fault.set(format!("it did not answer within {} s", patience.as_secs_f32()));
                self.sound()
            }
            // Of a submission that failed. The library tells why where it is asked for nothing else.
            Err(error) => {
                let _ = self.device.poll(PollType::Poll);
                self.fault.set(one_line(&error));
                self.sound()
            }
        }
    }
}

#[cfg(test)]
impl Gpu {
    /// Loses the device, as a driver does that resets it.
    pub fn lose(&self) {
        self.device.destroy();
    }

    /// As of a driver that computes something else.
    pub fn garble(&mut self) {
        self.garbled = true;
    }

    pub fn is_garbled(&self) -> bool {
        self.garbled
    }

    pub fn set_patience(&mut self, patience: Duration) {
        self.patience[1] = patience;
    }

    /// As of a processor that is no program.
    pub fn uncheck(&mut self) {
        self.unchecked = true;
    }

    /// As if the processor let shaders have no more than so many bytes at once.
    pub fn set_largest_buffer(&mut self, bytes: u64) {
        self.limits.max_storage_buffer_binding_size = bytes;
    }
}

/// An error and its causes on one line, the first 400 characters of it.
fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(400) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}
