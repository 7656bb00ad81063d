//! What happens between and in the frozen layers, as one pass forward and one pass backward each.
//!
//! Burn composes layer norm, attention and QuickGELU of elementary operations, each with its own buffer; on a CPU
//! that costs as much as the products themselves. Here they are operations of their own, with their own gradients. Products
//! with frozen weights read these packed, and give no gradient to them.

use std::fmt;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor, TensorData};
use burn_flex::FlexTensor;

use super::frozen::{FrozenConvolution, FrozenDepthwise, FrozenMatrix};
use super::kinds::{Rectify, Seen, stand_for};
use super::{Activation, composed};
use contextune_kernel::attention::{self as attention_kernel, Heads, Shared};
use contextune_kernel::convolution as convolution_kernel;
use contextune_kernel::depthwise as depthwise_kernel;
use contextune_kernel::product::{Epilogue, product};
use contextune_kernel::rows;

/// (x − mean) / √(variance + ε) · weight + bias over the last axis; `x` `[.., width]`, `weight` and `bias` `[width]`.
pub(super) fn layer_norm<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f32,
) -> Tensor<D> {
    if !stand_for(&x.device()) {
        return composed::layer_norm(x, weight, bias, epsilon);
    }
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_layer_norm(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        epsilon,
    ))
}

/// The activation of each element.
pub(super) fn activate<const D: usize>(u: Tensor<D>, activation: Activation) -> Tensor<D> {
    if !stand_for(&u.device()) {
        return composed::activate(u, activation);
    }
    let u = u.into_dispatch();
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_activation(u, activation))
}

/// x·W + b, `[.., inputs]` -> `[.., outputs]`.
pub(super) fn linear<const D: usize>(
    x: Tensor<D>,
    layer: &FrozenMatrix,
    rectify: Rectify,
) -> Tensor<D> {
    let x = x.into_dispatch();
    Tensor::from_dispatch(<Dispatch as FusedOps>::frozen_linear(
        x,
        layer.clone(),
        rectify,
    ))
}

/// x·W + b + residual, `[.., inputs]` and `[.., outputs]` -> `[.., outputs]`.
pub(super) fn linear_add<const D: usize>(
    x: Tensor<D>,
    residual: Tensor<D>,
    layer: &FrozenMatrix,
    rectify: Rectify,
) -> Tensor<D> {
    let (x, residual) = (x.into_dispatch(), residual.into_dispatch());
    let output = <Dispatch as FusedOps>::frozen_linear_add(x, residual, layer.clone(), rectify);
    Tensor::from_dispatch(output)
}

/// A convolution of three by three pixels with bias, zeros around the picture, `[B, H, W, C]` ->
/// `[B, H / stride, W / stride, outputs]`; what is below zero becomes zero.
pub(super) fn rectified_convolution(x: Tensor<4>, layer: &FrozenConvolution) -> Tensor<4> {
    let x = x.into_dispatch();
    Tensor::from_dispatch(<Dispatch as FusedOps>::frozen_convolution(x, layer.clone()))
}

/// A convolution in which each channel has a window of its own, `[B, H, W, C]` -> `[B, H / stride, W / stride, C]`; what is
/// below zero becomes zero, what is above six becomes six.
pub(super) fn depthwise(x: Tensor<4>, layer: &FrozenDepthwise) -> Tensor<4> {
    let x = x.into_dispatch();
    Tensor::from_dispatch(<Dispatch as FusedOps>::frozen_depthwise(x, layer.clone()))
}

/// The mean of each square of two by two, `[B, H, W, C]` -> `[B, H / 2, W / 2, C]`.
pub(super) fn halve(x: Tensor<4>) -> Tensor<4> {
    if !stand_for(&x.device()) {
        return composed::halve(x);
    }
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_halve(x.into_dispatch()))
}

/// Squares of `patch` by `patch` pixels of pictures `[B, 3, side, side]`, each by a weight whose inputs are its numbers
/// channel by channel, and a bias; `[B, squares, outputs]`.
pub(super) fn patches(pixels: Tensor<4>, layer: &FrozenMatrix, patch: usize) -> Tensor<3> {
    let pixels = pixels.into_dispatch();
    Tensor::from_dispatch(<Dispatch as FusedOps>::frozen_patches(
        pixels,
        layer.clone(),
        patch,
    ))
}

