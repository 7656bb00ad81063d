//! How parameters begin, and what a step leaves out: random numbers from a seed.

use burn::tensor::{Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Uniform};

/// How the elements of a tensor begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    /// All alike.
    Constant(f32),
    /// From N(0, σ²), given σ.
    Normal(f32),
    /// Between minus this and this.
    Uniform(f32),
    /// From 0 to below 1.
    Unit,
}

impl Initial {
    /// What `torch.nn.Linear` begins with, weights and biases alike: U(−1/√inputs, 1/√inputs).
    pub fn linear(inputs: usize) -> Self {
        Self::Uniform(1.0 / (inputs as f32).sqrt())
    }

    /// So many elements.
    ///
    /// # Panics
    /// If a deviation or bound is not finite.
    pub fn draw(self, elements: usize, random: &mut ChaCha8Rng) -> Vec<f32> {
        match self {
            Self::Constant(value) => vec![value; elements],
            Self::Normal(deviation) => Normal::new(0.0, deviation)
                .expect("a standard deviation is finite")
                .sample_iter(random)
                .take(elements)
                .collect(),
            Self::Uniform(bound) => Uniform::new_inclusive(-bound, bound)
                .expect("a bound is finite and positive")
                .sample_iter(random)
                .take(elements)
                .collect(),
            Self::Unit => Uniform::new(0.0, 1.0)
                .expect("zero is below one")
                .sample_iter(random)
                .take(elements)
                .collect(),
        }
    }
}

/// Dropout: a share of the elements, from 0 to below 1, becomes zero, and the others so much larger that the mean stays.
pub fn dropout<const D: usize>(x: Tensor<D>, share: f32, random: &mut ChaCha8Rng) -> Tensor<D> {
    let kept = 1.0 / (1.0 - share);
    let shape = x.dims();
    let draws = Initial::Unit
        .draw(shape.iter().product(), random)
        .into_iter();
    let factors: Vec<f32> = draws
        .map(|draw| if draw < share { 0.0 } else { kept })
        .collect();
    let factors = Tensor::from_data(TensorData::new(factors, shape), &x.device());
    x * factors
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn draws_lie_where_they_should() {
        let random = &mut ChaCha8Rng::seed_from_u64(1);
        let values = Initial::linear(25).draw(1000, random);
        assert!(values.iter().all(|value| value.abs() <= 0.2));
        assert!(values.iter().any(|value| value.abs() > 0.19));
        let factors = dropout(Tensor::<1>::ones([1000], &Device::flex()), 0.1, random);
        let factors: Vec<f32> = factors.into_data().try_to_vec().unwrap();
        let left_out = factors.iter().filter(|factor| **factor == 0.0).count();
        assert!((50..200).contains(&left_out), "{left_out}");
    }
}
