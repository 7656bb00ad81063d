//! AlexNet without its classifier (Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks"), with
//! layers and names as torchvision has them. It is trained, never frozen: the network beside the tower in side-tuning.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::{adaptive_avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};

use crate::parameters::ParameterSource;

/// A convolution, and what is behind it.
struct Convolution {
    /// Its place among torchvision's layers.
    number: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    /// Whether the largest of 3 × 3 values follows, every second one.
    pooled: bool,
}

const fn convolution(
    number: usize,
    [kernel, stride, padding]: [usize; 3],
    pooled: bool,
) -> Convolution {
    Convolution {
        number,
        kernel,
        stride,
        padding,
        pooled,
    }
}

const CONVOLUTIONS: [Convolution; 5] = [
    convolution(0, [11, 4, 2], true),
    convolution(3, [5, 1, 2], true),
    convolution(6, [3, 1, 1], false),
    convolution(8, [3, 1, 1], false),
    convolution(10, [3, 1, 1], true),
];
/// Side of the grid of means that the last map becomes, whatever the size of the picture.
const CELLS: usize = 6;

/// Channels behind each convolution, as published.
pub const CHANNELS: [usize; 5] = [64, 192, 384, 256, 256];
/// Side of the smallest picture that leaves anything behind the last convolution, in pixels.
pub const LEAST_SIDE: usize = 63;

/// Numbers that a picture becomes.
pub const fn features(channels: [usize; 5]) -> usize {
    channels[4] * CELLS * CELLS
}

/// Name and shape of every weight, each followed by its bias.
pub fn parameters(channels: [usize; 5]) -> Vec<(String, Vec<usize>)> {
    let mut inputs = 3;
    let mut list = Vec::with_capacity(10);
    for (layer, outputs) in CONVOLUTIONS.iter().zip(channels) {
        let name = format!("features.{}", layer.number);
        let shape = vec![outputs, inputs, layer.kernel, layer.kernel];
        list.push((format!("{name}.weight"), shape));
        list.push((format!("{name}.bias"), vec![outputs]));
        inputs = outputs;
    }
    list
}

/// Normalised pixels `[B, 3, H, W]`, at least [`LEAST_SIDE`] wide and high -> `[B, features]`; parameters are read below
/// `prefix`.
pub fn forward<S: ParameterSource>(
    source: &mut S,
    prefix: &str,
    channels: [usize; 5],
    pixels: Tensor<4>,
) -> Result<Tensor<2>, S::Error> {
    let mut x = pixels;
    for (layer, outputs) in CONVOLUTIONS.iter().zip(channels) {
        let [_, inputs, ..] = x.dims();
        let name = format!("{prefix}features.{}", layer.number);
        let shape = [outputs, inputs, layer.kernel, layer.kernel];
        let weight = source.parameter(&format!("{name}.weight"), shape)?;
        let bias = source.parameter(&format!("{name}.bias"), [outputs])?;
        let options = ConvOptions::new([layer.stride; 2], [layer.padding; 2], [1; 2], 1);
        x = relu(conv2d(x, weight, Some(bias), options));
        if layer.pooled {
            x = max_pool2d(x, MaxPoolOptions::new([3; 2]).with_stride([2; 2]));
        }
    }
    Ok(adaptive_avg_pool2d(x, [CELLS; 2]).flatten(1, 3))
}
