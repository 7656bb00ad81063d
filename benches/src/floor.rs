//! What the machine could do at best: operations that must be done over the rate of its matrix products.

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use contextune::backbone::{PromptLayout, Row, TextTowerConfig, VitConfig};

/// Measured FLOP/s of a square matrix product in fp32, the best of several.
pub fn matrix_product_rate() -> f64 {
    const SIDE: usize = 1536;
    let device = Device::flex();
    let random = || Tensor::<2>::random([SIDE, SIDE], Distribution::Default, &device);
    let (a, b) = (random(), random());
    let flop = 2.0 * (SIDE as f64).powi(3);
    (0..8)
        .map(|_| {
            let started = Instant::now();
            let product = a.clone().matmul(b.clone());
            drop(product.into_data());
            flop / started.elapsed().as_secs_f64()
        })
        .fold(0.0, f64::max)
}

/// Operations of one forward pass over the rows of `layout` that depend on something learned: the linear layers of all
/// blocks for every such row, in the last block only keys and values but for the rows read out; attention left out, a few
/// per cent.
pub fn forest_forward(layout: &PromptLayout, tower: &TextTowerConfig) -> f64 {
    let nodes = layout.nodes().iter().zip(layout.known());
    let rows: usize = nodes
        .filter(|(_, known)| !known)
        .map(|(node, _)| node.rows.len())
        .sum();
    let square = (tower.width * tower.width) as f64;
    let (rows, read_out) = (rows as f64, layout.read_out().len() as f64);
    let block = 24.0 * square * rows;
    let last = 4.0 * square * rows + 20.0 * square * read_out;
    block * (tower.layers - 1) as f64 + last
}

/// Operations of one picture through a vision transformer: the linear layers and attention of all tokens.
pub fn vit_forward(config: &VitConfig) -> f64 {
    let tokens = (1 + (config.image_size / config.patch_size).pow(2)) as f64;
    let width = config.width as f64;
    let block = 24.0 * width * width * tokens + 4.0 * tokens * tokens * width;
    block * config.layers as f64
}

/// The same as [`forest_forward`] for frozen prompts.
pub fn frozen_forward(prompts: &[Vec<u32>], tower: &TextTowerConfig) -> f64 {
    let rows: Vec<Vec<Row>> = prompts
        .iter()
        .map(|prompt| prompt.iter().map(|&id| Row::Token(id)).collect())
        .collect();
    forest_forward(&PromptLayout::new(&rows), tower)
}
