//! Resampling of bytes along one axis in fixed point, bit for bit as Pillow (`libImaging/Resample.c`).

use pulp::{Simd, WithSimd};

use crate::ARCH;

/// Binary places of a weight: Pillow's `PRECISION_BITS`.
pub const WEIGHT_BITS: u32 = 22;

/// One half in fixed point: shifting rounds down, so it is added before.
const HALF: i32 = 1 << (WEIGHT_BITS - 1);

/// Values that are added up side by side: a whole number of pixels of 1, 2, 3 or 4 channels.
const BLOCK: usize = 24;

/// Columns that are added up side by side.
const COLUMNS: usize = 64;

/// The source values that each result is a weighted sum of.
#[derive(Clone, Debug, Default)]
pub struct Taps {
    firsts: Vec<usize>,
    ends: Vec<usize>,
    weights: Vec<i32>,
}

impl Taps {
    /// Adds a result: `weights` of the sources from `first` on, with [`WEIGHT_BITS`] binary places. The absolute weights of a
    /// result must add up to less than 2: sums are kept in 32 bits.
    pub fn push(&mut self, first: usize, weights: impl IntoIterator<Item = i32>) {
        self.firsts.push(first);
        self.weights.extend(weights);
        self.ends.push(self.weights.len());
    }

    /// Returns the number of results.
    pub fn len(&self) -> usize {
        self.firsts.len()
    }

    /// Returns whether there is no result.
    pub fn is_empty(&self) -> bool {
        self.firsts.is_empty()
    }

    /// Returns for each result the first source that counts, and the weights from there.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        self.firsts
            .iter()
            .zip(starts.zip(&self.ends))
            .map(|(&first, (start, &end))| (first, &self.weights[start..end]))
    }

    /// Returns the weights once for each of `channels`, `[results, stride]`, with zeros up to a whole number of blocks, and the
    /// stride.
    fn by_channel(&self, channels: usize) -> (Vec<i32>, usize) {
        let most = self.iter().map(|(_, weights)| weights.len()).max();
        let stride = (channels * most.unwrap_or(0)).next_multiple_of(BLOCK);
        let mut expanded = vec![0; self.len() * stride];
        for (row, (_, weights)) in expanded.chunks_exact_mut(stride).zip(self.iter()) {
            for (pixel, weight) in row.chunks_exact_mut(channels).zip(weights) {
                pixel.fill(*weight);
            }
        }
        (expanded, stride)
    }
}

/// Resamples each row of pixels with `N` channels: `source` `[rows, width, N]` becomes `out` `[rows, results, N]`.
///
/// # Panics
/// If there are no taps, the slices have no whole number of rows, or a tap begins outside a row.
pub fn along_rows<const N: usize>(source: &[u8], width: usize, taps: &Taps, out: &mut [u8]) {
    ARCH.dispatch(AlongRows::<N> {
        source,
        width,
        taps,
        out,
    });
}

struct AlongRows<'a, const N: usize> {
    source: &'a [u8],
    width: usize,
    taps: &'a Taps,
    out: &'a mut [u8],
}

impl<const N: usize> WithSimd for AlongRows<'_, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        assert!(BLOCK.is_multiple_of(N), "blocks hold whole pixels");
        let (weights, stride) = self.taps.by_channel(N); // [results, stride]
        // The zeros behind a result's weights meet those behind the row.
        let mut row = vec![0_i32; self.width * N + stride];
        let sources = self.source.chunks_exact(self.width * N);
        let results = self.out.chunks_exact_mut(self.taps.len() * N);
        assert_eq!(
            sources.len(),
            results.len(),
            "a row of results for each row"
        );
        for (source, results) in sources.zip(results) {
            for (wide, byte) in row.iter_mut().zip(source) {
                *wide = i32::from(*byte);
            }
            let (results, _) = results.as_chunks_mut::<N>();
            let weights = weights.chunks_exact(stride);
            for ((result, first), weights) in results.iter_mut().zip(&self.taps.firsts).zip(weights)
            {
                let (values, _) = row[first * N..][..stride].as_chunks::<BLOCK>();
                let mut sums = [0_i32; BLOCK];
                for (values, weights) in values.iter().zip(weights.as_chunks::<BLOCK>().0) {
                    for ((sum, value), weight) in sums.iter_mut().zip(values).zip(weights) {
                        *sum = sum.wrapping_add(value.wrapping_mul(*weight));
                    }
                }
                for (channel, byte) in result.iter_mut().enumerate() {
                    let of_channel = sums.iter().skip(channel).step_by(N);
                    *byte = rounded(of_channel.fold(HALF, |all, sum| all.wrapping_add(*sum)));
                }
            }
        }
    }
}