/// softmax(q·kᵀ/√c)·v, each head by itself: `query` `[B, Tq, heads · c]`, `key` and `value` `[B, Tk, heads · c]` ->
/// `[B, Tq, heads · c]`.
pub(super) fn attention(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    heads: usize,
    seen: Seen,
) -> Tensor<3> {
    if !stand_for(&query.device()) {
        return composed::attention(query, key, value, heads, seen);
    }
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_attention(
        query.into_dispatch(),
        key.into_dispatch(),
        value.into_dispatch(),
        heads,
        seen,
    ))
}

/// The same for sequences that all see the rows `shared_key` and `shared_value` `[A, heads · c]` before their own.
pub(super) fn attention_below(
    [query, key, value]: [Tensor<3>; 3],
    [shared_key, shared_value]: [Tensor<2>; 2],
    heads: usize,
    seen: Seen,
) -> Tensor<3> {
    if !stand_for(&query.device()) {
        let (own, shared) = ([query, key, value], [shared_key, shared_value]);
        return composed::attention_below(own, shared, heads, seen);
    }
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_attention_below(
        query.into_dispatch(),
        key.into_dispatch(),
        value.into_dispatch(),
        shared_key.into_dispatch(),
        shared_value.into_dispatch(),
        heads,
        seen,
    ))
}

