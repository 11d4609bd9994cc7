//! Which pages of a private file mapping were written: those that are no longer the file's.

use std::{fs::File, os::fd::AsFd, os::unix::fs::FileExt};

use rustix::{
    io::Errno,
    ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode},
};

use super::memory::PAGE_BYTES;
use crate::Error;

/// How written pages are found, best first. Chosen once, by trying.
#[derive(Debug)]
pub enum Pagemap {
    /// The `PAGEMAP_SCAN` call of Linux 6.7: the kernel gives ranges.
    Scan(File),
    /// Eight bytes a page from `/proc/self/pagemap`.
    Read(File),
    /// Every page counts as written. Right, and slow.
    All,
}

impl Pagemap {
    /// Tries what the kernel offers.
    pub fn new() -> Self {
        let Ok(file) = File::open("/proc/self/pagemap") else { return Self::All };
        let probe = [0u8; 1];
        let page = probe.as_ptr() as usize & !(PAGE_BYTES - 1);
        if scan(&file, page, page + PAGE_BYTES, &mut [Region::default(); 1]).is_ok() {
            return Self::Scan(file);
        }
        let mut entry = [0; 8];
        match file.read_exact_at(&mut entry, (page / PAGE_BYTES * 8) as u64) {
            // A page that was just written must show as present; where it does not, the entries are masked.
            Ok(()) if u64::from_le_bytes(entry) & PRESENT != 0 => Self::Read(file),
            _ => Self::All,
        }
    }

    /// A name for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Scan(_) => "pagemap-scan",
            Self::Read(_) => "pagemap-read",
            Self::All => "every-page",
        }
    }

    /// Calls `found` with the index of every page of `memory` that is private to this process: written since it was
    /// mapped. May name pages that were only read in the anonymous part behind the file.
    ///
    /// # Errors
    /// [`Error::Host`] if the kernel refuses, and what `found` gives.
    pub fn private_pages(&self, memory: &[u8], mut found: impl FnMut(usize) -> Result<(), Error>) -> Result<(), Error> {
        let failed = |e: std::io::Error| Error::host("cannot tell which pages a message wrote", e);
        let base = memory.as_ptr() as usize;
        let pages = memory.len() / PAGE_BYTES;
        match self {
            Self::Scan(file) => {
                let mut regions = [Region::default(); 512];
                let mut at = base;
                let end = base + memory.len();
                while at < end {
                    let (count, walked) = scan(file, at, end, &mut regions).map_err(|e| failed(e.into()))?;
                    for region in &regions[..count] {
                        let first = (region.start as usize - base) / PAGE_BYTES;
                        let last = (region.end as usize - base) / PAGE_BYTES;
                        (first..last).try_for_each(&mut found)?;
                    }
                    if walked <= at {
                        break;
                    }
                    at = walked;
                }
                Ok(())
            }
            Self::Read(file) => {
                let mut entries = vec![0; 8 * 4096];
                let mut page = 0;
                while page < pages {
                    let count = (pages - page).min(entries.len() / 8);
                    let entries = &mut entries[..count * 8];
                    file.read_exact_at(entries, ((base / PAGE_BYTES + page) * 8) as u64).map_err(failed)?;
                    for (i, entry) in entries.as_chunks::<8>().0.iter().enumerate() {
                        let entry = u64::from_le_bytes(*entry);
                        if entry & (PRESENT | SWAPPED) != 0 && entry & OF_FILE == 0 {
                            found(page + i)?;
                        }
                    }
                    page += count;
                }
                Ok(())
            }
            Self::All => (0..pages).try_for_each(found),
        }
    }
}

/// Bits of a pagemap entry (Linux, Documentation/admin-guide/mm/pagemap.rst).
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;

/// Categories of `PAGEMAP_SCAN` (the same document).
const IS_FILE: u64 = 1 << 2;
const IS_PRESENT: u64 = 1 << 3;
const IS_SWAPPED: u64 = 1 << 4;
const IS_ZERO_PAGE: u64 = 1 << 5;

/// `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg`.
#[repr(C)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// Fills `regions` with runs of private pages of `[start, end)`; gives how many, and where the walk stopped.
fn scan(file: &File, start: usize, end: usize, regions: &mut [Region]) -> Result<(usize, usize), Errno> {
    let mut arg = Scan {
        size: size_of::<Scan>() as u64,
        flags: 0,
        start: start as u64,
        end: end as u64,
        walk_end: 0,
        vec: regions.as_mut_ptr() as u64,
        vec_len: regions.len() as u64,
        max_pages: 0,
        category_inverted: IS_FILE | IS_ZERO_PAGE,
        category_mask: IS_FILE | IS_ZERO_PAGE,
        category_anyof_mask: IS_PRESENT | IS_SWAPPED,
        return_mask: IS_PRESENT,
    };
    // SAFETY: `arg` has the layout that the opcode names, and `vec` points at `vec_len` regions that outlive the call.
    let count = unsafe { ioctl(file.as_fd(), ScanCall(&mut arg))? };
    Ok((count, arg.walk_end as usize))
}

/// The `PAGEMAP_SCAN` call: `_IOWR('f', 16, struct pm_scan_arg)`, which answers with a count.
struct ScanCall<'a>(&'a mut Scan);

// SAFETY: the opcode is the kernel's for this structure, the pointer is to one, and the output is read from the return
// value alone.
unsafe impl Ioctl for ScanCall<'_> {
    type Output = usize;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<Scan>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut rustix::ffi::c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut rustix::ffi::c_void) -> rustix::io::Result<usize> {
        usize::try_from(out).map_err(|_| Errno::INVAL)
    }
}
