//! Kernels of others: words that stay on the device, and what runs over them.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError};

use crate::device::{Device, Lost, OpenError};

/// An array of words on the device.
#[derive(Debug)]
pub struct Words {
    buffer: wgpu::Buffer,
    len: u64,
}

impl Words {
    /// How many.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none. Never so: an array without words has one.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// What a kernel does with the words of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads them.
    Read,
    /// Reads and writes them.
    Write,
    /// Reads all of them, as one value of a kernel's type, in every lane: there are few.
    Uniform,
}

/// A kernel ready to run. Its bindings are in group 0, numbered from 0: storage arrays, but for uniforms.
#[derive(Debug)]
pub struct Kernel {
    pipeline: wgpu::ComputePipeline,
}

/// Where a kernel's text comes from.
#[derive(Debug)]
pub enum Source<'a> {
    /// WGSL.
    Wgsl(&'a str),
    /// naga's own form.
    Naga(Box<wgpu::naga::Module>),
}

/// Most workgroups that a dispatch has in one dimension, on every system.
const WORKGROUPS_MAX: u32 = 65_535;

impl Device {
    /// New words, all 0; at least one.
    ///
    /// # Errors
    /// [`Lost`] if the device is gone or has no room for them.
    pub fn words(&self, name: &str, count: u64) -> Result<Words, Lost> {
        let len = count.max(1);
        use wgpu::BufferUsages as Usage;
        let usage = Usage::STORAGE | Usage::UNIFORM | Usage::COPY_SRC | Usage::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: Some(name), size: 4 * len, usage, mapped_at_creation: false };
        let buffer = self.device.create_buffer(&descriptor);
        self.check().map(|()| Words { buffer, len })
    }

    /// Writes words before whatever runs next.
    ///
    /// # Panics
    /// If they do not fit behind `at`.
    pub fn write(&self, words: &Words, at: u64, values: &[u32]) {
        assert!(at + values.len() as u64 <= words.len, "the words fit");
        self.queue.write_buffer(&words.buffer, 4 * at, bytemuck::cast_slice(values));
    }

    /// Compiles a kernel whose entry point is `main`, over so many bindings. Blocks: drivers may take long.
    ///
    /// # Errors
    /// [`OpenError::Kernel`] with the compiler's text, [`OpenError::Lost`].
    pub fn kernel(&self, name: &str, source: Source<'_>, bindings: &[Access]) -> Result<Kernel, OpenError> {
        let source = match source {
            Source::Wgsl(text) => wgpu::ShaderSource::Wgsl(Cow::Borrowed(text)),
            Source::Naga(module) => wgpu::ShaderSource::Naga(Cow::Owned(*module)),
        };
        // Said, not read from the kernel: a binding that it does not use is still one.
        let entries: Vec<_> = (0..)
            .zip(bindings)
            .map(|(binding, access)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match access {
                        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Access::Write => wgpu::BufferBindingType::Storage { read_only: false },
                        Access::Uniform => wgpu::BufferBindingType::Uniform,
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let group = wgpu::BindGroupLayoutDescriptor { label: Some(name), entries: &entries };
        let group = self.device.create_bind_group_layout(&group);
        let layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(name),
            bind_group_layouts: &[Some(&group)],
            ..wgpu::PipelineLayoutDescriptor::default()
        });
        Ok(Kernel { pipeline: self.compile_source(name, source, Some(&layout))? })
    }

    /// As [`Device::kernel`], of WGSL, for what many need: compiled when it is first asked for by this name, and kept.
    ///
    /// # Errors
    /// As [`Device::kernel`].
    pub fn kept_kernel(
        &self,
        name: &'static str,
        text: impl FnOnce() -> String,
        bindings: &[Access],
    ) -> Result<Arc<Kernel>, OpenError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = kept.get(name) {
            return Ok(kernel.clone());
        }
        let kernel = Arc::new(self.kernel(name, Source::Wgsl(&text()), bindings)?);
        kept.insert(name, kernel.clone());
        Ok(kernel)
    }

    /// Begins a run: what is added to it happens in order, once it is finished.
    pub fn run(&self) -> Run<'_> {
        let encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        Run { device: self, encoder }
    }
}

/// Kernels and copies in the order in which they will happen.
pub struct Run<'d> {
    device: &'d Device,
    encoder: wgpu::CommandEncoder,
}

impl Run<'_> {
    /// Runs a kernel over some words, in at least so many workgroups: `x + y * workgroups.x` numbers them.
    pub fn dispatch(&mut self, kernel: &Kernel, words: &[&Words], workgroups: u32) {
        let bindings: Vec<_> = (0..)
            .zip(words)
            .map(|(binding, words)| wgpu::BindGroupEntry { binding, resource: words.buffer.as_entire_binding() })
            .collect();
        let group = self.device.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &kernel.pipeline.get_bind_group_layout(0),
            entries: &bindings,
        });
        let mut pass = self.encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&kernel.pipeline);
        pass.set_bind_group(0, &group, &[]);
        let rows = workgroups.div_ceil(WORKGROUPS_MAX).max(1);
        pass.dispatch_workgroups(workgroups.div_ceil(rows), rows, 1);
    }

    /// Does it all, and waits.
    ///
    /// # Errors
    /// [`Lost`] if the device went away before it was done.
    pub fn finish(self) -> Result<(), Lost> {
        let read = self.device.words_to_read(1);
        self.device.finish(self.encoder, &read, 4).map(drop)
    }

    /// Does it all, waits, and gives the first `count` of some words.
    ///
    /// # Errors
    /// As [`Run::finish`].
    pub fn read(mut self, words: &Words, count: u64) -> Result<Vec<u32>, Lost> {
        let read = self.device.words_to_read(count);
        self.encoder.copy_buffer_to_buffer(&words.buffer, 0, &read, 0, 4 * count);
        self.device.finish(self.encoder, &read, 4 * count)
    }
}

impl Device {
    fn words_to_read(&self, count: u64) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read"),
            size: 4 * count.max(1),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::device;

    const DOUBLE: &str = "
        @group(0) @binding(0) var<storage, read_write> words: array<u32>;
        @compute @workgroup_size(64)
        fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) lane: u32) {
            let at = (group.x + group.y * groups.x) * 64u + lane;
            if (at < arrayLength(&words)) { words[at] = 2u * words[at] + at; }
        }";

    #[test]
    fn words_stay_on_the_device_between_runs() {
        let Some(device) = device() else { return };
        let kernel = device.kept_kernel("double", || DOUBLE.to_owned(), &[Access::Write]).unwrap();
        let again = device.kept_kernel("double", || panic!("it is kept"), &[Access::Write]).unwrap();
        assert!(Arc::ptr_eq(&kernel, &again));
        // More workgroups than fit one dimension.
        let count = 64 * (u64::from(WORKGROUPS_MAX) + 3);
        let words = device.words("numbers", count).unwrap();
        device.write(&words, 0, &vec![1; count as usize]);
        let mut run = device.run();
        run.dispatch(&kernel, &[&words], (count / 64) as u32);
        run.finish().unwrap();
        let mut run = device.run();
        run.dispatch(&kernel, &[&words], (count / 64) as u32);
        let got = run.read(&words, count).unwrap();
        assert!((0..).zip(&got).all(|(at, got): (u32, _)| *got == 2 * (2 + at) + at), "{:?}", &got[..8]);
    }
}
