//! PNG, unpacked to the modes of PIL's `PngImagePlugin`.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, Transformations};

use super::decoded::{Decoded, damaged, look_up, unpack};
use super::options::DecodeOptions;
use crate::image::{Format, ImageError, Pixels};

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, ImageError> {
    let mut decoder = Decoder::new(Cursor::new(bytes));
    // Compressed text and colour profiles can inflate a thousandfold, and nothing here reads them.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::IDENTITY);
    let header = decoder
        .read_header_info()
        .map_err(|error| damaged(Format::Png, error))?;
    let (width, height) = (header.width, header.height);
    options.check_size(Format::Png, width, height)?;

    let mut reader = decoder
        .read_info()
        .map_err(|error| damaged(Format::Png, error))?;
    let size = reader
        .output_buffer_size()
        .ok_or_else(|| damaged(Format::Png, "its size overflows memory"))?;
    let mut raw = vec![0; size];
    let frame = reader
        .next_frame(&mut raw)
        .map_err(|error| damaged(Format::Png, error))?;
    if (frame.width, frame.height) != (width, height) {
        return Err(damaged(
            Format::Png,
            "its first frame does not fill the picture",
        ));
    }
    let info = reader.info();
    let palette = info.palette.as_deref().unwrap_or_default();
    let exif = info.exif_metadata.as_deref().map(<[u8]>::to_vec);

    let samples = |bits| {
        let lines = raw.chunks_exact(frame.line_size);
        lines.flat_map(move |line| unpack(line, bits, width as usize))
    };
    // PIL keeps 16 bits for grey alone; elsewhere it keeps the high byte.
    let narrow = |raw: Vec<u8>| match frame.bit_depth {
        BitDepth::Sixteen => raw.iter().step_by(2).copied().collect(),
        _ => raw,
    };
    let pixels = match (frame.color_type, frame.bit_depth) {
        (ColorType::Grayscale, BitDepth::One) => {
            Pixels::Palette(look_up(samples(1), &[0, 0, 0, 255, 255, 255]))
        }
        (ColorType::Grayscale, BitDepth::Two) => Pixels::Grey(samples(2).map(|v| v * 85).collect()),
        (ColorType::Grayscale, BitDepth::Four) => {
            Pixels::Grey(samples(4).map(|v| v * 17).collect())
        }
        (ColorType::Grayscale, BitDepth::Sixteen) => Pixels::Grey16(
            raw.as_chunks()
                .0
                .iter()
                .map(|&pair| u16::from_be_bytes(pair))
                .collect(),
        ),
        (ColorType::Indexed, depth) => Pixels::Palette(look_up(samples(depth as u8), palette)),
        (ColorType::Grayscale, BitDepth::Eight) => Pixels::Grey(raw),
        (ColorType::GrayscaleAlpha, _) => Pixels::GreyAlpha(narrow(raw)),
        (ColorType::Rgb, _) => Pixels::Rgb(narrow(raw)),
        (ColorType::Rgba, _) => Pixels::Rgba(narrow(raw)),
    };
    Ok(Decoded {
        width,
        height,
        pixels,
        exif,
    })
}
