//! How models want their pictures, against transformers and open_clip (`tests-full-size/make_preparations.py`).

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{assert_refused, golden};
use contextune_data::checkpoint::{self, Checkpoint, OpenOptions};
use contextune_data::image::{self, DecodeOptions};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder of Hugging Face's CLIP whose pictures are prepared as `config` says.
fn hugging_face(folder: &Path, config: &Value) -> PathBuf {
    let source = golden("hf_clip");
    for file in fs::read_dir(source).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), folder.join(file.file_name())).unwrap();
        }
    }
    fs::write(folder.join("preprocessor_config.json"), config.to_string()).unwrap();
    folder.to_owned()
}

/// The same model as open_clip keeps it.
fn open_clip(folder: &Path, config: &Value) -> PathBuf {
    let weights = folder.join("open_clip_model.safetensors");
    fs::copy(golden("clip_vit.safetensors"), weights).unwrap();
    let model = json!({
        "model_cfg": {
            "embed_dim": 128,
            "vision_cfg": {"image_size": 32, "layers": 2, "width": 128, "head_width": 32, "patch_size": 8},
            "text_cfg": {"context_length": 77, "vocab_size": 1024, "width": 128, "heads": 4, "layers": 2},
        },
        "preprocess_cfg": config,
    });
    fs::write(folder.join("open_clip_config.json"), model.to_string()).unwrap();
    folder.to_owned()
}

fn opened(format: &str, config: &Value) -> checkpoint::Result<Checkpoint> {
    let folder = TempDir::new().unwrap();
    let path = match format {
        "hugging_face" => hugging_face(folder.path(), config),
        _ => open_clip(folder.path(), config),
    };
    checkpoint::open(&path, OpenOptions::default())
}

#[test]
fn pictures_are_prepared_as_the_files_say() {
    let bytes = fs::read(golden("preparation").join("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    let configurations: Vec<Value> = serde_json::from_str(&metadata["configurations"]).unwrap();
    assert!(configurations.len() >= 24);
    let mut wrong = Vec::new();
    for (number, configuration) in configurations.iter().enumerate() {
        let format = configuration["format"].as_str().unwrap();
        let checkpoint = opened(format, &configuration["config"]).unwrap();
        assert!(
            checkpoint.warnings.is_empty(),
            "{configuration}: {:?}",
            checkpoint.warnings
        );
        for picture in ["noise.png", "alpha.png", "tiny.png"] {
            let path = golden("preprocess").join(picture);
            let picture_read = image::open(path, &DecodeOptions::default()).unwrap();
            let prepared = checkpoint.preprocess.apply(&picture_read);
            let view = expected.tensor(&format!("{number}/{picture}")).unwrap();
            let (values, _) = view.data().as_chunks::<4>();
            let plane = prepared.as_bytes().len() / 3;
            let (mean, std) = (checkpoint.normalization.mean, checkpoint.normalization.std);
            // In levels of a byte.
            let difference = |(i, (byte, value)): (usize, (&u8, &[u8; 4]))| {
                let channel = i / plane;
                let level = (f32::from_le_bytes(*value) * std[channel] + mean[channel]) * 255.0;
                (f32::from(*byte) - level).abs()
            };
            let pairs = prepared.as_bytes().iter().zip(values).enumerate();
            let largest = pairs.map(difference).fold(0.0, f32::max);
            if prepared.as_bytes().len() != values.len() || largest > 0.01 {
                wrong.push(format!("{picture} off by {largest}: {configuration}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_not_done_is_refused() {
    for (config, parts) in [
        (
            json!({"image_processor_type": "SiglipImageProcessor"}),
            &["SiglipImageProcessor"][..],
        ),
        (json!({"crop_size": 224, "size": 224}), &["224", "takes 32"]),
        (
            json!({"crop_size": {"height": 32, "width": 48}}),
            &["crop_size"],
        ),
        (
            json!({"crop_size": 32, "size": {"height": 32, "width": 48}}),
            &["no square"],
        ),
        (
            json!({"crop_size": 32, "size": {"longest_edge": 32}}),
            &["no square"],
        ),
        (json!({"crop_size": 32, "size": 0}), &["no square"]),
        (
            json!({"do_center_crop": false, "size": 32}),
            &["do not become squares"],
        ),
        (json!({"crop_size": 32, "resample": 9}), &["filter 9"]),
        (
            json!({"crop_size": 32, "do_pad": true, "pad_size": {"height": 48, "width": 48}}),
            &["pad_size"],
        ),
        (
            json!({"crop_size": 32, "rescale_factor": 0.0}),
            &["normalised"],
        ),
    ] {
        assert_refused(opened("hugging_face", &config), parts);
    }
    for (config, parts) in [
        (
            json!({"resize_mode": "random"}),
            &["resize_mode", "random"][..],
        ),
        (
            json!({"interpolation": "lanczos"}),
            &["interpolation", "lanczos"],
        ),
        (json!({"mode": "L"}), &["mode", "L"]),
    ] {
        assert_refused(opened("open_clip", &config), parts);
    }
}

/// transformers 5 keeps the image processor among others.
#[test]
fn the_newer_file_says_the_same() {
    let folder = TempDir::new().unwrap();
    let config = json!({"size": {"shortest_edge": 40}, "crop_size": 32, "resample": 2});
    let older = checkpoint::open(
        &hugging_face(folder.path(), &config),
        OpenOptions::default(),
    );
    let older = older.unwrap();
    fs::remove_file(folder.path().join("preprocessor_config.json")).unwrap();
    let newer = json!({"image_processor": config, "processor_class": "CLIPProcessor"});
    fs::write(
        folder.path().join("processor_config.json"),
        newer.to_string(),
    )
    .unwrap();
    let newer = checkpoint::open(folder.path(), OpenOptions::default()).unwrap();
    assert_eq!(newer.preprocess, older.preprocess);
    assert_eq!(newer.normalization, older.normalization);
    assert!(newer.warnings.is_empty());
}
