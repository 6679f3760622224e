//! A histogram of latencies: fixed memory, one addition a sample, quantiles good to 0.8 %.

/// Counts by size: each power of two is divided into 128 equal parts.
pub struct Latencies {
    counts: Vec<u64>,
    total: u64,
    longest: u64,
}

const PARTS: u64 = 128;
const PARTS_BITS: u32 = 7;

impl Latencies {
    /// An empty histogram.
    pub fn new() -> Self {
        let last = Self::place(u64::MAX);
        Self { counts: vec![0; last + 1], total: 0, longest: 0 }
    }

    /// Adds one sample, in nanoseconds.
    pub fn add(&mut self, nanoseconds: u64) {
        self.counts[Self::place(nanoseconds)] += 1;
        self.total += 1;
        self.longest = self.longest.max(nanoseconds);
    }

    /// Forgets every sample.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
        self.longest = 0;
    }

    /// How many samples there are.
    pub fn len(&self) -> u64 {
        self.total
    }

    /// The longest sample.
    pub fn longest(&self) -> u64 {
        self.longest
    }

    /// The least value that this share of the samples does not pass; 0 of no samples.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = (share * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Self::value(place).min(self.longest);
            }
        }
        self.longest
    }

    /// The counter of a value: exact below 128, then its upper eight bits.
    fn place(value: u64) -> usize {
        if value < PARTS {
            return value as usize;
        }
        let shift = value.ilog2() - PARTS_BITS;
        (u64::from(shift) * PARTS + (value >> shift)) as usize
    }

    /// The largest value that shares this counter.
    fn value(place: usize) -> u64 {
        let place = place as u64;
        if place < 2 * PARTS {
            return place;
        }
        let shift = place / PARTS - 1;
        let first = (place - shift * PARTS) << shift;
        first + ((1 << shift) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_counter_whose_bound_is_near() {
        let mut value = 1u64;
        while value < 1 << 50 {
            for near in [value - 1, value, value + 1] {
                let bound = Latencies::value(Latencies::place(near));
                assert!(bound >= near && bound - near <= near / 128 + 1, "{near} {bound}");
            }
            value = value * 3 / 2 + 1;
        }
        assert_eq!(Latencies::value(Latencies::place(u64::MAX)), u64::MAX);
    }

    #[test]
    fn quantiles_of_a_thousand_equal_steps() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.quantile(0.5), 0);
        for step in 1..=1000u64 {
            latencies.add(step * 1000);
        }
        assert_eq!((latencies.len(), latencies.longest()), (1000, 1_000_000));
        for (share, expected) in [(0.5, 500_000.0), (0.9, 900_000.0), (0.99, 990_000.0)] {
            let found = latencies.quantile(share) as f64;
            assert!((found / expected - 1.0).abs() < 0.01, "{share}: {found}");
        }
        assert_eq!(latencies.quantile(1.0), 1_000_000);
        latencies.clear();
        assert_eq!(latencies.len(), 0);
    }
}
