//! Pictures against PIL + torchvision, and against hostile files.
//!
//! The golden folders `preprocess` and `preprocess_more` hold pictures and what PIL 13 + torchvision's transforms make of
//! them; the keys of `expected.safetensors` say how. Lossless files: every value within 1 of 255 and at most 10 % of
//! the values different. JPEG: within 3, mean difference at most 0.3.

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::golden;
use contextune_data::image::{
    CropView, DecodeOptions, Format, ImageError, Picture, Pixels, PlanarRgb, Preprocess,
    RandomResizedCrop, decode, open,
};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use safetensors::SafeTensors;

fn expected(folder: &str) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(golden(folder).join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors
        .iter()
        .map(|(key, tensor)| (key.to_owned(), tensor.data().to_vec()))
        .collect()
}

/// What is wrong with `actual`, if anything.
fn disagreement(key: &str, actual: &PlanarRgb, expected: &[u8]) -> Option<String> {
    assert_eq!(actual.as_bytes().len(), expected.len(), "{key}");
    let differences: Vec<u8> = actual
        .as_bytes()
        .iter()
        .zip(expected)
        .map(|(a, b)| a.abs_diff(*b))
        .collect();
    let largest = *differences.iter().max().unwrap();
    let mean = differences.iter().map(|&d| f64::from(d)).sum::<f64>() / differences.len() as f64;
    let share = differences.iter().filter(|&&d| d > 0).count() as f64 / differences.len() as f64;
    let agrees = if key.contains(".jpg") {
        largest <= 3 && mean <= 0.3
    } else {
        largest <= 1 && share <= 0.1
    };
    (!agrees).then(|| {
        format!(
            "{key}: largest difference {largest}, mean {mean:.3}, {:.1} % differ",
            100.0 * share
        )
    })
}

