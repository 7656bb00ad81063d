//! Operations on the rows of a matrix, as one pass over them each.

use rayon::prelude::*;

use crate::ARCH;

/// QuickGELU is u·σ(1.702·u).
const QUICK_GELU_FACTOR: f32 = 1.702;
/// Numbers that one task of the thread pool works on, in whole rows.
const TASK: usize = 1 << 14;

/// (x − mean) / √(variance + ε) · weight + bias for each row of `x`; `weight` and `bias` are as long as a row.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32) -> Vec<f32> {
    by_rows(weight.len(), [x], |[x], y| {
        let (mean, inverse) = moments(x, epsilon);
        for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
            *y = (x - mean) * inverse * weight + bias;
        }
    })
}

/// Gradient of a layer norm's input from input, weight and the output's gradient.
pub fn layer_norm_input(x: &[f32], weight: &[f32], gradient: &[f32], epsilon: f32) -> Vec<f32> {
    // With n = (x − mean) / deviation and h = g·weight: (h − mean(h) − n·mean(h·n)) / deviation.
    by_rows(weight.len(), [x, gradient], |[x, g], out| {
        let (mean, inverse) = moments(x, epsilon);
        let width = x.len() as f32;
        let plain = sum(x.len(), |i| g[i] * weight[i]) / width;
        let along = sum(x.len(), |i| g[i] * weight[i] * (x[i] - mean)) * inverse / width;
        for (((out, x), g), weight) in out.iter_mut().zip(x).zip(g).zip(weight) {
            let normed = (x - mean) * inverse;
            *out = (g * weight - plain - normed * along) * inverse;
        }
    })
}

/// Gradients of a layer norm's weight and bias, each `width` long, from input and the output's gradient.
pub fn layer_norm_parameters(
    x: &[f32],
    gradient: &[f32],
    width: usize,
    epsilon: f32,
) -> (Vec<f32>, Vec<f32>) {
    let rows = TASK.div_ceil(width) * width;
    x.par_chunks(rows)
        .zip(gradient.par_chunks(rows))
        .map(|(x, g)| {
            let mut sums = (vec![0.0; width], vec![0.0; width]);
            for (x, g) in x.chunks_exact(width).zip(g.chunks_exact(width)) {
                let (mean, inverse) = moments(x, epsilon);
                for ((sum, x), g) in sums.0.iter_mut().zip(x).zip(g) {
                    *sum += g * (x - mean) * inverse;
                }
                for (sum, g) in sums.1.iter_mut().zip(g) {
                    *sum += g;
                }
            }
            sums
        })
        .reduce(
            || (vec![0.0; width], vec![0.0; width]),
            |mut a, b| {
                a.0.iter_mut().zip(b.0).for_each(|(a, b)| *a += b);
                a.1.iter_mut().zip(b.1).for_each(|(a, b)| *a += b);
                a
            },
        )
}

/// exp(scale · x) / Σ exp(scale · x).
#[inline(always)]
pub fn softmax_in_place(x: &mut [f32], scale: f32) {
    let highest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for x in x.iter_mut() {
        *x = exp((*x - highest) * scale);
    }
    let inverse = 1.0 / sum(x.len(), |i| x[i]);
    for x in x {
        *x *= inverse;
    }
}

/// u·σ(1.702·u).
pub fn quick_gelu(u: &[f32]) -> Vec<f32> {
    by_rows(1, [u], |[u], y| {
        for (y, u) in y.iter_mut().zip(u) {
            *y = u * sigmoid(QUICK_GELU_FACTOR * u);
        }
    })
}

/// Gradient of QuickGELU's input from the input and the output's gradient.
pub fn quick_gelu_input(u: &[f32], gradient: &[f32]) -> Vec<f32> {
    by_rows(1, [u, gradient], |[u, g], out| {
        for ((out, u), g) in out.iter_mut().zip(u).zip(g) {
            let s = sigmoid(QUICK_GELU_FACTOR * u);
            *out = g * s * (1.0 + QUICK_GELU_FACTOR * u * (1.0 - s));
        }
    })
}

/// u·Φ(u), Φ the distribution function of the standard normal distribution.
pub fn gelu(u: &[f32]) -> Vec<f32> {
    by_rows(1, [u], |[u], y| {
        for (y, u) in y.iter_mut().zip(u) {
            *y = u * normal_distribution(*u);
        }
    })
}

/// Gradient of GELU's input from the input and the output's gradient: Φ(u) + u·φ(u).
pub fn gelu_input(u: &[f32], gradient: &[f32]) -> Vec<f32> {
    /// 1 / √(2π)
    const DENSITY_AT_ZERO: f32 = 0.398_942_3;
    by_rows(1, [u, gradient], |[u, g], out| {
        for ((out, u), g) in out.iter_mut().zip(u).zip(g) {
            let density = DENSITY_AT_ZERO * exp(-0.5 * u * u);
            *out = g * (normal_distribution(*u) + u * density);
        }
    })
}

