//! Which lanes of a group turn side by side in a dispatch.
//!
//! Lanes of a vector (a subgroup, on hardware) take as long as the slowest of them. So those that still run are put together, and
//! among these those that have as much to do; vectors are dealt to tiles so that all of the adapter's threads have some.

use std::cmp::Reverse;

use lockstep_shaders::device::Found;

use super::layout::TILE_LANES;

/// How far from the place of its words a lane may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Anywhere in the group: drivers that are programs on the processor read a vector's words one by one.
    Group,
    /// Within its tile, whose words lie side by side: hardware reads those of neighbours at once.
    Tile,
}

/// How an adapter's lanes are put in order.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    reach: Reach,
    /// Lanes of a vector; divides [`TILE_LANES`].
    vector_lanes: u32,
    /// Tiles below which some of the adapter's threads have nothing to do.
    tiles_min: u32,
}

impl Order {
    /// What suits an adapter, on a machine with so many cores.
    pub fn new(found: &Found, cores: u32) -> Order {
        let vector_lanes = 1 << found.subgroup_size.1.clamp(1, TILE_LANES).ilog2();
        match found.software {
            true => Order { reach: Reach::Group, vector_lanes, tiles_min: cores.max(1) },
            false => Order { reach: Reach::Tile, vector_lanes, tiles_min: 1 },
        }
    }

    /// Tiles for so many lanes: those that they fill, and as many more as threads would otherwise lack a vector.
    pub fn tiles(&self, lanes: u32) -> u32 {
        lanes.div_ceil(TILE_LANES).max(lanes.div_ceil(self.vector_lanes).min(self.tiles_min))
    }

    /// The lane that runs at each place of so many tiles; every lane has one. `running`: lanes that have something to do, with how
    /// much that may be.
    pub fn lanes(&self, tiles: u32, running: &[(u32, u32)]) -> Vec<u32> {
        let mut running = running.to_vec();
        // Stable: lanes that do about as much stay side by side, as their words lie.
        running.sort_by_key(|(_, expected)| Reverse(class(*expected)));
        let running: Vec<u32> = running.into_iter().map(|(lane, _)| lane).collect();
        match self.reach {
            Reach::Group => self.across(tiles, &running),
            Reach::Tile => within(tiles, &running),
        }
    }

    /// Vectors dealt to all tiles in turn. Mesa's CPU driver gives each of its threads as many tiles as the others, all in a row;
    /// so one after the other goes to tiles far from each other, and every second round goes back.
    fn across(&self, tiles: u32, running: &[u32]) -> Vec<u32> {
        let mut turn: Vec<u32> = (0..tiles).collect();
        turn.sort_by_key(|tile| tile.reverse_bits());
        let mut order = vec![None; (tiles * TILE_LANES) as usize];
        for (at, vector) in running.chunks(self.vector_lanes as usize).enumerate() {
            let (round, nth) = (at / turn.len(), at % turn.len());
            let tile = if round % 2 == 0 { turn[nth] } else { turn[turn.len() - 1 - nth] };
            let from = (tile * TILE_LANES + round as u32 * self.vector_lanes) as usize;
            order[from..].iter_mut().zip(vector).for_each(|(place, lane)| *place = Some(*lane));
        }
        let mut is_placed = vec![false; order.len()];
        running.iter().for_each(|lane| is_placed[*lane as usize] = true);
        let mut idle = (0..).zip(&is_placed).filter(|(_, is_placed)| !**is_placed).map(|(lane, _)| lane);
        order.into_iter().map(|lane| lane.or_else(|| idle.next()).expect("as many lanes as places")).collect()
    }
}

/// Numbers of one class differ by a quarter at most; a larger number has no lower class.
fn class(expected: u32) -> u32 {
    let digits = expected.max(1).ilog2();
    let next_two = (u64::from(expected) << 2 >> digits) as u32 & 3;
    digits << 2 | next_two
}

