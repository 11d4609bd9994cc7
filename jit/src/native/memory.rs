//! A process's linear memory: a private mapping over a file in memory that holds the last undo point.
//!
//! Guest writes land in pages private to the mapping (copy on write); the file underneath stays as it was at the last
//! [`Memory::commit`]. Undoing everything since then is to throw the private pages away, which costs what was written
//! and not what the process holds. Committing copies the private pages into the file.
//!
//! This is the seam behind which snapshots and a finer tracking of written pages will move in: nothing outside this
//! file knows how undo works.

use std::{
    cell::RefCell,
    os::fd::OwnedFd,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustix::{
    fs::{MemfdFlags, SeekFrom, ftruncate, memfd_create, seek},
    io::{Errno, pread, pwrite},
    mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap},
};

use super::{
    pagemap::Pagemap,
    stop::{self, Stop},
};
use crate::Error;

/// Granularity of undo: the host's page on every platform that Lockstep runs on.
pub const PAGE_BYTES: usize = 4096;

/// Address space set aside for each 32-bit memory. With all of it reserved, compiled code needs no bounds checks.
pub const RESERVATION_BYTES: u64 = 4 << 30;

/// Contents of a memory at an undo point. Pages never written are holes and take no room.
#[derive(Debug)]
pub struct Image {
    file: Arc<OwnedFd>,
    /// Bytes of linear memory; a multiple of the wasm page.
    len: usize,
    /// Pages of the file that may hold something else than zeros, one bit each.
    written: Vec<u64>,
}

impl Image {
    /// An empty memory of no bytes.
    ///
    /// # Errors
    /// [`Error::Host`] if the host gives no file.
    pub fn new() -> Result<Self, Error> {
        let file = memfd_create("lockstep-process", MemfdFlags::CLOEXEC)
            .map_err(|e| Error::host("cannot create the memory of a process", e))?;
        Ok(Self { file: Arc::new(file), len: 0, written: Vec::new() })
    }

    /// A memory of these bytes, whole pages.
    ///
    /// # Errors
    /// As [`Image::new`].
    pub fn of(bytes: &[u8]) -> Result<Self, Error> {
        let mut image = Self::new()?;
        image.set_len(bytes.len())?;
        for (index, page) in bytes.chunks(PAGE_BYTES).enumerate() {
            image.write_page(index, page)?;
        }
        Ok(image)
    }

    /// All of its bytes.
    ///
    /// # Errors
    /// [`Error::Host`] if the host cannot read them.
    pub fn bytes(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; self.len];
        let mut at = 0;
        while at < self.len {
            match pread(&self.file, &mut bytes[at..], at as u64) {
                Ok(got) if got > 0 => at += got,
                Ok(_) => return Err(Error::host("cannot read the memory of a process", "the file ended early")),
                Err(e) => return Err(Error::host("cannot read the memory of a process", e)),
            }
        }
        Ok(bytes)
    }

    /// Bytes of host memory the image takes.
    pub fn resident_bytes(&self) -> u64 {
        self.written.iter().map(|w| u64::from(w.count_ones())).sum::<u64>() * PAGE_BYTES as u64
    }

    /// An independent copy. Costs the pages that hold something.
    ///
    /// # Errors
    /// [`Error::Host`] if the host gives no file or no memory for it.
    pub fn copy(&self) -> Result<Self, Error> {
        let failed = |e: Errno| Error::host("cannot copy the memory of a process", e);
        let mut copy = Self::new()?;
        copy.set_len(self.len)?;
        let mut buffer = vec![0; 64 * PAGE_BYTES];
        let mut at = 0u64;
        while (at as usize) < self.len {
            let begin = match seek(&self.file, SeekFrom::Data(at)) {
                Ok(begin) => begin,
                Err(Errno::NXIO) => break,
                Err(e) => return Err(failed(e)),
            };
            let end = seek(&self.file, SeekFrom::Hole(begin)).map_err(failed)?;
            at = begin;
            while at < end {
                let want = buffer.len().min((end - at) as usize);
                let got = pread(&self.file, &mut buffer[..want], at).map_err(failed)?;
                if got == 0 {
                    return Err(Error::host("cannot copy the memory of a process", "the file ended early"));
                }
                write_at(&copy.file, &buffer[..got], at)?;
                at += got as u64;
            }
        }
        copy.written.clone_from(&self.written);
        Ok(copy)
    }

    fn set_len(&mut self, len: usize) -> Result<(), Error> {
        ftruncate(&self.file, len as u64).map_err(|e| Error::host("cannot size the memory of a process", e))?;
        self.len = len;
        self.written.resize(len.div_ceil(PAGE_BYTES).div_ceil(64), 0);
        Ok(())
    }

    fn write_page(&mut self, index: usize, page: &[u8]) -> Result<(), Error> {
        let (word, bit) = (index / 64, 1u64 << (index % 64));
        if self.written[word] & bit == 0 {
            if page.iter().all(|b| *b == 0) {
                return Ok(());
            }
            self.written[word] |= bit;
        }
        write_at(&self.file, page, (index * PAGE_BYTES) as u64)
    }
}

