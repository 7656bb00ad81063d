//! Losses between two lists of features that belong together row by row.

use burn::tensor::{Tensor, activation};

use super::similarity;
use crate::indices::indices;

/// CLIP's symmetric loss: each image should find its text among the batch, and each text its image (Radford et al. 2021,
/// figure 3). Half the sum of both cross-entropies, `[1]`.
///
/// `images` and `texts` are `[B, D]` and need not be of unit length; `logit_scale` `[1]` is the logarithm of the factor
/// on the cosine. Also returns how many images found their text.
pub fn symmetric_loss(
    images: Tensor<2>,
    texts: Tensor<2>,
    logit_scale: Tensor<1>,
) -> (Tensor<1>, usize) {
    let batch = images.dims()[0];
    let device = images.device();
    let logits = similarity::logits(images, texts, logit_scale); // [B, B]
    let own = indices(0..batch, &device);
    let found: i64 = logits
        .clone()
        .inner()
        .argmax(1)
        .flatten::<1>(0, 1)
        .equal(own.clone())
        .int()
        .sum()
        .into_scalar();
    let own = own.unsqueeze_dim::<2>(1); // [B, 1]
    let by_image = activation::log_softmax(logits.clone(), 1)
        .gather(1, own.clone())
        .mean();
    let by_text = activation::log_softmax(logits, 0)
        .gather(0, own.transpose())
        .mean();
    ((by_image + by_text) * -0.5, found as usize)
}

/// Mean of 1 − cosine between each row of `features` and the same row of `targets`, both `[B, D]`; `[1]`.
pub fn distillation_loss(features: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let cosine = (similarity::normalise(features) * similarity::normalise(targets)).sum_dim(1);
    (-cosine + 1.0).mean()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn aligned_pairs_have_no_loss_and_crossed_pairs_have_much() {
        let device = Device::flex();
        let eye = Tensor::<2>::eye(3, &device);
        let scale = Tensor::<1>::from_floats([100f32.ln()], &device);
        let (loss, found) = symmetric_loss(eye.clone(), eye.clone() * 5.0, scale.clone());
        assert!(loss.into_scalar::<f32>() < 1e-6);
        assert_eq!(found, 3);
        let crossed = Tensor::<2>::from_floats([[0., 1., 0.], [0., 0., 1.], [1., 0., 0.]], &device);
        let (loss, found) = symmetric_loss(eye.clone(), crossed.clone(), scale);
        assert!((loss.into_scalar::<f32>() - 100.0).abs() < 1e-3);
        assert_eq!(found, 0);
        let distance: f32 = distillation_loss(eye, crossed).into_scalar();
        assert!((distance - 1.0).abs() < 1e-6);
    }
}
