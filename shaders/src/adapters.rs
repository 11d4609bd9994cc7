//! Adapters: which there are, and which of them a choice means.

use std::str::FromStr;

use crate::device::OpenError;

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

impl Choice {
    /// Whether it is sure to be no adapter, without a look at any.
    pub(crate) fn is_none(&self) -> bool {
        *self == Choice::Off || *self == Choice::Auto && !may_have_hardware()
    }
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

    pub(crate) fn of(adapter: &wgpu::Adapter) -> Found {
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

pub(crate) fn ranked() -> Vec<wgpu::Adapter> {
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
    ranked().iter().map(Found::of).collect()
}

/// The one among these, best first, that `choice` means.
///
/// # Errors
/// [`OpenError::NoAdapter`] where none is an error.
pub(crate) fn chosen<'a>(
    adapters: &'a [wgpu::Adapter],
    choice: &Choice,
) -> Result<Option<&'a wgpu::Adapter>, OpenError> {
    let chosen = adapters.iter().find(|adapter| match choice {
        Choice::Named(name) => adapter.get_info().name.to_lowercase().contains(&name.to_lowercase()),
        Choice::Auto => adapter.get_info().device_type != wgpu::DeviceType::Cpu,
        Choice::Required => true,
        Choice::Off => false,
    });
    let wanted = match choice {
        _ if chosen.is_some() => return Ok(chosen),
        Choice::Auto | Choice::Off => return Ok(None),
        Choice::Required => "\"required\"".into(),
        Choice::Named(name) => format!("the name {name:?}"),
    };
    let names: Vec<_> = adapters.iter().map(|adapter| adapter.get_info().name).collect();
    let found = if names.is_empty() { "none".into() } else { names.join(", ") };
    Err(OpenError::NoAdapter { wanted, found })
}

/// Those of the adapters that are like `one`, which is not among the answer: the same hardware with the same driver, as
/// often as it sits in the machine.
pub(crate) fn alike<'a>(adapters: &'a [wgpu::Adapter], one: &wgpu::Adapter) -> Vec<&'a wgpu::Adapter> {
    let infos: Vec<_> = adapters.iter().map(wgpu::Adapter::get_info).collect();
    others(&infos, &one.get_info()).into_iter().map(|at| &adapters[at]).collect()
}

/// Which of these are other pieces of the same hardware as `one`. A system may show one piece twice, and programs on the
/// processor would share it: only what sits in another slot is another one.
fn others(infos: &[wgpu::AdapterInfo], one: &wgpu::AdapterInfo) -> Vec<usize> {
    let mut slots = vec![String::new(), one.device_pci_bus_id.clone()];
    let mut others = Vec::new();
    for (at, info) in infos.iter().enumerate() {
        let slot = &info.device_pci_bus_id;
        let moved = wgpu::AdapterInfo { device_pci_bus_id: one.device_pci_bus_id.clone(), ..info.clone() };
        if moved == *one && !slots.contains(slot) {
            slots.push(slot.clone());
            others.push(at);
        }
    }
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_from_its_text() {
        let read = |text: &str| text.parse::<Choice>();
        assert_eq!(read("auto"), Ok(Choice::Auto));
        assert_eq!(read("off"), Ok(Choice::Off));
        assert_eq!(read("required"), Ok(Choice::Required));
        assert_eq!(read("Radeon"), Ok(Choice::Named("Radeon".into())));
    }

    #[test]
    fn only_the_same_hardware_in_another_slot_is_another_adapter() {
        let card = |name: &str, slot: &str| wgpu::AdapterInfo {
            name: name.into(),
            device_pci_bus_id: slot.into(),
            ..wgpu::AdapterInfo::new(wgpu::DeviceType::DiscreteGpu, wgpu::Backend::Vulkan)
        };
        let all = [
            card("a", "0000:01:00.0"),
            card("b", "0000:02:00.0"),
            card("a", "0000:03:00.0"),
            wgpu::AdapterInfo { driver_info: "another".into(), ..card("a", "0000:04:00.0") },
            card("a", "0000:03:00.0"),
            card("a", "0000:05:00.0"),
            card("a", ""),
        ];
        assert_eq!(others(&all, &all[0]), [2, 5]);
        assert_eq!(others(&all, &all[1]), [] as [usize; 0]);
        let program = wgpu::AdapterInfo::new(wgpu::DeviceType::Cpu, wgpu::Backend::Vulkan);
        assert_eq!(others(&[program.clone(), program.clone()], &program), [] as [usize; 0]);
    }
}
