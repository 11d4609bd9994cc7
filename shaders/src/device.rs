//! The device: choosing an adapter, opening it with the limits and features that it has, running work on it, and
//! noticing when it is gone.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::compute::Kernel;
use crate::pipeline_cache::PipelineCache;

/// Which adapter to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The best hardware adapter, if there is one. Adapters that are programs on the CPU are not used.
    #[default]
    Auto,
    /// None.
    Off,
    /// The best adapter, a program on the CPU if there is no better; none is an error.
    Required,
    /// The first adapter whose name contains this, whatever the case of its letters; none is an error.
    Named(String),
}

impl FromStr for Choice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Choice, Self::Err> {
        Ok(match text {
            "auto" => Choice::Auto,
            "off" => Choice::Off,
            "required" => Choice::Required,
            name => Choice::Named(name.into()),
        })
    }
}

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The choice asks for an adapter that this machine does not have.
    #[error("no adapter fits {wanted}; this machine has: {found}")]
    NoAdapter {
        /// What was asked for.
        wanted: String,
        /// The names of the adapters there are.
        found: String,
    },
    /// The driver refused to open the adapter.
    #[error("the adapter {name} could not be opened: {source}")]
    Refused {
        /// The adapter's name.
        name: String,
        /// What the driver says.
        source: wgpu::RequestDeviceError,
    },
    /// A kernel did not pass the driver's compiler.
    #[error("the kernel {kernel} was refused: {text}")]
    Kernel {
        /// The kernel's name.
        kernel: String,
        /// What the driver says.
        text: String,
    },
    /// The device was lost while its kernels were made.
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// The device is gone, or did not do what it was asked: nothing is known of the work that was in flight, and the caller
/// does it another way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the GPU was lost: {reason}")]
pub struct Lost {
    /// What the driver says.
    pub reason: String,
}

/// An adapter as found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// What drives it.
    pub driver: String,
    /// Vulkan, Metal or Direct3D 12.
    pub backend: &'static str,
    /// Whether it is a program on the CPU.
    pub software: bool,
    /// Whether kernels may use 64-bit integers.
    pub int64: bool,
    /// Whether kernels may use subgroup operations.
    pub subgroups: bool,
    /// Smallest and largest subgroup, in lanes.
    pub subgroup_size: (u32, u32),
    /// Largest storage binding, in bytes.
    pub max_binding_bytes: u64,
}

impl Found {
    /// How many lanes one dispatch may have, if each takes `lane_bytes` of a storage binding: enough to fill the largest
    /// adapter several times over, few enough that no system takes it for hung.
    pub(crate) fn lanes(&self, lane_bytes: usize) -> usize {
        let most = if self.software { 1024 } else { 32_768 };
        most.min(usize::try_from(self.max_binding_bytes).unwrap_or(usize::MAX) / lane_bytes).max(1)
    }

    fn of(adapter: &wgpu::Adapter) -> Found {
        let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
        Found {
            name: info.name,
            driver: format!("{} {}", info.driver, info.driver_info).trim().into(),
            backend: info.backend.to_str(),
            software: info.device_type == wgpu::DeviceType::Cpu,
            int64: features.contains(wgpu::Features::SHADER_INT64),
            subgroups: features.contains(wgpu::Features::SUBGROUP),
            subgroup_size: (info.subgroup_min_size, info.subgroup_max_size),
            max_binding_bytes: limits.max_storage_buffer_binding_size,
        }
    }
}

fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}

/// Hardware first, integrated after discrete, programs on the CPU last.
fn rank(adapter: &wgpu::Adapter) -> u8 {
    match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

fn ranked_adapters() -> Vec<wgpu::Adapter> {
    let mut adapters = pollster::block_on(instance().enumerate_adapters(wgpu::Backends::all()));
    adapters
        .retain(|adapter| adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS));
    adapters.sort_by_key(rank);
    adapters
}

