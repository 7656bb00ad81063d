//! Prompts come from and go to other programs, and are explained, through the binary.

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use burn::tensor::Device;
use common::{
    answer, class_folders, command, contextune, demo_data, failure, golden, json, tensor, text,
};
use contextune::checkpoint::{Precision, TorchWriter};
use contextune::data::{FeatureRows, FeaturesFile, Split};
use contextune::format::{DasslCheckpoint, DasslExport};
use contextune::method::text::coop::{ContextLayout, Position, placeholders};
use contextune::model::{Model, ModelOptions};
use contextune::parameters::Parameters;
use contextune::pickle::Item;
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

fn model() -> PathBuf {
    golden("clip_vit.safetensors")
}

/// The pictures of a golden file of the same model, as features: two to learn from, five to test on.
fn features(folder: &Path) -> PathBuf {
    let source = FeaturesFile::open(&golden("coop_vit_unified_end.safetensors")).unwrap();
    let rows: Vec<usize> = (0..source.rows()).collect();
    let split = |&row: &usize| match row {
        0 | 1 => Split::Train,
        _ => Split::Test,
    };
    let splits: Vec<Split> = rows.iter().map(split).collect();
    let path = folder.join("features.safetensors");
    FeatureRows {
        image_features: &source.read(&rows),
        width: source.width(),
        labels: source.labels(),
        splits: Some(&splits),
        class_names: source.class_names(),
        ..FeatureRows::default()
    }
    .write(&path)
    .unwrap();
    path
}

/// What `eval --logits` writes for the run's own test split, or that of `data`.
fn logits(run: &Path, data: &Path) -> (Vec<usize>, Vec<f32>) {
    let out = run.with_extension("logits.safetensors");
    let arguments = ["eval", text(run), "--data", text(data)];
    answer(&[&arguments[..], &["--logits", text(&out)]].concat());
    tensor(&out, "logits")
}

fn assert_near(a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= tolerance, "{a} and {b}");
    }
}

/// Imports into `folder/name` with these arguments besides; the run and what was said on standard error.
fn import(file: &Path, folder: &Path, name: &str, arguments: &[&str]) -> (PathBuf, String) {
    let run = folder.join(name);
    let model = model();
    let common = ["import", text(file), "--model", text(&model)];
    let output = contextune(&[&common[..], &["--out", text(&run)], arguments].concat());
    let remarks = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {remarks}");
    (run, remarks)
}

/// Standard error of an import that must fail.
#[track_caller]
fn refused(code: i32, file: &Path, folder: &Path, arguments: &[&str]) -> String {
    let run = folder.join("refused");
    let model = model();
    let common = ["import", text(file), "--model", text(&model)];
    let all = [&common[..], &["--out", text(&run)], arguments].concat();
    let errors = failure(code, &all);
    assert!(!run.exists(), "a refused import leaves no run: {errors}");
    errors
}

