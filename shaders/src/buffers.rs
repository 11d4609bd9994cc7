//! Buffers on the device, kept from dispatch to dispatch and grown when a larger one is needed.

use std::collections::HashMap;

use crate::device::{Device, Lost};

/// A kernel's buffers by name.
#[derive(Debug, Default)]
pub struct Buffers {
    held: HashMap<&'static str, wgpu::Buffer>,
}

impl Buffers {
    /// The buffer called `name`, of at least `bytes` bytes. What it held before is lost if it has to grow.
    pub fn get(&mut self, device: &Device, name: &'static str, bytes: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let bytes = bytes.max(16).next_multiple_of(16);
        match self.held.get(name) {
            Some(buffer) if buffer.size() >= bytes => buffer.clone(),
            _ => {
                let descriptor =
                    wgpu::BufferDescriptor { label: Some(name), size: bytes, usage, mapped_at_creation: false };
                let buffer = device.device.create_buffer(&descriptor);
                self.held.insert(name, buffer.clone());
                buffer
            }
        }
    }

    /// A storage buffer that the host writes `words` to.
    pub fn upload(&mut self, device: &Device, name: &'static str, words: &[u32]) -> wgpu::Buffer {
        let buffer = self.storage(device, name, words.len());
        device.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(words));
        buffer
    }

    /// A storage buffer of `words` words.
    pub fn storage(&mut self, device: &Device, name: &'static str, words: usize) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        self.get(device, name, 4 * words as u64, usage)
    }

    /// A uniform buffer with one `vec4<u32>`.
    pub fn uniform(&mut self, device: &Device, name: &'static str, words: [u32; 4]) -> wgpu::Buffer {
        let buffer = self.get(device, name, 16, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST);
        device.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
        buffer
    }
}

/// One dispatch of `pipeline` over `lanes` lanes in groups of `group`, and what is then read: for each of `reads` as many
/// words of a buffer, from a first word on, one after another. `bindings` are the buffers of group 0 in the order of
/// their numbers.
///
/// # Errors
/// [`Lost`] if the device went away.
pub fn dispatch(
    device: &Device,
    buffers: &mut Buffers,
    pipeline: &wgpu::ComputePipeline,
    bindings: &[&wgpu::Buffer],
    (lanes, group): (usize, usize),
    reads: &[(&wgpu::Buffer, usize, usize)],
) -> Result<Vec<u32>, Lost> {
    device.check()?;
    let entries: Vec<_> = bindings
        .iter()
        .enumerate()
        .map(|(index, buffer)| wgpu::BindGroupEntry { binding: index as u32, resource: buffer.as_entire_binding() })
        .collect();
    let layout = pipeline.get_bind_group_layout(0);
    let group_descriptor = wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries };
    let bind_group = device.device.create_bind_group(&group_descriptor);
    let bytes = 4 * reads.iter().map(|(_, _, words)| *words as u64).sum::<u64>();
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let read = buffers.get(device, "read", bytes, usage);
    let mut encoder = device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &bind_group, &[]);
        pass.dispatch_workgroups(lanes.div_ceil(group) as u32, 1, 1);
    }
    let mut to = 0;
    for (source, first, words) in reads.iter().filter(|(_, _, words)| *words > 0) {
        encoder.copy_buffer_to_buffer(source, 4 * *first as u64, &read, to, 4 * *words as u64);
        to += 4 * *words as u64;
    }
    device.finish(encoder, &read, bytes)
}
