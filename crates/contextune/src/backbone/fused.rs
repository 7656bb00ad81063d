//! What happens between the matrix products, as one pass forward and one pass backward each.
//!
//! Burn composes layer norm, softmax and QuickGELU of elementary operations, each with its own buffer; on a CPU that
//! costs as much as the products themselves. Here they are operations of their own, with their own gradients.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, TensorData};
use burn_flex::FlexTensor;
use rayon::prelude::*;

/// Added to the variance in every layer norm of CLIP.
const LAYER_NORM_EPSILON: f32 = 1e-5;
/// QuickGELU is u·σ(1.702·u).
const QUICK_GELU_FACTOR: f32 = 1.702;
/// Elements that one task of the thread pool works on, in whole rows.
const TASK: usize = 1 << 14;

/// (x − mean) / √(variance + 1e-5) · weight + bias over the last axis; `x` `[.., width]`, `weight` and `bias` `[width]`.
pub(super) fn layer_norm<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as RowOps>::row_layer_norm(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    ))
}

/// exp(x) / Σ exp(x) over the last axis.
pub(super) fn softmax<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as RowOps>::row_softmax(x.into_dispatch()))
}

/// u·σ(1.702·u) for each element.
pub(super) fn quick_gelu<const D: usize>(u: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as RowOps>::row_quick_gelu(u.into_dispatch()))
}

/// Operations on the rows of a tensor, forward.
#[backend_extension(Flex, Autodiff)]
pub trait RowOps: Backend {
    /// See [`layer_norm`].
    fn row_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    /// See [`softmax`].
    fn row_softmax(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// See [`quick_gelu`].
    fn row_quick_gelu(u: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The same operations backward, for backends that compute.
pub trait RowGradients: RowOps {
    /// Gradient of the input, from input, weight and the output's gradient.
    fn layer_norm_input(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    /// Gradients of weight and bias, from input and the output's gradient.
    fn layer_norm_parameters(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
    /// Gradient of the input, from the output and its gradient.
    fn softmax_input(output: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Gradient of the input, from input and the output's gradient.
    fn quick_gelu_input(u: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl<B: RowGradients, C: CheckpointStrategy> RowOps for Autodiff<B, C> {
    fn row_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct LayerNorm;

        impl<B: RowGradients> Backward<B, 3> for LayerNorm {
            type State = (FloatTensor<B>, FloatTensor<B>);

            fn backward(
                self,
                ops: Ops<Self::State, 3>,
                gradients: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let [x_node, weight_node, bias_node] = ops.parents;
                let gradient = gradients.consume::<B>(&ops.node);
                let (x, weight) = ops.state;
                if weight_node.is_some() || bias_node.is_some() {
                    let (of_weight, of_bias) =
                        B::layer_norm_parameters(x.clone(), gradient.clone());
                    if let Some(node) = weight_node {
                        gradients.register::<B>(node.id, of_weight);
                    }
                    if let Some(node) = bias_node {
                        gradients.register::<B>(node.id, of_bias);
                    }
                }
                if let Some(node) = x_node {
                    gradients.register::<B>(node.id, B::layer_norm_input(x, weight, gradient));
                }
            }
        }

        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let output = B::row_layer_norm(x.clone(), weight.clone(), bias);
        match LayerNorm
            .prepare::<C>([x_node, weight_node, bias_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(step) => step.finish((x, weight), output),
            OpsKind::UnTracked(step) => step.finish(output),
        }
    }

    fn row_softmax(x: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Softmax;

        impl<B: RowGradients> Backward<B, 1> for Softmax {
            type State = FloatTensor<B>;

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                gradients: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
                    B::softmax_input(ops.state, gradient)
                });
            }
        }

        let (x, node) = x.into_parts();
        let output = B::row_softmax(x);
        match Softmax.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => step.finish(output.clone(), output),
            OpsKind::UnTracked(step) => step.finish(output),
        }
    }

    fn row_quick_gelu(u: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct QuickGelu;

        impl<B: RowGradients> Backward<B, 1> for QuickGelu {
            type State = FloatTensor<B>;

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                gradients: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
                    B::quick_gelu_input(ops.state, gradient)
                });
            }
        }

        let (u, node) = u.into_parts();
        let output = B::row_quick_gelu(u.clone());
        match QuickGelu.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => step.finish(u, output),
            OpsKind::UnTracked(step) => step.finish(output),
        }
    }
}