#[test]
fn a_prompt_of_the_official_code_becomes_a_run_like_any_other() {
    let folder = TempDir::new().unwrap();
    let data = features(folder.path());
    let arguments = ["--data", text(&data), "--position", "end", "--json"];
    let (run, remarks) = import(&golden("dassl"), folder.path(), "run", &arguments);
    // Names and model are those of the checkpoint, and the position is given: only the data are remarked on.
    let about_data = |line: &str| line.contains("split has no examples of");
    assert!(remarks.lines().all(about_data), "{remarks}");
    let prompt = run.join("prompt.safetensors");
    let expected = tensor(&golden("dassl/expected.safetensors"), "ctx");
    assert_eq!(tensor(&prompt, "ctx"), expected);
    assert_eq!(tensor(&prompt, "text_features").0, [11, 128]);
    let settings = fs::read_to_string(run.join("run.toml")).unwrap();
    assert!(settings.contains("recipe = \"published\""), "{settings}");
    assert!(settings.contains("golden/dassl"), "{settings}");
    let result = json(&fs::read_to_string(run.join("result.json")).unwrap());
    assert_eq!(result["recipe"], "imported");
    let evaluated = json(&answer(&["eval", text(&run), "--json"]));
    assert_eq!(evaluated["accuracy"], result["accuracy"]);
    assert_eq!(evaluated["examples"], 5);
    let finished = contextune(&["resume", text(&run)]);
    assert!(finished.status.success());

    // Learning goes on from it.
    let model = model();
    let further = folder.path().join("further");
    answer(&[
        "train",
        "coop",
        "--model",
        text(&model),
        "--data",
        text(&data),
        "--init",
        text(&prompt),
        "--epochs",
        "1",
        "--out",
        text(&further),
    ]);

    // Out to the official code and in again, in both precisions: the golden values are in half precision.
    let before = logits(&run, &data);
    for precision in [&[][..], &["--half"]] {
        let out = folder.path().join("official");
        let export = ["export", text(&run), "--format", "dassl"];
        let export = [&export[..], &["--out", text(&out), "--force"], precision].concat();
        answer(&export);
        assert!(out.join("prompt_learner/model.pth.tar-50").is_file());
        let force = ["--data", text(&data), "--force"];
        let (again, _) = import(&out, folder.path(), "again", &force);
        assert_eq!(tensor(&again.join("prompt.safetensors"), "ctx"), expected);
        assert_eq!(logits(&again, &data), before);
        let without_force: Vec<&str> = export
            .into_iter()
            .filter(|argument| *argument != "--force")
            .collect();
        let errors = failure(1, &without_force);
        assert!(errors.contains("--force"), "{errors}");
    }
}

#[test]
fn a_finished_classifier_gives_the_logits_of_the_run() {
    let folder = TempDir::new().unwrap();
    let data = features(folder.path());
    let (run, _) = import(
        &golden("dassl"),
        folder.path(),
        "run",
        &["--data", text(&data)],
    );
    let out = folder.path().join("classifier.safetensors");
    let export = ["export", text(&run), "--format", "safetensors"];
    let export = [&export[..], &["--out", text(&out)]].concat();
    answer(&export);
    let (shape, classifier) = tensor(&out, "classifier"); // [D, K]
    assert_eq!(shape, [128, 11]);
    let (shape, scale) = tensor(&out, "logit_scale");
    assert_eq!(shape, [0; 0]);
    let pictures = FeaturesFile::open(&data).unwrap();
    let expected = (2..7).flat_map(|row| {
        let feature = pictures.read(&[row]);
        let length = feature
            .iter()
            .map(|value| value * value)
            .sum::<f32>()
            .sqrt();
        let classifier = &classifier;
        let factor = scale[0].exp() / length;
        (0..11).map(move |class| {
            let products = feature.iter().enumerate();
            factor
                * products
                    .map(|(d, value)| value * classifier[d * 11 + class])
                    .sum::<f32>()
        })
    });
    assert_near(&logits(&run, &data).1, &expected.collect::<Vec<_>>(), 1e-3);
    let bytes = fs::read(&out).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    assert_eq!(metadata["image_size"], "32");
    let names: Vec<String> = serde_json::from_str(&metadata["classnames"]).unwrap();
    assert_eq!(names, pictures.class_names());
    assert_eq!(metadata["fingerprint"].len(), 64);
    let mean: Vec<f32> = serde_json::from_str(&metadata["mean"]).unwrap();
    assert_eq!(mean.len(), 3);

    let errors = failure(1, &export);
    assert!(errors.contains("classifier.safetensors"), "{errors}");
    failure(2, &[&export[..], &["--force", "--half"]].concat());
    let onnx = folder.path().join("classifier.onnx");
    let export = [
        "export",
        text(&run),
        "--format",
        "onnx",
        "--out",
        text(&onnx),
    ];
    answer(&export);
    assert!(fs::metadata(&onnx).unwrap().len() > 100_000);
    failure(1, &export);
}

