//! Weighted round robin without bursts.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Turns in a fixed order in which each index comes as often as its weight says, spread evenly: the smooth weighted round robin of nginx,
/// computed in advance.
#[derive(Debug)]
pub(super) struct RoundRobin {
    turns: Box<[usize]>,
    next: AtomicUsize,
}

impl RoundRobin {
    /// The turns of the indexes of `weights`, whose entries are positive.
    pub(super) fn new(weights: &[u32]) -> Self {
        let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
        let weights: Vec<_> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
        Self { turns: smooth(&weights), next: AtomicUsize::new(0) }
    }

    /// The index that has the next turn; `None` without indexes.
    pub(super) fn turn(&self) -> Option<usize> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(self.turns.len())?;
        Some(self.turns[turn])
    }
}

/// In each turn, each index gains its weight. The one that has most has the turn, and pays the sum of the weights.
fn smooth(weights: &[i64]) -> Box<[usize]> {
    let sum: i64 = weights.iter().sum();
    let mut credits = vec![0; weights.len()];
    let turn = |_| {
        let mut first = 0;
        for (index, weight) in weights.iter().enumerate() {
            credits[index] += weight;
            if credits[index] > credits[first] {
                first = index;
            }
        }
        credits[first] -= sum;
        first
    };
    (0..sum).map(turn).collect()
}

fn greatest_common_divisor(left: u32, right: u32) -> u32 {
    if right == 0 { left } else { greatest_common_divisor(right, left % right) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turns(weights: &[u32], count: usize) -> Vec<usize> {
        let round_robin = RoundRobin::new(weights);
        (0..count).map_while(|_| round_robin.turn()).collect()
    }

    #[test]
    fn turns_are_those_of_nginx() {
        assert_eq!(turns(&[5, 1, 1], 14), [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(turns(&[100, 100, 100], 6), [0, 1, 2, 0, 1, 2]);
        assert!(turns(&[], 3).is_empty());
    }

    proptest! {
        #[test]
        fn each_index_has_its_share_without_bursts(weights in proptest::collection::vec(1_u32..=100, 1..8)) {
            let sum: u32 = weights.iter().sum();
            let turns = turns(&weights, 2 * usize::try_from(sum).unwrap());
            let (first, second) = turns.split_at(turns.len() / 2);
            for (index, weight) in weights.iter().enumerate() {
                for half in [first, second] {
                    let count = half.iter().filter(|turn| **turn == index).count();
                    prop_assert_eq!(count, usize::try_from(*weight).unwrap());
                }
                // In a row, an index has at most twice the turns that its weight needs between two turns of others.
                let longest = turns.chunk_by(|one, other| one == other).filter(|run| run[0] == index).map(<[_]>::len).max();
                let others = sum - weight;
                if others > 0 {
                    let needed = usize::try_from(weight.div_ceil(others)).unwrap();
                    prop_assert!(longest.unwrap_or(0) <= 2 * needed, "{:?} in a row: {:?}, weights {:?}", index, longest, weights);
                }
            }
        }
    }
}
