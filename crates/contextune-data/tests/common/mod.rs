//! What the tests of this crate share.
#![allow(dead_code, reason = "each test file uses its share")]

use std::path::{Path, PathBuf};

/// Returns the path of a golden file: one of this crate's tests, or one that the tests of the crate `contextune` read
/// too.
pub fn golden(name: &str) -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = crate_folder.join("tests/golden").join(name);
    match own.exists() {
        true => own,
        false => crate_folder.join("../contextune/tests/golden").join(name),
    }
}

/// Asserts that a message has all `parts`.
#[track_caller]
pub fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

/// Asserts that `result` is an error whose message has all `parts`.
#[track_caller]
pub fn assert_refused<T, E: std::fmt::Display>(result: Result<T, E>, parts: &[&str]) {
    assert_says(&result.err().expect("must be refused").to_string(), parts);
}