impl RowOps for Flex {
    fn row_layer_norm(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        let (weight, bias) = (weight.to_contiguous(), bias.to_contiguous());
        let (weight, bias) = (weight.storage::<f32>(), bias.storage::<f32>());
        by_rows([&x], |[x], y| {
            let (mean, inverse) = moments(x);
            for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                *y = (x - mean) * inverse * weight + bias;
            }
        })
    }

    fn row_softmax(x: FlexTensor) -> FlexTensor {
        by_rows([&x], |[x], y| {
            let highest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for (y, x) in y.iter_mut().zip(x) {
                *y = exp(x - highest);
            }
            let inverse = 1.0 / sum(y.len(), |i| y[i]);
            for y in y {
                *y *= inverse;
            }
        })
    }

    fn row_quick_gelu(u: FlexTensor) -> FlexTensor {
        by_rows([&u], |[u], y| {
            for (y, u) in y.iter_mut().zip(u) {
                *y = u * sigmoid(QUICK_GELU_FACTOR * u);
            }
        })
    }
}

impl RowGradients for Flex {
    fn layer_norm_input(x: FlexTensor, weight: FlexTensor, gradient: FlexTensor) -> FlexTensor {
        let weight = weight.to_contiguous();
        let weight = weight.storage::<f32>();
        // With n = (x − mean) / deviation and h = g·weight: (h − mean(h) − n·mean(h·n)) / deviation.
        by_rows([&x, &gradient], |[x, g], out| {
            let (mean, inverse) = moments(x);
            let width = x.len() as f32;
            let plain = sum(x.len(), |i| g[i] * weight[i]) / width;
            let along = sum(x.len(), |i| g[i] * weight[i] * (x[i] - mean)) * inverse / width;
            for (((out, x), g), weight) in out.iter_mut().zip(x).zip(g).zip(weight) {
                let normed = (x - mean) * inverse;
                *out = (g * weight - plain - normed * along) * inverse;
            }
        })
    }