/// Resamples each column of bytes: `source` `[height, columns]` becomes `out` `[results, columns]`.
///
/// # Panics
/// If the slices have no whole number of rows, or a tap lies outside the source.
pub fn along_columns(source: &[u8], columns: usize, taps: &Taps, out: &mut [u8]) {
    ARCH.dispatch(AlongColumns {
        source,
        columns,
        taps,
        out,
    });
}

struct AlongColumns<'a> {
    source: &'a [u8],
    columns: usize,
    taps: &'a Taps,
    out: &'a mut [u8],
}

impl WithSimd for AlongColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let results = self.out.chunks_exact_mut(self.columns);
        assert_eq!(results.len(), self.taps.len(), "a row for each result");
        for (results, (first, weights)) in results.zip(self.taps.iter()) {
            let rows = &self.source[first * self.columns..][..weights.len() * self.columns];
            let (blocks, rest) = results.as_chunks_mut::<COLUMNS>();
            let whole = blocks.len() * COLUMNS;
            for (block, results) in blocks.iter_mut().enumerate() {
                let mut sums = [HALF; COLUMNS];
                for (row, weight) in rows.chunks_exact(self.columns).zip(weights) {
                    let values = &row.as_chunks::<COLUMNS>().0[block];
                    add(&mut sums, values, *weight);
                }
                for (result, sum) in results.iter_mut().zip(sums) {
                    *result = rounded(sum);
                }
            }
            let mut sums = [HALF; COLUMNS];
            for (row, weight) in rows.chunks_exact(self.columns).zip(weights) {
                add(&mut sums, &row[whole..], *weight);
            }
            for (result, sum) in rest.iter_mut().zip(sums) {
                *result = rounded(sum);
            }
        }
    }
}

#[inline(always)]
fn add(sums: &mut [i32; COLUMNS], values: &[u8], weight: i32) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum = sum.wrapping_add(i32::from(*value).wrapping_mul(weight));
    }
}

#[inline(always)]
fn rounded(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taps(height: usize) -> impl Strategy<Value = Taps> {
        let tap = (0..height).prop_flat_map(move |first| {
            let weights = prop::collection::vec(-1.0..1.0_f64, 1..=(height - first).min(30));
            (Just(first), weights)
        });
        prop::collection::vec(tap, 1..20).prop_map(|all| {
            let mut taps = Taps::default();
            for (first, weights) in all {
                let most: f64 = weights.iter().map(|weight| weight.abs()).sum();
                let unit = 1.9 * f64::from(1 << WEIGHT_BITS) / most.max(1.0);
                taps.push(
                    first,
                    weights.into_iter().map(|weight| (weight * unit) as i32),
                );
            }
            taps
        })
    }

    /// The weighted sum in 64 bits, one value after the other.
    fn plain(values: impl Fn(usize) -> u8, first: usize, weights: &[i32]) -> u8 {
        let products = weights.iter().enumerate();
        let sum: i64 = products
            .map(|(i, weight)| i64::from(values(first + i)) * i64::from(*weight))
            .sum();
        ((sum + i64::from(HALF)) >> WEIGHT_BITS).clamp(0, 255) as u8
    }

    fn check_rows<const N: usize>(
        source: &[u8],
        width: usize,
        taps: &Taps,
    ) -> Result<(), TestCaseError> {
        let rows = source.len() / (width * N);
        let source = &source[..rows * width * N];
        let mut out = vec![0; rows * taps.len() * N];
        along_rows::<N>(source, width, taps, &mut out);
        for (i, byte) in out.into_iter().enumerate() {
            let (row, result, channel) = (i / N / taps.len(), i / N % taps.len(), i % N);
            let (first, weights) = taps.iter().nth(result).unwrap();
            let value = |x: usize| source[(row * width + x) * N + channel];
            prop_assert_eq!(byte, plain(value, first, weights));
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn results_are_the_plain_sums(
            source in prop::collection::vec(any::<u8>(), 40 * 4 * 3),
            of_rows in taps(40),
            of_columns in taps(3),
            columns in 1..160_usize,
        ) {
            check_rows::<1>(&source, 40, &of_rows)?;
            check_rows::<2>(&source, 40, &of_rows)?;
            check_rows::<3>(&source, 40, &of_rows)?;
            check_rows::<4>(&source, 40, &of_rows)?;

            let source = &source[..3 * columns];
            let mut out = vec![0; of_columns.len() * columns];
            along_columns(source, columns, &of_columns, &mut out);
            for (i, byte) in out.into_iter().enumerate() {
                let (first, weights) = of_columns.iter().nth(i / columns).unwrap();
                let value = |y: usize| source[y * columns + i % columns];
                prop_assert_eq!(byte, plain(value, first, weights));
            }
        }
    }
}
