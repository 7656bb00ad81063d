//! The binary as its users run it: real pictures, the embedded model, files on disk.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{
    answer, class_folders, command, contextune, demo_data, failure, golden, json, tensor, text,
};
use contextune::data::{FeatureRows, FeaturesFile, Split};
use contextune::text::TemplateSet;
use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
fn a_run_is_trained_evaluated_and_used() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    let data = demo_data("icon-demo");
    let train = [
        "train",
        "coop",
        "--data",
        text(&data),
        "--shots",
        "4",
        "--epochs",
        "5",
    ];
    let out = ["--out", text(&run), "--json"];
    let result = json(&answer(&[&train[..], &out[..]].concat()));
    assert_eq!(result["shots"], 4);
    assert_eq!(result["parameters"], 16 * 192);
    for file in [
        "run.toml",
        "prompt.safetensors",
        "metrics.jsonl",
        "result.json",
    ] {
        assert!(run.join(file).is_file(), "{file}");
    }
    assert!(!run.join("resume").exists());
    assert_eq!(
        fs::read_to_string(run.join("metrics.jsonl"))
            .unwrap()
            .lines()
            .count(),
        5
    );

    let evaluated = json(&answer(&["eval", text(&run), "--json"]));
    assert_eq!(evaluated["accuracy"], result["accuracy"]);
    assert_eq!(evaluated["examples"], 175);
    let other = answer(&[
        "eval",
        text(&run),
        "--data",
        text(&demo_data("animal-silhouettes")),
        "--json",
    ]);
    assert_eq!(json(&other)["examples"], 200);

    let picture = fs::read_dir(data.join("images/fluent-3d"))
        .or_else(|_| fs::read_dir(data.join("images")))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_file())
        .unwrap();
    let predicted = json(&answer(&["predict", text(&run), text(&picture), "--json"]));
    let top = predicted["top"].as_array().unwrap();
    assert_eq!(top.len(), 5);
    assert_eq!(top[0][0], predicted["class"]);

    let again = failure(1, &[&train[..], &out[..]].concat());
    assert!(again.contains("exists already"), "{again}");
    answer(&[&train[..], &out[..], &["--force"]].concat());
}

/// Every position of the class name, with a context for each class, is learned, measured and used; such a prompt says
/// nothing of other classes.
#[test]
fn a_context_for_each_class_is_learned_at_every_position() {
    let folder = TempDir::new().unwrap();
    let data = demo_data("animal-silhouettes");
    let features = folder.path().join("features.safetensors");
    answer(&["encode", "--data", text(&data), "--out", text(&features)]);
    let contexts: Vec<Vec<u8>> = ["end", "middle", "front"]
        .into_iter()
        .map(|position| {
            let run = folder.path().join(position);
            let settings = [
                "--class-specific",
                "--position",
                position,
                "--context-length",
                "3",
            ];
            let common = ["train", "coop", "--data", text(&features), "--epochs", "3"];
            let out = ["--out", text(&run), "--json"];
            let result = json(&answer(&[&common[..], &settings, &out].concat()));
            assert_eq!(result["parameters"], 10 * 3 * 192);
            let evaluated = json(&answer(&["eval", text(&run), "--json"]));
            assert_eq!(evaluated["accuracy"], result["accuracy"]);
            let bytes = fs::read(run.join("prompt.safetensors")).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let context = file.tensor("ctx").unwrap();
            assert_eq!(context.shape(), [10, 3, 192]);
            context.data().to_vec()
        })
        .collect();
    assert!(contexts[0] != contexts[1] && contexts[1] != contexts[2]);

    let run = folder.path().join("front");
    let picture = data.join("images").join(first_file(&data.join("images")));
    let predicted = json(&answer(&["predict", text(&run), text(&picture), "--json"]));
    assert!(predicted["class"].is_string(), "{predicted}");
    let other = demo_data("icon-demo");
    let refused = failure(1, &["eval", text(&run), "--data", text(&other)]);
    assert!(
        refused.contains("the classes it was learned for"),
        "{refused}"
    );
    let words = ["--class-specific", "--init-words", "a photo of a"];
    failure(
        2,
        &[&["train", "coop", "--data", text(&features)], &words[..]].concat(),
    );
}

/// Path, below `folder`, of some file in it or below.
fn first_file(folder: &Path) -> PathBuf {
    let entry = fs::read_dir(folder).unwrap().next().unwrap().unwrap();
    let name = PathBuf::from(entry.file_name());
    match entry.file_type().unwrap().is_dir() {
        true => name.join(first_file(&entry.path())),
        false => name,
    }
}

