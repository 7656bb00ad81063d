//! How far learning moved each context vector from where it began.

use serde::Serialize;

/// One vector's way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Movement {
    /// ‖v − v₀‖
    pub distance: f32,
    /// Cosine of the angle between v and v₀; 0 if one of them has no length.
    pub cosine: f32,
}

/// Compares vectors of this width, row-major, with those that they began as.
///
/// # Panics
/// If the numbers differ.
pub fn movements(initial: &[f32], learned: &[f32], width: usize) -> Vec<Movement> {
    assert_eq!(initial.len(), learned.len(), "as many vectors as before");
    initial
        .chunks_exact(width)
        .zip(learned.chunks_exact(width))
        .map(|(initial, learned)| Movement {
            distance: distance(initial, learned),
            cosine: cosine(initial, learned),
        })
        .collect()
}

/// ‖a − b‖
pub(super) fn distance(a: &[f32], b: &[f32]) -> f32 {
    let squares = a.iter().zip(b).map(|(&a, &b)| f64::from(a - b).powi(2));
    squares.sum::<f64>().sqrt() as f32
}

/// a·b / (‖a‖ ‖b‖), 0 if one of them has no length.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let product = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
        products.sum()
    };
    let lengths = (product(a, a) * product(b, b)).sqrt();
    match lengths > 0.0 {
        true => (product(a, b) / lengths) as f32,
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_and_angle_are_those_of_the_vectors() {
        let moved = movements(&[1.0, 0.0, 2.0, 2.0], &[0.0, 1.0, 2.0, 2.0], 2);
        assert_eq!((moved[0].distance, moved[0].cosine), (2.0_f32.sqrt(), 0.0));
        assert_eq!((moved[1].distance, moved[1].cosine), (0.0, 1.0));
        assert_eq!(movements(&[0.0], &[1.0], 1)[0].cosine, 0.0);
    }
}