    fn layer_norm_parameters(x: FlexTensor, gradient: FlexTensor) -> (FlexTensor, FlexTensor) {
        let (x, gradient) = (x.to_contiguous(), gradient.to_contiguous());
        let width = last_axis(&x);
        let rows = TASK.div_ceil(width) * width;
        let (of_weight, of_bias) = x
            .storage::<f32>()
            .par_chunks(rows)
            .zip(gradient.storage::<f32>().par_chunks(rows))
            .map(|(x, g)| {
                let mut sums = (vec![0.0; width], vec![0.0; width]);
                for (x, g) in x.chunks_exact(width).zip(g.chunks_exact(width)) {
                    let (mean, inverse) = moments(x);
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
            );
        let tensor = |values| FlexTensor::from_data(TensorData::new(values, [width]));
        (tensor(of_weight), tensor(of_bias))
    }

    fn softmax_input(output: FlexTensor, gradient: FlexTensor) -> FlexTensor {
        by_rows([&output, &gradient], |[p, g], out| {
            let mean = sum(p.len(), |i| p[i] * g[i]);
            for ((out, p), g) in out.iter_mut().zip(p).zip(g) {
                *out = p * (g - mean);
            }
        })
    }

    fn quick_gelu_input(u: FlexTensor, gradient: FlexTensor) -> FlexTensor {
        by_rows([&u, &gradient], |[u, g], out| {
            for ((out, u), g) in out.iter_mut().zip(u).zip(g) {
                let s = sigmoid(QUICK_GELU_FACTOR * u);
                *out = g * s * (1.0 + QUICK_GELU_FACTOR * u * (1.0 - s));
            }
        })
    }
}

/// A tensor like the inputs, each row computed from the same row of all inputs.
fn by_rows<const N: usize>(
    inputs: [&FlexTensor; N],
    compute: impl Fn([&[f32]; N], &mut [f32]) + Sync,
) -> FlexTensor {
    let shape = inputs[0].shape();
    let width = last_axis(inputs[0]);
    let inputs = inputs.map(FlexTensor::to_contiguous);
    let inputs = inputs.each_ref().map(|input| input.storage::<f32>());
    let mut output = vec![0.0; inputs[0].len()];
    let rows = TASK.div_ceil(width);
    output
        .par_chunks_mut(rows * width)
        .enumerate()
        .for_each(|(task, output)| {
            for (row, output) in output.chunks_exact_mut(width).enumerate() {
                let start = (task * rows + row) * width;
                compute(inputs.map(|input| &input[start..start + width]), output);
            }
        });
    FlexTensor::from_data(TensorData::new(output, shape))
}

fn last_axis(x: &FlexTensor) -> usize {
    x.shape().last().copied().unwrap_or(1)
}

/// Mean and 1 / √(variance + ε) of a row.
fn moments(x: &[f32]) -> (f32, f32) {
    let width = x.len() as f32;
    let mean = sum(x.len(), |i| x[i]) / width;
    let variance = sum(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / width;
    (mean, 1.0 / (variance + LAYER_NORM_EPSILON).sqrt())
}

/// Σ term(i), in sixteen strands that fit the vector registers.
#[inline(always)]
fn sum(length: usize, term: impl Fn(usize) -> f32) -> f32 {
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

/// eˣ without branches, so that the compiler computes many at once: relative error below 3e-7; zero below −87, e⁸⁸ above
/// 88.
#[inline(always)]
fn exp(x: f32) -> f32 {
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
    use burn::tensor::{Device, Distribution, activation};

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        Tensor::random(shape, Distribution::Normal(0.3, 2.0), &Device::flex())
    }

    fn assert_close<const D: usize>(a: Tensor<D>, b: Tensor<D>) {
        let difference: f32 = (a - b.clone()).abs().max().into_scalar();
        let size: f32 = b.abs().max().into_scalar();
        assert!(difference <= 2e-6 * size.max(1.0), "{difference} of {size}");
    }

    /// Output and gradients of all inputs for both ways to compute `inputs` -> output.
    fn compare<const N: usize>(
        inputs: [Tensor<2>; N],
        fused: impl Fn([Tensor<2>; N]) -> Tensor<2>,
        plain: impl Fn([Tensor<2>; N]) -> Tensor<2>,
    ) {
        let upstream = random([37, 45]);
        let run = |compute: &dyn Fn([Tensor<2>; N]) -> Tensor<2>| {
            let leaves = inputs.clone().map(|input| input.autodiff().require_grad());
            let output = compute(leaves.clone());
            let gradients = (output.clone() * upstream.clone()).sum().backward();
            let of_inputs = leaves.map(|leaf| leaf.grad(&gradients).unwrap());
            (output.inner(), of_inputs)
        };
        let (fused, fused_gradients) = run(&fused);
        let (plain, plain_gradients) = run(&plain);
        assert_close(fused, plain);
        for (fused, plain) in fused_gradients.into_iter().zip(plain_gradients) {
            assert_close(fused, plain);
        }
    }

    #[test]
    fn layer_norm_equals_the_composed_one() {
        compare(
            [random([37, 45]), random([1, 45]), random([1, 45])],
            |[x, weight, bias]| layer_norm(x, weight.reshape([45]), bias.reshape([45])),
            |[x, weight, bias]| {
                let centred = x.clone() - x.mean_dim(1);
                let variance = centred.clone().square().mean_dim(1);
                centred / (variance + LAYER_NORM_EPSILON).sqrt() * weight + bias
            },
        );
    }

    #[test]
    fn softmax_equals_the_composed_one() {
        compare(
            [random([37, 45])],
            |[x]| softmax(x),
            |[x]| activation::softmax(x, 1),
        );
    }

    #[test]
    fn quick_gelu_equals_the_composed_one() {
        compare(
            [random([37, 45])],
            |[u]| quick_gelu(u),
            |[u]| u.clone() * activation::sigmoid(u * QUICK_GELU_FACTOR),
        );
    }

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
}
