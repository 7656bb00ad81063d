//! Runs that earlier versions made are used and resumed.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{answer, demo_data, json, text};
use tempfile::TempDir;

const PICTURE: &str = "images/bear/00031.png";

fn old_runs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runs-0.1.0")
}

/// Each run folder lies beside what the version that made it predicted.
#[test]
fn runs_of_0_1_0_predict_what_they_predicted_then() {
    let picture = demo_data("animal-silhouettes").join(PICTURE);
    let mut runs = 0;
    for entry in fs::read_dir(old_runs()).unwrap() {
        let run = entry.unwrap().path();
        let Ok(then) = fs::read_to_string(run.join("predicted.json")) else {
            continue;
        };
        let then = json(&then);
        let now = json(&answer(&["predict", text(&run), text(&picture), "--json"]));
        assert_eq!(now["class"], then["class"], "{run:?}");
        let probability = |answer: &serde_json::Value| answer["probability"].as_f64().unwrap();
        let difference = (probability(&now) - probability(&then)).abs();
        assert!(difference < 2e-3, "{run:?}: {now}, then {then}");
        runs += 1;
    }
    assert_eq!(runs, 9);
}

#[test]
fn a_run_that_0_1_0_did_not_finish_is_finished() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    fs::create_dir_all(run.join("resume")).unwrap();
    let old = old_runs().join("unfinished");
    for file in ["run.toml", "metrics.jsonl", "resume/state.safetensors"] {
        fs::copy(old.join(file), run.join(file)).unwrap();
    }
    let settings = fs::read_to_string(run.join("run.toml")).unwrap();
    let data = format!("data = {:?}", demo_data("animal-silhouettes"));
    let settings = settings.replace("data = \"animal-silhouettes\"", &data);
    let settings = settings.replace("epochs = 60", "epochs = 28");
    fs::write(run.join("run.toml"), settings).unwrap();
    let result = json(&answer(&["resume", text(&run), "--json"]));
    assert!(result["accuracy"].as_f64().unwrap() > 0.1, "{result}");
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 28);
}
