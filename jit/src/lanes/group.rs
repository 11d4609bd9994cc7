//! Lanes on a device: their words stay there from call to call.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread::available_parallelism,
    time::{Duration, Instant},
};

use lockstep_shaders::{
    compute::{self, Access, Run, Source, Words},
    device::{Device, Lost, OpenError},
};

use super::{
    build::Kind,
    ending::{Bail, Ending},
    kernel::Kernel,
    layout::{Header, PAGE_BYTES, Shape, TILE_LANES, WINDOW_PAGES_MAX, words_of},
    lower::Entry,
    order::Order,
    pace::Pace,
};

/// Words that one upload or download moves at most.
const STAGING_WORDS: usize = 8 << 20;

/// Dispatches that are asked for at once, at most, and for how long about: lanes that are over keep their places for that long.
const DISPATCHES_MAX: u32 = 16;
const DISPATCHES_SPAN: Duration = Duration::from_millis(200);

/// Tiles of one group at most: on every system a dispatch may have as many workgroups in one dimension.
const TILES_MAX: u64 = 65_535;

/// Instructions that a lane may run before it gives up, in sixteens, unless it is told otherwise.
const BUDGET: u32 = u32::MAX / 2;

/// A module's kernel, compiled by the device's driver.
pub struct Compiled {
    device: Device,
    machine: compute::Kernel,
    to_lanes: Arc<compute::Kernel>,
    from_lanes: Arc<compute::Kernel>,
    broadcast: Arc<compute::Kernel>,
    tables: Words,
    entries: HashMap<String, Entry>,
    globals: usize,
    kept_rows: u32,
    pages_max: u32,
    pace: Pace,
    order: Order,
}

impl Compiled {
    /// Has the driver compile a kernel. Blocks: seconds, for large modules.
    ///
    /// # Errors
    /// What the driver says, or that the device is gone.
    pub fn new(device: &Device, kernel: Kernel) -> Result<Arc<Compiled>, OpenError> {
        let moves = include_str!("wgsl/moves.wgsl");
        let tables = device.words("tables", kernel.tables.len() as u64)?;
        device.write(&tables, 0, &kernel.tables);
        use Access::{Read, Uniform, Write};
        let each_way = |name, to_lanes: bool| {
            let text = || format!("const TO_LANES = {to_lanes};\n{moves}");
            device.kept_kernel(name, text, &[Write, Write, Read, Read])
        };
        let broadcast = || include_str!("wgsl/broadcast.wgsl").to_owned();
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        let compiled = Arc::new(Compiled {
            machine: device.kernel("lanes", Source::Naga(Box::new(kernel.module)), &[Write, Read, Uniform, Read])?,
            to_lanes: each_way("to_lanes", true)?,
            from_lanes: each_way("from_lanes", false)?,
            broadcast: device.kept_kernel("broadcast", broadcast, &[Write, Read])?,
            tables,
            entries: kernel.entries,
            globals: kernel.initial_globals.len(),
            kept_rows: kernel.kept_rows,
            pages_max: kernel.pages_max,
            pace: Pace::new(&device.found),
            order: Order::new(&device.found, u32::try_from(cores).unwrap_or(u32::MAX)),
            device: device.clone(),
        });
        // Some drivers compile when a kernel first runs: a tile of lanes that nobody calls.
        let group = Group::new(&compiled, compiled.shape(0, 0, 0), TILE_LANES, &[])?;
        group.dispatch(1, &compiled.order.lanes(group.tiles, &[]))?;
        Ok(compiled)
    }

    /// Lanes for this module, with room for so much.
    pub fn shape(&self, inbox_words: u32, stack_words: u32, window_pages: u32) -> Shape {
        let window_pages = window_pages.min(self.pages_max).min(WINDOW_PAGES_MAX);
        Shape::new(self.kept_rows, inbox_words, stack_words, window_pages, self.pages_max)
    }

    /// How many lanes of a shape one group may have: whole tiles.
    pub fn lanes_max(&self, shape: &Shape) -> u32 {
        let tile_bytes = u64::from(shape.lane_words) * u64::from(TILE_LANES) * 4;
        let tiles = self.device.found.max_binding_bytes.min(u64::from(u32::MAX)) / tile_bytes;
        tiles.min(TILES_MAX) as u32 * TILE_LANES
    }
}