/// Each tile's running lanes first.
fn within(tiles: u32, running: &[u32]) -> Vec<u32> {
    let mut rank = vec![u32::MAX; (tiles * TILE_LANES) as usize];
    (0..).zip(running).for_each(|(at, lane)| rank[*lane as usize] = at);
    let mut order: Vec<u32> = (0..tiles * TILE_LANES).collect();
    order.chunks_mut(TILE_LANES as usize).for_each(|tile| tile.sort_by_key(|lane| rank[*lane as usize]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTOR: u32 = 16;

    fn order(reach: Reach, tiles_min: u32) -> Order {
        Order { reach, vector_lanes: VECTOR, tiles_min }
    }

    /// Lanes by vector, in the order of places.
    fn vectors(order: &[u32]) -> Vec<&[u32]> {
        order.chunks(VECTOR as usize).collect()
    }

    #[test]
    fn every_lane_has_one_place_whoever_runs() {
        for reach in [Reach::Group, Reach::Tile] {
            for tiles in [1, 2, 3, 7, 16] {
                for every in [1, 2, 5, 64] {
                    let running: Vec<_> =
                        (0..tiles * TILE_LANES).filter(|n| n % every == 0).map(|n| (n, n * 37 % 101)).collect();
                    let order = order(reach, 1).lanes(tiles, &running);
                    let mut sorted = order.clone();
                    sorted.sort_unstable();
                    assert!(sorted.into_iter().eq(0..tiles * TILE_LANES), "{reach:?} {tiles} {every}: {order:?}");
                }
            }
        }
    }

    #[test]
    fn lanes_that_run_share_as_few_vectors_as_there_can_be() {
        let is_running = |lane: &u32| lane.is_multiple_of(3);
        let running: Vec<_> = (0..256).filter(is_running).map(|lane| (lane, 0)).collect();
        let busy = |order: &[u32]| vectors(order).iter().filter(|lanes| lanes.iter().any(is_running)).count();
        assert_eq!(running.len(), 86);
        assert_eq!(busy(&order(Reach::Group, 1).lanes(4, &running)), 6);
        // 21 or 22 of each tile.
        let within = order(Reach::Tile, 1).lanes(4, &running);
        assert_eq!(busy(&within), 8);
        assert!(within.iter().zip(0..).all(|(lane, place)| lane / TILE_LANES == place / TILE_LANES));
    }

    #[test]
    fn classes_go_up_with_numbers_and_are_no_wider_than_a_quarter() {
        let numbers = (0..3000).chain((0..3000).map(|n| u32::MAX - n * 1_431_655));
        let mut numbers: Vec<u32> = numbers.collect();
        numbers.sort_unstable();
        for pair in numbers.windows(2) {
            assert!(class(pair[0]) <= class(pair[1]), "{pair:?}");
            let is_close = f64::from(pair[1]) <= 1.25 * f64::from(pair[0].max(1));
            assert!(is_close || class(pair[0]) < class(pair[1]), "{pair:?}");
        }
        assert_eq!(class(80_000), class(81_000));
    }

    #[test]
    fn lanes_with_as_much_to_do_are_neighbours() {
        let work = |lane: u32| 1000 + lane * 89 % 256 * 10;
        let running: Vec<_> = (0..256).map(|lane| (lane, work(lane))).collect();
        let order = order(Reach::Group, 1).lanes(4, &running);
        // Of two classes that are next to each other, at most.
        for lanes in vectors(&order) {
            let most = lanes.iter().map(|lane| work(*lane)).max().unwrap();
            assert!(lanes.iter().all(|lane| work(*lane) * 8 >= most * 5), "{lanes:?}");
        }
        // Threads that take halves, or quarters, of the tiles have about as much to do.
        let halves: Vec<u32> = order.chunks(128).map(|half| half.iter().map(|lane| work(*lane)).sum()).collect();
        assert!(halves[0].abs_diff(halves[1]) < halves[0] / 10, "{halves:?}");
        let tiles: Vec<u32> = order.chunks(64).map(|tile| tile.iter().map(|lane| work(*lane)).sum()).collect();
        assert!(tiles.iter().all(|tile| tile.abs_diff(tiles[0]) < tiles[0] / 10), "{tiles:?}");
    }

    #[test]
    fn lanes_of_which_nothing_is_known_stay_in_their_order() {
        let running: Vec<_> = (0..128).map(|lane| (lane, 0)).collect();
        let across = order(Reach::Group, 1).lanes(2, &running);
        assert!(vectors(&across).iter().all(|lanes| lanes.windows(2).all(|pair| pair[1] == pair[0] + 1)), "{across:?}");
        assert!(order(Reach::Tile, 1).lanes(2, &running).into_iter().eq(0..128));
    }

    #[test]
    fn a_few_lanes_have_as_many_tiles_as_there_are_threads_for_their_vectors() {
        let tiles = |tiles_min| [1, 16, 17, 64, 65, 129].map(|lanes| order(Reach::Group, tiles_min).tiles(lanes));
        assert_eq!(tiles(1), [1, 1, 1, 1, 2, 3]);
        assert_eq!(tiles(2), [1, 1, 2, 2, 2, 3]);
        assert_eq!(tiles(8), [1, 1, 2, 4, 5, 8]);
        let running: Vec<_> = (0..64).map(|lane| (lane, 0)).collect();
        let order = order(Reach::Group, 2).lanes(2, &running);
        let of_first = order[..64].iter().filter(|lane| **lane < 64).count();
        assert_eq!(of_first, 32, "{order:?}");
    }
}
