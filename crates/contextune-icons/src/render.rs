//! A drawing -> an opaque RGB picture on a plain background, as a PNG file.

use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use resvg::tiny_skia::{Pixmap, PremultipliedColorU8, Transform};
use resvg::usvg;
use sha2::{Digest, Sha256};

use crate::sources::Drawing;

/// The share of the picture's side that the drawing's own canvas takes; the rest is background.
const DRAWN_SHARE: f32 = 0.9375;
/// The least distance in OKLab at which two colours are told apart well.
const VISIBLE_DISTANCE: f32 = 0.18;
/// The share of outline pixels that must differ from the background by [`VISIBLE_DISTANCE`].
const VISIBLE_SHARE: f32 = 0.9;
/// Backgrounds tried before the best of them is taken.
const CANDIDATES: usize = 32;
/// Larger WebP pictures are refused: those of the package are about 256 pixels wide.
const MAX_WEBP_SIDE: u32 = 2048;

/// Red, green, blue, 0 to 255 each.
pub type Rgb = [u8; 3];

/// Draws `drawing` at `side` × `side` pixels onto a plain background and returns the PNG file.
///
/// `key` seeds the background: 40 % light, 15 % dark, the rest coloured. The first one drawn is taken that stands
/// apart from the drawing's outline.
pub fn picture(drawing: &Drawing, side: u32, key: &str) -> Result<Vec<u8>> {
    let icon = match drawing {
        Drawing::Svg(svg) => draw_svg(svg, side)?,
        Drawing::Webp(path) => {
            draw_webp(path, side).with_context(|| format!("cannot draw {}", path.display()))?
        }
    };
    let background = choose_background(&icon, key)?;
    encode_png(&flatten(&icon, background), side)
}

/// The file of a picture of `side` × `side` pixels, three bytes each.
pub fn encode_png(rgb: &[u8], side: u32) -> Result<Vec<u8>> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side, side);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    encoder.set_filter(png::Filter::Adaptive);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()?;
    Ok(file)
}

/// Where the drawing's canvas of `width` × `height` goes: its scale, and the left and top margin in pixels.
fn placement(width: f32, height: f32, side: u32) -> (f32, f32, f32) {
    let side = side as f32;
    let scale = DRAWN_SHARE * side / width.max(height);
    (
        scale,
        (side - scale * width) / 2.0,
        (side - scale * height) / 2.0,
    )
}

fn draw_svg(svg: &str, side: u32) -> Result<Pixmap> {
    let tree = usvg::Tree::from_str(svg, &usvg::Options::default())?;
    let (scale, left, top) = placement(tree.size().width(), tree.size().height(), side);
    let mut pixmap = Pixmap::new(side, side).context("a picture needs at least one pixel")?;
    resvg::render(
        &tree,
        Transform::from_row(scale, 0.0, 0.0, scale, left, top),
        &mut pixmap.as_mut(),
    );
    Ok(pixmap)
}

fn draw_webp(path: &Path, side: u32) -> Result<Pixmap> {
    let file = std::fs::File::open(path)?;
    let mut decoder = image_webp::WebPDecoder::new(BufReader::new(file))?;
    let (width, height) = decoder.dimensions();
    ensure!(
        width.max(height) <= MAX_WEBP_SIDE,
        "expected at most {MAX_WEBP_SIDE} pixels a side, found {width} x {height}"
    );
    ensure!(decoder.has_alpha(), "expected an alpha channel");
    let mut rgba = vec![
        0;
        decoder
            .output_buffer_size()
            .context("the picture is too large")?
    ];
    decoder.read_image(&mut rgba)?;
    let source: Vec<[f32; 4]> = rgba
        .chunks_exact(4)
        .map(|pixel| {
            let [red, green, blue, alpha] = [pixel[0], pixel[1], pixel[2], pixel[3]].map(f32::from);
            let share = alpha / 255.0;
            [red * share, green * share, blue * share, alpha]
        })
        .collect();
    let (scale, left, top) = placement(width as f32, height as f32, side);
    let columns = coverage(width as usize, side as usize, scale, left);
    let rows = coverage(height as usize, side as usize, scale, top);
    let mut pixmap = Pixmap::new(side, side).context("a picture needs at least one pixel")?;
    for (y, row) in rows.iter().enumerate() {
        for (x, column) in columns.iter().enumerate() {
            let mut sum = [0.0f32; 4];
            for &(source_y, weight_y) in row {
                for &(source_x, weight_x) in column {
                    let pixel = source[source_y * width as usize + source_x];
                    for (total, value) in sum.iter_mut().zip(pixel) {
                        *total += weight_y * weight_x * value;
                    }
                }
            }
            let [red, green, blue, alpha] = sum.map(|value| value.round().clamp(0.0, 255.0) as u8);
            let color = PremultipliedColorU8::from_rgba(
                red.min(alpha),
                green.min(alpha),
                blue.min(alpha),
                alpha,
            );
            pixmap.pixels_mut()[y * side as usize + x] = color.context("colour above alpha")?;
        }
    }
    Ok(pixmap)
}