/// What a lane is asked to do.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The lane.
    pub lane: u32,
    /// The export to call.
    pub entry: &'a str,
    /// Its arguments, as bits.
    pub arguments: &'a [u64],
    /// The module's globals before the call, as bits, in their order.
    pub globals: &'a [u64],
    /// Size of memory before the call, pages.
    pub pages: u32,
    /// What `copy_in` finds.
    pub inbox: &'a [u32],
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Returned {
    /// How the lane ended.
    pub ending: Ending,
    /// Results, as bits, if it is done.
    pub results: Vec<u64>,
    /// Gas charged up to the end.
    pub gas: u64,
    /// Size of memory, pages.
    pub pages: u32,
    /// The globals, as bits; 0 for one that is constant.
    pub globals: Vec<u64>,
    /// Granules of memory that were written, a bit each.
    pub dirty: u32,
    /// Instructions run, in sixteens, about.
    pub spent: u32,
}

/// Lanes of one module, on the device.
pub struct Group {
    compiled: Arc<Compiled>,
    shape: Shape,
    lanes: u32,
    tiles: u32,
    budget: AtomicU32,
    /// By lane, what its last call spent: what the next one is expected to.
    spent: Mutex<Vec<u32>>,
    words: Words,
    shape_words: Words,
    order_words: Words,
}

impl Group {
    /// Lanes that all begin with the same memory.
    ///
    /// # Errors
    /// [`Lost`] if the device is gone or has no room.
    ///
    /// # Panics
    /// If the memory is larger than a window, or there are more lanes than [`Compiled::lanes_max`].
    pub fn new(compiled: &Arc<Compiled>, shape: Shape, lanes: u32, memory: &[u8]) -> Result<Group, Lost> {
        assert!(memory.len() as u64 <= u64::from(shape.window_pages) * u64::from(PAGE_BYTES), "memory fits the window");
        assert!(lanes <= compiled.lanes_max(&shape), "the lanes fit the device");
        let device = &compiled.device;
        let tiles = compiled.order.tiles(lanes).min(compiled.lanes_max(&shape) / TILE_LANES);
        let words = device.words("lanes", u64::from(tiles) * u64::from(TILE_LANES) * u64::from(shape.lane_words))?;
        let shape_words = device.words("shape", (size_of::<Shape>() / 4) as u64)?;
        let order_words = device.words("order", u64::from(tiles) * u64::from(TILE_LANES))?;
        let mut image = vec![0; shape.lane_words as usize];
        image[Header::STATUS as usize] = Ending::Done.status();
        image[shape.window_word as usize..].iter_mut().zip(words_of(memory)).for_each(|(word, now)| *word = now);
        let image_words = device.words("image", image.len() as u64)?;
        device.write(&image_words, 0, &image);
        let mut run = device.run();
        run.dispatch(&compiled.broadcast, &[&words, &image_words], tiles * shape.lane_words);
        run.finish()?;
        let (budget, spent) = (BUDGET.into(), Mutex::new(vec![0; lanes as usize]));
        Ok(Group { compiled: compiled.clone(), shape, lanes, tiles, budget, spent, words, shape_words, order_words })
    }

    /// Instructions that a lane may run before it gives up, in sixteens, about.
    pub fn set_budget(&self, budget: u32) {
        self.budget.store(budget, Ordering::Relaxed);
    }

    /// How many lanes there are.
    pub fn lanes(&self) -> u32 {
        self.lanes
    }

    /// Their sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Writes linear memory of lanes: for each, where and what. Places and lengths are multiples of 4.
    ///
    /// # Errors
    /// [`Lost`] if the device is gone.
    pub fn write_memory(&self, parts: &[(u32, u32, &[u8])]) -> Result<(), Lost> {
        let as_words: Vec<_> = parts
            .iter()
            .map(|(lane, at, bytes)| (*lane, self.shape.window_word + at / 4, words_of(bytes).collect()))
            .collect();
        self.put(&as_words)
    }