/// The operations, forward.
#[backend_extension(Flex, Autodiff)]
pub trait FusedOps: Backend {
    /// See [`layer_norm`].
    fn fused_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;
    /// See [`activate`].
    fn fused_activation(u: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;
    /// See [`linear`].
    fn frozen_linear(
        x: FloatTensor<Self>,
        layer: FrozenMatrix,
        rectify: Rectify,
    ) -> FloatTensor<Self>;
    /// See [`linear_add`].
    fn frozen_linear_add(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        layer: FrozenMatrix,
        rectify: Rectify,
    ) -> FloatTensor<Self>;
    /// See [`rectified_convolution`].
    fn frozen_convolution(x: FloatTensor<Self>, layer: FrozenConvolution) -> FloatTensor<Self>;
    /// See [`depthwise`].
    fn frozen_depthwise(x: FloatTensor<Self>, layer: FrozenDepthwise) -> FloatTensor<Self>;
    /// See [`halve`].
    fn fused_halve(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// See [`patches`].
    fn frozen_patches(
        pixels: FloatTensor<Self>,
        layer: FrozenMatrix,
        patch: usize,
    ) -> FloatTensor<Self>;
    /// See [`attention`].
    fn fused_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        heads: usize,
        seen: Seen,
    ) -> FloatTensor<Self>;
    /// See [`attention_below`].
    fn fused_attention_below(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        shared_key: FloatTensor<Self>,
        shared_value: FloatTensor<Self>,
        heads: usize,
        seen: Seen,
    ) -> FloatTensor<Self>;
}

/// The same operations backward, for backends that compute.
pub trait FusedGradients: FusedOps {
    /// Gradient of the input, from input, weight and the output's gradient.
    fn layer_norm_input(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;
    /// Gradients of weight and bias, from input and the output's gradient.
    fn layer_norm_parameters(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
    /// Gradient of the input, from input and the output's gradient.
    fn activation_input(
        u: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;
    /// Gradient of the input, from the output's.
    fn linear_input(gradient: FloatTensor<Self>, layer: FrozenMatrix) -> FloatTensor<Self>;
    /// Gradient of a sum below which nothing is, from the output and its gradient: nothing where it was cut off.
    fn rectifier_input(
        output: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        rectify: Rectify,
    ) -> FloatTensor<Self>;
    /// Gradient of the input `[B, H, W, C]`, from that of the sums.
    fn depthwise_input(
        gradient: FloatTensor<Self>,
        layer: FrozenDepthwise,
        input: [usize; 4],
    ) -> FloatTensor<Self>;
    /// Gradient of the input `[B, H, W, C]`, from that of the sums.
    fn convolution_input(
        gradient: FloatTensor<Self>,
        layer: FrozenConvolution,
        input: [usize; 4],
    ) -> FloatTensor<Self>;
    /// Gradient of the input, from the output's.
    fn halve_input(gradient: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Gradient of the pixels `[B, 3, side, side]`, from the output's.
    fn patches_input(
        gradient: FloatTensor<Self>,
        layer: FrozenMatrix,
        patch: usize,
        side: usize,
    ) -> FloatTensor<Self>;
    /// Gradients of query, key and value, from these and the output's gradient.
    fn attention_inputs(
        inputs: [FloatTensor<Self>; 3],
        gradient: FloatTensor<Self>,
        heads: usize,
        seen: Seen,
    ) -> [FloatTensor<Self>; 3];
    /// Gradients of query, key, value, shared keys and shared values, from these and the output's gradient.
    fn attention_below_inputs(
        inputs: [FloatTensor<Self>; 5],
        gradient: FloatTensor<Self>,
        heads: usize,
        seen: Seen,
    ) -> [FloatTensor<Self>; 5];
}

impl<B: FusedGradients, C: CheckpointStrategy> FusedOps for Autodiff<B, C> {
    fn fused_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let output = B::fused_layer_norm(x.clone(), weight.clone(), bias, epsilon);
        let gradients = |kept: (FloatTensor<B>, FloatTensor<B>, f32), gradient, wanted| {
            let (x, weight, epsilon) = kept;
            let [of_x, of_weight, of_bias] = wanted;
            let parameters = (of_weight || of_bias).then(|| {
                B::layer_norm_parameters(
                    FloatTensor::<B>::clone(&x),
                    FloatTensor::<B>::clone(&gradient),
                    epsilon,
                )
            });
            let (of_weight, of_bias) = parameters.unzip();
            let of_x = of_x.then(|| B::layer_norm_input(x, weight, gradient, epsilon));
            [of_x, of_weight, of_bias]
        };
        recorded::<B, C, _, 3>(
            [x_node, weight_node, bias_node],
            output,
            (x, weight, epsilon),
            gradients,
        )
    }

    fn fused_activation(u: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let (u, node) = u.into_parts();
        let output = B::fused_activation(u.clone(), activation);
        let kept = (u, activation);
        recorded::<B, C, _, 1>([node], output, kept, |(u, activation), gradient, _| {
            [Some(B::activation_input(u, gradient, activation))]
        })
    }

    fn frozen_linear(
        x: FloatTensor<Self>,
        layer: FrozenMatrix,
        rectify: Rectify,
    ) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let output = B::frozen_linear(x, layer.clone(), rectify);
        let kept = (layer, kept::<B>(&output, rectify));
        recorded::<B, C, _, 1>([node], output, kept, |(layer, rectified), gradient, _| {
            let gradient = through_rectifier::<B>(rectified, gradient);
            [Some(B::linear_input(gradient, layer))]
        })
    }

    fn frozen_linear_add(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        layer: FrozenMatrix,
        rectify: Rectify,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (residual, residual_node) = residual.into_parts();
        let output = B::frozen_linear_add(x, residual, layer.clone(), rectify);
        let kept = (layer, kept::<B>(&output, rectify));
        let nodes = [x_node, residual_node];
        recorded::<B, C, _, 2>(
            nodes,
            output,
            kept,
            |(layer, rectified), gradient, wanted| {
                let gradient = through_rectifier::<B>(rectified, gradient);
                let of_x = wanted[0].then(|| B::linear_input(gradient.clone(), layer));
                [of_x, Some(gradient)]
            },
        )
    }

    fn frozen_convolution(x: FloatTensor<Self>, layer: FrozenConvolution) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let input: [usize; 4] = x.shape().dims();
        let output = B::frozen_convolution(x, layer.clone());
        let kept = (output.clone(), layer, input);
        recorded::<B, C, _, 1>(
            [node],
            output,
            kept,
            |(output, layer, input), gradient, _| {
                let gradient = B::rectifier_input(output, gradient, Rectify::Yes);
                [Some(B::convolution_input(gradient, layer, input))]
            },
        )
    }

    fn frozen_depthwise(x: FloatTensor<Self>, layer: FrozenDepthwise) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let input: [usize; 4] = x.shape().dims();
        let output = B::frozen_depthwise(x, layer.clone());
        let kept = (output.clone(), layer, input);
        recorded::<B, C, _, 1>(
            [node],
            output,
            kept,
            |(output, layer, input), gradient, _| {
                let gradient = B::rectifier_input(output, gradient, Rectify::Six);
                [Some(B::depthwise_input(gradient, layer, input))]
            },
        )
    }

    fn fused_halve(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let output = B::fused_halve(x);
        recorded::<B, C, _, 1>([node], output, (), |(), gradient, _| {
            [Some(B::halve_input(gradient))]
        })
    }

    fn frozen_patches(
        pixels: FloatTensor<Self>,
        layer: FrozenMatrix,
        patch: usize,
    ) -> FloatTensor<Self> {
        let (pixels, node) = pixels.into_parts();
        let [_, _, side, _] = pixels.shape().dims();
        let output = B::frozen_patches(pixels, layer.clone(), patch);
        let kept = (layer, patch, side);
        recorded::<B, C, _, 1>([node], output, kept, |(layer, patch, side), gradient, _| {
            [Some(B::patches_input(gradient, layer, patch, side))]
        })
    }