/// The gradient where the output was not cut off at zero or at `ceiling`.
pub fn rectifier_input(output: &[f32], gradient: &[f32], ceiling: f32) -> Vec<f32> {
    by_rows(1, [output, gradient], |[y, g], out| {
        for ((out, y), g) in out.iter_mut().zip(y).zip(g) {
            *out = if *y > 0.0 && *y < ceiling { *g } else { 0.0 };
        }
    })
}

/// What is above `ceiling` becomes it.
pub fn cap(x: &mut [f32], ceiling: f32) {
    x.par_chunks_mut(TASK).for_each(|x| {
        ARCH.dispatch(
            #[inline(always)]
            || x.iter_mut().for_each(|x| *x = x.min(ceiling)),
        );
    });
}

/// A matrix as large as the inputs, each row of `width` numbers computed from the same row of all inputs. With rows of one
/// number, `compute` gets many at once.
fn by_rows<const N: usize>(
    width: usize,
    inputs: [&[f32]; N],
    compute: impl Fn([&[f32]; N], &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut output = vec![0.0; inputs[0].len()];
    let task = TASK.div_ceil(width) * width;
    let at_once = if width == 1 { task } else { width };
    output
        .par_chunks_mut(task)
        .enumerate()
        .for_each(|(number, output)| {
            ARCH.dispatch(
                #[inline(always)]
                || {
                    for (row, output) in output.chunks_mut(at_once).enumerate() {
                        let start = number * task + row * at_once;
                        let place = start..start + output.len();
                        compute(inputs.map(|input| &input[place.clone()]), output);
                    }
                },
            );
        });
    output
}

/// Mean and 1 / √(variance + ε) of a row.
#[inline(always)]
fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
    let width = x.len() as f32;
    let mean = sum(x.len(), |i| x[i]) / width;
    let variance = sum(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / width;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// Σ term(i), in sixteen strands that fit the vector registers.
#[inline(always)]
pub fn sum(length: usize, term: impl Fn(usize) -> f32) -> f32 {
    const STRANDS: usize = 16;
    let mut strands = [0.0; STRANDS];
    let whole = length / STRANDS * STRANDS;
    for start in (0..whole).step_by(STRANDS) {
        for (strand, sum) in strands.iter_mut().enumerate() {
            *sum += term(start + strand);
        }
    }
    strands.iter().sum::<f32>() + (whole..length).map(term).sum::<f32>()
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn normal_distribution(x: f32) -> f32 {
    0.5 + 0.5 * erf(x * std::f32::consts::FRAC_1_SQRT_2)
}

/// The error function without branches, by the rational approximation of XLA and Eigen: absolute error below 3e-7.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let numerator = -1.609_603_3e-2
        + square
            * (-2.954_6e-3
                + square
                    * (-7.349_906_3e-4
                        + square
                            * (-5.692_506_4e-5
                                + square
                                    * (-2.101_024e-6
                                        + square * (2.770_681_4e-8 + square * -2.726_142_3e-10)))));
    let denominator = -1.426_473_9e-2
        + square
            * (-7.373_329e-3
                + square * (-1.682_827e-3 + square * (-2.133_740_6e-4 + square * -1.456_607_2e-5)));
    x * numerator / denominator
}

/// eˣ without branches, so that the compiler computes many at once: relative error below 3e-7; zero below −87, e⁸⁸ above
/// 88.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// 1.5·2²³: adding it rounds to a whole number, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let vanishes = x < -87.0;
    let x = x.clamp(-87.0, 88.0);
    // x = n·ln 2 + r with |r| ≤ ln 2 / 2
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let polynomial = 1.0
        + r * (1.0
            + r * (0.5
                + r * (1.666_666_6e-1
                    + r * (4.166_579_6e-2 + r * (8.333_452e-3 + r * 1.398_2e-3)))));
    let power = f32::from_bits(
        shifted
            .to_bits()
            .wrapping_sub(ROUND.to_bits())
            .wrapping_add(127)
            << 23,
    );
    if vanishes { 0.0 } else { polynomial * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_single_precision_and_never_overflows() {
        for step in -870..=880 {
            let x = step as f32 / 10.0;
            let exact = f64::from(x).exp();
            assert!(
                (f64::from(exp(x)) - exact).abs() <= 3e-7 * exact,
                "exp({x})"
            );
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::INFINITY).is_finite());
    }

    #[test]
    fn erf_is_exact_to_single_precision() {
        /// 2/√π · Σ (−1)ⁿ x²ⁿ⁺¹ / (n! (2n + 1))
        fn exact(x: f64) -> f64 {
            let mut power = x;
            let mut sum = x;
            for n in 1..200 {
                power *= -x * x / f64::from(n);
                sum += power / f64::from(2 * n + 1);
            }
            sum * std::f64::consts::FRAC_2_SQRT_PI
        }
        for step in -350..=350 {
            let x = step as f32 / 100.0;
            let error = (f64::from(erf(x)) - exact(f64::from(x))).abs();
            assert!(error <= 3e-7, "erf({x}): {error}");
        }
        assert!((erf(f32::INFINITY) - 1.0).abs() <= 3e-7);
        assert_eq!(erf(f32::INFINITY), -erf(f32::NEG_INFINITY));
    }
}