    /// Reads linear memory of lanes: for each, where and how many bytes. Places are multiples of 4.
    ///
    /// # Errors
    /// [`Lost`] if the device is gone.
    pub fn read_memory(&self, parts: &[(u32, u32, u32)]) -> Result<Vec<Vec<u8>>, Lost> {
        let wanted: Vec<_> =
            parts.iter().map(|(lane, at, bytes)| (*lane, self.shape.window_word + at / 4, bytes.div_ceil(4))).collect();
        let got = self.get(&wanted)?;
        let bytes = got.into_iter().zip(parts).map(|(words, (_, _, bytes))| {
            let mut all: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            all.truncate(*bytes as usize);
            all
        });
        Ok(bytes.collect())
    }

    /// Has lanes do something, all at once. Lanes that are not called do nothing; those that are not over by the deadline,
    /// give or take a dispatch, give up.
    ///
    /// # Errors
    /// [`Lost`] if the device is gone: nothing is known of the lanes then.
    ///
    /// # Panics
    /// If an entry is none of the kernel's, or what it is given does not fit.
    pub fn run(&self, calls: &[Call<'_>], deadline: Instant) -> Result<Vec<Returned>, Lost> {
        let mut headers = Vec::new();
        for call in calls {
            let entry = &self.compiled.entries[call.entry];
            let mut header = vec![0; Header::words(self.compiled.globals) as usize];
            header[Header::STATE as usize] = entry.state;
            header[Header::PAGES as usize] = call.pages;
            let arguments = call.arguments.iter().enumerate().map(|(at, value)| (Header::value(at), *value));
            let globals = call.globals.iter().enumerate().map(|(at, value)| (Header::global(at), *value));
            for (at, value) in arguments.chain(globals) {
                header[at as usize] = value as u32;
                header[at as usize + 1] = (value >> 32) as u32;
            }
            assert!(call.inbox.len() <= (self.shape.stack_word - self.shape.inbox_word) as usize, "the inbox holds it");
            headers.push((call.lane, 0, header));
            headers.push((call.lane, self.shape.inbox_word, call.inbox.to_vec()));
        }
        self.put(&headers)?;
        let compiled = &self.compiled;
        let wanted: Vec<_> = calls.iter().map(|call| (call.lane, 0, Header::words(compiled.globals))).collect();
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running: Vec<(u32, u32)> = calls.iter().map(|call| (call.lane, spent[call.lane as usize])).collect();
        // Lanes that are over do nothing in a dispatch: a few in a row cost little, and save waiting.
        let mut row = 1;
        loop {
            let begun = Instant::now();
            self.dispatch(row, &compiled.order.lanes(self.tiles, &running))?;
            let headers = self.get(&wanted)?;
            running.clear();
            for (call, header) in calls.iter().zip(&headers).filter(|(_, header)| header[Header::STATUS as usize] == 0)
            {
                let left = spent[call.lane as usize].saturating_sub(header[Header::SPENT as usize]);
                running.push((call.lane, left));
            }
            if running.is_empty() || Instant::now() >= deadline {
                let returned = calls.iter().zip(headers).map(|(call, header)| self.returned(call, &header));
                let returned: Vec<Returned> = returned.collect();
                calls.iter().zip(&returned).for_each(|(call, now)| spent[call.lane as usize] = now.spent);
                if returned.iter().any(|returned| returned.ending == Ending::Bail(Bail::Driver)) {
                    compiled.pace.was_cut();
                }
                return Ok(returned);
            }
            let took = begun.elapsed();
            compiled.pace.took(took / row);
            row = if took < DISPATCHES_SPAN / 2 { (2 * row).min(DISPATCHES_MAX) } else { (row / 2).max(1) };
        }
    }

    /// Runs lanes, each at its place, for so many dispatches in a row.
    fn dispatch(&self, times: u32, order: &[u32]) -> Result<(), Lost> {
        let compiled = &self.compiled;
        let shape = Shape { budget: self.budget.load(Ordering::Relaxed), turns: compiled.pace.turns(), ..self.shape };
        compiled.device.write(&self.shape_words, 0, bytemuck::cast_slice(&[shape]));
        compiled.device.write(&self.order_words, 0, order);
        let mut run = compiled.device.run();
        for _ in 0..times {
            let words = [&self.words, &compiled.tables, &self.shape_words, &self.order_words];
            run.dispatch(&compiled.machine, &words, self.tiles);
        }
        run.finish()
    }

    fn returned(&self, call: &Call<'_>, header: &[u32]) -> Returned {
        let wide = |at: u32| u64::from(header[at as usize]) | u64::from(header[at as usize + 1]) << 32;
        // Of a narrow value the upper word is what was there before.
        let value = |at: u32, kind: Kind| if kind == Kind::Wide { wide(at) } else { u64::from(header[at as usize]) };
        let ending = Ending::of(header[Header::STATUS as usize]).unwrap_or(Ending::Bail(Bail::Budget));
        let results = &self.compiled.entries[call.entry].results;
        Returned {
            ending,
            results: if ending == Ending::Done {
                results.iter().enumerate().map(|(at, kind)| value(Header::value(at), *kind)).collect()
            } else {
                Vec::new()
            },
            gas: wide(Header::GAS),
            pages: header[Header::PAGES as usize],
            globals: (0..self.compiled.globals).map(|at| wide(Header::global(at))).collect(),
            dirty: header[Header::DIRTY as usize],
            spent: header[Header::SPENT as usize],
        }
    }

    fn put(&self, parts: &[(u32, u32, Vec<u32>)]) -> Result<(), Lost> {
        let sizes: Vec<_> = parts.iter().map(|(lane, word, words)| (*lane, *word, words.len() as u32)).collect();
        for (range, total) in batches(&sizes) {
            let staging: Vec<u32> = parts[range.clone()].iter().flat_map(|(_, _, words)| words).copied().collect();
            let plain = self.compiled.device.words("staging", total)?;
            self.compiled.device.write(&plain, 0, &staging);
            self.moves(&self.compiled.to_lanes, &plain, &sizes[range])?.finish()?;
        }
        Ok(())
    }

    fn get(&self, parts: &[(u32, u32, u32)]) -> Result<Vec<Vec<u32>>, Lost> {
        let mut all = Vec::with_capacity(parts.len());
        for (range, total) in batches(parts) {
            let plain = self.compiled.device.words("staging", total)?;
            let run = self.moves(&self.compiled.from_lanes, &plain, &parts[range.clone()])?;
            let got = run.read(&plain, total)?;
            let mut at = 0;
            for (_, _, count) in &parts[range] {
                all.push(got[at..at + *count as usize].to_vec());
                at += *count as usize;
            }
        }
        Ok(all)
    }

    /// A run that moves words between lanes and `plain`, where they lie one behind the other.
    fn moves(&self, kernel: &compute::Kernel, plain: &Words, parts: &[(u32, u32, u32)]) -> Result<Run<'_>, Lost> {
        let device = &self.compiled.device;
        let mut at = 0;
        let mut list = Vec::with_capacity(4 * parts.len());
        for (lane, word, count) in parts {
            list.extend([*lane, *word, *count, at]);
            at += count;
        }
        let moves = device.words("moves", list.len().max(4) as u64)?;
        device.write(&moves, 0, &list);
        let sizes = device.words("sizes", 2)?;
        device.write(&sizes, 0, &[self.shape.lane_words, parts.len() as u32]);
        let mut run = device.run();
        run.dispatch(kernel, &[&self.words, plain, &moves, &sizes], parts.len() as u32);
        Ok(run)
    }
}

/// Cuts a list of moves so that no batch is larger than the staging: each with its words in all.
fn batches(parts: &[(u32, u32, u32)]) -> Vec<(std::ops::Range<usize>, u64)> {
    let (mut batches, mut begin, mut total) = (Vec::new(), 0, 0u64);
    for (at, (_, _, count)) in parts.iter().enumerate() {
        if at > begin && total + u64::from(*count) > STAGING_WORDS as u64 {
            batches.push((begin..at, total));
            (begin, total) = (at, 0);
        }
        total += u64::from(*count);
    }
    if begin < parts.len() {
        batches.push((begin..parts.len(), total));
    }
    batches
}