/// Whether the system shows any sign of a GPU. Asking the drivers instead loads them all, those that are programs on the CPU
/// with the compiler they bring, which costs a machine without a GPU memory and time.
fn may_have_hardware() -> bool {
    /// Where the kernel's drivers are reached: those of the kernel itself, NVIDIA's and AMD's own, a virtual machine's under
    /// Windows, and those of two makers of small GPUs.
    const DEVICES: [&str; 6] = ["/dev/dri", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/mali0", "/dev/kgsl-3d0"];
    !cfg!(target_os = "linux") || DEVICES.iter().any(|path| std::path::Path::new(path).exists())
}

/// Every adapter of this machine that can compute, best first.
pub fn adapters() -> Vec<Found> {
    ranked_adapters().iter().map(Found::of).collect()
}

/// An open device. Its methods block; call them on a thread that may wait. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Device {
    /// The adapter it was opened on.
    pub found: Arc<Found>,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    state: Arc<State>,
    pipelines: Option<Arc<PipelineCache>>,
    /// Kernels that are compiled once, by name.
    pub(crate) kept: Arc<Mutex<HashMap<&'static str, Arc<Kernel>>>>,
}

#[derive(Debug, Default)]
struct State {
    lost: AtomicBool,
    reason: std::sync::Mutex<String>,
}

impl State {
    fn lose(&self, reason: String) {
        let mut held = self.reason.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !self.lost.swap(true, Ordering::AcqRel) {
            tracing::warn!(reason, "the GPU was lost");
            *held = reason;
        }
    }
}

/// How long a dispatch may take before the device counts as lost. The largest dispatches here take well below a second
/// on hardware and some seconds on a program on a busy CPU.
const PATIENCE: Duration = Duration::from_secs(120);