    fn fused_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        heads: usize,
        seen: Seen,
    ) -> FloatTensor<Self> {
        let (query, query_node) = query.into_parts();
        let (key, key_node) = key.into_parts();
        let (value, value_node) = value.into_parts();
        let inputs = [query.clone(), key.clone(), value.clone()];
        let output = B::fused_attention(query, key, value, heads, seen.clone());
        let nodes = [query_node, key_node, value_node];
        let kept = (inputs, heads, seen);
        recorded::<B, C, _, 3>(nodes, output, kept, |(inputs, heads, seen), gradient, _| {
            B::attention_inputs(inputs, gradient, heads, seen).map(Some)
        })
    }

    fn fused_attention_below(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        shared_key: FloatTensor<Self>,
        shared_value: FloatTensor<Self>,
        heads: usize,
        seen: Seen,
    ) -> FloatTensor<Self> {
        let (query, query_node) = query.into_parts();
        let (key, key_node) = key.into_parts();
        let (value, value_node) = value.into_parts();
        let (shared_key, shared_key_node) = shared_key.into_parts();
        let (shared_value, shared_value_node) = shared_value.into_parts();
        let inputs = [query, key, value, shared_key, shared_value];
        let [query, key, value, shared_key, shared_value] = inputs.clone();
        let output = B::fused_attention_below(
            query,
            key,
            value,
            shared_key,
            shared_value,
            heads,
            seen.clone(),
        );
        let nodes = [
            query_node,
            key_node,
            value_node,
            shared_key_node,
            shared_value_node,
        ];
        let kept = (inputs, heads, seen);
        recorded::<B, C, _, 5>(nodes, output, kept, |(inputs, heads, seen), gradient, _| {
            B::attention_below_inputs(inputs, gradient, heads, seen).map(Some)
        })
    }
}

/// Gradients of N inputs from what the forward pass kept and the output's gradient; those that are not wanted may be left
/// out.
type GradientsOf<B, S, const N: usize> =
    fn(S, FloatTensor<B>, [bool; N]) -> [Option<FloatTensor<B>>; N];

/// The backward pass of an operation.
struct BackwardPass<B: Backend, S, const N: usize>(GradientsOf<B, S, N>);

impl<B: Backend, S, const N: usize> fmt::Debug for BackwardPass<B, S, N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BackwardPass")
    }
}

impl<B: Backend, S: Clone + Send + fmt::Debug + 'static, const N: usize> Backward<B, N>
    for BackwardPass<B, S, N>
{
    type State = S;

    fn backward(self, ops: Ops<S, N>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let of_inputs = (self.0)(ops.state, gradient, wanted);
        for (node, of_input) in ops.parents.into_iter().zip(of_inputs) {
            if let (Some(node), Some(of_input)) = (node, of_input) {
                gradients.register::<B>(node.id, of_input);
            }
        }
    }
}

/// `output` as a tracked tensor, if one of its inputs is.
fn recorded<
    B: Backend,
    C: CheckpointStrategy,
    S: Clone + Send + fmt::Debug + 'static,
    const N: usize,
>(
    inputs: [NodeGuard; N],
    output: FloatTensor<B>,
    kept: S,
    gradients: GradientsOf<B, S, N>,
) -> FloatTensor<Autodiff<B, C>> {
    match BackwardPass(gradients)
        .prepare::<C>(inputs)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(step) => step.finish(kept, output),
        OpsKind::UnTracked(step) => step.finish(output),
    }
}

/// What the backward pass must know of an output: where it was cut off, if it was.
fn kept<B: Backend>(
    output: &FloatTensor<B>,
    rectify: Rectify,
) -> Option<(FloatTensor<B>, Rectify)> {
    (rectify != Rectify::No).then(|| (output.clone(), rectify))
}

fn through_rectifier<B: FusedGradients>(
    rectified: Option<(FloatTensor<B>, Rectify)>,
    gradient: FloatTensor<B>,
) -> FloatTensor<B> {
    match rectified {
        Some((output, rectify)) => B::rectifier_input(output, gradient, rectify),
        None => gradient,
    }
}

