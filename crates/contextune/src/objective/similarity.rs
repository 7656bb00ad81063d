//! Scaled cosine similarity between images and texts, and the losses on it.

use burn::tensor::{Int, Tensor, activation};

/// Rows of unit length: x / ‖x‖ for each row of `[N, D]`.
pub fn normalise(x: Tensor<2>) -> Tensor<2> {
    let length = x.clone().square().sum_dim(1).sqrt(); // [N, 1]
    x / length
}

/// exp(logit scale) · cosine of each image with each text (Radford et al. 2021, figure 3).
///
/// `images` `[N, D]` and `texts` `[K, D]` need not be of unit length; `logit_scale` `[1]` is the logarithm of the factor.
pub fn logits(images: Tensor<2>, texts: Tensor<2>, logit_scale: Tensor<1>) -> Tensor<2> {
    let cosine = normalise(images).matmul(normalise(texts).transpose()); // [N, K]
    cosine * logit_scale.exp().unsqueeze()
}

/// Mean negative log-likelihood of `labels` `[N]` under softmax of `logits` `[N, K]`; `[1]`.
pub fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let likelihood = activation::log_softmax(logits, 1).gather(1, labels.unsqueeze_dim(1)); // [N, 1]
    -likelihood.mean()
}