impl Device {
    /// Opens what `choice` asks for; `None` if that is no adapter.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(choice: &Choice) -> Result<Option<Device>, OpenError> {
        Device::open_with(choice, None)
    }

    /// As [`Device::open`]; what the driver compiles is kept in the directory `cache`, which is this program's own.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_with(choice: &Choice, cache: Option<&Path>) -> Result<Option<Device>, OpenError> {
        if *choice == Choice::Off {
            return Ok(None);
        }
        if *choice == Choice::Auto && !may_have_hardware() {
            return Ok(None);
        }
        let adapters = ranked_adapters();
        let chosen = adapters.iter().find(|adapter| match choice {
            Choice::Named(name) => adapter.get_info().name.to_lowercase().contains(&name.to_lowercase()),
            Choice::Auto => adapter.get_info().device_type != wgpu::DeviceType::Cpu,
            _ => true,
        });
        match chosen {
            Some(adapter) => Device::open_adapter(adapter, cache).map(Some),
            None if *choice == Choice::Auto => Ok(None),
            None => Err(OpenError::NoAdapter {
                wanted: match choice {
                    Choice::Named(name) => format!("the name {name:?}"),
                    _ => "\"required\"".into(),
                },
                found: match adapters.len() {
                    0 => "none".into(),
                    _ => adapters.iter().map(|adapter| adapter.get_info().name).collect::<Vec<_>>().join(", "),
                },
            }),
        }
    }

    fn open_adapter(adapter: &wgpu::Adapter, cache: Option<&Path>) -> Result<Device, OpenError> {
        let found = Arc::new(Found::of(adapter));
        let wanted = wgpu::Features::SHADER_INT64 | wgpu::Features::PIPELINE_CACHE;
        let (has, limits) = (adapter.features(), adapter.limits());
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("lockstep"),
            required_features: wanted & has,
            required_limits: wgpu::Limits {
                max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
                max_buffer_size: limits.max_buffer_size,
                ..wgpu::Limits::default()
            },
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|source| OpenError::Refused { name: found.name.clone(), source })?;
        let state = Arc::new(State::default());
        let seen = state.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| seen.lose(error.to_string())));
        let seen = state.clone();
        device.set_device_lost_callback(move |reason, text| seen.lose(format!("{reason:?}: {text}")));
        let pipelines = cache.and_then(|directory| PipelineCache::open(&device, &adapter.get_info(), directory));
        Ok(Device { found, device, queue, state, pipelines: pipelines.map(Arc::new), kept: Arc::default() })
    }

    /// Has what was compiled kept on disk, where it is.
    pub fn keep_pipelines(&self) {
        if let Some(pipelines) = &self.pipelines {
            pipelines.keep();
        }
    }

    #[cfg(test)]
    pub(crate) fn pipelines(&self) -> Option<&PipelineCache> {
        self.pipelines.as_deref()
    }

    /// Whether the device is gone, or has failed once: it is not used again then.
    pub fn is_lost(&self) -> bool {
        self.state.lost.load(Ordering::Acquire)
    }

    /// Ends the device, as when a driver resets it: for tests of what then happens.
    pub fn destroy(&self) {
        self.device.destroy();
    }

    /// An error if the device is gone.
    pub(crate) fn check(&self) -> Result<(), Lost> {
        if self.is_lost() { Err(self.lost()) } else { Ok(()) }
    }

    fn lost(&self) -> Lost {
        Lost { reason: self.state.reason.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone() }
    }

    fn lose(&self, reason: &str) -> Lost {
        self.state.lose(reason.into());
        self.lost()
    }

    /// Compiles a kernel whose entry point is `main`.
    ///
    /// # Errors
    /// [`OpenError::Kernel`] with the compiler's text.
    pub fn compile(&self, name: &str, wgsl: &str) -> Result<wgpu::ComputePipeline, OpenError> {
        self.compile_source(name, wgpu::ShaderSource::Wgsl(Cow::Borrowed(wgsl)), None)
    }

    pub(crate) fn compile_source(
        &self,
        name: &str,
        source: wgpu::ShaderSource<'_>,
        layout: Option<&wgpu::PipelineLayout>,
    ) -> Result<wgpu::ComputePipeline, OpenError> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(name), source });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout,
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..wgpu::PipelineCompilationOptions::default()
            },
            cache: self.pipelines.as_deref().map(PipelineCache::cache),
        });
        match pollster::block_on(scope.pop()) {
            Some(error) => Err(OpenError::Kernel { kernel: name.into(), text: error.to_string() }),
            None => Ok(self.check().map(|()| pipeline)?),
        }
    }

    /// Submits `encoder`, after which `read`'s first `bytes` bytes are what it returns. Waits.
    ///
    /// # Errors
    /// [`Lost`] if the device went away before the answer came.
    pub(crate) fn finish(
        &self,
        encoder: wgpu::CommandEncoder,
        read: &wgpu::Buffer,
        bytes: u64,
    ) -> Result<Vec<u32>, Lost> {
        self.check()?;
        let submission = self.queue.submit([encoder.finish()]);
        let (sender, mapped) = mpsc::channel();
        read.map_async(wgpu::MapMode::Read, ..bytes, move |result| {
            // Nobody listens any more only if this call has ended.
            let _ = sender.send(result);
        });
        let poll = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(PATIENCE) };
        if let Err(error) = self.device.poll(poll) {
            return Err(self.lose(&error.to_string()));
        }
        match mapped.try_recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(self.lose(&error.to_string())),
            Err(_) => return Err(self.lose("the result was never mapped")),
        }
        self.check()?;
        let words = match read.get_mapped_range(..bytes) {
            Ok(range) => bytemuck::pod_collect_to_vec(&range),
            Err(error) => return Err(self.lose(&error.to_string())),
        };
        read.unmap();
        self.check()?;
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use crate::test_numbers::device;

    use super::*;

    #[test]
    fn a_kernel_that_is_none_is_an_error_and_the_device_stays() {
        let Some(device) = device() else { return };
        for wgsl in ["not a kernel", "@compute @workgroup_size(64) fn other() {}"] {
            let error = device.compile("broken", wgsl).unwrap_err();
            assert!(matches!(&error, OpenError::Kernel { kernel, .. } if kernel == "broken"), "{error}");
        }
        assert!(!device.is_lost());
        device.compile("empty", "@compute @workgroup_size(64) fn main() {}").unwrap();
    }

    #[test]
    fn a_choice_is_read_from_its_text() {
        let read = |text: &str| text.parse::<Choice>();
        assert_eq!(read("auto"), Ok(Choice::Auto));
        assert_eq!(read("off"), Ok(Choice::Off));
        assert_eq!(read("required"), Ok(Choice::Required));
        assert_eq!(read("Radeon"), Ok(Choice::Named("Radeon".into())));
    }
}