impl FusedOps for Flex {
    fn fused_layer_norm(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        epsilon: f32,
    ) -> FlexTensor {
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
        let output = rows::layer_norm(numbers(&x), numbers(&weight), numbers(&bias), epsilon);
        tensor(output, x.shape())
    }

    fn fused_activation(u: FlexTensor, activation: Activation) -> FlexTensor {
        let u = u.to_contiguous();
        let activate = match activation {
            Activation::QuickGelu => rows::quick_gelu,
            Activation::Gelu => rows::gelu,
        };
        tensor(activate(numbers(&u)), u.shape())
    }

    fn frozen_linear(x: FlexTensor, layer: FrozenMatrix, rectify: Rectify) -> FlexTensor {
        let x = x.to_contiguous();
        let epilogue = Epilogue {
            bias: Some(layer.bias()),
            residual: None,
            rectify: rectify != Rectify::No,
        };
        let mut output = product(numbers(&x), layer.weight(), epilogue);
        if rectify == Rectify::Six {
            rows::cap(&mut output, rectify.ceiling());
        }
        tensor(output, with_last_axis(x.shape(), layer.weight().outputs()))
    }

    fn frozen_linear_add(
        x: FlexTensor,
        residual: FlexTensor,
        layer: FrozenMatrix,
        rectify: Rectify,
    ) -> FlexTensor {
        let (x, residual) = (x.to_contiguous(), residual.to_contiguous());
        let epilogue = Epilogue {
            bias: Some(layer.bias()),
            residual: Some(numbers(&residual)),
            rectify: rectify != Rectify::No,
        };
        let mut output = product(numbers(&x), layer.weight(), epilogue);
        if rectify == Rectify::Six {
            rows::cap(&mut output, rectify.ceiling());
        }
        tensor(output, residual.shape())
    }

    fn frozen_convolution(x: FlexTensor, layer: FrozenConvolution) -> FlexTensor {
        let x = x.to_contiguous();
        let input: [usize; 4] = x.shape().dims();
        let [height, width] = layer.windows(input).output();
        let output = layer.rectified(numbers(&x), input);
        tensor(output, [input[0], height, width, layer.outputs()])
    }

    fn frozen_depthwise(x: FlexTensor, layer: FrozenDepthwise) -> FlexTensor {
        let x = x.to_contiguous();
        let windows = layer.windows(x.shape().dims());
        let [pictures, _, _, channels] = windows.input;
        let [height, width] = windows.output();
        let (weight, bias) = (layer.weight(), layer.bias());
        let output = depthwise_kernel::depthwise(numbers(&x), windows, weight, bias);
        tensor(output, [pictures, height, width, channels])
    }

    fn fused_halve(x: FlexTensor) -> FlexTensor {
        let x = x.to_contiguous();
        let [batch, height, width, channels] = x.shape().dims();
        let output = convolution_kernel::halve(numbers(&x), width, channels);
        tensor(output, [batch, height / 2, width / 2, channels])
    }

    fn frozen_patches(pixels: FlexTensor, layer: FrozenMatrix, patch: usize) -> FlexTensor {
        let pixels = pixels.to_contiguous();
        let [batch, _, side, _] = pixels.shape().dims();
        let (weight, bias) = (layer.weight(), layer.bias());
        let output = convolution_kernel::patches(numbers(&pixels), side, patch, weight, bias);
        let squares = (side / patch) * (side / patch);
        tensor(output, [batch, squares, layer.weight().outputs()])
    }

    fn fused_attention(
        query: FlexTensor,
        key: FlexTensor,
        value: FlexTensor,
        heads: usize,
        seen: Seen,
    ) -> FlexTensor {
        let [query, key, value] = [query, key, value].map(|tensor| tensor.to_contiguous());
        let heads = laid_out(&query, &key, heads, seen.as_deref());
        let output =
            attention_kernel::attention(heads, numbers(&query), numbers(&key), numbers(&value));
        tensor(output, query.shape())
    }

    fn fused_attention_below(
        query: FlexTensor,
        key: FlexTensor,
        value: FlexTensor,
        shared_key: FlexTensor,
        shared_value: FlexTensor,
        heads: usize,
        seen: Seen,
    ) -> FlexTensor {
        let inputs = [query, key, value, shared_key, shared_value];
        let [query, key, value, shared_key, shared_value] =
            inputs.map(|tensor| tensor.to_contiguous());
        let output = attention_kernel::attention_below(
            laid_out(&query, &key, heads, seen.as_deref()),
            Shared {
                keys: numbers(&shared_key),
                values: numbers(&shared_value),
            },
            numbers(&query),
            numbers(&key),
            numbers(&value),
        );
        tensor(output, query.shape())
    }
}

