//! Pictures small enough to lie in a page.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use burn::tensor::Tensor;

use contextune::image::{self, DecodeOptions, ImageError, PlanarRgb, Preprocess};
use contextune::parameters::{ParameterError, elements_of};

/// Side of a small picture in pixels.
pub const SIDE: u32 = 96;

/// The middle of a picture file as a PNG of [`SIDE`] pixels, a `data:` address.
///
/// # Errors
/// A file that cannot be read.
pub fn thumbnail(path: &Path, options: &DecodeOptions) -> Result<String, ImageError> {
    let picture = image::open(path, options)?.into_rgb();
    Ok(of_planes(&Preprocess::new(SIDE).apply(&picture)))
}

/// Pixels as a PNG, a `data:` address.
pub fn of_planes(picture: &PlanarRgb) -> String {
    let size = [picture.width(), picture.height()];
    address(&png_of(size, picture.as_bytes()))
}

/// Pixels `[1, 3, height, width]` in 0..1 as a PNG, a `data:` address.
pub fn of_tensor(pixels: Tensor<4>) -> Result<String, ParameterError> {
    Ok(address(&png_of_tensor(pixels)?))
}

/// Pixels `[1, 3, height, width]` in 0..1 as a PNG file.
///
/// # Errors
/// The device does not compute in 32-bit floats.
pub fn png_of_tensor(pixels: Tensor<4>) -> Result<Vec<u8>, ParameterError> {
    let [_, _, height, width] = pixels.dims();
    let values = elements_of("picture", pixels)?;
    let planes: Vec<u8> = values
        .iter()
        .map(|value| (value * 255.0).round() as u8)
        .collect();
    Ok(png_of([width as u32, height as u32], &planes))
}

/// Planes of bytes `[3, height, width]` as a PNG file.
pub fn png_of([width, height]: [u32; 2], planes: &[u8]) -> Vec<u8> {
    let size = planes.len() / 3;
    let interleaved: Vec<u8> = (0..size)
        .flat_map(|pixel| (0..3).map(move |channel| planes[channel * size + pixel]))
        .collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(&interleaved))
        .expect("a picture in memory is written to memory");
    file
}

fn address(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(png))
}
