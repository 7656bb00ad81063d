//! Whether what was won has been lost: small sizes, generous margins.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Runs rows on small sizes and returns what was appended to the history, by row.
fn run(rows: &[&str], python: Option<&str>) -> BTreeMap<String, serde_json::Value> {
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("history.jsonl");
    let mut command = Command::new(env!("CARGO_BIN_EXE_contextune-benches"));
    command
        .args(["run", "--small", "--history"])
        .arg(&history)
        .args(rows)
        .env_remove("CONTEXTUNE_PYTHON");
    if let Some(python) = python {
        command.args(["--python", python]);
    }
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    read(&history)
}

fn read(history: &Path) -> BTreeMap<String, serde_json::Value> {
    let lines = std::fs::read_to_string(history).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .map(|outcome: serde_json::Value| (outcome["row"].as_str().unwrap().to_owned(), outcome))
        .collect()
}

#[test]
fn slow_image_towers_stay_near_the_floor() {
    let outcomes = run(&["image-vit-b-32", "image-vit-b-16", "image-rn50"], None);
    assert_eq!(outcomes.len(), 3);
    for (row, outcome) in outcomes {
        let (seconds, floor) = (&outcome["seconds"], &outcome["floor_seconds"]);
        let times = seconds.as_f64().unwrap() / floor.as_f64().unwrap();
        assert!(times <= 6.0, "{row} takes {times} times its floor");
    }
}

#[test]
fn slow_steps_of_text_prompts_stay_faster_than_the_published_ones() {
    let Ok(python) = std::env::var("CONTEXTUNE_PYTHON") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI sets CONTEXTUNE_PYTHON"
        );
        eprintln!("skipped: CONTEXTUNE_PYTHON is not set");
        return;
    };
    let outcomes = run(&["coop-100", "cocoop-1"], Some(&python));
    assert_eq!(outcomes.len(), 2);
    for (row, outcome) in outcomes {
        let ratio = outcome["ratio"].as_f64().unwrap();
        assert!(ratio >= 4.0, "{row} is only {ratio} times as fast");
    }
}