#[test]
fn features_in_a_file_give_the_run_that_the_pictures_give() {
    let folder = TempDir::new().unwrap();
    let data = demo_data("animal-silhouettes");
    let features = folder.path().join("features.safetensors");
    answer(&["encode", "--data", text(&data), "--out", text(&features)]);
    let accuracy = |data: &Path, run: &str| -> (Value, Vec<u8>) {
        let run = folder.path().join(run);
        let result = answer(&[
            "train",
            "coop",
            "--data",
            text(data),
            "--shots",
            "2",
            "--epochs",
            "4",
            "--out",
            text(&run),
            "--json",
        ]);
        let prompt = fs::read(run.join("prompt.safetensors")).unwrap();
        (json(&result)["accuracy"].clone(), prompt)
    };
    let from_pictures = accuracy(&data, "pictures");
    let from_features = accuracy(&features, "features");
    assert_eq!(from_pictures.0, from_features.0);
    assert_eq!(from_pictures.1.len(), from_features.1.len());
}

#[test]
fn a_killed_run_goes_on_to_the_same_prompt() {
    let folder = TempDir::new().unwrap();
    let data = demo_data("icon-demo");
    let arguments = |run: &Path| -> Vec<String> {
        [
            "train",
            "coop",
            "--data",
            text(&data),
            "--shots",
            "16",
            "--batch-size",
            "32",
            "--epochs",
            "150",
            "--out",
            text(run),
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let killed = folder.path().join("killed");
    let mut process = command().args(arguments(&killed)).spawn().unwrap();
    wait_for(&killed.join("resume/state.safetensors"), &mut process);
    process.kill().unwrap();
    process.wait().unwrap();
    let early = failure(
        1,
        &[
            "predict",
            text(&killed),
            text(&data.join("images/fluent-3d")),
        ],
    );
    assert!(early.contains("contextune resume"), "{early}");
    answer(&["resume", text(&killed)]);

    let whole = folder.path().join("whole");
    let all: Vec<String> = arguments(&whole);
    answer(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let context = |run: &Path| {
        let bytes = fs::read(run.join("prompt.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        file.tensor("ctx").unwrap().data().to_vec()
    };
    assert_eq!(context(&killed), context(&whole));
    let epochs = fs::read_to_string(killed.join("metrics.jsonl")).unwrap();
    assert_eq!(epochs.lines().count(), 150);
}

/// Kills a run again and again, at its start, in its steps, while it writes and at its end: it comes to the same prompt, bit
/// by bit, as one that was left alone.
#[test]
fn slow_a_run_killed_twenty_times_ends_as_one_left_alone() {
    let folder = TempDir::new().unwrap();
    let features = folder.path().join("features.safetensors");
    let data = demo_data("icon-demo");
    answer(&["encode", "--data", text(&data), "--out", text(&features)]);
    let train = |run: &Path| -> Vec<String> {
        let words = ["train", "coop", "--data", text(&features), "--shots", "16"];
        let training = ["--batch-size", "16", "--epochs", "240", "--out", text(run)];
        words
            .iter()
            .chain(&training)
            .map(|word| (*word).to_owned())
            .collect()
    };
    let whole = folder.path().join("whole");
    let started = Instant::now();
    let line = train(&whole);
    answer(&line.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(
        started.elapsed() >= Duration::from_secs(20),
        "the run is too short to be killed"
    );

    /// When a run is killed.
    enum Moment<'a> {
        After(u64),
        /// When a file is about to appear under this name, in the run folder or below.
        Writing(&'a str),
    }
    let early = [5, 40, 150, 300, 600, 1000].map(Moment::After);
    let late = [2300, 3100, 4000, 4700].map(Moment::After);
    let moments = ["resume/state.safetensors", "metrics.jsonl"].map(Moment::Writing);
    let end = ["prompt.safetensors", "result.json"].map(Moment::Writing);
    let again = [2500, 2900, 3300, 3700, 4100, 4500].map(Moment::After);
    let killed = folder.path().join("killed");
    let mut kills = 0;
    let moments = early
        .into_iter()
        .chain(moments)
        .chain(late)
        .chain(again)
        .chain(end);
    for moment in moments {
        if killed.join("result.json").exists() {
            break;
        }
        let line = match killed.exists() {
            true => vec!["resume".to_owned(), text(&killed).to_owned()],
            false => train(&killed),
        };
        let mut process = command().args(line).stdout(Stdio::null()).spawn().unwrap();
        match moment {
            Moment::After(milliseconds) => std::thread::sleep(Duration::from_millis(milliseconds)),
            Moment::Writing(name) => {
                let partial = killed.join(format!("{name}.{}.partial", process.id()));
                while !partial.exists() && process.try_wait().unwrap().is_none() {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        }
        kills += usize::from(process.try_wait().unwrap().is_none());
        process.kill().unwrap();
        process.wait().unwrap();
    }
    assert!(kills >= 10, "{kills} kills"); // a fast machine is done before all moments have come
    answer(&["resume", text(&killed)]);
    let tensors = |run: &Path| fs::read(run.join("prompt.safetensors")).unwrap();
    assert!(tensors(&killed) == tensors(&whole), "the prompts differ");
    let results = [&killed, &whole].map(|run| {
        let result = json(&fs::read_to_string(run.join("result.json")).unwrap());
        result["accuracy"].clone()
    });
    assert_eq!(results[0], results[1]);
    let epochs = fs::read_to_string(killed.join("metrics.jsonl")).unwrap();
    assert_eq!(epochs.lines().count(), 240);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_is_saved_and_says_how_to_go_on() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    let data = demo_data("icon-demo");
    let arguments = ["train", "coop", "--data", text(&data), "--epochs", "100000"];
    let mut process = command()
        .args(arguments)
        .args(["--out", text(&run)])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&run.join("resume/state.safetensors"), &mut process);
    let interrupt = Command::new("kill")
        .args(["-INT", &process.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    let output = process.wait_with_output().unwrap();
    let remarks = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{remarks}");
    assert!(
        remarks.contains(&format!("contextune resume {}", run.display())),
        "{remarks}"
    );
    let epochs = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let done = format!("stopped after epoch {} of 100000", epochs.lines().count());
    assert!(remarks.contains(&done), "{remarks}");
}

/// A small model is pre-trained from nothing with teachers; the run is killed and goes on, and the model is of use.
#[test]
fn a_killed_pretraining_goes_on_to_the_same_model() {
    let folder = TempDir::new().unwrap();
    let data = demo_data("icon-demo");
    let architecture = folder.path().join("tiny.json");
    let tower = json!({"width": 32, "layers": 2, "heads": 2});
    let mut image = tower.clone();
    image["kind"] = "vit".into();
    (image["image_size"], image["patch_size"]) = (32.into(), 8.into());
    let mut text_tower = tower;
    (text_tower["context_length"], text_tower["vocabulary_size"]) = (77.into(), 1024.into());
    let config = json!({"embedding_width": 24, "activation": "quickgelu", "image": image, "text": text_tower});
    fs::write(&architecture, config.to_string()).unwrap();
    let teacher = folder.path().join("teacher.safetensors");
    write_teacher(&teacher, &data, 24);

    let arguments = |run: &Path, epochs: &str| -> Vec<String> {
        [
            "pretrain",
            "--data",
            text(&data),
            "--out",
            text(run),
            "--architecture",
            text(&architecture),
        ]
        .into_iter()
        .chain([
            "--distill",
            text(&teacher),
            "--drop-patches",
            "0.5",
            "--batch-size",
            "8",
        ])
        .chain([
            "--warmup-epochs",
            "1",
            "--evaluate-every",
            "1000",
            "--epochs",
            epochs,
        ])
        .map(str::to_owned)
        .collect()
    };
    let killed = folder.path().join("killed");
    let mut process = command().args(arguments(&killed, "6")).spawn().unwrap();
    wait_for(&killed.join("resume/state.safetensors"), &mut process);
    process.kill().unwrap();
    process.wait().unwrap();
    answer(&["resume", text(&killed)]);
    let whole = folder.path().join("whole");
    let all = arguments(&whole, "6");
    let result = json(&answer(&all.iter().map(String::as_str).collect::<Vec<_>>()));
    let model = |run: &Path| fs::read(run.join("model.safetensors")).unwrap();
    assert!(
        model(&killed) == model(&whole),
        "the resumed run ended elsewhere"
    );
    assert!(result["test"]["image_to_text_r5"].is_number(), "{result}");

    // What was learned is a plain CLIP, without the map to the teacher, and other commands take it.
    let features = folder.path().join("features.safetensors");
    let words = folder.path().join("words.txt");
    fs::write(&words, "a bee\n").unwrap();
    answer(&[
        "encode",
        "--model",
        text(&whole.join("model.safetensors")),
        "--texts",
        text(&words),
        "--out",
        text(&features),
    ]);
    let bytes = model(&whole);
    let names = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert!(names.names().iter().all(|name| !name.contains("teacher")));
    let losses: Vec<f64> = fs::read_to_string(whole.join("metrics.jsonl"))
        .unwrap()
        .lines()
        .map(|line| json(line)["loss"].as_f64().unwrap())
        .collect();
    assert!(losses[5] < losses[0], "{losses:?}");
}

/// Features that a teacher might have given to some of the pictures (of another width) and to a few texts.
fn write_teacher(path: &Path, data: &Path, text_width: usize) {
    let pictures: Vec<String> = fs::read_dir(data.join("images/fluent-3d"))
        .unwrap()
        .take(100)
        .map(|entry| format!("fluent-3d/{}", entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    let texts = ["a bee", "fruit", "a house", "rain"];
    let values = |count: usize| -> Vec<u8> {
        (0..count)
            .flat_map(|i| (i as f32 * 0.7).sin().to_le_bytes())
            .collect()
    };
    let (images, words) = (
        values(pictures.len() * 10),
        values(texts.len() * text_width),
    );
    let view = |shape: [usize; 2], bytes| {
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), bytes)
            .unwrap()
    };
    let tensors = [
        ("image_features", view([pictures.len(), 10], &images)),
        ("text_features", view([texts.len(), text_width], &words)),
    ];
    let names = HashMap::from([
        ("paths".to_owned(), json!(pictures).to_string()),
        ("texts".to_owned(), json!(texts).to_string()),
    ]);
    fs::write(path, safetensors::serialize(tensors, Some(names)).unwrap()).unwrap();
}

/// Waits until a running command has written `path`.
fn wait_for(path: &Path, process: &mut Child) {
    let started = Instant::now();
    while !path.exists() {
        assert!(
            started.elapsed() < Duration::from_secs(300),
            "{} was not written",
            path.display()
        );
        assert!(
            process.try_wait().unwrap().is_none(),
            "the run ended before it could be killed"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn texts_and_classes_are_encoded_and_tokenized() {
    let folder = TempDir::new().unwrap();
    let model = golden("clip_vit.safetensors");
    let ids = answer(&[
        "tokenize",
        "--model",
        text(&model),
        "--json",
        "a photo of a dog.",
    ]);
    let ids = json(&ids)["ids"].as_array().unwrap().clone();
    assert_eq!(
        (ids[0].as_u64(), ids[ids.len() - 1].as_u64()),
        (Some(1022), Some(1023))
    );

    let out = folder.path().join("classifier.safetensors");
    answer(&[
        "encode",
        "--model",
        text(&model),
        "--classes",
        "dog,cat",
        "--templates",
        "openai-7",
        "--out",
        text(&out),
    ]);
    let bytes = fs::read(&out).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("classifier").unwrap().shape(), [128, 2]);

    let long = "word ".repeat(100);
    let refused = failure(1, &["tokenize", &long]);
    assert!(
        refused.contains("77") && refused.contains("word word"),
        "{refused}"
    );
    assert!(answer(&["tokenize", "--truncate", &long]).contains("word</w>"));
}

#[test]
fn the_drawn_sample_is_the_official_one() {
    let folder = TempDir::new().unwrap();
    let data = text(folder.path());
    let split_file = folder.path().join("split_zhou_Synthetic.json");
    fs::copy(golden("split_zhou_Synthetic.json"), split_file).unwrap();
    let picture = folder.path().join("images/class_7/train_0008.jpg");
    fs::create_dir_all(picture.parent().unwrap()).unwrap();
    fs::write(picture, b"").unwrap();
    let sample = |shots: &str, seed: &str| {
        ["data", "sample", data, "--shots", shots, "--seed", seed].map(str::to_owned)
    };

    let official = fs::read_to_string(golden("fewshot_samples.json")).unwrap();
    for expected in json(&official).as_array().unwrap() {
        let arguments = sample(
            &expected["shots"].to_string(),
            &expected["seed"].to_string(),
        );
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let lines = answer(&arguments);
        arguments.push("--json");
        let drawn = json(&answer(&arguments));
        let mut drawn_lines = Vec::new();
        for split in ["train", "val"] {
            let mut paths = Vec::new();
            for picture in drawn[split].as_array().unwrap() {
                let (path, class_name) = (&picture["path"], &picture["classname"]);
                let (path, class_name) = (path.as_str().unwrap(), class_name.as_str().unwrap());
                assert_eq!(path.split_once('/').unwrap().0, class_name);
                assert_eq!(class_name, format!("class_{}", picture["label"]));
                drawn_lines.push(format!(
                    "{split}\t{}\t{class_name}\t{path}",
                    picture["label"]
                ));
                paths.push(path);
            }
            assert_eq!(json!(paths), expected[split]);
        }
        assert!(lines.lines().eq(drawn_lines), "{lines}");
    }

    // A sample that the official code has kept is taken, and it is said.
    let kept = folder.path().join("split_fewshot/shot_1-seed_1.pkl");
    fs::create_dir(kept.parent().unwrap()).unwrap();
    fs::copy(golden("split_fewshot/shot_1-seed_1.pkl"), &kept).unwrap();
    let output = contextune(&sample("1", "1").each_ref().map(String::as_str));
    let remarks = String::from_utf8(output.stderr).unwrap();
    assert!(remarks.contains(text(&kept)), "{remarks}");
    failure(2, &["data", "sample", data, "--shots", "0"]);
}

#[test]
fn a_corrupt_picture_is_left_out_and_counted_or_stops_a_strict_run() {
    let folder = TempDir::new().unwrap();
    let data = class_folders(folder.path());
    let photo = fs::read(data.join("photo/photo.jpg")).unwrap();
    fs::write(data.join("photo/photo.jpg"), &photo[..photo.len() / 2]).unwrap();
    let out = folder.path().join("features.safetensors");
    let arguments = ["encode", "--data", text(&data), "--out", text(&out)];
    let output = contextune(&arguments);
    let remarks = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{remarks}");
    assert!(
        remarks.contains("photo.jpg") && remarks.contains("1 of 6 pictures"),
        "{remarks}"
    );
    assert_eq!(FeaturesFile::open(&out).unwrap().rows(), 5);
    let strict = failure(1, &[&arguments[..], &["--strict"]].concat());
    assert!(
        strict.contains("--strict") && strict.contains("photo.jpg"),
        "{strict}"
    );
}

#[test]
fn bad_data_are_refused_with_the_place_and_the_reason() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    let refused = |data: &Path| {
        let errors = failure(
            1,
            &[
                "train",
                "coop",
                "--data",
                text(data),
                "--epochs",
                "1",
                "--out",
                text(&run),
            ],
        );
        assert!(!run.exists(), "a refused run leaves no folder: {errors}");
        errors
    };
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(refused(&empty).contains("empty"));

    let data = class_folders(folder.path());
    fs::create_dir(data.join("nothing")).unwrap();
    assert!(refused(&data).contains("nothing"));
    fs::remove_dir(data.join("nothing")).unwrap();

    fs::create_dir(data.join("Photo")).unwrap();
    fs::copy(data.join("photo/photo.jpg"), data.join("Photo/a.jpg")).unwrap();
    assert!(refused(&data).contains("two classes of one name"));
    fs::remove_dir_all(data.join("Photo")).unwrap();

    let narrow = golden("coop_rn_unified_end.safetensors");
    let errors = refused(&narrow);
    assert!(errors.contains("128") && errors.contains("384"), "{errors}");

    let few = contextune(&[
        "train",
        "coop",
        "--data",
        text(&data),
        "--shots",
        "16",
        "--epochs",
        "1",
        "--out",
        text(&run),
    ]);
    let remarks = String::from_utf8(few.stderr).unwrap();
    assert!(few.status.success(), "{remarks}");
    assert!(remarks.contains("fewer than 16"), "{remarks}");
}

#[test]
fn a_model_cut_in_half_is_refused() {
    let folder = TempDir::new().unwrap();
    let model = fs::read(golden("clip_vit.safetensors")).unwrap();
    let half = folder.path().join("half.safetensors");
    fs::write(&half, &model[..model.len() / 2]).unwrap();
    let errors = failure(1, &["tokenize", "--model", text(&half), "dog"]);
    assert!(errors.contains("half.safetensors"), "{errors}");
}

#[test]
fn arguments_that_contradict_each_other_are_wrong_usage() {
    let data = demo_data("icon-demo");
    let errors = failure(
        2,
        &[
            "train",
            "coop",
            "--data",
            text(&data),
            "--context-length",
            "5",
            "--init-words",
            "a photo of a",
        ],
    );
    assert!(errors.contains("--context-length is 5"), "{errors}");
    failure(2, &["encode", "--out", "nothing.safetensors"]);
    failure(
        2,
        &["train", "coop", "--data", text(&data), "--batch-size", "0"],
    );
}

/// The official six steps, as a user would repeat them: features and context from files, the published recipe.
#[test]
fn the_published_recipe_repeats_the_official_steps() {
    let folder = TempDir::new().unwrap();
    let official = golden("coop_vit_unified_end.safetensors");
    let bytes = fs::read(&official).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let initial = folder.path().join("initial.safetensors");
    let context = HashMap::from([("ctx", file.tensor("ctx0").unwrap())]);
    fs::write(&initial, safetensors::serialize(context, None).unwrap()).unwrap();
    let run = folder.path().join("run");
    let model = golden("clip_vit.safetensors");
    let line = [
        "train",
        "coop",
        "--model",
        text(&model),
        "--data",
        text(&official),
    ];
    let how = [
        "--init",
        text(&initial),
        "--recipe",
        "published",
        "--batch-size",
        "full",
    ];
    let rest = ["--epochs", "6", "--out", text(&run)];
    // The official file has training features only: a prompt is learned, and the result says why it has no accuracy.
    answer(&[&line[..], &how, &rest].concat());
    let result = json(&fs::read_to_string(run.join("result.json")).unwrap());
    assert_eq!(result["accuracy"], Value::Null);
    let why = result["unmeasured"].as_str().unwrap();
    assert!(why.contains("coop_vit_unified_end"), "{why}");
    let (_, first) = tensor(&official, "ctx0");
    let moved = |path: &Path, last: &str| -> Vec<f64> {
        let (_, last) = tensor(path, last);
        let both = last.into_iter().zip(&first);
        both.map(|(last, &first)| f64::from(last) - f64::from(first))
            .collect()
    };
    let ours = moved(&run.join("prompt.safetensors"), "ctx");
    let theirs = moved(&official, "ctx_final");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut ours.iter().zip(&theirs).map(|(a, b)| a - b));
    let error = difference / norm(&mut theirs.iter().copied());
    assert!(
        error <= 2e-5,
        "what the optimiser moved is off by {error:.2e}"
    );
}

/// The image encoder learns from pictures, and what it learned is measured and used on pictures.
#[test]
fn the_image_encoder_is_tuned_on_pictures() {
    let folder = TempDir::new().unwrap();
    let data = demo_data("icon-demo");
    let run = folder.path().join("run");
    let train = |data: &Path, epochs: &str| -> Vec<String> {
        let words = [
            "train",
            "image-encoder",
            "--data",
            text(data),
            "--shots",
            "1",
        ];
        let more = [
            "--epochs",
            epochs,
            "--lr",
            "0.001",
            "--out",
            text(&run),
            "--force",
            "--json",
        ];
        words
            .iter()
            .chain(&more)
            .map(|word| (*word).to_owned())
            .collect()
    };
    let answer_to = |line: Vec<String>| {
        json(&answer(
            &line.iter().map(String::as_str).collect::<Vec<_>>(),
        ))
    };
    let result = answer_to(train(&data, "4"));
    assert!(
        result["parameters"].as_u64().unwrap() > 1_000_000,
        "{result}"
    );
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let losses: Vec<f64> = metrics
        .lines()
        .map(|line| json(line)["loss"].as_f64().unwrap())
        .collect();
    assert!(losses[3] < losses[0], "{losses:?}");
    let evaluated = json(&answer(&["eval", text(&run), "--json"]));
    assert_eq!(evaluated["accuracy"], result["accuracy"]);
    let picture = data.join("images").join(first_file(&data.join("images")));
    let predicted = json(&answer(&["predict", text(&run), text(&picture), "--json"]));
    assert!(predicted["class"].is_string(), "{predicted}");

    let features = folder.path().join("features.safetensors");
    answer(&["encode", "--data", text(&data), "--out", text(&features)]);
    let line = train(&features, "1");
    let refused = failure(1, &line.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(refused.contains("learns from the pictures"), "{refused}");
}

/// Without --split a run is measured on the very pictures that its own result is of.
#[test]
fn a_run_is_measured_again_on_the_split_that_its_result_is_of() {
    let folder = TempDir::new().unwrap();
    let (data, run) = (demo_data("icon-demo"), folder.path().join("run"));
    let line = ["train", "coop", "--epochs", "1", "--shots", "2"];
    let on_val = ["--measure-on", "val", "--json"];
    let places = ["--data", text(&data), "--out", text(&run)];
    let result = json(&answer(&[&line[..], &on_val, &places].concat()));
    let evaluated = json(&answer(&["eval", text(&run), "--json"]));
    let explained = json(&answer(&["explain", text(&run), "--json"]));
    for again in [&evaluated, &explained["classification"]] {
        assert_eq!(again["split"], "val");
        assert_eq!(again["accuracy"], result["accuracy"]);
        assert_eq!(again["per_class"], result["per_class"]);
    }
    let test = ["eval", text(&run), "--split", "test", "--json"];
    assert_eq!(json(&answer(&test))["examples"], 175);
}

/// A plan is done once, its tables say what the runs came to, and what is done stays as it is.
#[test]
fn a_sweep_does_what_is_missing_and_puts_it_into_tables() {
    let folder = TempDir::new().unwrap();
    let plan = folder.path().join("plan.toml");
    let text_of_plan = format!(
        r#"
        out = "runs"
        [[experiment]]
        title = "Few-shot"
        data = [{0:?}]
        methods = ["zeroshot", "coop --epochs 3", "linear-probe", "tip-adapter"]
        shots = [1, 2]
        seeds = [1, 2]
        [[experiment]]
        title = "Base to new"
        protocol = "base-to-new"
        data = [{0:?}]
        methods = ["zeroshot", "coop --epochs 3", "cocoop --epochs 1", "taskres --epochs 1"]
        shots = [1]
        seeds = [1]
        [[experiment]]
        title = "Transfer"
        protocol = "transfer"
        data = [{0:?}]
        to = [{1:?}]
        methods = ["coop --epochs 3"]
        shots = [1]
        seeds = [1, 2]
        "#,
        demo_data("icon-demo"),
        demo_data("animal-silhouettes")
    );
    fs::write(&plan, text_of_plan).unwrap();
    let missing = answer(&["sweep", text(&plan), "--dry-run"]);
    // Zero-shot learns nothing: one run for all shots and seeds, one more for the base classes.
    assert_eq!(missing.lines().count(), 2 + 3 * 4 + 3, "{missing}");
    let tables = json(&answer(&["sweep", text(&plan), "--json"]));
    let runs = folder.path().join("runs");
    let result = runs.join("icon-demo/coop-epochs-3/2-shots/seed-2/result.json");
    let accuracy = |path: &Path| json(&fs::read_to_string(path).unwrap())["accuracy"].as_f64();
    let [first, second] = [1, 2].map(|seed| {
        let run = format!("icon-demo/coop-epochs-3/2-shots/seed-{seed}/result.json");
        100.0 * accuracy(&runs.join(run)).unwrap()
    });
    let entry = &tables[0]["rows"][1]["entries"][1];
    assert_eq!(entry["shots"], 2);
    let mean = entry["accuracy"]["mean"].as_f64().unwrap();
    assert!((mean - (first + second) / 2.0).abs() < 1e-3, "{entry}");
    let deviation = entry["accuracy"]["deviation"].as_f64().unwrap();
    assert!(
        (deviation - (first - second).abs() / 2.0).abs() < 1e-3,
        "{entry}"
    );
    // What TaskRes learned says nothing about new classes.
    let base_to_new = &tables[1]["rows"];
    assert!(base_to_new[2]["entries"][2]["accuracy"]["mean"].is_f64());
    assert!(base_to_new[3]["entries"][1]["accuracy"].is_null());
    let other = &tables[2]["rows"][0]["entries"][1];
    assert_eq!(other["what"], "animal-silhouettes");
    assert!(other["accuracy"]["mean"].is_f64());

    let written = fs::metadata(&result).unwrap().modified().unwrap();
    let summary = fs::read_to_string(runs.join("summary.txt")).unwrap();
    fs::remove_dir_all(runs.join("icon-demo/linear-probe/1-shots")).unwrap();
    assert_eq!(
        answer(&["sweep", text(&plan), "--dry-run"]).lines().count(),
        2
    );
    assert_eq!(answer(&["sweep", text(&plan)]), summary);
    assert_eq!(fs::metadata(&result).unwrap().modified().unwrap(), written);
    let csv = fs::read_to_string(runs.join("summary.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 4 * 2 + 4 * 3 + 2);

    let changed = fs::read_to_string(&plan)
        .unwrap()
        .replace("--epochs 3\"", "--epochs 0\"");
    fs::write(&plan, changed).unwrap();
    let refused = failure(2, &["sweep", text(&plan)]);
    assert!(refused.contains("coop --epochs 0"), "{refused}");
}

/// Rates are chosen on validation pictures, and what was chosen learns from those as well: VTAB-1k's protocol.
#[test]
fn a_sweep_chooses_rates_on_validation_pictures() {
    let folder = TempDir::new().unwrap();
    let plan = folder.path().join("plan.toml");
    let write = |protocol: &str, method: &str, rest: &str| {
        let text = format!(
            "out = \"runs\"\n[[experiment]]\ntitle = \"Rates\"\nprotocol = {protocol:?}\ndata = [{:?}]\nmethods = [\"zeroshot\", {method:?}]\n{rest}",
            demo_data("icon-demo")
        );
        fs::write(&plan, text).unwrap();
    };
    let method = "finetune --tune linear --epochs 2";
    let rates = "learning-rates = [3e38, 0.1, 0.001, 0.1]\nweight-decays = [0.0]\n";
    write(
        "vtab",
        method,
        &format!("examples = 100\nseeds = [4, 5]\n{rates}"),
    );
    let candidates = answer(&["sweep", text(&plan), "--dry-run"]);
    assert_eq!(candidates.lines().count(), 3, "{candidates}");
    let tables = json(&answer(&["sweep", text(&plan), "--json"]));
    let entry = &tables[0]["rows"][1]["entries"][0];

    let runs = folder
        .path()
        .join("runs/icon-demo/finetune-tune-linear-epochs-2/100-examples");
    let result = |run: &str| json(&fs::read_to_string(runs.join(run).join("result.json")).unwrap());
    let settings = |run: &str| fs::read_to_string(runs.join(run).join("run.toml")).unwrap();
    let tried = ["0.1", "0.001"].map(|rate| {
        let result = result(&format!("grid/seed-4-lr-{rate}-wd-0"));
        assert_eq!(result["split"], "val");
        result["accuracy"].as_f64().unwrap()
    });
    let best = if tried[0] > tried[1] { 0.1 } else { 0.001 };
    assert!(
        (entry["chosen"]["learning_rate"].as_f64().unwrap() - best).abs() < 1e-6,
        "{entry}"
    );
    let validation = entry["chosen"]["validation_accuracy"].as_f64().unwrap();
    assert!(
        (validation - 100.0 * tried[0].max(tried[1])).abs() < 1e-3,
        "{entry}"
    );
    // A rate at which the loss grows beyond all bounds is one that is not chosen.
    assert_eq!(entry["chosen"]["diverged"], 1, "{entry}");
    for run in ["seed-4", "seed-5"].map(|seed| format!("{seed}-lr-{best}-wd-0")) {
        let run = run.as_str();
        assert!(
            settings(run).contains("learn_from = \"train-and-val\""),
            "{run}"
        );
        assert!(
            settings(run).contains(&format!("learning_rate = {best}")),
            "{run}"
        );
        assert_eq!(result(run)["split"], "test");
        assert_eq!(result(run)["examples"], 100);
    }
    assert_eq!(entry["accuracy"]["count"], 2);
    assert_eq!(answer(&["sweep", text(&plan), "--dry-run"]), "");

    // The authors' grid goes with the authors' recipe: ten rates, four decays.
    write("fgvc", "vpt --recipe published", "shots = [1]");
    let candidates = answer(&["sweep", text(&plan), "--dry-run"]);
    assert_eq!(candidates.lines().count(), 40, "{candidates}");
    assert!(
        candidates.contains("1-shots/grid/seed-1-lr-12.5-wd-0.01"),
        "{candidates}"
    );
    write("fgvc", "vpt", "shots = [1]");
    let refused = failure(1, &["sweep", text(&plan)]);
    assert!(refused.contains("--recipe published"), "{refused}");
    write("vtab", method, "shots = [1]");
    assert!(failure(1, &["sweep", text(&plan)]).contains("examples = 1000"));
    write("few-shot", method, rates);
    assert!(failure(1, &["sweep", text(&plan)]).contains("neither fgvc nor vtab"));
    write("vtab", "tip-adapter-f", rates);
    let refused = failure(1, &["sweep", text(&plan)]);
    assert!(
        refused.contains("chooses settings by the validation pictures itself"),
        "{refused}"
    );
    // Without a test folder the validation pictures are the test pictures, and nothing may be chosen by them.
    let pictures = class_folders(folder.path());
    let halves = folder.path().join("halves");
    for split in ["train", "val"] {
        for class in ["noise", "photo"] {
            let to = halves.join(split).join(class);
            fs::create_dir_all(&to).unwrap();
            for picture in fs::read_dir(pictures.join(class)).unwrap() {
                let picture = picture.unwrap().path();
                fs::copy(&picture, to.join(picture.file_name().unwrap())).unwrap();
            }
        }
    }
    write("fgvc", method, rates);
    let own = fs::read_to_string(&plan).unwrap();
    let own = own.replace(text(&demo_data("icon-demo")), text(&halves));
    fs::write(&plan, own).unwrap();
    let refused = failure(1, &["sweep", text(&plan)]);
    assert!(refused.contains("are its test pictures"), "{refused}");
    let data = demo_data("icon-demo");
    let both = [
        "train",
        "linear-probe",
        "--data",
        text(&data),
        "--learn-from",
        "train-and-val",
    ];
    assert!(failure(1, &both).contains("validation pictures"));
}

#[test]
fn shells_and_man_learn_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = answer(&["completions", shell]);
        assert!(
            script.contains("contextune") && script.contains("sweep"),
            "{shell}"
        );
        assert!(!script.contains("contextune-cli"), "{shell}");
    }
    let folder = TempDir::new().unwrap();
    answer(&["man", text(folder.path())]);
    let page = fs::read_to_string(folder.path().join("contextune-train-vpt.1")).unwrap();
    assert!(
        page.contains("tokens") && page.contains(".TH"),
        "{page:.200}"
    );
}

/// A learner that learns gains from labels; with the same labels shuffled among the pictures it falls to chance.
#[test]
fn slow_learning_from_labels_helps_and_from_shuffled_labels_does_not() {
    let folder = TempDir::new().unwrap();
    let features = folder.path().join("features.safetensors");
    let data = demo_data("icon-demo");
    answer(&["encode", "--data", text(&data), "--out", text(&features)]);
    let accuracy = |method: &[&str], data: &Path, run: &str| -> f64 {
        let run = folder.path().join(run);
        let common = [
            "--data",
            text(data),
            "--out",
            text(&run),
            "--force",
            "--json",
        ];
        let result = answer(&[&["train"], method, &common[..]].concat());
        json(&result)["accuracy"].as_f64().unwrap()
    };
    let zeroshot = |templates: &str| {
        accuracy(
            &["zeroshot", "--templates", templates],
            &features,
            "zeroshot",
        )
    };
    let best = TemplateSet::from_argument("openai-7")
        .unwrap()
        .templates()
        .iter()
        .map(ToString::to_string)
        .chain(["a photo of a {}.".into(), "openai-7".into()])
        .map(|templates| zeroshot(&templates))
        .fold(0.0, f64::max);
    let learned = accuracy(&["coop", "--shots", "16"], &features, "learned");
    assert!(best < 0.7, "zero-shot {best}");
    assert!(
        learned >= best + 0.1,
        "best zero-shot {best}, learned {learned}"
    );

    let shuffled = folder.path().join("shuffled.safetensors");
    shuffle_training_labels(&features, &shuffled);
    let broken = accuracy(&["coop", "--shots", "16"], &shuffled, "shuffled");
    let chance = 1.0 / 17.0;
    assert!(
        broken <= chance + 0.08,
        "learned {broken} from shuffled labels"
    );
}

/// Copies a features file, its training labels dealt out anew.
fn shuffle_training_labels(from: &Path, to: &Path) {
    let file = FeaturesFile::open(from).unwrap();
    let rows: Vec<usize> = (0..file.rows()).collect();
    let splits: Vec<Split> = rows.iter().map(|&row| file.split(row)).collect();
    let mut labels = file.labels().to_vec();
    let train: Vec<usize> = rows
        .iter()
        .copied()
        .filter(|&row| splits[row] == Split::Train)
        .collect();
    // Equal classes of 16 one after another: a stride that is coprime to the count deals them to all classes.
    let dealt: BTreeMap<usize, usize> = train
        .iter()
        .enumerate()
        .map(|(place, &row)| (row, labels[train[place * 37 % train.len()]]))
        .collect();
    for (row, label) in dealt {
        labels[row] = label;
    }
    FeatureRows {
        image_features: &file.read(&rows),
        width: file.width(),
        labels: &labels,
        splits: Some(&splits),
        class_names: file.class_names(),
        ..FeatureRows::default()
    }
    .write(to)
    .unwrap();
}
