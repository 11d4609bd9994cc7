//! Mesa's RADV driver as a compiler for a GPU that need not be there, and what it counts.

use std::ffi::{CStr, CString};

use ash::{Entry, khr, vk};
use naga::back::spv;
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// RX 7900 XTX: 96 compute units of two SIMDs at the boost clock of 2.5 GHz (AMD's data sheet).
pub const SIMDS: f64 = 192.0;
/// Cycles a second.
pub const CLOCK_HZ: f64 = 2.5e9;
/// Lanes of a wave.
pub const LANES: f64 = 64.0;

/// What the compiler says of a kernel.
pub struct Statistics {
    all: Vec<(String, f64)>,
    /// Lanes of a wave.
    wave_lanes: u32,
}

impl Statistics {
    /// A statistic by the driver's name for it; NaN where there is none.
    pub fn of(&self, wanted: &str) -> f64 {
        self.all.iter().find(|(name, _)| name == wanted).map_or(f64::NAN, |(_, value)| *value)
    }

    /// Registers, spills, occupancy and size in a line.
    pub fn line(&self) -> String {
        format!(
            "{} VGPRs, {} spilled, scratch {} bytes, {} waves of {} a SIMD, {} instructions",
            self.of("VGPRs"),
            self.of("Spilled VGPRs"),
            self.of("Scratch size"),
            self.of("Subgroups per SIMD"),
            self.wave_lanes,
            self.of("Instructions"),
        )
    }
}

/// A Vulkan device to compile for.
pub struct Driver {
    // Keeps the library loaded.
    _entry: Entry,
    /// What it compiles for.
    pub name: String,
    device: ash::Device,
    statistics: khr::pipeline_executable_properties::Device,
}

impl Driver {
    /// Opens RADV.
    ///
    /// # Errors
    /// What is missing.
    pub fn open() -> Result<Driver, String> {
        let text = |error: vk::Result| error.to_string();
        // SAFETY: Vulkan's calls are used as its specification wants them: objects are alive and of the device they are
        // used with, structures live until the call returns, and nothing is used by two threads.
        unsafe {
            let entry = Entry::load().map_err(|error| error.to_string())?;
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let info = vk::InstanceCreateInfo::default().application_info(&application);
            let instance = entry.create_instance(&info, None).map_err(text)?;
            let wanted = khr::pipeline_executable_properties::NAME;
            for physical in instance.enumerate_physical_devices().map_err(text)? {
                let extensions = instance.enumerate_device_extension_properties(physical).map_err(text)?;
                let has = extensions.iter().any(|extension| extension.extension_name_as_c_str() == Ok(wanted));
                let properties = instance.get_physical_device_properties(physical);
                let name = CStr::from_ptr(properties.device_name.as_ptr()).to_string_lossy().into_owned();
                let version = properties.driver_version;
                let (major, minor) = (vk::api_version_major(version), vk::api_version_minor(version));
                let name = format!("{name}, Mesa {major}.{minor}.{}", vk::api_version_patch(version));
                if !has || !name.contains("RADV") {
                    continue;
                }
                let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
                let features = vk::PhysicalDeviceFeatures::default().shader_int64(true);
                let mut executables =
                    vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
                let names = [wanted.as_ptr()];
                let info = vk::DeviceCreateInfo::default()
                    .queue_create_infos(&queues)
                    .enabled_features(&features)
                    .enabled_extension_names(&names)
                    .push_next(&mut executables);
                let device = instance.create_device(physical, &info, None).map_err(text)?;
                let statistics = khr::pipeline_executable_properties::Device::new(&instance, &device);
                return Ok(Driver { _entry: entry, name, device, statistics });
            }
        }
        Err("no adapter of RADV".into())
    }

    /// The compiler's statistics of a kernel whose entry point is `main`; binding 0 is a uniform or else storage as
    /// the others.
    ///
    /// # Errors The kernel is not valid.
    pub fn compile(
        &self,
        module: &naga::Module,
        capabilities: Capabilities,
        first_is_uniform: bool,
    ) -> Result<Statistics, String> {
        let info = Validator::new(ValidationFlags::all(), capabilities).validate(module);
        let info = info.map_err(|error| error.emit_to_string(""))?;
        let options = spv::Options {
            // As with Vulkan's robust buffer access, which wgpu turns on: no checks in the code.
            bounds_check_policies: naga::proc::BoundsCheckPolicies::default(),
            ..spv::Options::default()
        };
        let words = spv::write_vec(module, &info, &options, None).expect("SPIR-V");
        let main = CString::new("main").expect("no zero in it");
        // SAFETY: as in `open`; the pipeline's parts are destroyed after it.
        unsafe {
            let d = &self.device;
            let module = d.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(&words), None);
            let module = module.expect("a shader module");
            let bindings: Vec<_> = (0..6)
                .map(|binding| {
                    let kind = if binding == 0 && first_is_uniform {
                        vk::DescriptorType::UNIFORM_BUFFER
                    } else {
                        vk::DescriptorType::STORAGE_BUFFER
                    };
                    vk::DescriptorSetLayoutBinding::default()
                        .binding(binding)
                        .descriptor_type(kind)
                        .descriptor_count(1)
                        .stage_flags(vk::ShaderStageFlags::COMPUTE)
                })
                .collect();
            let sets = [d
                .create_descriptor_set_layout(&vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings), None)
                .expect("a set's layout")];
            let layout = d
                .create_pipeline_layout(&vk::PipelineLayoutCreateInfo::default().set_layouts(&sets), None)
                .expect("a pipeline's layout");
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(&main);
            let info = vk::ComputePipelineCreateInfo::default()
                .flags(vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR)
                .stage(stage)
                .layout(layout);
            let pipeline = d.create_compute_pipelines(vk::PipelineCache::null(), &[info], None).expect("a pipeline")[0];
            let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
            let executables = vk::PipelineInfoKHR::default().pipeline(pipeline);
            let executables = self.statistics.get_pipeline_executable_properties(&executables).expect("executables");
            let wave_lanes = executables[0].subgroup_size;
            let statistics = self
                .statistics
                .get_pipeline_executable_statistics(&executable)
                .expect("statistics")
                .iter()
                .map(|statistic| {
                    let name = CStr::from_ptr(statistic.name.as_ptr()).to_string_lossy().into_owned();
                    // RADV gives unsigned numbers only.
                    (name, statistic.value.u64 as f64)
                })
                .collect();
            d.destroy_pipeline(pipeline, None);
            d.destroy_pipeline_layout(layout, None);
            d.destroy_descriptor_set_layout(sets[0], None);
            d.destroy_shader_module(module, None);
            Ok(Statistics { all: statistics, wave_lanes })
        }
    }
}