impl FusedGradients for Flex {
    fn layer_norm_input(
        x: FlexTensor,
        weight: FlexTensor,
        gradient: FlexTensor,
        epsilon: f32,
    ) -> FlexTensor {
        let [x, weight, gradient] = [x, weight, gradient].map(|tensor| tensor.to_contiguous());
        let inputs = [&x, &weight, &gradient].map(numbers);
        let of_x = rows::layer_norm_input(inputs[0], inputs[1], inputs[2], epsilon);
        tensor(of_x, x.shape())
    }

    fn layer_norm_parameters(
        x: FlexTensor,
        gradient: FlexTensor,
        epsilon: f32,
    ) -> (FlexTensor, FlexTensor) {
        let (x, gradient) = (x.to_contiguous(), gradient.to_contiguous());
        let width = last_axis(&x);
        let (of_weight, of_bias) =
            rows::layer_norm_parameters(numbers(&x), numbers(&gradient), width, epsilon);
        (tensor(of_weight, [width]), tensor(of_bias, [width]))
    }

    fn activation_input(u: FlexTensor, gradient: FlexTensor, activation: Activation) -> FlexTensor {
        let (u, gradient) = (u.to_contiguous(), gradient.to_contiguous());
        let of_input = match activation {
            Activation::QuickGelu => rows::quick_gelu_input,
            Activation::Gelu => rows::gelu_input,
        };
        tensor(of_input(numbers(&u), numbers(&gradient)), u.shape())
    }

    fn linear_input(gradient: FlexTensor, layer: FrozenMatrix) -> FlexTensor {
        let gradient = gradient.to_contiguous();
        let weight = layer.transposed();
        let of_x = product(numbers(&gradient), weight, Epilogue::default());
        tensor(of_x, with_last_axis(gradient.shape(), weight.outputs()))
    }

    fn rectifier_input(output: FlexTensor, gradient: FlexTensor, rectify: Rectify) -> FlexTensor {
        let (output, gradient) = (output.to_contiguous(), gradient.to_contiguous());
        let ceiling = rectify.ceiling();
        let of_sum = rows::rectifier_input(numbers(&output), numbers(&gradient), ceiling);
        tensor(of_sum, output.shape())
    }

    fn depthwise_input(
        gradient: FlexTensor,
        layer: FrozenDepthwise,
        input: [usize; 4],
    ) -> FlexTensor {
        let gradient = gradient.to_contiguous();
        let (windows, weight) = (layer.windows(input), layer.weight());
        let of_x = depthwise_kernel::depthwise_gradient(numbers(&gradient), windows, weight);
        tensor(of_x, input)
    }

    fn convolution_input(
        gradient: FlexTensor,
        layer: FrozenConvolution,
        input: [usize; 4],
    ) -> FlexTensor {
        let gradient = gradient.to_contiguous();
        let windows = layer.windows(input);
        let of_x = convolution_kernel::convolution_gradient(
            numbers(&gradient),
            windows,
            layer.transposed(),
        );
        tensor(of_x, input)
    }

    fn halve_input(gradient: FlexTensor) -> FlexTensor {
        let gradient = gradient.to_contiguous();
        let [batch, height, width, channels] = gradient.shape().dims();
        let of_x = convolution_kernel::halve_gradient(numbers(&gradient), 2 * width, channels);
        tensor(of_x, [batch, 2 * height, 2 * width, channels])
    }

    fn patches_input(
        gradient: FlexTensor,
        layer: FrozenMatrix,
        patch: usize,
        side: usize,
    ) -> FlexTensor {
        let gradient = gradient.to_contiguous();
        let [batch, _, _] = gradient.shape().dims();
        let of_pixels = convolution_kernel::patches_gradient(
            numbers(&gradient),
            side,
            patch,
            layer.transposed(),
        );
        tensor(of_pixels, [batch, 3, side, side])
    }

    fn attention_inputs(
        inputs: [FlexTensor; 3],
        gradient: FlexTensor,
        heads: usize,
        seen: Seen,
    ) -> [FlexTensor; 3] {
        let [query, key, value] = inputs.map(|tensor| tensor.to_contiguous());
        let gradient = gradient.to_contiguous();
        let heads = laid_out(&query, &key, heads, seen.as_deref());
        let [of_query, of_key, of_value] = attention_kernel::attention_gradients(
            heads,
            numbers(&query),
            numbers(&key),
            numbers(&value),
            numbers(&gradient),
        );
        [
            tensor(of_query, query.shape()),
            tensor(of_key, key.shape()),
            tensor(of_value, value.shape()),
        ]
    }

