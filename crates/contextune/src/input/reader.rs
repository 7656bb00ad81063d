//! From a picture file to the pixels that a tower sees.

use std::path::{Path, PathBuf};

use super::views::{RandomViews, View};
use crate::image::{self, DecodeOptions, ImageError, Picture, PlanarRgb, Preprocess};

/// From a file to the pixels that a tower sees.
#[derive(Clone, Debug)]
pub struct PictureReader {
    /// From a decoded picture to the tower's square.
    pub preprocess: Preprocess,
    /// How pictures are decoded, and what is refused.
    pub decoding: DecodeOptions,
}

/// A picture file, read once and decoded when the first of its views is asked for.
#[derive(Debug)]
pub(super) struct OpenPicture {
    pub(super) path: PathBuf,
    bytes: Vec<u8>,
    decoded: Option<Decoded>,
}

/// A decoded picture, ready for one kind of view.
#[derive(Debug)]
enum Decoded {
    Whole(Picture),
    Random(RandomViews),
}

impl PictureReader {
    /// Returns a picture held in memory as it is, `[3, size, size]` in 0..1.
    ///
    /// # Errors
    /// A picture that cannot be decoded.
    pub fn whole(&self, bytes: &[u8]) -> Result<Vec<f32>, ImageError> {
        let view = self
            .preprocess
            .apply(&image::decode(bytes, &self.decoding)?);
        let mut pixels = vec![0.0; view.as_bytes().len()];
        view.write_unit_floats(&mut pixels)?;
        Ok(pixels)
    }

    /// Reads one view of a picture file into `pixels`, `[3, size, size]` in 0..1.
    ///
    /// # Errors
    /// A picture that cannot be read.
    pub fn read(&self, path: &Path, view: View, pixels: &mut [f32]) -> Result<(), ImageError> {
        self.open(path)?.view(self, view)?.write_unit_floats(pixels)
    }

    /// Reads the bytes of a file; its errors, now and later, name the file.
    pub(super) fn open(&self, path: &Path) -> Result<OpenPicture, ImageError> {
        Ok(OpenPicture {
            bytes: image::read(path, &self.decoding).map_err(in_file(path))?,
            path: path.to_owned(),
            decoded: None,
        })
    }
}

impl OpenPicture {
    /// Returns the file's bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns one view of the picture.
    pub(super) fn view(
        &mut self,
        reader: &PictureReader,
        view: View,
    ) -> Result<PlanarRgb, ImageError> {
        let decode =
            |bytes: &[u8]| image::decode(bytes, &reader.decoding).map_err(in_file(&self.path));
        let size = reader.preprocess.size;
        // Pictures are asked for one kind of view; one of both kinds would be decoded again for each change.
        match (view, &mut self.decoded) {
            (View::Whole, Some(Decoded::Whole(picture))) => Ok(reader.preprocess.apply(picture)),
            (View::Whole, decoded) => {
                let picture = decode(&self.bytes)?;
                let view = reader.preprocess.apply(&picture);
                *decoded = Some(Decoded::Whole(picture));
                Ok(view)
            }
            (
                View::Random {
                    least_area,
                    seed,
                    index,
                },
                decoded,
            ) => {
                if !matches!(decoded, Some(Decoded::Random(_))) {
                    *decoded = Some(Decoded::Random(RandomViews::of(decode(&self.bytes)?)));
                }
                let Some(Decoded::Random(views)) = decoded else {
                    unreachable!("it was decoded for random views")
                };
                Ok(views.view(least_area, seed, index, size))
            }
        }
    }
}

fn in_file(path: &Path) -> impl FnOnce(ImageError) -> ImageError + use<'_> {
    |source| ImageError::File {
        path: path.to_owned(),
        source: Box::new(source),
    }
}
