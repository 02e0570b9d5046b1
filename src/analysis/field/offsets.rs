//! Finite sets of integers, as few runs as possible.

/// Runs of more pieces than this become the run around them.
const MAX_RUNS: usize = 4096;
/// Sums and products of more pairs than this are not worked out one by one.
const MAX_PAIRS: usize = 1 << 18;

/// A finite set of integers: disjoint runs, ascending, never adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    runs: Vec<(i64, i64)>,
}

impl Offsets {
    /// The empty set.
    pub const EMPTY: Offsets = Offsets { runs: Vec::new() };

    /// One integer.
    pub fn one(value: i64) -> Self {
        Offsets { runs: vec![(value, value)] }
    }

    /// All integers from `low` to `high`, both included; empty where `high < low`.
    pub fn run(low: i64, high: i64) -> Self {
        Offsets { runs: if low <= high { vec![(low, high)] } else { Vec::new() } }
    }

    /// The union of runs in any order; `None` where there would be too many pieces.
    fn of(mut runs: Vec<(i64, i64)>) -> Option<Self> {
        runs.sort_unstable();
        let mut merged: Vec<(i64, i64)> = Vec::new();
        for (low, high) in runs {
            match merged.last_mut() {
                Some((_, end)) if low <= end.saturating_add(1) => *end = high.max(*end),
                _ => merged.push((low, high)),
            }
        }
        (merged.len() <= MAX_RUNS).then_some(Offsets { runs: merged })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The runs, ascending.
    pub fn runs(&self) -> &[(i64, i64)] {
        &self.runs
    }

    /// The least.
    pub fn low(&self) -> Option<i64> {
        self.runs.first().map(|(low, _)| *low)
    }

    /// The greatest.
    pub fn high(&self) -> Option<i64> {
        self.runs.last().map(|(_, high)| *high)
    }

    /// How many.
    pub fn count(&self) -> i64 {
        self.runs
            .iter()
            .fold(0i64, |n, (low, high)| n.saturating_add(high.saturating_sub(*low)).saturating_add(1))
    }

    /// The only one.
    pub fn single(&self) -> Option<i64> {
        match self.runs[..] {
            [(low, high)] if low == high => Some(low),
            _ => None,
        }
    }

    /// The greatest common distance between them; 0 of a single one.
    pub fn spacing(&self) -> i64 {
        let Some(first) = self.low() else { return 0 };
        self.runs.iter().fold(0, |step, (low, high)| {
            let step = gcd(step, low.saturating_sub(first));
            if low == high { step } else { gcd(step, 1) }
        })
    }

    /// The integers, one by one, if they are not too many.
    pub fn iter(&self) -> Option<impl Iterator<Item = i64>> {
        (self.count() <= MAX_PAIRS as i64).then(|| self.runs.iter().flat_map(|(low, high)| *low..=*high))
    }

    /// What is in either.
    pub fn union(&self, other: &Offsets) -> Option<Offsets> {
        Offsets::of(self.runs.iter().chain(&other.runs).copied().collect())
    }

    /// The union of many.
    pub fn union_of(sets: impl IntoIterator<Item = Offsets>) -> Option<Offsets> {
        Offsets::of(sets.into_iter().flat_map(|set| set.runs).collect())
    }

    /// Each plus `by`.
    pub fn shift(&self, by: i64) -> Option<Offsets> {
        let moved = self.runs.iter().map(|(low, high)| Some((low.checked_add(by)?, high.checked_add(by)?)));
        Some(Offsets { runs: moved.collect::<Option<_>>()? })
    }

    /// Each times `by`.
    pub fn scale(&self, by: i64) -> Option<Offsets> {
        match by {
            0 if self.is_empty() => Some(Offsets::EMPTY),
            0 => Some(Offsets::one(0)),
            1 => Some(self.clone()),
            _ => {
                let values = self.iter()?.map(|v| v.checked_mul(by).map(|v| (v, v)));
                Offsets::of(values.collect::<Option<_>>()?)
            }
        }
    }

    /// All sums of one of each.
    pub fn sum(&self, other: &Offsets) -> Option<Offsets> {
        if self.runs.len().saturating_mul(other.runs.len()) > MAX_PAIRS {
            return None;
        }
        let pairs = self.runs.iter().flat_map(|a| other.runs.iter().map(move |b| (a, b)));
        let sums = pairs.map(|(a, b)| Some((a.0.checked_add(b.0)?, a.1.checked_add(b.1)?)));
        Offsets::of(sums.collect::<Option<_>>()?)
    }
}

/// The greatest common divisor, not negative.
pub fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    i64::try_from(a).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_merged_and_counted() {
        let set = Offsets::run(0, 2).union(&Offsets::run(3, 4)).unwrap().union(&Offsets::one(9)).unwrap();
        assert_eq!((set.runs(), set.count(), set.spacing()), (&[(0, 4), (9, 9)][..], 6, 1));
        assert_eq!((set.low(), set.high(), set.single()), (Some(0), Some(9), None));
        assert!(Offsets::run(1, 0).is_empty());
    }

    #[test]
    fn dilation_is_the_spacing() {
        let taps = Offsets::run(0, 2).scale(3).unwrap();
        assert_eq!((taps.runs(), taps.spacing()), (&[(0, 0), (3, 3), (6, 6)][..], 3));
        let twice = taps.sum(&Offsets::run(0, 1).scale(6).unwrap()).unwrap();
        assert_eq!((twice.count(), twice.spacing(), twice.high()), (5, 3, Some(12)));
        let dense = taps.sum(&Offsets::run(0, 2)).unwrap();
        assert_eq!(dense.runs(), &[(0, 8)]);
        assert_eq!(taps.scale(-1).unwrap().low(), Some(-6));
    }

    #[test]
    fn what_cannot_be_held_is_refused() {
        assert_eq!(Offsets::one(i64::MAX).shift(1), None);
        assert_eq!(Offsets::run(0, 1 << 40).scale(2), None);
        assert_eq!(Offsets::run(0, 5000).scale(2), None);
    }
}