fn check_all(disagreements: Vec<Option<String>>, at_least: usize) {
    assert!(
        disagreements.len() >= at_least,
        "only {} cases ran",
        disagreements.len()
    );
    let wrong: Vec<_> = disagreements.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pictures_come_out_as_from_pil() {
    let mut results = Vec::new();
    for folder in ["preprocess", "preprocess_more"] {
        for (key, values) in expected(folder) {
            let Some((file, rest)) = key.split_once('@') else {
                continue;
            };
            let (size, order) = rest.split_once(':').unwrap_or((rest, ""));
            if order.starts_with("exif") {
                continue;
            }
            let picture = open(golden(folder).join(file), &DecodeOptions::default()).unwrap();
            let preprocess = Preprocess {
                rgb_first: order == "rgb_first",
                ..Preprocess::new(size.parse().unwrap())
            };
            results.push(disagreement(&key, &preprocess.apply(&picture), &values));
        }
    }
    check_all(results, 80);
}

#[test]
fn exif_orientation_is_honoured_on_request_only() {
    let upright = DecodeOptions {
        honour_exif: true,
        ..DecodeOptions::default()
    };
    let mut results = Vec::new();
    for (key, values) in expected("preprocess_more") {
        let Some((file, orientation)) = key.split_once("@16:exif") else {
            continue;
        };
        let mut bytes = fs::read(golden("preprocess_more").join(file)).unwrap();
        if let Ok(orientation) = orientation.parse::<u8>() {
            // Big-endian: the tag 0x0112, type short, count 1, then the value in two bytes.
            let tag = bytes
                .windows(8)
                .position(|w| w == [1, 0x12, 0, 3, 0, 0, 0, 1])
                .unwrap();
            bytes[tag + 9] = orientation;
        }
        let picture = decode(&bytes, &upright).unwrap();
        results.push(disagreement(
            &key,
            &Preprocess::new(16).apply(&picture),
            &values,
        ));
        let as_stored = decode(&bytes, &DecodeOptions::default()).unwrap();
        assert_eq!((as_stored.width(), as_stored.height()), (30, 20), "{key}");
    }
    check_all(results, 10);
}

#[test]
fn crop_views_come_out_as_from_pil() {
    let mut results = Vec::new();
    for (key, values) in expected("preprocess_more") {
        let Some((file, view)) = key.split_once(':').filter(|(file, _)| !file.contains('@')) else {
            continue;
        };
        let picture = open(golden("preprocess").join(file), &DecodeOptions::default())
            .unwrap()
            .into_rgb();
        let numbers: Vec<u32> = view.split(',').map(|n| n.parse().unwrap()).collect();
        let [left, top, width, height, flip] = numbers[..] else {
            panic!("{key}")
        };
        let view = CropView {
            left,
            top,
            width,
            height,
            flip: flip == 1,
        };
        results.push(disagreement(&key, &view.apply(&picture, 24), &values));
    }
    check_all(results, 5);
}

#[test]
fn random_crops_have_the_published_distribution() {
    let crop = RandomResizedCrop::default();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (width, height) = (400, 300);
    let views: Vec<CropView> = (0..20_000)
        .map(|_| crop.draw(width, height, &mut rng))
        .collect();
    let mean = |value: &dyn Fn(&CropView) -> f64| {
        views.iter().map(value).sum::<f64>() / views.len() as f64
    };
    for view in &views {
        assert!(
            view.left + view.width <= width && view.top + view.height <= height,
            "{view:?}"
        );
    }
    // Means of 10^6 draws by torchvision's formulas in NumPy; tolerances are five standard errors of 20,000 draws.
    let area = mean(&|v| f64::from(v.width * v.height) / f64::from(width * height));
    let log_ratio = mean(&|v| (f64::from(v.width) / f64::from(v.height)).ln());
    let centre = mean(&|v| f64::from(v.left) + f64::from(v.width) / 2.0);
    assert!(
        (area - 0.4331).abs() < 0.0077,
        "mean share of the area {area}"
    );
    assert!(
        (log_ratio - 0.0307).abs() < 0.0059,
        "mean log ratio {log_ratio}"
    );
    assert!((centre - 200.0).abs() < 2.0, "mean centre {centre}");
    assert!((mean(&|v| f64::from(u8::from(v.flip))) - 0.5).abs() < 0.018);

    // Nothing that fits: the largest central rectangle within the bounds of the ratio.
    let view = crop.draw(1000, 10, &mut rng);
    assert_eq!(
        (view.left, view.top, view.width, view.height),
        (493, 0, 13, 10)
    );
    // A seed draws the same views everywhere.
    let first = crop.draw(400, 300, &mut ChaCha8Rng::seed_from_u64(7));
    assert_eq!(
        first,
        crop.draw(400, 300, &mut ChaCha8Rng::seed_from_u64(7))
    );
}

#[test]
fn bytes_become_unit_floats_in_place() {
    let picture = Picture::new(2, 1, Pixels::Rgb(vec![0, 51, 102, 255, 204, 153])).unwrap();
    let planar = Preprocess::new(1).apply(&picture);
    assert_eq!(
        (planar.width(), planar.height(), planar.as_bytes().len()),
        (1, 1, 3)
    );
    let whole = CropView {
        left: 0,
        top: 0,
        width: 2,
        height: 1,
        flip: true,
    }
    .apply(&picture, 2);
    let mut batch = vec![-1.0; 2 * 12];
    whole.write_unit_floats(&mut batch[12..]).unwrap();
    assert_eq!(batch[..13], [[-1.0; 12].as_slice(), &[1.0]].concat());
    assert!(batch[12..].iter().all(|v| (0.0..=1.0).contains(v)));
    let error = whole.write_unit_floats(&mut batch).unwrap_err();
    assert!(
        matches!(
            error,
            ImageError::BufferLength {
                expected: 12,
                actual: 24
            }
        ),
        "{error}"
    );
}

/// A PNG of 1 kB or so whose header promises `width` x `height`, with a megabyte of zeros as its colour profile
/// and as its text.
fn png_bomb(width: u32, height: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, 1, 1);
    encoder.set_color(png::ColorType::Rgb);
    encoder
        .add_ztxt_chunk("Comment".into(), "a".repeat(1 << 20))
        .unwrap();
    encoder
        .write_header()
        .unwrap()
        .write_image_data(&[1, 2, 3])
        .unwrap();
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend(&out[24..29]);
    out[16..24].copy_from_slice(&header[4..12]);
    let checksum = crc32(&header).to_be_bytes();
    out[29..33].copy_from_slice(&checksum);
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        })
    })
}