/// The page of a prompt for some of the classes shows all of them.
#[test]
fn an_import_of_the_base_classes_is_shown_on_these() {
    let folder = TempDir::new().unwrap();
    let data = demo_data("icon-demo");
    let [run, official, again] = ["run", "official", "again"].map(|name| folder.path().join(name));
    let base = ["--data", text(&data), "--subset", "base"];
    let train = ["train", "coop", "--shots", "1", "--epochs", "1"];
    answer(&[&train[..], &base, &["--out", text(&run)]].concat());
    let export = ["export", text(&run), "--format", "dassl"];
    answer(&[&export[..], &["--out", text(&official)]].concat());
    let import = ["import", text(&official), "--position", "end"];
    answer(&[&import[..], &base, &["--out", text(&again)]].concat());
    let result = json(&fs::read_to_string(again.join("result.json")).unwrap());
    let page = fs::read_to_string(again.join("report.html")).unwrap();
    let classes = result["per_class"].as_object().unwrap();
    assert_eq!(classes.len(), 9);
    for class in classes.keys() {
        assert!(page.contains(class), "{class}");
    }
}

#[test]
fn an_import_without_data_measures_nothing() {
    let folder = TempDir::new().unwrap();
    let data = features(folder.path());
    let file = golden("dassl/prompt_learner/model.pth.tar-50");
    let names = FeaturesFile::open(&data).unwrap().class_names().join(",");
    let (run, remarks) = import(&file, folder.path(), "run", &["--classes", &names]);
    assert!(remarks.contains("--position"), "{remarks}");
    assert!(!run.join("result.json").exists());
    let output = contextune(&["resume", text(&run)]);
    let remarks = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{remarks}");
    assert!(remarks.contains("nothing to train"), "{remarks}");
    let errors = failure(2, &["eval", text(&run)]);
    assert!(errors.contains("--data"), "{errors}");
    assert_eq!(logits(&run, &data).0, [5, 11]);

    let output = contextune(&["explain", text(&run), "--json"]);
    let remarks = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{remarks}");
    assert!(remarks.contains("imported without data"), "{remarks}");
    assert!(
        remarks.contains("how far the vectors moved is not known"),
        "{remarks}"
    );
    let explained = json(&String::from_utf8(output.stdout).unwrap());
    assert!(explained["classification"].is_null());
    let vectors = explained["context"]["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 16);
    assert!(vectors[0]["moved"].is_null());

    // A context that classes share needs no names; what does need them says so.
    let (nameless, _) = import(&file, folder.path(), "nameless", &[]);
    assert_eq!(logits(&nameless, &data), logits(&run, &data));
    let picture = golden("preprocess/noise.png");
    let errors = failure(1, &["predict", text(&nameless), text(&picture)]);
    assert!(errors.contains("--classes"), "{errors}");

    // The frozen rows of the checkpoint tell that names or model are others.
    let swapped = names.replacen("dog,cat", "cat,dog", 1);
    let (_, remarks) = import(&file, folder.path(), "swapped", &["--classes", &swapped]);
    assert!(
        remarks.contains("another text than \"cat\" for class 1"),
        "{remarks}"
    );
}

#[test]
fn what_cannot_be_imported_says_why() {
    let folder = TempDir::new().unwrap();
    let file = golden("dassl");
    let few = refused(1, &file, folder.path(), &["--classes", "dog,cat"]);
    assert!(
        few.contains("11 classes") && few.contains("2 class names"),
        "{few}"
    );
    let equal = refused(1, &file, folder.path(), &["--classes", "dog,Dog"]);
    assert!(equal.contains("two classes of one name"), "{equal}");
    let blank = refused(1, &file, folder.path(), &["--classes", "dog,,cat"]);
    assert!(blank.contains("no readable class name"), "{blank}");
    let other = refused(1, &model(), folder.path(), &[]);
    assert!(other.contains("not a prompt that Dassl saved"), "{other}");
    refused(2, &file, folder.path(), &["--position", "left"]);
    refused(2, &file, folder.path(), &["--subset", "base"]);

    let run = folder.path().join("other-model");
    let arguments = ["import", text(&file), "--out", text(&run)];
    let width = failure(1, &arguments); // the embedded model
    assert!(
        width.contains("width 128") && width.contains("192 wide"),
        "{width}"
    );
    assert!(width.contains("--model"), "{width}");

    let (run, _) = import(&file, folder.path(), "run", &[]);
    let model = model();
    let again = [&arguments[..3], &[text(&run), "--model", text(&model)]].concat();
    let errors = failure(1, &again);
    assert!(errors.contains("exists already"), "{errors}");
}

const CLASSES: [&str; 3] = ["dog", "golden retriever", "sea anemone"];

/// A checkpoint of the official code with these learned tensors, for [`CLASSES`].
fn checkpoint(folder: &Path, tensors: &[(&str, &[usize])], layout: &ContextLayout) -> PathBuf {
    let device = Device::flex();
    let options = ModelOptions::default();
    let model = Model::open(model().to_str(), options, &device, |_| ()).unwrap();
    let mut parameters = Parameters::default();
    for (name, shape) in tensors {
        let count: usize = shape.iter().product();
        let values = (0..count).map(|i| 0.1 * ((i * i) as f32 * 0.37).sin());
        parameters.insert_data(name, shape, values.collect(), &device);
    }
    let names = CLASSES.map(str::to_owned);
    DasslExport {
        parameters: &parameters,
        text: &model.text_tower().unwrap(),
        placeholders: &placeholders(&model.tokenizer().unwrap(), &names, layout, 77).unwrap(),
        epoch: 10,
        precision: Precision::Single,
    }
    .write(folder)
    .unwrap()
}

fn layout(class_specific: bool) -> ContextLayout {
    ContextLayout {
        length: 4,
        class_specific,
        position: Position::End,
        published_words: None,
    }
}

#[test]
fn a_context_for_each_class_goes_in_and_out() {
    let folder = TempDir::new().unwrap();
    let shape: &[usize] = &[3, 4, 128];
    let file = checkpoint(folder.path(), &[("ctx", shape)], &layout(true));
    let errors = refused(2, &file, folder.path(), &[]);
    assert!(errors.contains("--classes"), "{errors}");
    let errors = refused(1, &file, folder.path(), &["--classes", "dog,cat"]);
    assert!(errors.contains("3 classes"), "{errors}");

    let classes = CLASSES.join(",");
    let arguments = ["--classes", &classes, "--position", "middle"];
    let arguments = [&arguments[..], &["--method", "kgcoop", "--json"]].concat();
    let (run, _) = import(&file, folder.path(), "run", &arguments);
    let explained = json(&answer(&["explain", text(&run), "--json", "--words", "2"]));
    assert_eq!(explained["method"], "kgcoop");
    assert_eq!(explained["context"]["position"], "middle");
    let vectors = explained["context"]["vectors"].as_array().unwrap();
    let place = |vector: &Value| (vector["class"].clone(), vector["place"].clone());
    assert_eq!(vectors.len(), 12);
    assert_eq!(place(&vectors[5]), ("golden retriever".into(), 2.into()));
    assert_eq!(
        vectors[5]["nearest_by_distance"].as_array().unwrap().len(),
        2
    );
    let shown = answer(&["explain", text(&run)]);
    assert!(shown.contains("golden retriever\n   1\n"), "{shown}");

    let out = folder.path().join("out");
    let export = [
        "export",
        text(&run),
        "--format",
        "dassl",
        "--out",
        text(&out),
    ];
    let said = answer(&export);
    assert!(said.contains("CSC") && said.contains("middle"), "{said}");
    let parameters = |path: &Path| {
        let checkpoint = DasslCheckpoint::open(path, &Device::flex()).unwrap();
        checkpoint.parameters.data("ctx").unwrap()
    };
    assert_eq!(parameters(&out), parameters(&file));
}

#[test]
fn a_context_that_depends_on_the_picture_goes_in_and_out() {
    let folder = TempDir::new().unwrap();
    let tensors: [(&str, &[usize]); 5] = [
        ("ctx", &[4, 128]),
        ("meta_net.linear1.weight", &[8, 128]),
        ("meta_net.linear1.bias", &[8]),
        ("meta_net.linear2.weight", &[128, 8]),
        ("meta_net.linear2.bias", &[128]),
    ];
    let file = checkpoint(folder.path(), &tensors, &layout(false));
    let classes = CLASSES.join(",");
    let arguments = ["--classes", &classes];
    let (run, _) = import(&file, folder.path(), "run", &arguments);
    let picture = golden("preprocess/noise.png");
    let predicted = json(&answer(&["predict", text(&run), text(&picture), "--json"]));
    assert_eq!(predicted["top"].as_array().unwrap().len(), 3);
    let shown = answer(&["explain", text(&run)]);
    assert!(shown.contains("before a picture shifts them"), "{shown}");

    let out = folder.path().join("out");
    let export = |format: &'static str| ["export", text(&run), "--format", format, "--out"];
    answer(&[&export("dassl")[..], &[text(&out)]].concat());
    let (again, _) = import(&out, folder.path(), "again", &arguments);
    let data = features(folder.path());
    assert_eq!(logits(&again, &data), logits(&run, &data));
    for format in ["onnx", "safetensors"] {
        let errors = failure(1, &[&export(format)[..], &["nothing"]].concat());
        assert!(
            errors.contains("cocoop") && errors.contains("dassl"),
            "{errors}"
        );
    }

    for wrong in [&["--method", "coop"][..], &["--position", "front"]] {
        let all = [&arguments[..], wrong].concat();
        let errors = refused(2, &file, folder.path(), &all);
        assert!(errors.contains("leave"), "{errors}");
    }
    // A network for image features of another width.
    let mut writer = TorchWriter::new(Precision::Single);
    let state = tensors
        .into_iter()
        .map(|(name, shape)| {
            let shape = match name {
                "meta_net.linear1.weight" => &[8, 64],
                _ => shape,
            };
            let values = vec![0.5; shape.iter().product()];
            (name.to_owned(), writer.tensor(name, shape, values))
        })
        .collect();
    let contents = Item::Dict(vec![("state_dict".into(), Item::OrderedDict(state))]);
    let narrow = folder.path().join("narrow.pth.tar-1");
    writer.write(&narrow, &contents).unwrap();
    let errors = refused(1, &narrow, folder.path(), &arguments);
    assert!(
        errors.contains("[8, 64]") && errors.contains("[8, 128]"),
        "{errors}"
    );
}

#[test]
fn a_context_that_began_as_words_and_stayed_is_explained_by_them() {
    let folder = TempDir::new().unwrap();
    let (data, model) = (features(folder.path()), model());
    let run = folder.path().join("run");
    let train = [
        "train",
        "coop",
        "--model",
        text(&model),
        "--data",
        text(&data),
    ];
    let learning = [
        "--init-words",
        "the a of in",
        "--epochs",
        "1",
        "--lr",
        "1e-9",
    ];
    answer(&[&train[..], &learning, &["--out", text(&run)]].concat());
    let explained = json(&answer(&["explain", text(&run), "--json"]));
    let vectors = explained["context"]["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 4);
    for (vector, word) in vectors.iter().zip(["the", "a", "of", "in"]) {
        let nearest = &vector["nearest_by_distance"];
        assert_eq!(nearest.as_array().unwrap().len(), 5);
        assert_eq!(nearest[0]["word"], word);
        assert_eq!(nearest[0]["token"], format!("{word}</w>"));
        // The first epoch warms up at 1e-5, whatever --lr says.
        assert!(nearest[0]["distance"].as_f64().unwrap() < 1e-3, "{nearest}");
        let distances = nearest.as_array().unwrap().iter();
        assert!(distances.is_sorted_by_key(|near| near["distance"].as_f64().unwrap()));
        assert_eq!(vector["nearest_by_cosine"][0]["word"], word);
        let moved = &vector["moved"];
        assert!(moved["distance"].as_f64().unwrap() < 1e-3, "{moved}");
        assert!(moved["cosine"].as_f64().unwrap() > 0.9999, "{moved}");
    }
    let classification = &explained["classification"];
    let wrong = classification["mistakes"].as_array().unwrap().len() as u64;
    assert_eq!(classification["examples"], 5);
    assert_eq!(classification["correct"].as_u64().unwrap() + wrong, 5);
    let confused = classification["confused"].as_array().unwrap();
    let counted: u64 = confused
        .iter()
        .map(|pair| pair["count"].as_u64().unwrap())
        .sum();
    assert_eq!(counted, wrong);
    let shown = answer(&["explain", text(&run)]);
    assert!(shown.contains("distance  the 0.00, "), "{shown}");
    failure(2, &["explain", text(&run), "--words", "0"]);
}

/// Methods without context vectors have no words; mistakes lead to pictures that are there.
#[test]
fn mistakes_lead_to_the_pictures() {
    let folder = TempDir::new().unwrap();
    let data = class_folders(folder.path());
    let run = folder.path().join("run");
    let train = ["train", "linear-probe", "--data", text(&data), "--out"];
    answer(&[&train[..], &[text(&run)]].concat());
    // A picture whose folder is not what it shows.
    let other = folder.path().join("other");
    for (class, file) in [("noise", "photo.jpg"), ("photo", "photo_444.jpg")] {
        for split in ["train", "test"] {
            let place = other.join(split).join(class);
            fs::create_dir_all(&place).unwrap();
            fs::copy(golden("preprocess").join(file), place.join(file)).unwrap();
        }
    }
    let explain = ["explain", text(&run), "--data", text(&other)];
    let output = contextune(&[&explain[..], &["--json"]].concat());
    let remarks = String::from_utf8(output.stderr).unwrap();
    assert!(
        remarks.contains("linear-probe has no context vectors"),
        "{remarks}"
    );
    let explained = json(&String::from_utf8(output.stdout).unwrap());
    assert!(explained["context"].is_null());
    let classification = &explained["classification"];
    assert_eq!(classification["accuracy"], 0.5);
    let mistakes = classification["mistakes"].as_array().unwrap();
    assert_eq!(mistakes.len(), 1);
    assert_eq!(
        mistakes[0]["path"],
        text(&other.join("test/noise/photo.jpg"))
    );
    assert_eq!(mistakes[0]["predicted"], "photo");
    assert!(mistakes[0]["probability"].as_f64().unwrap() > 0.5);
    let confused = &classification["confused"];
    assert_eq!(confused[0]["class"], "noise");
    let shown = answer(&explain);
    assert!(shown.contains("noise taken for photo"), "{shown}");
    let export = ["export", text(&run), "--out", "nothing", "--format"];
    for (format, reason) in [("dassl", "context vectors"), ("onnx", "contextune predict")] {
        let errors = failure(1, &[&export[..], &[format]].concat());
        assert!(errors.contains(reason), "{errors}");
    }
}

/// The command with this on standard input.
fn with_input(arguments: &[&str], input: &str) -> Output {
    let mut process = command()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = process.stdin.take().unwrap();
    pipe.write_all(input.as_bytes()).unwrap();
    drop(pipe);
    process.wait_with_output().unwrap()
}

#[test]
fn pictures_are_listed_on_standard_input() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    let data = demo_data("animal-silhouettes");
    let train = ["train", "zeroshot", "--data", text(&data), "--out"];
    answer(&[&train[..], &[text(&run)]].concat());
    let (noise, photo) = (
        golden("preprocess/noise.png"),
        golden("preprocess/photo.jpg"),
    );
    let list = format!("{}\n\n{}\r\n", text(&noise), text(&photo));
    for command in [
        &["predict", text(&run), "-", "--json"][..],
        &["classify", "--classes", "cat,dog", "-", "--json"],
    ] {
        let output = with_input(command, &list);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        let lines = String::from_utf8(output.stdout).unwrap();
        let paths: Vec<Value> = lines
            .lines()
            .map(|line| json(line)["path"].clone())
            .collect();
        assert_eq!(paths, [text(&noise), text(&photo)]);

        let output = with_input(command, "\n");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("one path a line"), "{errors}");
        let twice = with_input(&[command, &["-"]].concat(), &list);
        assert_eq!(twice.status.code(), Some(2));
    }
}
