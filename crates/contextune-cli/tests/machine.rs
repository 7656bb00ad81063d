//! `contextune cache`, `models` and `doctor`: what is kept on this machine, whether it works, and in which colours that is said.

mod common;

use std::fs;
use std::path::Path;

use common::{answer, class_folders, command, failure, json, text};
use tempfile::TempDir;

fn with_cache<'a>(cache: &'a Path, words: &[&'a str]) -> Vec<&'a str> {
    [words, &["--cache", text(cache)]].concat()
}

#[test]
fn kept_features_are_listed_and_deleted() {
    let folder = TempDir::new().unwrap();
    let cache = folder.path().join("cache");
    let data = class_folders(folder.path());
    let out = folder.path().join("features.safetensors");
    let encode = ["encode", "--data", text(&data), "--out", text(&out)];
    answer(&with_cache(&cache, &encode));

    let listed = json(&answer(&with_cache(&cache, &["cache", "ls", "--json"])));
    let encodings = listed["encodings"].as_array().unwrap();
    assert_eq!(encodings.len(), 1, "{listed}");
    assert_eq!(encodings[0]["model"], "the embedded model");
    assert_eq!(
        (&encodings[0]["features"], &encodings[0]["width"]),
        (&6.into(), &384.into())
    );
    assert_eq!(listed["bytes"], encodings[0]["bytes"]);
    let shown = answer(&with_cache(&cache, &["cache", "ls"]));
    assert!(
        shown.contains("6 × 384") && shown.contains("today  "),
        "{shown}"
    );

    // Nobody is there to be asked.
    let refused = failure(2, &with_cache(&cache, &["cache", "clear"]));
    assert!(refused.contains("--yes"), "{refused}");
    let unknown = failure(1, &with_cache(&cache, &["cache", "clear", "feed", "--yes"]));
    assert!(unknown.contains("nothing called feed"), "{unknown}");
    let unnamed = failure(2, &with_cache(&cache, &["cache", "clear", "", "--yes"]));
    assert!(unnamed.contains("a name is empty"), "{unnamed}");
    let other = ["cache", "clear", "--model", "another", "--yes"];
    let other = failure(1, &with_cache(&cache, &other));
    assert!(
        other.contains("no features of the model another are kept"),
        "{other}"
    );
    // So many days have more seconds than a number holds.
    for days in ["1", "18446744073709551615"] {
        let clear = ["cache", "clear", "--older-than", days];
        let said = answer(&with_cache(&cache, &clear));
        assert_eq!(said, "nothing to delete\n");
    }

    let mine = cache.join("features/mine.safetensors");
    fs::write(&mine, b"not of the cache").unwrap();
    let name = encodings[0]["encoding"].as_str().unwrap();
    let clear = ["cache", "clear", &name[..12], "--yes", "--json"];
    let freed = json(&answer(&with_cache(&cache, &clear)));
    assert_eq!(freed["bytes"], listed["bytes"]);
    assert!(mine.exists() && !cache.join("features").join(name).exists());
    let empty = json(&answer(&with_cache(&cache, &["cache", "ls", "--json"])));
    assert_eq!(empty["encodings"], serde_json::json!([]));
}

#[test]
fn models_of_the_program_and_of_the_hub_are_listed() {
    let home = TempDir::new().unwrap();
    let halfway = home.path().join("hub/models--someone--half-fetched/blobs");
    fs::create_dir_all(&halfway).unwrap();
    fs::write(halfway.join("0123"), [0; 1000]).unwrap();
    let output = command()
        .args(["models", "--json"])
        .env("HF_HOME", home.path())
        .output()
        .unwrap();
    let models = json(std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!(models["embedded"]["embedding_width"], 384);
    let expected =
        serde_json::json!([{"id": "someone/half-fetched", "bytes": 1000, "model": null}]);
    assert_eq!(models["cached"], expected);
    assert!(answer(&["models"]).contains("openai/clip-vit-base-patch32: CLIP"));
}

#[test]
fn a_healthy_machine_and_a_cache_that_cannot_be_written_are_told_apart() {
    let folder = TempDir::new().unwrap();
    let cache = folder.path().join("cache");
    let healthy = json(&answer(&with_cache(&cache, &["doctor", "--json"])));
    assert_eq!(healthy["healthy"], true, "{healthy}");
    let file = folder.path().join("file");
    fs::write(&file, b"no folder").unwrap();
    let below = file.join("cache");
    let output = command()
        .args(with_cache(&below, &["doctor"]))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let checks = String::from_utf8(output.stdout).unwrap();
    assert!(
        checks.contains("broken   feature cache   cannot write to"),
        "{checks}"
    );
    assert!(checks.contains("CONTEXTUNE_CACHE"), "{checks}");
    assert!(checks.contains("ok       embedded model"), "{checks}");
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    let said = |variables: &[(&str, &str)], words: &[&str]| {
        let mut command = command();
        command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        let output = command
            .args(words)
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let [out, errors] =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        out + &errors
    };
    let forced = [("CLICOLOR_FORCE", "1")];
    let error = said(&forced, &["resume", "nowhere"]);
    assert!(
        error.contains("\u{1b}[1m\u{1b}[31merror:\u{1b}[0m "),
        "{error:?}"
    );
    assert!(said(&forced, &["models"]).contains("\u{1b}[1min this program"));
    let without: [(&[_], &[_]); 4] = [
        (&[], &["resume", "nowhere"]),
        (&[], &["models"]),
        (&[("NO_COLOR", "1")], &["models"]),
        (&forced, &["models", "--json"]),
    ];
    for (variables, words) in without {
        let plain = said(variables, words);
        assert!(!plain.is_empty() && !plain.contains('\u{1b}'), "{plain:?}");
    }
}
