//! Models of full size as open_clip and transformers write them: the same features as theirs.
//!
//! `tests-full-size/make_models.py` makes the models; `CONTEXTUNE_FULL_SIZE` names their folder. Without it the test is
//! skipped, except where `CI` is set: there it must not be forgotten.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::tensor;

const PICTURES: [&str; 4] = [
    "1_noise.png",
    "2_gradient.png",
    "3_rings_grey.png",
    "4_larger.png",
];
const TOLERANCE: f64 = 1e-4;

#[test]
fn slow_features_equal_those_of_open_clip_and_transformers() {
    let Some(folder) = std::env::var_os("CONTEXTUNE_FULL_SIZE").map(PathBuf::from) else {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must set CONTEXTUNE_FULL_SIZE"
        );
        eprintln!("skipped: CONTEXTUNE_FULL_SIZE is not set");
        return;
    };
    for (model, warns) in [
        ("open_clip_vit_b_32.pt", true),
        ("open_clip_vit_b_32_quickgelu", false),
        ("open_clip_rn50.pt", true),
        ("hugging_face_vit_b_32", false),
    ] {
        compare(&folder, model, warns);
    }
}

fn compare(folder: &Path, model: &str, warns: bool) {
    let out = tempfile::TempDir::new().unwrap();
    let features = out.path().join("features.safetensors");
    let pictures = PICTURES.map(|name| folder.join("images").join(name));
    let output = Command::new(env!("CARGO_BIN_EXE_contextune"))
        .arg("encode")
        .arg("--model")
        .arg(folder.join(model))
        .arg("--texts")
        .arg(folder.join("texts.txt"))
        .arg("--out")
        .arg(&features)
        .arg("--images")
        .args(pictures)
        .output()
        .unwrap();
    let remarks = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{model}: {remarks}");
    assert_eq!(
        remarks.contains("activation quickgelu"),
        warns,
        "{model}: {remarks}"
    );

    let name = model.trim_end_matches(".pt");
    let official = folder.join(format!("expected_{name}.safetensors"));
    for name in ["image_features", "text_features"] {
        let (shape, expected) = tensor(&official, name);
        let (found, actual) = tensor(&features, name);
        assert_eq!(found, shape, "{model}, {name}");
        let width = shape[1];
        for (row, (a, b)) in actual.chunks(width).zip(expected.chunks(width)).enumerate() {
            let error = relative_error(a, b);
            assert!(
                error <= TOLERANCE,
                "{model}, row {row} of {name} is off by {error:.1e}"
            );
        }
    }
}

fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = length(&mut a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    difference / length(&mut b.iter().map(|&b| f64::from(b)))
}