fn write_at(file: &OwnedFd, mut bytes: &[u8], mut at: u64) -> Result<(), Error> {
    while !bytes.is_empty() {
        let put = pwrite(file, bytes, at).map_err(|e| Error::host("cannot keep the memory of a process", e))?;
        if put == 0 {
            return Err(Error::host("cannot keep the memory of a process", "the host took no bytes"));
        }
        bytes = &bytes[put..];
        at += put as u64;
    }
    Ok(())
}

/// A reserved stretch of address space: `[0, accessible)` is a guest's memory, the rest faults.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    /// Bytes of address space, guard included.
    total: usize,
    /// Bytes the guest may grow to.
    capacity: usize,
    accessible: AtomicUsize,
}

// SAFETY: a mapping is address space and numbers; nothing in it belongs to a thread. Who may touch the bytes, and when,
// is wasmtime's rule for the memory of a store: one thread at a time, the one that has the store.
unsafe impl Send for Mapping {}
// SAFETY: as above; the only interior change is the atomic length.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Sets aside `reservation` bytes and a guard behind them; growth stops at `capacity`, which may be less.
    fn reserve(capacity: usize, reservation: usize, guard: usize) -> Result<Self, Errno> {
        let total = capacity.max(reservation).checked_add(guard).ok_or(Errno::NOMEM)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), total, ProtFlags::empty(), flags)? };
        let base = NonNull::new(base.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { base, total, capacity, accessible: AtomicUsize::new(0) })
    }

    fn len(&self) -> usize {
        self.accessible.load(Ordering::Acquire)
    }

    /// Maps `[from, to)` of a file privately over the same stretch of the memory; what was there is gone.
    fn map_file(&self, file: &OwnedFd, from: usize, to: usize) -> Result<(), Errno> {
        if to > self.capacity {
            return Err(Errno::NOMEM);
        }
        if to > from {
            let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
            // SAFETY: `[from, to)` lies in this reservation, which nothing but this guest's memory uses, and the guest
            // is not running while its owner maps. The file is at least `to` bytes long and is never shortened.
            unsafe {
                mmap(
                    self.base.as_ptr().add(from).cast(),
                    to - from,
                    ProtFlags::READ | ProtFlags::WRITE,
                    flags,
                    file,
                    from as u64,
                )?;
            }
        }
        self.accessible.fetch_max(to, Ordering::AcqRel);
        Ok(())
    }

    fn grow(&self, to: usize) -> Result<(), Errno> {
        let from = self.len();
        if to > self.capacity || to < from {
            return Err(Errno::NOMEM);
        }
        if to > from {
            // SAFETY: `[from, to)` lies in this reservation and was not accessible; it is anonymous and private.
            unsafe {
                let begin = self.base.as_ptr().add(from).cast();
                mprotect(begin, to - from, MprotectFlags::READ | MprotectFlags::WRITE)?;
                // A huge page would make one written byte cost 2 MiB of state. Refused advice only costs memory.
                let _ = madvise(begin, to - from, Advice::LinuxNoHugepage);
            }
            self.accessible.store(to, Ordering::Release);
        }
        Ok(())
    }

    /// Throws away every page private to `[0, to)`.
    fn discard(&self, to: usize) -> Result<(), Errno> {
        if to == 0 {
            return Ok(());
        }
        // SAFETY: `[0, to)` is mapped and ours; the guest is not running, and its owner asked for the file's contents.
        unsafe { madvise(self.base.as_ptr().cast(), to, Advice::LinuxDontNeed) }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: `[0, len)` is mapped readable. Callers hold the store's owner exclusively, so no guest writes meanwhile.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and this is its last owner: wasmtime's handle and ours share it by `Arc`.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.total) };
    }
}

/// What wasmtime holds of a memory.
struct Guest(Arc<Mapping>);

// SAFETY: `as_ptr` is stable for the mapping's life, `[0, byte_size)` is mapped readable and writable, growth never
// moves it, and everything from there to the end of reservation and guard faults.
unsafe impl wasmtime::LinearMemory for Guest {
    fn byte_size(&self) -> usize {
        self.0.len()
    }

    fn byte_capacity(&self) -> usize {
        self.0.capacity
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        self.0.grow(new_size).map_err(|e| wasmtime::Error::msg(format!("memory cannot grow to {new_size} bytes: {e}")))
    }

    fn as_ptr(&self) -> *mut u8 {
        self.0.base.as_ptr()
    }
}

thread_local! {
    /// What the next memory made on this thread begins with, and then the mapping that was made. One creator serves all
    /// instances of an engine, and wasmtime does not tell it which one it is asked for.
    static HANDOVER: RefCell<Handover> = const { RefCell::new(Handover::None) };
}

enum Handover {
    None,
    /// The guest's memory is asked for first,
    Wanted {
        file: Arc<OwnedFd>,
        len: usize,
        stop: Arc<Stop>,
    },
    /// and then the wall clock's.
    Made {
        mapping: Arc<Mapping>,
        stop: Arc<Stop>,
    },
}

