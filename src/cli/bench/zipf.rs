//! Choices by Zipf's law: the choice of rank r is made about 1/r as often as the first.
//!
//! A table by the alias method (Walker 1977, Vose 1991): one random number and one look-up a choice, however many ranks
//! there are.

use super::random::Random;

/// A table of ranks 0 to n - 1, with weights 1/(rank + 1).
#[derive(Debug)]
pub struct Zipf {
    /// For each column: below which 32-bit number the column's own rank is chosen, and the rank chosen else.
    columns: Vec<(u32, u32)>,
}

impl Zipf {
    /// A table of `ranks` choices, at least one.
    pub fn new(ranks: u32) -> Self {
        assert!(ranks > 0, "there is something to choose from");
        let sum: f64 = (1..=ranks).map(|rank| 1.0 / f64::from(rank)).sum();
        // A column of average weight weighs 1.
        let mut weights: Vec<f64> =
            (1..=ranks).map(|rank| f64::from(ranks) / (f64::from(rank) * sum)).collect();
        let (mut heavy, mut light): (Vec<u32>, Vec<u32>) =
            (0..ranks).partition(|rank| weights[*rank as usize] >= 1.0);
        let mut columns: Vec<(u32, u32)> = (0..ranks).map(|rank| (u32::MAX, rank)).collect();
        while let (Some(rank), Some(giver)) = (light.pop(), heavy.last().copied()) {
            let weight = weights[rank as usize];
            columns[rank as usize] = ((weight * f64::from(u32::MAX)) as u32, giver);
            weights[giver as usize] -= 1.0 - weight;
            if weights[giver as usize] < 1.0 {
                heavy.pop();
                light.push(giver);
            }
        }
        Self { columns }
    }

    /// A random rank.
    pub fn choose(&self, random: &mut Random) -> u32 {
        let bits = random.bits();
        let column = ((bits >> 32) * self.columns.len() as u64) >> 32;
        let (own_below, other) = self.columns[column as usize];
        if (bits as u32) < own_below { column as u32 } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ranks: u32) {
        let (zipf, mut random) = (Zipf::new(ranks), Random::new(5, 0));
        let choices = 1_000_000;
        let mut counts = vec![0_u32; ranks as usize];
        for _ in 0..choices {
            counts[zipf.choose(&mut random) as usize] += 1;
        }
        let sum: f64 = (1..=ranks).map(|rank| 1.0 / f64::from(rank)).sum();
        for rank in [1, 2, 10, 100].into_iter().filter(|rank| *rank <= ranks) {
            let expected = f64::from(choices) / (f64::from(rank) * sum);
            let found = f64::from(counts[rank as usize - 1]);
            assert!((found - expected).abs() < expected * 0.1, "rank {rank} of {ranks}: {found}, {expected}");
        }
    }

    #[test]
    fn ranks_are_chosen_by_their_weight() {
        check(1);
        check(2);
        check(10_000);
    }
}
