//! Python's `random` module, as far as the published few-shot splits depend on it.

use rand_mt::Mt;

/// The generator behind `random.seed(seed)`: the 32-bit Mersenne Twister, drawing as CPython 3 does.
pub(super) struct PythonRandom(Mt);

impl PythonRandom {
    /// Seeds the generator, as `random.seed(seed)`.
    pub(super) fn new(seed: u64) -> Self {
        let [low, high] = [seed as u32, (seed >> 32) as u32];
        // CPython's key is the integer's 32-bit digits, lowest first, without leading zeros but at least one.
        let digits = if high == 0 { 1 } else { 2 };
        Self(Mt::new_with_key([low, high].into_iter().take(digits)))
    }

    /// Draws as `random.sample(range(n), k)`: `k` different indices below `n`, in the order drawn. Needs `k <= n`.
    pub(super) fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        // CPython's estimate of where a set of the drawn takes less memory than a list of the remaining.
        let mut set_size = 21;
        if k > 5 {
            // 4^ceil(log4(3k)); 3k is never a power of 4
            let mut power = 1;
            while power < 3 * k {
                power *= 4;
            }
            set_size += power;
        }

        if n <= set_size {
            let mut pool: Vec<usize> = (0..n).collect();
            (0..k)
                .map(|_| {
                    let drawn = self.below(pool.len());
                    pool.swap_remove(drawn)
                })
                .collect()
        } else {
            let mut drawn = Vec::with_capacity(k);
            let mut seen = std::collections::HashSet::with_capacity(k);
            while drawn.len() < k {
                let index = self.below(n);
                if seen.insert(index) {
                    drawn.push(index);
                }
            }
            drawn
        }
    }

    /// Shuffles as `random.shuffle(items)`.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// Draws as `random._randbelow(n)`: as many bits as `n` has until they are below it. Needs `n > 0`.
    fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let drawn = self.bits(bits) as usize;
            if drawn < n {
                return drawn;
            }
        }
    }

    /// Draws as `random.getrandbits(count)` for 1 to 64 bits: words from the lowest up, the last one cut to its upper
    /// bits.
    fn bits(&mut self, count: u32) -> u64 {
        let low_bits = count.min(32);
        let low = u64::from(self.0.next_u32() >> (32 - low_bits));
        match count - low_bits {
            0 => low,
            high_bits => low | u64::from(self.0.next_u32() >> (32 - high_bits)) << 32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PythonRandom;
    // Expected values: CPython 3.11, `random.seed(seed)` and the call named.
    #[test]
    fn samples_as_cpython() {
        for (seed, n, k, expected) in [
            (0, 1000, 6, vec![864, 394, 776, 911, 430, 41]),
            (
                1,
                85,
                16,
                vec![17, 72, 8, 32, 15, 63, 57, 60, 48, 26, 12, 62, 3, 49, 55, 0],
            ),
            (
                1,
                86,
                16,
                vec![17, 72, 8, 32, 15, 63, 57, 60, 83, 48, 26, 12, 62, 3, 49, 55],
            ),
            (2, 21, 5, vec![1, 2, 19, 11, 5]),
            (2, 22, 5, vec![1, 2, 11, 5, 21]),
            (
                1099511627781,
                1000000,
                7,
                vec![528881, 542031, 281652, 696042, 970757, 28760, 556751],
            ),
            (
                18446744073709551615,
                6000000000,
                4,
                vec![93740670, 5747075648, 910393425, 2641946051],
            ),
        ] {
            assert_eq!(
                PythonRandom::new(seed).sample(n, k),
                expected,
                "seed {seed}, n {n}"
            );
        }
    }

    #[test]
    fn shuffles_as_cpython() {
        let mut items: Vec<usize> = (0..12).collect();
        PythonRandom::new(3).shuffle(&mut items);
        assert_eq!(items, [1, 7, 10, 0, 6, 11, 4, 5, 2, 8, 9, 3]);
    }
}
