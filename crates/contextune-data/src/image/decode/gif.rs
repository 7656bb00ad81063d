//! The first frame of a GIF, placed on its canvas as PIL's `GifImagePlugin` does.

use gif::{ColorOutput, DecodeOptions as GifOptions, MemoryLimit};

use super::decoded::{Decoded, damaged, is_grey_ramp, look_up};
use super::options::DecodeOptions;
use crate::image::{Format, ImageError, Pixels};

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, ImageError> {
    let mut settings = GifOptions::new();
    settings.set_color_output(ColorOutput::Indexed);
    // The frame is bounded by `check_size` below, before it is allocated.
    settings.set_memory_limit(MemoryLimit::Unlimited);
    let mut decoder = settings
        .read_info(bytes)
        .map_err(|error| damaged(Format::Gif, error))?;
    let (screen_width, screen_height) = (u32::from(decoder.width()), u32::from(decoder.height()));
    options.check_size(Format::Gif, screen_width, screen_height)?;

    let frame = decoder
        .next_frame_info()
        .map_err(|error| damaged(Format::Gif, error))?
        .ok_or_else(|| damaged(Format::Gif, "it holds no frame"))?;
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (frame_width, frame_height) = (usize::from(frame.width), usize::from(frame.height));
    let background = frame.transparent.unwrap_or(0);
    // PIL grows the canvas to hold a first frame that sticks out of it.
    let width = screen_width.max((left + frame_width) as u32);
    let height = screen_height.max((top + frame_height) as u32);
    options.check_size(Format::Gif, width, height)?;

    let mut indices = vec![0; frame_width * frame_height];
    decoder
        .read_into_buffer(&mut indices)
        .map_err(|error| damaged(Format::Gif, error))?;
    let mut canvas = vec![background; width as usize * height as usize];
    if frame_width > 0 {
        for (row, line) in canvas
            .chunks_exact_mut(width as usize)
            .skip(top)
            .zip(indices.chunks_exact(frame_width))
        {
            row[left..left + frame_width].copy_from_slice(line);
        }
    }

    let palette = decoder
        .palette()
        .map_err(|error| damaged(Format::Gif, error))?;
    let pixels = if is_grey_ramp(palette) {
        Pixels::Grey(canvas)
    } else {
        Pixels::Palette(look_up(canvas.into_iter(), palette))
    };
    Ok(Decoded {
        width,
        height,
        pixels,
        exif: None,
    })
}