/// Makes the linear memories of an engine.
#[derive(Debug)]
pub struct Creator {
    /// Most bytes that one memory may have.
    pub bytes_max: u64,
}

// SAFETY: memories come from `Mapping::reserve` with the reservation and guard that wasmtime asks for; see `Guest`.
unsafe impl wasmtime::MemoryCreator for Creator {
    fn new_memory(
        &self,
        _ty: wasmtime::MemoryType,
        minimum: usize,
        maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn wasmtime::LinearMemory>, String> {
        let bytes_max = usize::try_from(self.bytes_max).unwrap_or(usize::MAX);
        if minimum > bytes_max {
            return Err(format!("begins with {minimum} bytes of memory, and this unit allows {bytes_max}"));
        }
        let capacity = maximum.unwrap_or(usize::MAX).min(bytes_max).max(minimum);
        HANDOVER.with_borrow_mut(|handover| {
            let (file, len, stop) = match handover {
                Handover::Wanted { file, len, stop } => (file, *len, stop.clone()),
                Handover::Made { stop, .. } => return Ok(Box::new(stop::Guest(stop.clone())) as Box<_>),
                Handover::None => return Err("a memory that nobody asked for".into()),
            };
            let mapping = Mapping::reserve(capacity, reserved.unwrap_or(0), guard)
                .map_err(|e| format!("no address space: {e}"))?;
            mapping.map_file(file, 0, len).map_err(|e| format!("{len} bytes of state cannot be mapped: {e}"))?;
            let len = mapping.len().max(minimum);
            mapping.grow(len).map_err(|e| format!("{minimum} bytes of memory cannot be mapped: {e}"))?;
            let mapping = Arc::new(mapping);
            *handover = Handover::Made { mapping: mapping.clone(), stop };
            Ok(Box::new(Guest(mapping)) as Box<dyn wasmtime::LinearMemory>)
        })
    }
}

/// The memory of a live instance, and its undo point.
#[derive(Debug)]
pub struct Memory {
    image: Image,
    mapping: Arc<Mapping>,
    pagemap: Arc<Pagemap>,
}

impl Memory {
    /// Instantiates something whose one memory begins as `image` and whose wall clock's byte is `stop`, and takes charge of
    /// that memory. What instantiation
    /// itself writes (data segments) is thrown away unless the image is empty.
    ///
    /// # Errors
    /// What `instantiate` gives; [`Error::Module`] if it makes no memory.
    pub fn attach<T>(
        image: Image,
        pagemap: Arc<Pagemap>,
        stop: Arc<Stop>,
        instantiate: impl FnOnce() -> Result<T, Error>,
    ) -> Result<(Self, T), Error> {
        HANDOVER.set(Handover::Wanted { file: image.file.clone(), len: image.len, stop });
        let instance = instantiate();
        let made = HANDOVER.replace(Handover::None);
        let instance = instance?;
        let Handover::Made { mapping, .. } = made else {
            return Err(Error::Module("has no memory of its own".into()));
        };
        let mut memory = Self { image, mapping, pagemap };
        memory.revert()?;
        Ok((memory, instance))
    }

    /// Bytes the guest sees now.
    pub fn len(&self) -> usize {
        self.mapping.len()
    }

    /// Whether the guest has grown its memory since the undo point. wasmtime cannot shrink one, so undoing then takes a
    /// new instance.
    pub fn has_grown(&self) -> bool {
        self.len() != self.image.len
    }

    /// The guest's memory. The guest must not run while this is borrowed.
    pub fn bytes(&mut self) -> &[u8] {
        self.mapping.bytes()
    }

    /// Bytes of host memory held at the undo point.
    pub fn resident_bytes(&self) -> u64 {
        self.image.resident_bytes()
    }

    /// Puts back the contents of the undo point (its size only if the guest has not grown: see [`Self::has_grown`]).
    ///
    /// # Errors
    /// [`Error::Host`] if the host refuses.
    pub fn revert(&mut self) -> Result<(), Error> {
        self.mapping.discard(self.image.len).map_err(|e| Error::host("cannot undo a message", e))
    }

    /// Makes the present contents the undo point. Costs the pages written since the last.
    ///
    /// # Errors
    /// [`Error::Host`]; the undo point is then unusable, and the process has to be built again from its schedule.
    pub fn commit(&mut self) -> Result<(), Error> {
        let (old, len) = (self.image.len, self.len());
        if len > old {
            self.image.set_len(len)?;
        }
        let bytes = self.mapping.bytes();
        self.pagemap.private_pages(bytes, |index| {
            let at = index * PAGE_BYTES;
            self.image.write_page(index, &bytes[at..at + PAGE_BYTES])
        })?;
        self.mapping
            .discard(old)
            .and_then(|()| self.mapping.map_file(&self.image.file, old, len))
            .map_err(|e| Error::host("cannot keep a message", e))
    }

    /// Gives back the image of the undo point. The instance must have been dropped.
    pub fn into_image(self) -> Image {
        self.image
    }

    /// The image of the undo point.
    pub fn image(&self) -> &Image {
        &self.image
    }
}