    fn attention_below_inputs(
        inputs: [FlexTensor; 5],
        gradient: FlexTensor,
        heads: usize,
        seen: Seen,
    ) -> [FlexTensor; 5] {
        let inputs = inputs.map(|tensor| tensor.to_contiguous());
        let gradient = gradient.to_contiguous();
        let [query, key, value, shared_key, shared_value] = &inputs;
        let [of_query, of_key, of_value, of_shared_key, of_shared_value] =
            attention_kernel::attention_below_gradients(
                laid_out(query, key, heads, seen.as_deref()),
                Shared {
                    keys: numbers(shared_key),
                    values: numbers(shared_value),
                },
                [numbers(query), numbers(key), numbers(value)],
                numbers(&gradient),
            );
        [
            tensor(of_query, query.shape()),
            tensor(of_key, key.shape()),
            tensor(of_value, value.shape()),
            tensor(of_shared_key, shared_key.shape()),
            tensor(of_shared_value, shared_value.shape()),
        ]
    }
}

fn numbers(x: &FlexTensor) -> &[f32] {
    x.storage::<f32>()
}

fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

fn last_axis(x: &FlexTensor) -> usize {
    x.shape().last().copied().unwrap_or(1)
}

fn with_last_axis(mut shape: Shape, width: usize) -> Shape {
    if let Some(last) = shape.last_mut() {
        *last = width;
    }
    shape
}

fn laid_out<'a>(
    query: &FlexTensor,
    key: &FlexTensor,
    heads: usize,
    seen: Option<&'a [usize]>,
) -> Heads<'a> {
    let [_, queries, width] = query.shape().dims();
    let [_, keys, _] = key.shape().dims();
    Heads {
        queries,
        keys,
        heads,
        channels: width / heads,
        seen,
    }
}

#[cfg(test)]
mod tests {
    use super::super::efficientnet;
    use std::sync::Arc;

    use burn::tensor::Device;

