//! Running the binary, and what it is run on.
#![allow(dead_code, reason = "each test file uses its share")]

pub mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::SafeTensors;
use serde_json::Value;

/// The binary, with a cache that outlives the tests: no picture is encoded twice.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_contextune"));
    command.env("CONTEXTUNE_CACHE", env!("CARGO_TARGET_TMPDIR"));
    for place in [
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_TOKEN",
        "HF_TOKEN_PATH",
    ] {
        command.env_remove(place);
    }
    command
}

/// What the command with these arguments does.
pub fn contextune(arguments: &[&str]) -> Output {
    command().args(arguments).output().unwrap()
}

/// Standard output of a command that must succeed.
#[track_caller]
pub fn answer(arguments: &[&str]) -> String {
    let output = contextune(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a command that must fail with this exit code.
#[track_caller]
pub fn failure(code: i32, arguments: &[&str]) -> String {
    let output = contextune(arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    errors
}

/// What a command printed as JSON.
pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A task of the demo.
pub fn demo_data(task: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../assets/demo")
        .join(task)
}

/// A golden file of the library's tests.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../contextune/tests/golden")
        .join(name)
}

/// Shape and elements of a tensor of 32-bit floats.
pub fn tensor(path: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(name).unwrap();
    let (values, _) = view.data().as_chunks::<4>();
    let values = values.iter().map(|&bytes| f32::from_le_bytes(bytes));
    (view.shape().to_vec(), values.collect())
}

/// Two class folders with three real pictures each.
pub fn class_folders(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    let pictures = [
        ("noise", ["noise.png", "big_noise.png", "tiny.png"]),
        ("photo", ["photo.jpg", "photo_444.jpg", "photo_rgb.png"]),
    ];
    for (class, files) in pictures {
        fs::create_dir_all(data.join(class)).unwrap();
        for file in files {
            let source = golden("preprocess").join(file);
            fs::copy(source, data.join(class).join(file)).unwrap();
        }
    }
    data
}
