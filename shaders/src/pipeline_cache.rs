//! What drivers made of the kernels, on disk, so that they need not compile them again after a restart.
//!
//! A driver trusts what it is given back. So a file counts only if it is whole: a SHA-256 hash stands in front of what
//! wgpu gave out, whose own header says for which adapter and driver that is. The hash keeps out accidents, not somebody
//! who can write to the directory, which has to be this program's own.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

/// Bytes of the hash in front.
const HASH_BYTES: usize = 32;
/// Largest file read. The kernels take some hundred kilobytes; caches only grow, and one beyond this begins anew.
const FILE_MAX: u64 = 64 << 20;

/// A device's cache and where it is kept.
#[derive(Debug)]
pub(crate) struct PipelineCache {
    cache: wgpu::PipelineCache,
    path: PathBuf,
    /// The hash of what the file held.
    found: Option<[u8; HASH_BYTES]>,
}

impl PipelineCache {
    /// The cache of `device` in `directory`; `None` where the adapter has none to keep. A file that cannot be read is as
    /// good as none.
    pub fn open(device: &wgpu::Device, info: &wgpu::AdapterInfo, directory: &Path) -> Option<PipelineCache> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let path = directory.join(wgpu::util::pipeline_cache_key(info)?);
        let data = match read(&path) {
            Ok(data) => Some(data),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled kernels that cannot be used; compiling again");
                None
            }
        };
        let found = data.as_ref().map(|data| Sha256::digest(data).into());
        let descriptor =
            wgpu::PipelineCacheDescriptor { label: Some("lockstep"), data: data.as_deref(), fallback: true };
        // SAFETY: The data are what `PipelineCache::get_data` gave: `read` returns only what `keep` wrote whole into a
        // directory of this program's own, and wgpu compares their header with this adapter and driver, and falls back to
        // an empty cache for another's.
        #[allow(unsafe_code)]
        let cache = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(PipelineCache { cache, path, found })
    }

    /// What pipelines are made with.
    pub fn cache(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    /// Writes what is compiled now, if it is not what was found. That it cannot be written is only remarked on: the
    /// kernels are there.
    pub fn keep(&self) {
        let Some(data) = self.cache.get_data() else { return };
        let hash: [u8; HASH_BYTES] = Sha256::digest(&data).into();
        if self.found == Some(hash) {
            return;
        }
        if let Err(error) = write(&self.path, &[&hash, &data]) {
            tracing::warn!(path = %self.path.display(), %error, "compiled kernels cannot be kept");
        }
    }
}

/// What [`write`] wrote after its hash.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    if bytes.len() as u64 > FILE_MAX {
        return Err(broken("the file is too large"));
    }
    let (hash, data) = bytes.split_at_checked(HASH_BYTES).ok_or_else(|| broken("the file is cut off"))?;
    if Sha256::digest(data).as_slice() != hash {
        return Err(broken("the file's hash is another"));
    }
    Ok(bytes.split_off(HASH_BYTES))
}

/// Writes a file whole or not at all: beside its place, synced, then renamed.
fn write(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    static ASIDE: AtomicU64 = AtomicU64::new(0);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let nth = ASIDE.fetch_add(1, Ordering::Relaxed);
    let aside = path.with_extension(format!("{}-{nth}.new", std::process::id()));
    let written = fs::File::create(&aside).and_then(|mut file| {
        parts.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&aside, path));
    if renamed.is_err() {
        // Nothing is left behind; if it was never made there is nothing.
        let _ = fs::remove_file(&aside);
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Choice, Device};

    const KERNEL: &str = "@group(0) @binding(0) var<storage, read_write> sums: array<u32>;\n\
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) { sums[id.x] *= 3u; }";

    /// Opens the device with this directory, compiles, and keeps; whether a file was found and used.
    fn open(directory: &Path) -> Option<bool> {
        let name = crate::test_numbers::device()?.found.name.clone();
        let device = Device::open_with(&Choice::Named(name), Some(directory)).unwrap().unwrap();
        device.compile("kernel", KERNEL).unwrap();
        device.keep_pipelines();
        assert!(!device.is_lost());
        device.pipelines().map(|pipelines| pipelines.found.is_some())
    }

    fn files(directory: &Path) -> Vec<PathBuf> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn a_second_start_finds_what_the_first_compiled_and_a_broken_file_is_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("kernels");
        let Some(found) = open(&below) else { return };
        assert!(!found);
        let [file] = &files(&below)[..] else { panic!("one file") };
        assert!(file.file_name().unwrap().to_str().unwrap().starts_with("wgpu_pipeline_cache_vulkan_"));
        let whole = fs::read(file).unwrap();
        assert!(whole.len() > HASH_BYTES);
        assert_eq!(open(&below), Some(true));

        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let none: &[u8] = &[];
        for broken in [&flipped[..], &whole[..whole.len() - 1], &whole[..HASH_BYTES - 1], none, b"no cache at all"] {
            fs::write(file, broken).unwrap();
            assert_eq!(open(&below), Some(false), "{} bytes", broken.len());
            assert_eq!(open(&below), Some(true), "it was written anew");
        }
        // Whole, but not wgpu's: wgpu falls back to an empty cache.
        write(file, &[&Sha256::digest(b"not wgpu's"), b"not wgpu's"]).unwrap();
        assert_eq!(open(&below), Some(true));
        assert_ne!(read(file).unwrap(), b"not wgpu's");
        assert_eq!(files(&below).len(), 1, "nothing lies beside it");
    }

    #[test]
    fn a_directory_that_cannot_be_used_does_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a file");
        fs::write(&file, "").unwrap();
        if let Some(found) = open(&file) {
            assert!(!found);
        }
        assert_eq!(fs::read(&file).unwrap(), b"");
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read(&path).unwrap_err().to_string(), "the file is too large");
    }
}