/// For each pixel of one axis of the picture, the source pixels it covers and by how much of its own width.
///
/// Averaging over the covered area is what a downscaled picture should show, without ringing.
fn coverage(source: usize, side: usize, scale: f32, margin: f32) -> Vec<Vec<(usize, f32)>> {
    (0..side)
        .map(|i| {
            let start = ((i as f32 - margin) / scale).max(0.0);
            let end = ((i as f32 + 1.0 - margin) / scale).min(source as f32);
            (start as usize..source)
                .map(|s| {
                    (
                        s,
                        ((s as f32 + 1.0).min(end) - (s as f32).max(start)) * scale,
                    )
                })
                .take_while(|&(_, weight)| weight > 0.0)
                .collect()
        })
        .collect()
}

fn flatten(icon: &Pixmap, background: Rgb) -> Vec<u8> {
    icon.pixels()
        .iter()
        .flat_map(|pixel| {
            let behind = 255 - u32::from(pixel.alpha());
            let color = [pixel.red(), pixel.green(), pixel.blue()];
            [0, 1, 2].map(|i| {
                let value = u32::from(color[i]) + (u32::from(background[i]) * behind + 127) / 255;
                value.min(255) as u8
            })
        })
        .collect()
}

fn choose_background(icon: &Pixmap, key: &str) -> Result<Rgb> {
    let outline = outline(icon);
    if outline.is_empty() {
        bail!("nothing is drawn");
    }
    let mut random = Random::new(key);
    let mut best = (-1.0, [0; 3]);
    for _ in 0..CANDIDATES {
        let background = random.background();
        let lab = oklab(background);
        let visible = outline
            .iter()
            .filter(|color| distance(**color, lab) >= VISIBLE_DISTANCE)
            .count();
        let share = visible as f32 / outline.len() as f32;
        if share >= VISIBLE_SHARE {
            return Ok(background);
        }
        if share > best.0 {
            best = (share, background);
        }
    }
    Ok(best.1)
}

/// The colours (OKLab) of the pixels where the drawing meets the background.
fn outline(icon: &Pixmap) -> Vec<[f32; 3]> {
    let (width, height) = (icon.width() as usize, icon.height() as usize);
    let pixels = icon.pixels();
    let covered =
        |x: usize, y: usize| x < width && y < height && pixels[y * width + x].alpha() >= 128;
    let mut colors = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let surrounded = covered(x.wrapping_sub(1), y)
                && covered(x + 1, y)
                && covered(x, y.wrapping_sub(1))
                && covered(x, y + 1);
            if covered(x, y) && !surrounded {
                let color = pixels[y * width + x].demultiply();
                colors.push(oklab([color.red(), color.green(), color.blue()]));
            }
        }
    }
    colors
}

/// OKLab (Björn Ottosson, 2020), in which equal distances look about equally different.
fn oklab(rgb: Rgb) -> [f32; 3] {
    let [r, g, b] = rgb.map(|value| {
        let value = f32::from(value) / 255.0;
        if value <= 0.04045 {
            value / 12.92
        } else {
            ((value + 0.055) / 1.055).powf(2.4)
        }
    });
    let l = (0.412_221_47 * r + 0.536_332_54 * g + 0.051_445_995 * b).cbrt();
    let m = (0.211_903_5 * r + 0.680_699_5 * g + 0.107_396_96 * b).cbrt();
    let s = (0.088_302_46 * r + 0.281_718_85 * g + 0.629_978_7 * b).cbrt();
    [
        0.210_454_26 * l + 0.793_617_8 * m - 0.004_072_047 * s,
        1.977_998_5 * l - 2.428_592_2 * m + 0.450_593_7 * s,
        0.025_904_037 * l + 0.782_771_77 * m - 0.808_675_77 * s,
    ]
}

fn distance(a: [f32; 3], b: [f32; 3]) -> f32 {
    a.iter()
        .zip(b)
        .map(|(x, y)| (x - y) * (x - y))
        .sum::<f32>()
        .sqrt()
}

/// SplitMix64, seeded by the SHA-256 of a text.
struct Random(u64);

impl Random {
    fn new(key: &str) -> Self {
        let hash = Sha256::digest(key.as_bytes());
        Self(
            hash.iter()
                .take(8)
                .fold(0, |seed, byte| seed << 8 | u64::from(*byte)),
        )
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in `low..high`.
    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    fn background(&mut self) -> Rgb {
        let kind = self.between(0.0, 1.0);
        if kind < 0.55 {
            let value = if kind < 0.4 {
                self.between(205.0, 255.0)
            } else {
                self.between(0.0, 60.0)
            };
            [(); 3].map(|()| (value + self.between(-8.0, 8.0)).round().clamp(0.0, 255.0) as u8)
        } else {
            let (hue, saturation, value) = (
                self.between(0.0, 6.0),
                self.between(0.15, 0.75),
                self.between(0.35, 1.0),
            );
            // HSV -> RGB: each channel falls from the value by how far the hue is from it.
            [5.0, 3.0, 1.0].map(|offset: f32| {
                let place = (offset + hue) % 6.0;
                let fall = place.min(4.0 - place).clamp(0.0, 1.0);
                (255.0 * value * (1.0 - saturation * fall)).round() as u8
            })
        }
    }
}
