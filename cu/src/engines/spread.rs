//! A group dealt to several adapters.

use std::collections::HashSet;

use lockstep_jit::lanes::Stamp;

/// Messages that an adapter is given at least, where there are several: a tile of lanes takes as long as one lane.
const SHARE_MIN: usize = 64;

/// An adapter, as far as dealing goes.
pub(super) struct Place {
    /// Messages that it takes at most.
    pub room: usize,
    /// The memories that are in its lanes.
    pub holds: HashSet<Stamp>,
}

/// Deals visits, given by what their memories are, to places that are equally fast: for each place, which visits. As many
/// places are used as have a [share](SHARE_MIN) worth having, each is given as many as the others, and a visit goes where its
/// memory is, if there is room for it. What no place has room for is in none.
///
/// # Panics
/// If there is no place.
pub(super) fn deal(visits: &[Option<Stamp>], places: &[Place]) -> Vec<Vec<usize>> {
    let used = (visits.len() / SHARE_MIN).clamp(1, places.len());
    let mut dealt: Vec<Vec<usize>> = places.iter().map(|_| Vec::new()).collect();
    let share = visits.len().div_ceil(used);
    let mut strangers = Vec::new();
    for (at, stamp) in visits.iter().enumerate() {
        let knows = |place: usize| {
            stamp.is_some_and(|stamp| places[place].holds.contains(&stamp))
                && dealt[place].len() < share.min(places[place].room)
        };
        match (0..used).find(|place| knows(*place)) {
            Some(place) => dealt[place].push(at),
            None => strangers.push(at),
        }
    }
    let mut strangers = strangers.into_iter();
    // First everyone's share, then, where places are of unlike size, whatever there is room for.
    for most in [share, usize::MAX] {
        for (place, dealt) in places.iter().zip(&mut dealt) {
            let room = most.min(place.room).saturating_sub(dealt.len());
            dealt.extend(strangers.by_ref().take(room));
        }
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(rooms: &[usize]) -> Vec<Place> {
        rooms.iter().map(|room| Place { room: *room, holds: HashSet::new() }).collect()
    }

    fn sizes(dealt: &[Vec<usize>]) -> Vec<usize> {
        dealt.iter().map(Vec::len).collect()
    }

    #[test]
    fn every_visit_is_dealt_once_and_shares_are_equal() {
        for (visits, rooms, expected) in [
            (0, vec![100, 100], vec![0, 0]),
            (1, vec![100, 100], vec![1, 0]),
            (127, vec![200, 200], vec![127, 0]),
            (128, vec![200, 200], vec![64, 64]),
            (1000, vec![4096, 4096, 4096], vec![334, 334, 332]),
            (1000, vec![100, 4096, 4096], vec![100, 566, 334]),
            (300, vec![100, 100], vec![100, 100]),
            (100, vec![4096], vec![100]),
        ] {
            let dealt = deal(&vec![None; visits], &places(&rooms));
            assert_eq!(sizes(&dealt), expected, "{visits} to {rooms:?}");
            let mut all: Vec<_> = dealt.into_iter().flatten().collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), expected.iter().sum::<usize>());
        }
    }

    #[test]
    fn a_visit_goes_where_its_memory_is() {
        let stamps: Vec<_> = (0..256).map(|_| Stamp::fresh()).collect();
        let mut places = places(&[4096, 4096]);
        for (at, stamp) in stamps.iter().enumerate() {
            places[at % 2].holds.insert(*stamp);
        }
        let visits: Vec<_> = stamps.iter().copied().map(Some).collect();
        let dealt = deal(&visits, &places);
        assert_eq!(sizes(&dealt), [128, 128]);
        assert!(dealt[0].iter().all(|at| at % 2 == 0));
        // Too many of one place's: the rest goes elsewhere.
        let first: Vec<_> = visits.iter().copied().step_by(2).collect();
        assert_eq!(sizes(&deal(&first, &places)), [64, 64]);
    }
}
