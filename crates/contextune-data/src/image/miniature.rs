//! Pictures so small that copies of one picture look alike, however they were saved.

use super::resize::{Rect, resize};
use super::{Filter, Picture};

/// Side of a miniature in pixels: fine enough for two icons of one style to differ, coarse enough that JPEG leaves no trace.
const SIDE: u32 = 8;
/// Copies differ by at most this share of their contrast, root mean square. Saved as JPEG of quality 40, or at half its size, an
/// icon of 28 pixels stays below 0.06; the two most similar icons of the demo differ by 0.08, the next by 0.11.
const MOST_DIFFERENCE: f32 = 0.1;
/// And no value of theirs differs by more than this: 12 in those copies, 21 in those icons.
const MOST_DIFFERENCE_OF_A_VALUE: u8 = 16;

/// A picture of 8 × 8 pixels, to find copies by: pictures that were resized, saved again or slightly retouched.
#[derive(Clone, Debug)]
pub struct Miniature {
    /// `[3, 8, 8]`.
    values: [u8; (3 * SIDE * SIDE) as usize],
    mean: f32,
    /// Standard deviation of the values.
    contrast: f32,
}

impl Miniature {
    /// Shrinks a picture, all of it, whatever its sides.
    pub fn of(picture: Picture) -> Self {
        let picture = picture.into_rgb(); // before the resize: palettes would be sampled, not averaged
        let whole = Rect {
            left: 0,
            top: 0,
            width: picture.width(),
            height: picture.height(),
        };
        let window = Rect {
            width: SIDE,
            height: SIDE,
            ..whole
        };
        let small = resize(&picture, whole, (SIDE, SIDE), window, Filter::Bicubic).to_planar();
        let mut values = [0; (3 * SIDE * SIDE) as usize];
        values.copy_from_slice(small.as_bytes());
        let count = values.len() as f32;
        let mean = values.iter().map(|&value| f32::from(value)).sum::<f32>() / count;
        let squares = values
            .iter()
            .map(|&value| (f32::from(value) - mean).powi(2));
        let contrast = (squares.sum::<f32>() / count).sqrt();
        Self {
            values,
            mean,
            contrast,
        }
    }

    /// Returns the mean of all values, 0 to 255.
    pub fn mean(&self) -> f32 {
        self.mean
    }

    /// Returns how far the mean of a copy can be from this one's.
    pub fn reach(&self) -> f32 {
        MOST_DIFFERENCE * self.contrast
    }

    /// Returns whether both show one picture.
    pub fn is_copy_of(&self, other: &Self) -> bool {
        // The root mean square of a difference is at least the difference of the means.
        let most = self.reach().min(other.reach());
        if (self.mean - other.mean).abs() > most {
            return false;
        }
        let mut squares = 0;
        for (&left, &right) in self.values.iter().zip(&other.values) {
            let difference = left.abs_diff(right);
            if difference > MOST_DIFFERENCE_OF_A_VALUE {
                return false;
            }
            squares += u32::from(difference).pow(2);
        }
        squares as f32 <= most.powi(2) * self.values.len() as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Pixels;

    /// Rings around the middle, so wide in shares of the picture.
    fn rings(width: u32, height: u32, share: f32) -> Picture {
        let pixel = |x: u32, y: u32| {
            let across = (x as f32 + 0.5) / width as f32 - 0.5;
            let down = (y as f32 + 0.5) / height as f32 - 0.5;
            let bright = ((across.hypot(down) / share) as u32).is_multiple_of(2);
            if bright { [230, 200, 40] } else { [20, 40, 90] }
        };
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y)));
        Picture::new(width, height, Pixels::Rgb(pixels.collect())).unwrap()
    }

    #[test]
    fn sizes_and_small_changes_do_not_matter_and_other_pictures_do() {
        let original = Miniature::of(rings(200, 160, 0.2));
        assert!(original.is_copy_of(&Miniature::of(rings(64, 64, 0.2))));
        assert!(original.is_copy_of(&Miniature::of(rings(200, 160, 0.202))));
        assert!(!original.is_copy_of(&Miniature::of(rings(200, 160, 0.22))));
        assert!(!original.is_copy_of(&Miniature::of(rings(200, 160, 0.1))));
    }

    #[test]
    fn pictures_of_one_colour_are_copies_of_that_colour_alone() {
        let plain =
            |value: u8| Miniature::of(Picture::new(9, 9, Pixels::Grey(vec![value; 81])).unwrap());
        assert!(plain(80).is_copy_of(&plain(80)));
        assert!(!plain(80).is_copy_of(&plain(81)));
    }
}
