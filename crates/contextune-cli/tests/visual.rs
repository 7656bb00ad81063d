//! Prompts on the image side, as users learn them.

mod common;

use std::fs;
use std::path::Path;

use common::{answer, demo_data, failure, golden, json, text};
use tempfile::TempDir;

/// `train` with the words of `line` on one picture a class.
fn train<'a>(line: &'a str, data: &'a Path, run: &'a Path) -> Vec<&'a str> {
    let mut words = vec!["train"];
    words.extend(line.split_whitespace());
    words.extend(["--data", text(data), "--shots", "1", "--out", text(run)]);
    words.extend(["--force", "--json"]);
    words
}

fn any_picture(folder: &Path) -> std::path::PathBuf {
    let entry = fs::read_dir(folder).unwrap().next().unwrap().unwrap();
    match entry.file_type().unwrap().is_dir() {
        true => any_picture(&entry.path()),
        false => entry.path(),
    }
}

#[test]
fn what_is_learned_on_the_image_side_is_measured_and_used() {
    let folder = TempDir::new().unwrap();
    let data = demo_data("animal-silhouettes");
    let run = folder.path().join("run");
    let picture = any_picture(&data.join("images"));
    let classifier = golden("efficientnet_tiny.pth");
    let side = format!(
        "finetune --tune side --init {}",
        text(&golden("alexnet_tiny.pth"))
    );
    let labels = format!("reprogram --side 28 --model {}", text(&classifier));
    let given = format!(
        "pixel --label-map 9,8,7,6,5,4,3,2,1,0 --model {}",
        text(&classifier)
    );
    for line in [
        "vpt",
        "vpt --depth first-2 --location add --project 8 --dropout 0.1",
        "vpt --location pad --tokens 3",
        "pixel --place frame --size 8 --unit-gradient",
        "pixel --place random-patch --views 2",
        "reprogram --side 32 --penalty 0.001",
        "finetune --tune mlp-3",
        "finetune --tune bias",
        "finetune --tune adapter",
        &side,
        "vpt --initial class-tokens-without-last",
        &labels,
        &given,
    ] {
        let line = format!("{line} --epochs 2");
        let result = json(&answer(&train(&line, &data, &run)));
        let evaluated = json(&answer(&["eval", text(&run), "--json"]));
        assert_eq!(evaluated["accuracy"], result["accuracy"], "{line}");
        let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        assert_eq!(metrics.lines().count(), 2, "{line}");
        let predicted = json(&answer(&["predict", text(&run), text(&picture), "--json"]));
        assert!(predicted["class"].is_string(), "{line}: {predicted}");
    }
    // Only a prompt and a head are stored.
    let size = fs::metadata(run.join("prompt.safetensors")).unwrap().len();
    assert!(size < 400_000, "{size} bytes");
}

#[test]
fn what_cannot_be_learned_on_the_image_side_says_why() {
    let folder = TempDir::new().unwrap();
    let data = demo_data("icon-demo");
    let run = folder.path().join("run");
    let classifier = golden("efficientnet_tiny.pth");
    let vision = golden("vit_imagenet21k_tiny.npz");
    let with = |line: &str, model: &Path| format!("{line} --model {}", text(model));
    for (line, reason) in [
        ("vpt --tokens 0".to_owned(), "1 to 4096 is expected"),
        ("vpt --depth last-40".into(), "the tower has 5"),
        (
            "vpt --location pad --depth deep".into(),
            "--depth is deep, but prompts made of pixels",
        ),
        (with("vpt", &classifier), "this model's image tower is none"),
        ("pixel --size 300".into(), "1 to 31 is possible"),
        (
            "pixel --place frame --size 40".into(),
            "1 to 31 is possible",
        ),
        ("reprogram --side 0".into(), "leave room for a program"),
        (
            "reprogram --side 4294967296".into(),
            "leave room for a program",
        ),
        (
            "vpt --tokens 18446744073709551615".into(),
            "1 to 4096 is expected",
        ),
        ("vpt --project 0".into(), "a width from 1"),
        (
            "vpt --depth first-5-only --pooling prompt".into(),
            "--pooling reads prompts, and those of first-N-only have left",
        ),
        (
            "vpt --depth last-2-as-published --tokens 64".into(),
            "puts them in the place of 64 patches: use fewer",
        ),
        (
            "vpt --location pad --dropout 0.1".into(),
            "--dropout is for prompts that are tokens",
        ),
        ("reprogram --side 64".into(), "leave room for a program"),
        ("reprogram --target labels".into(), "has no labels"),
        (
            with("reprogram", &classifier),
            "17 classes need labels of their own, the model has 11",
        ),
        (with("coop", &vision), "it knows no words"),
        ("finetune --tune partial-9".into(), "the tower has 5"),
        (
            with("finetune --tune side", &vision),
            "--tune side needs pictures of 63 pixels",
        ),
        (
            format!("finetune --tune side --init {}", text(&classifier)),
            "has no tensor features.0.weight",
        ),
        (
            "vpt --initial final-class-token --depth shared".into(),
            "shallow or deep",
        ),
        (
            "vpt --initial final-class-token --tokens 3".into(),
            "--tokens is 3, but prompts that begin from class tokens are one for each of the 17 classes",
        ),
    ] {
        let refused = failure(1, &train(&line, &data, &run));
        assert!(refused.contains(reason), "{line}: {refused}");
    }
    for (line, reason) in [
        (
            "pixel --mapping first --target words",
            "go with --target labels",
        ),
        ("vpt --location nowhere", "expected one of"),
        ("finetune --tune everything", "what learns is"),
        ("vpt --location add --tokens 3", "leave --tokens out"),
        (
            "finetune --init weights.pth",
            "--init goes with --tune side",
        ),
    ] {
        let refused = failure(2, &train(line, &data, &run));
        assert!(refused.contains(reason), "{line}: {refused}");
    }
    let remarks = common::contextune(&train(
        "vpt --location pad --tokens 3 --epochs 1",
        &data,
        &run,
    ));
    let remarks = String::from_utf8_lossy(&remarks.stderr).into_owned();
    assert!(remarks.contains("are left out, as published"), "{remarks}");
}