    use super::*;
    use burn::tensor::ops::ConvOptions;
    use burn::tensor::{Distribution, activation, module};

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        Tensor::random(shape, Distribution::Normal(0.3, 2.0), &Device::flex())
    }

    fn assert_close<const D: usize>(a: Tensor<D>, b: Tensor<D>) {
        let difference: f32 = (a - b.clone()).abs().max().into_scalar();
        let size: f32 = b.abs().max().into_scalar();
        assert!(difference <= 2e-6 * size.max(1.0), "{difference} of {size}");
    }

    /// Output and gradients of all inputs for both ways to compute `inputs` -> output.
    fn compare<const N: usize, const I: usize, const O: usize>(
        inputs: [Tensor<I>; N],
        fused: impl Fn([Tensor<I>; N]) -> Tensor<O>,
        plain: impl Fn([Tensor<I>; N]) -> Tensor<O>,
    ) {
        let upstream = random(plain(inputs.clone()).dims());
        let run = |compute: &dyn Fn([Tensor<I>; N]) -> Tensor<O>| {
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
            |[x, weight, bias]| layer_norm(x, weight.reshape([45]), bias.reshape([45]), 1e-6),
            |[x, weight, bias]| {
                composed::layer_norm(x, weight.reshape([45]), bias.reshape([45]), 1e-6)
            },
        );
    }

    #[test]
    fn activations_equal_the_composed_ones() {
        for activation in [Activation::QuickGelu, Activation::Gelu] {
            compare(
                [random([37, 45])],
                |[u]| activate(u, activation),
                |[u]| composed::activate(u, activation),
            );
        }
    }

    #[test]
    fn frozen_layers_equal_the_composed_ones() {
        let (weight, bias) = (random([30, 45]), random([30]));
        let layer = FrozenMatrix::new(&weight, &bias).unwrap();
        let composed =
            |x: Tensor<2>| x.matmul(weight.clone().transpose()) + bias.clone().unsqueeze();
        let residual = random([37, 30]);
        compare(
            [random([37, 45]), residual.clone()],
            |[x, residual]| linear_add(x, residual, &layer, Rectify::No),
            |[x, residual]| composed(x) + residual,
        );
        compare(
            [random([37, 45]), residual],
            |[x, residual]| linear_add(x, residual, &layer, Rectify::Yes),
            |[x, residual]| activation::relu(composed(x) + residual),
        );
        compare(
            [random([37, 45])],
            |[x]| linear(x, &layer, Rectify::Yes),
            |[x]| activation::relu(composed(x)),
        );
        compare(
            [random([37, 45])],
            |[x]| linear(x, &layer, Rectify::Six),
            |[x]| composed(x).clamp(0.0, 6.0),
        );
        assert!(FrozenMatrix::new(&weight.autodiff().require_grad(), &bias).is_none());
    }

    #[test]
    fn attention_equals_the_composed_one() {
        let (batch, queries, keys, heads, channels) = (3, 4, 7, 2, 5);
        let seen: Arc<[usize]> = (0..batch * queries).map(|i| 1 + i * 5 % keys).collect();
        for seen in [None, Some(seen)] {
            compare(
                [
                    random([batch, queries, heads * channels]),
                    random([batch, keys, heads * channels]),
                    random([batch, keys, heads * channels]),
                ],
                |[query, key, value]| attention(query, key, value, heads, seen.clone()),
                |[query, key, value]| composed::attention(query, key, value, heads, seen.clone()),
            );
        }
    }

    #[test]
    fn attention_below_shared_rows_equals_the_composed_one() {
        // More sequences than one task takes.
        let (batch, queries, keys, heads, channels) = (40, 3, 4, 2, 5);
        let width = heads * channels;
        let rows = |x: Tensor<3>| x.squeeze_dim::<2>(0);
        let seen: Arc<[usize]> = (0..batch * queries).map(|i| 1 + i * 5 % keys).collect();
        for seen in [None, Some(seen)] {
            compare(
                [
                    random([batch, queries, width]),
                    random([batch, keys, width]),
                    random([batch, keys, width]),
                    random([1, 7, width]),
                    random([1, 7, width]),
                ],
                |[query, key, value, shared_key, shared_value]| {
                    let shared = [rows(shared_key), rows(shared_value)];
                    attention_below([query, key, value], shared, heads, seen.clone())
                },
                |[query, key, value, shared_key, shared_value]| {
                    let shared = [rows(shared_key), rows(shared_value)];
                    composed::attention_below([query, key, value], shared, heads, seen.clone())
                },
            );
        }
    }

    #[test]
    fn convolutions_equal_the_composed_ones() {
        for (inputs, outputs, stride) in [(16, 32, 1), (3, 8, 1), (3, 8, 2)] {
            let (weight, bias) = (random([outputs, inputs, 3, 3]), random([outputs]));
            let layer = FrozenConvolution::new(&weight, &bias, stride).unwrap();
            compare(
                [random([2, 7, 10, inputs])],
                |[x]| rectified_convolution(x, &layer),
                |[x]| {
                    let options = ConvOptions::new([stride; 2], [1, 1], [1, 1], 1);
                    let x = x.permute([0, 3, 1, 2]);
                    let y = module::conv2d(x, weight.clone(), Some(bias.clone()), options);
                    activation::relu(y).permute([0, 2, 3, 1])
                },
            );
        }
    }

    #[test]
    fn depthwise_convolutions_equal_the_composed_ones() {
        for (kernel, stride, side) in [(3, 1, 7), (3, 2, 8), (5, 2, 7), (5, 2, 8), (5, 1, 3)] {
            let (weight, bias) = (random([10, 1, kernel, kernel]), random([10]));
            let layer = FrozenDepthwise::new(&weight, &bias, stride).unwrap();
            compare(
                [random([2, side, side + 2, 10])],
                |[x]| depthwise(x, &layer),
                |[x]| efficientnet::depthwise(x, weight.clone(), bias.clone(), stride),
            );
        }
    }

    #[test]
    fn squares_equal_the_composed_ones() {
        let weight = random([8, 3, 4, 4]);
        let bias = random([8]);
        let layer = FrozenMatrix::new(&weight.clone().flatten::<2>(1, 3), &bias).unwrap();
        compare(
            [random([2, 3, 12, 12])],
            |[pixels]| patches(pixels, &layer, 4),
            |[pixels]| {
                let options = ConvOptions::new([4, 4], [0, 0], [1, 1], 1);
                let y = module::conv2d(pixels, weight.clone(), Some(bias.clone()), options);
                y.flatten::<3>(2, 3).swap_dims(1, 2)
            },
        );
        compare(
            [random([2, 6, 8, 5])],
            |[x]| halve(x),
            |[x]| composed::halve(x),
        );
    }
}