#[test]
fn bombs_are_refused_before_they_are_unpacked() {
    let options = DecodeOptions::default();
    assert!(
        decode(&png_bomb(1, 1), &options).is_ok(),
        "the bomb's frame is a sound PNG"
    );

    let mut gif = fs::read(golden("preprocess").join("anim.gif")).unwrap();
    gif[6..10].fill(0xff);
    let mut bmp = fs::read(golden("preprocess_more").join("rgb24.bmp")).unwrap();
    bmp[18..26].copy_from_slice(&[0x60, 0xea, 0, 0, 0x60, 0xea, 0, 0]);
    let mut jpeg = fs::read(golden("preprocess").join("photo.jpg")).unwrap();
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xff);
    let mut webp = fs::read(golden("preprocess_more").join("animated.webp")).unwrap();
    webp[24..30].copy_from_slice(&[0xff, 0x3f, 0, 0xff, 0x3f, 0]);

    for (format, bytes, declared) in [
        (Format::Png, png_bomb(100_000, 1_000), "100000 x 1000"),
        (Format::Png, png_bomb(10_000, 10_000), "10000 x 10000"),
        (Format::Gif, gif, "65535 x 65535"),
        (Format::Bmp, bmp, "60000 x 60000"),
        (Format::Jpeg, jpeg, "65535 x 65535"),
        (Format::WebP, webp, "16384 x 16384"),
    ] {
        let error = decode(&bytes, &options).unwrap_err();
        let message = error.to_string();
        assert!(
            matches!(error, ImageError::TooManyPixels { format: f, .. } if f == format),
            "{format}: {message}"
        );
        assert!(
            message.contains(declared) && message.contains("67108864"),
            "{message}"
        );
    }

    let small = DecodeOptions {
        max_file_bytes: 1000,
        ..options
    };
    let path = golden("preprocess").join("photo_rgb.png");
    let message = open(&path, &small).unwrap_err().to_string();
    assert!(
        message.contains("photo_rgb.png") && message.contains("1000 bytes"),
        "{message}"
    );
    // An endless device has no length to ask for.
    #[cfg(unix)]
    assert!(matches!(
        open("/dev/zero", &small),
        Err(ImageError::File { source, .. }) if matches!(*source, ImageError::FileTooLarge { limit: 1000 })
    ));
}

#[test]
fn what_is_no_picture_is_named() {
    let options = DecodeOptions::default();
    for (bytes, named) in [
        (&b""[..], "empty"),
        (b"II*\0....", "TIFF"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"<svg xmlns=", "SVG"),
        (b"hello, world", "no known picture format"),
    ] {
        let message = decode(bytes, &options).unwrap_err().to_string();
        assert!(
            message.contains(named) && message.contains("PNG, JPEG, WebP, GIF and BMP"),
            "{message}"
        );
    }
    let message = open("no/such/file.png", &options).unwrap_err().to_string();
    assert!(message.contains("no/such/file.png"), "{message}");
}

/// Every picture of both golden folders.
fn pictures() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for folder in ["preprocess", "preprocess_more"] {
        for entry in fs::read_dir(golden(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension != "safetensors")
            {
                all.push((
                    path.file_name().unwrap().to_string_lossy().into_owned(),
                    fs::read(path).unwrap(),
                ));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn truncated_pictures_are_errors() {
    let options = DecodeOptions::default();
    for (name, bytes) in pictures() {
        // The last cut is the one that decoders overlook: nothing of the last rows but a little is missing.
        let pixels_end = bytes.len() - bytes.len() / 8 - 16.min(bytes.len() / 4);
        for length in [bytes.len() / 2, pixels_end] {
            let result = decode(&bytes[..length], &options);
            assert!(
                matches!(result, Err(ImageError::Damaged { .. })),
                "{name}, cut to {length} of {} bytes: {:?}",
                bytes.len(),
                result.map(|picture| (picture.width(), picture.height()))
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Damaged files give a picture or an error, never a panic, and stay within the pixel limit.
    #[test]
    fn damaged_bytes_never_panic(
        pick in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        in_header in any::<bool>(),
        keep in any::<prop::sample::Index>(),
        cut in prop::bool::weighted(0.2),
    ) {
        use std::sync::LazyLock;
        static PICTURES: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(pictures);
        let (_, original) = pick.get(&PICTURES);
        let mut bytes = original.clone();
        let reach = if in_header { bytes.len().min(200) } else { bytes.len() };
        for (at, value) in changes {
            bytes[at.index(reach)] = value;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        let options = DecodeOptions { max_pixels: 1 << 20, honour_exif: true, ..DecodeOptions::default() };
        if let Ok(picture) = decode(&bytes, &options) {
            prop_assert!(u64::from(picture.width()) * u64::from(picture.height()) <= 1 << 20);
            prop_assert_eq!(Preprocess::new(8).apply(&picture).as_bytes().len(), 3 * 64);
        }
    }
}
