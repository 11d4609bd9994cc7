//! The device: an adapter opened with the limits and features that it has, work run on it, and noticing when it is gone.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::adapters::{alike, chosen, ranked};
use crate::compute::Kernel;
use crate::pipeline_cache::PipelineCache;

pub use crate::adapters::{Choice, Found, adapters};

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
        if choice.is_none() {
            return Ok(None);
        }
        chosen(&ranked(), choice)?.map(|adapter| Device::open_adapter(adapter, cache)).transpose()
    }

    /// Opens what `choice` asks for and every other adapter like it: the same hardware with the same driver in
    /// another slot. Those that cannot be opened are left out, unless none can. None if `choice` is no adapter.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_all(choice: &Choice) -> Result<Vec<Device>, OpenError> {
        if choice.is_none() {
            return Ok(Vec::new());
        }
        let adapters = ranked();
        let Some(chosen) = chosen(&adapters, choice)? else { return Ok(Vec::new()) };
        let (mut devices, mut refused) = (Vec::new(), None);
        for adapter in [chosen].into_iter().chain(alike(&adapters, chosen)) {
            match Device::open_adapter(adapter, None) {
                Ok(device) => devices.push(device),
                Err(error) => {
                    tracing::warn!(%error, "an adapter is left out");
                    refused.get_or_insert(error);
                }
            }
        }
        match refused {
            Some(error) if devices.is_empty() => Err(error),
            _ => Ok(devices),
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
}
