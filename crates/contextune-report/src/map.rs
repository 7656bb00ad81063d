//! Features in two dimensions: their two largest principal components.

use burn::tensor::Tensor;

use contextune::objective::similarity::normalise;
use contextune::parameters::{ParameterError, elements_of};

/// Steps of the iteration; eigenvalues that are so close that these do not part them give as good a picture either way.
const STEPS: usize = 50;

/// Where pictures and classes lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Place and class of each picture.
    pub pictures: Vec<([f32; 2], usize)>,
    /// Place of each class as the words say it.
    pub words: Vec<[f32; 2]>,
    /// Place of each class as it was learned.
    pub learned: Vec<[f32; 2]>,
}

impl Map {
    /// Image features `[N, D]` of pictures with these labels, and class features `[K, D]` of words and of what was learned.
    ///
    /// Pictures and texts lie in different cones (Liang et al. 2022, "Mind the Gap"), so each kind is moved to its own mean
    /// before both are laid into the plane in which the pictures differ most; classes are spread as far as pictures are.
    ///
    /// # Errors
    /// The device does not compute in 32-bit floats.
    pub fn new(
        images: Tensor<2>,
        labels: &[usize],
        words: Tensor<2>,
        learned: Tensor<2>,
    ) -> Result<Self, ParameterError> {
        let images = centred(normalise(images));
        let plane = plane(&images); // [D, 2]
        let pictures = places(&images, &plane)?;
        let (words, learned) = (centred(normalise(words)), centred(normalise(learned)));
        let (words, learned) = (places(&words, &plane)?, places(&learned, &plane)?);
        let both: Vec<[f32; 2]> = words.iter().chain(&learned).copied().collect();
        let scale = spread(&pictures) / spread(&both).max(f32::MIN_POSITIVE);
        let scaled = |places: Vec<[f32; 2]>| {
            let scaled = places.into_iter().map(|[x, y]| [x * scale, y * scale]);
            scaled.collect()
        };
        Ok(Self {
            words: scaled(words),
            learned: scaled(learned),
            pictures: pictures.into_iter().zip(labels.iter().copied()).collect(),
        })
    }
}

fn centred(rows: Tensor<2>) -> Tensor<2> {
    rows.clone() - rows.mean_dim(0)
}

/// The two directions in which rows `[N, D]` of mean 0 differ most, `[D, 2]`: orthogonal iteration on their covariance.
fn plane(rows: &Tensor<2>) -> Tensor<2> {
    let [_, width] = rows.dims();
    // Any beginning that is not orthogonal to them will do; this one is always the same.
    let begin = (0..2 * width).map(|i| ((i * 2_654_435_761) % 1_000_003) as f32 / 1e6 - 0.5);
    let begin: Vec<f32> = begin.collect();
    let mut plane = Tensor::<1>::from_floats(&begin[..], &rows.device()).reshape([width, 2]);
    for _ in 0..STEPS {
        let next = rows.clone().transpose().matmul(rows.clone().matmul(plane)); // [D, 2]
        let first = unit(next.clone().narrow(1, 0, 1));
        let second = next.narrow(1, 1, 1);
        let along = (first.clone() * second.clone()).sum_dim(0); // [1, 1]
        let second = unit(second - first.clone() * along);
        plane = Tensor::cat(vec![first, second], 1);
    }
    plane
}

/// A column `[D, 1]` of length 1.
fn unit(column: Tensor<2>) -> Tensor<2> {
    let length = column
        .clone()
        .square()
        .sum_dim(0)
        .sqrt()
        .clamp_min(f32::MIN_POSITIVE);
    column / length
}

fn places(rows: &Tensor<2>, plane: &Tensor<2>) -> Result<Vec<[f32; 2]>, ParameterError> {
    let places = elements_of("places", rows.clone().matmul(plane.clone()))?; // [N, 2]
    Ok(places.as_chunks::<2>().0.to_vec())
}

/// Root of the mean squared distance from the middle.
fn spread(places: &[[f32; 2]]) -> f32 {
    let squares: f32 = places.iter().map(|[x, y]| x * x + y * y).sum();
    (squares / places.len().max(1) as f32).sqrt()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Two groups that differ along one direction lie apart along the first component.
    #[test]
    fn what_differs_most_is_the_first_direction() {
        let device = Device::flex();
        let rows: Vec<f32> = (0..20)
            .flat_map(|i| {
                let group = if i % 2 == 0 { 1.0 } else { -1.0 };
                [3.0, group, 0.1 * (i as f32).sin(), 0.05 * (i as f32).cos()]
            })
            .collect();
        let images = Tensor::<1>::from_floats(&rows[..], &device).reshape([20, 4]);
        let words = images.clone().narrow(0, 0, 2);
        let labels: Vec<usize> = (0..20).map(|i| i % 2).collect();
        let map = Map::new(images, &labels, words.clone(), words).unwrap();
        let side = map.pictures[0].0[0].signum();
        for (place, label) in &map.pictures {
            let expected = if *label == 0 { side } else { -side };
            assert_eq!(place[0].signum(), expected);
            assert!(place[0].abs() > 3.0 * place[1].abs(), "{place:?}");
        }
        assert_eq!(map.words, map.learned);
        assert_eq!(map.words[0][0].signum(), side);
    }
}
