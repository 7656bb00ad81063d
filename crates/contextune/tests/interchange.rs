//! Prompts come from and go to the official code; classifiers go to other runtimes.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use common::{Golden, elements, golden, run_python};
use contextune::backbone::Activation;
use contextune::checkpoint::{Precision, TorchWriter};
use contextune::data::{NamedTensor, TensorValues, write_tensors};
use contextune::format::{DasslCheckpoint, DasslExport, DasslFamily, onnx};
use contextune::input::Inputs;
use contextune::method::text::cocoop::CoCoOp;
use contextune::method::text::coop::{self, CONTEXT, CoOp, ContextLayout, Position};
use contextune::model::{Model, ModelOptions};
use contextune::objective::similarity;
use contextune::parameters::Parameters;
use contextune::pickle::Item;
use contextune::task::{Classify, Prompt};
use safetensors::SafeTensors;
use serde_json::json;
use tempfile::TempDir;

const EPOCH: usize = 200;

fn golden_model(name: &str) -> Model {
    open_model(&golden(name), None)
}

fn open_model(path: &Path, activation: Option<Activation>) -> Model {
    let options = ModelOptions {
        activation,
        ..ModelOptions::default()
    };
    Model::open(path.to_str(), options, &Device::flex(), |_| ()).unwrap()
}

/// A prompt for the classes of a golden CoOp file, which is to be written.
struct Case {
    layout: ContextLayout,
    class_names: Vec<String>,
    parameters: Parameters,
    golden: Golden,
}

impl Case {
    /// The trained context of a golden file.
    fn coop(name: &str) -> Self {
        let golden = Golden::open(&format!("{name}.safetensors"));
        let (values, shape) = golden.values("ctx_final");
        let mut parameters = Parameters::default();
        parameters.insert_data(CONTEXT, &shape, values, &Device::flex());
        Self {
            layout: ContextLayout {
                length: golden.metadata("n_ctx").parse().unwrap(),
                class_specific: golden.metadata("class_specific") == "true",
                position: golden.metadata("position").parse().unwrap(),
                published_words: None,
            },
            class_names: serde_json::from_str(&golden.metadata("classnames")).unwrap(),
            parameters,
            golden,
        }
    }

    /// The trained context and network of a golden CoCoOp file, all values in fp16.
    fn cocoop(name: &str) -> Self {
        let golden = Golden::open(&format!("{name}.safetensors"));
        let mut parameters = Parameters::default();
        for learned in [CONTEXT].into_iter().chain(META_NET.map(|(name, _)| name)) {
            let (values, shape) = golden.values(&format!("final.{learned}"));
            let values = values.into_iter().map(half).collect();
            parameters.insert_data(learned, &shape, values, &Device::flex());
        }
        Self {
            layout: ContextLayout {
                length: golden.metadata("n_ctx").parse().unwrap(),
                class_specific: false,
                position: Position::End,
                published_words: None,
            },
            class_names: serde_json::from_str(&golden.metadata("classnames")).unwrap(),
            parameters,
            golden,
        }
    }

    /// The prompt that the parameters make.
    fn prompt(&self, model: &Model) -> Box<dyn Prompt<Classify>> {
        let text = model.text_tower().unwrap();
        let (scale, placeholders) = (model.logit_scale().unwrap(), self.placeholders(model));
        if self.parameters.names().count() == 1 {
            Box::new(CoOp::new(&text, scale, &placeholders, &self.layout).unwrap())
        } else {
            Box::new(CoCoOp::new(&text, scale, placeholders, self.layout.length).unwrap())
        }
    }

    fn placeholders(&self, model: &Model) -> Vec<coop::Placeholder> {
        let limit = model.text_config().unwrap().context_length;
        let tokenizer = model.tokenizer().unwrap();
        coop::placeholders(&tokenizer, &self.class_names, &self.layout, limit).unwrap()
    }

    fn export(&self, model: &Model, precision: Precision, folder: &Path) -> PathBuf {
        DasslExport {
            parameters: &self.parameters,
            text: &model.text_tower().unwrap(),
            placeholders: &self.placeholders(model),
            epoch: EPOCH,
            precision,
        }
        .write(folder)
        .unwrap()
    }

    /// Learned tensors and logits as the script that compares them expects them.
    fn write_expected(&self, model: &Model, path: &Path) {
        let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = self
            .parameters
            .names()
            .map(|name| {
                let shape = self.parameters.shape(name).unwrap().to_vec();
                (name.to_owned(), shape, self.parameters.data(name).unwrap())
            })
            .collect();
        let features = self.golden.tensor::<2>("image_features", model.device());
        let prompt = self.prompt(model);
        let inputs = Inputs::Features(features);
        let logits = prompt.forward(&self.parameters, &inputs).unwrap();
        let shape = logits.dims().to_vec();
        tensors.push(("logits".into(), shape, elements(logits)));
        let (values, shape) = self.golden.values("image_features");
        tensors.push(("image_features".into(), shape, values));
        let metadata = BTreeMap::from([
            ("classnames".to_owned(), self.golden.metadata("classnames")),
            ("position".to_owned(), self.layout.position.to_string()),
        ]);
        write_floats(path, &tensors, &metadata);
    }
}

fn write_floats(
    path: &Path,
    tensors: &[(String, Vec<usize>, Vec<f32>)],
    metadata: &BTreeMap<String, String>,
) {
    let tensors: Vec<NamedTensor> = tensors
        .iter()
        .map(|(name, shape, values)| NamedTensor {
            name,
            shape,
            values: TensorValues::F32(values),
        })
        .collect();
    write_tensors(path, &tensors, metadata).unwrap();
}

/// A tensor's name and shape.
type NamedShape = (&'static str, &'static [usize]);

const META_NET: [NamedShape; 4] = [
    ("meta_net.linear1.weight", &[8, 128]),
    ("meta_net.linear1.bias", &[8]),
    ("meta_net.linear2.weight", &[128, 8]),
    ("meta_net.linear2.bias", &[128]),
];

/// Asserts that a file holds the case's prompt with each value rounded.
fn assert_holds(path: &Path, case: &Case, epoch: usize, round: impl Fn(f32) -> f32) {
    let checkpoint = DasslCheckpoint::open(path, &Device::flex()).unwrap();
    let family = match case.parameters.names().count() {
        1 => DasslFamily::CoOp,
        _ => DasslFamily::CoCoOp,
    };
    assert_eq!(checkpoint.family, family);
    assert_eq!(checkpoint.context_length, case.layout.length);
    assert_eq!(checkpoint.class_specific, case.layout.class_specific);
    assert_eq!(checkpoint.width, 128);
    assert_eq!(checkpoint.classes, Some(case.class_names.len()));
    assert_eq!(checkpoint.epoch, Some(epoch));
    let names: Vec<&str> = checkpoint.parameters.names().collect();
    assert_eq!(names, case.parameters.names().collect::<Vec<_>>());
    for name in names {
        assert_eq!(
            checkpoint.parameters.shape(name),
            case.parameters.shape(name)
        );
        let expected: Vec<f32> = case.parameters.data(name).unwrap();
        let expected: Vec<f32> = expected.into_iter().map(&round).collect();
        assert_eq!(checkpoint.parameters.data(name).unwrap(), expected);
    }
}

fn half(value: f32) -> f32 {
    half::f16::from_f32(value).to_f32()
}

#[test]
fn a_prompt_of_the_official_code_is_read_from_its_file_and_its_folders() {
    let (expected, shape) = Golden::open("dassl/expected.safetensors").values("ctx");
    for path in [
        "dassl/prompt_learner/model.pth.tar-50",
        "dassl/prompt_learner",
        "dassl",
    ] {
        let checkpoint = DasslCheckpoint::open(&golden(path), &Device::flex()).unwrap();
        assert_eq!(checkpoint.family, DasslFamily::CoOp);
        assert_eq!(checkpoint.parameters.names().collect::<Vec<_>>(), [CONTEXT]);
        assert_eq!(checkpoint.parameters.shape(CONTEXT), Some(&shape[..]));
        assert_eq!(checkpoint.parameters.data(CONTEXT).unwrap(), expected);
        assert_eq!(checkpoint.context_length, 16);
        assert!(!checkpoint.class_specific);
        assert_eq!(checkpoint.width, 128);
        assert_eq!(checkpoint.classes, Some(11));
        assert_eq!(checkpoint.epoch, Some(50));
    }
}

#[test]
fn a_written_prompt_reads_back() {
    let model = golden_model("clip_vit.safetensors");
    let folder = TempDir::new().unwrap();
    for case in [
        Case::coop("coop_vit_unified_end"),
        Case::coop("coop_vit_csc_middle"),
        Case::cocoop("cocoop_vit"),
    ] {
        let path = case.export(&model, Precision::Single, folder.path());
        assert!(path.ends_with("prompt_learner/model.pth.tar-200"));
        assert_holds(folder.path(), &case, EPOCH, |value| value);
        case.export(&model, Precision::Half, folder.path());
        assert_holds(&path, &case, EPOCH, half);
    }
    // Two files and nothing that was left beside them.
    let files = fs::read_dir(folder.path().join("prompt_learner")).unwrap();
    assert_eq!(files.count(), 2);
}

#[test]
fn pytorch_computes_the_same_logits_with_a_written_prompt() {
    let model = golden_model("clip_vit.safetensors");
    let folder = TempDir::new().unwrap();
    let cases = [
        (Case::coop("coop_vit_unified_end"), Precision::Single),
        (Case::coop("coop_vit_csc_middle"), Precision::Single),
        (Case::cocoop("cocoop_vit"), Precision::Half),
    ];
    let mut arguments = vec![
        golden("clip_vit.safetensors"),
        golden("hf_clip/tokenizer.json"),
    ];
    let folder_of = |number: usize| folder.path().join(number.to_string());
    for (number, (case, precision)) in cases.iter().enumerate() {
        case.export(&model, *precision, &folder_of(number));
        case.write_expected(&model, &folder_of(number).join("expected.safetensors"));
        arguments.push(folder_of(number));
    }
    if !run_python("check_dassl.py", &arguments) {
        return;
    }
    // What PyTorch saved again reads as what it was, rounded.
    let brain = |value| half::bf16::from_f32(value).to_f32();
    for (number, (case, _)) in cases.iter().enumerate() {
        let file = |name: &str| folder_of(number).join(name);
        assert_holds(&file("half_legacy.pth.tar"), case, 50, half);
        assert_holds(&file("bfloat16.pth.tar"), case, 50, brain);
    }
}

/// What the elements of a refused checkpoint are.
const MARK: f32 = 1234.5;

/// Writes a checkpoint of such tensors and says how opening it fails.
fn refusal(path: &Path, shapes: &[NamedShape]) -> String {
    write_state(path, shapes);
    error(path)
}

fn write_state(path: &Path, shapes: &[NamedShape]) {
    let mut file = TorchWriter::new(Precision::Single);
    let state = shapes
        .iter()
        .map(|&(name, shape)| {
            let values = vec![MARK; shape.iter().product()];
            (name.to_owned(), file.tensor(name, shape, values))
        })
        .collect();
    let contents = Item::Dict(vec![("state_dict".into(), Item::OrderedDict(state))]);
    file.write(path, &contents).unwrap();
}

fn error(path: &Path) -> String {
    DasslCheckpoint::open(path, &Device::flex())
        .unwrap_err()
        .to_string()
}

#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn other_files_are_refused_with_what_they_are() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.pth.tar-5");
    let name = "model.pth.tar-5";

    // Methods that are known.
    let context: NamedShape = ("prompt_learner.ctx", &[2, 8]);
    let later = "which is not supported yet";
    for (tensor, method) in [
        ("prompt_learner.compound_prompts_text.0", "MaPLe"),
        ("module.prompt_learner.proj.weight", "MaPLe"),
        ("image_encoder.VPT", "IVLP or PromptSRC"),
        (
            "text_encoder.transformer.resblocks.1.VPT_shallow",
            "IVLP or PromptSRC",
        ),
        ("text_feature_residuals", "TaskRes"),
    ] {
        let message = refusal(&path, &[context, (tensor, &[2, 8])]);
        assert_says(&message, &[name, method, later]);
    }

    // Tensors that are no prompt or contradict each other.
    let ctx: NamedShape = ("ctx", &[4, 8]);
    let [w1, b1, w2, b2]: [NamedShape; 4] = [
        ("meta_net.linear1.weight", &[3, 16]),
        ("meta_net.linear1.bias", &[3]),
        ("meta_net.linear2.weight", &[8, 3]),
        ("meta_net.linear2.bias", &[8]),
    ];
    let cases: [(&[NamedShape], &str); 11] = [
        (&[("logit_scale", &[])], "it has no tensor ctx"),
        (&[ctx, ("extra", &[1])], "the tensor extra"),
        (&[ctx, ("module.ctx", &[4, 8])], "both with and without"),
        (&[("ctx", &[4])], "not [M, d] or [K, M, d]"),
        (&[("ctx", &[4, 0])], "is empty"),
        (&[ctx, ("token_suffix", &[5, 8])], "not [K, tokens, d]"),
        (
            &[
                ctx,
                ("token_prefix", &[5, 1, 8]),
                ("token_suffix", &[6, 9, 8]),
            ],
            "token_suffix is for 6 classes",
        ),
        (
            &[("ctx", &[5, 4, 8]), ("token_prefix", &[20, 1, 8])],
            "the other tensors for 5",
        ),
        (&[ctx, w1, b1, b2], "without meta_net.linear2.weight"),
        (
            &[ctx, w1, ("meta_net.linear1.bias", &[4]), w2, b2],
            "[4, 16]",
        ),
        (&[("ctx", &[5, 4, 8]), w1, b1, w2, b2], "shares one context"),
    ];
    for (shapes, problem) in cases {
        let message = refusal(&path, shapes);
        assert_says(&message, &[name, problem, "pass the prompt_learner/"]);
    }
    write_state(&path, &[ctx, w1, b1, w2, b2]);
    let mut bytes = fs::read(&path).unwrap();
    let mark = MARK.to_le_bytes();
    let element = bytes.windows(4).position(|bytes| bytes == mark).unwrap();
    bytes[element..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    assert_says(&error(&path), &["ctx", "NaN"]);
    assert_says(
        &error(&golden("clip_vit_openclip.pt")),
        &["clip_vit_openclip.pt", "it has no tensor ctx"],
    );

    // Files of other kinds, and cut short.
    assert_says(
        &error(&golden("clip_vit.safetensors")),
        &["a safetensors file", "not a prompt that Dassl saved"],
    );
    let whole = fs::read(golden("dassl/prompt_learner/model.pth.tar-50")).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_says(&error(&path), &[name, "damaged"]);
    fs::write(&path, "model.pth.tar-50\n").unwrap();
    assert_says(&error(&path), &[name, "is a text"]);

    // Folders.
    assert_says(
        &error(folder.path()),
        &["without prompt_learner/checkpoint"],
    );
    let newest = folder.path().join("checkpoint");
    for text in [
        "",
        "../secret\n",
        "/etc/passwd\n",
        "..\n",
        "model.pth.tar-6\n",
    ] {
        fs::write(&newest, text).unwrap();
        assert_says(&error(folder.path()), &["checkpoint", "beside it"]);
    }
}

#[test]
fn damaged_prompts_do_not_panic() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.pth.tar-50");
    let whole = fs::read(golden("dassl/prompt_learner/model.pth.tar-50")).unwrap();
    // The pickle lies at the start of the file.
    for position in 0..1600 {
        for byte in [0x00, 0xff, whole[position] ^ 1] {
            let mut damaged = whole.clone();
            damaged[position] = byte;
            fs::write(&path, damaged).unwrap();
            // Some damage does not show: a letter of a name that is not read.
            let _ = DasslCheckpoint::open(&path, &Device::flex());
        }
    }
}

#[test]
fn what_the_official_code_could_not_load_is_not_written() {
    let model = golden_model("clip_vit.safetensors");
    let folder = TempDir::new().unwrap();
    let case = Case::coop("coop_vit_csc_middle");
    let text = model.text_tower().unwrap();
    let placeholders = case.placeholders(&model);
    let refusal = |parameters: &Parameters, placeholders: &[coop::Placeholder]| {
        let export = DasslExport {
            parameters,
            text: &text,
            placeholders,
            epoch: EPOCH,
            precision: Precision::Half,
        };
        export.write(folder.path()).unwrap_err().to_string()
    };
    assert_says(
        &refusal(&case.parameters, &placeholders[1..]),
        &["token_prefix is for 10 classes", "11"],
    );
    let mut other = case.parameters.clone();
    other.insert_data("head.weight", &[1], vec![0.0], &Device::flex());
    assert_says(&refusal(&other, &placeholders), &["head.weight"]);
    let mut large = Parameters::default();
    large.insert_data(CONTEXT, &[16, 128], vec![7e4; 16 * 128], &Device::flex());
    assert_says(&refusal(&large, &placeholders), &["ctx", "70000"]);
}

// ---- ONNX --------------------------------------------------------------------------------------------------------

#[test]
fn onnx_runtime_gives_the_same_features_and_logits() {
    let folder = TempDir::new().unwrap();
    let class_names = ["dog", "caf\u{e9} \"au lait\"", "a, b"].map(str::to_owned);
    let mut arguments = Vec::new();
    for (number, (file, activation)) in [
        ("clip_vit.safetensors", None),
        ("clip_vit.safetensors", Some(Activation::Gelu)),
        ("clip_rn.safetensors", None),
    ]
    .into_iter()
    .enumerate()
    {
        let model = open_model(&golden(file), activation);
        let size = model.config().image.image_size();
        let width = model.config().embedding_width;
        let pixels = wave(&[5, 3, size, size], |wave| (wave + 1.0) / 2.0);
        let classes = wave(&[class_names.len(), width], |wave| 3.0 * wave);
        let features = model.image_tower().unwrap().forward(
            model
                .normalisation()
                .forward(Tensor::from_data(pixels.clone(), model.device())),
        );
        let logits = similarity::logits(
            features.clone(),
            Tensor::from_data(classes.clone(), model.device()),
            model.logit_scale().unwrap(),
        );
        let path = folder.path().join(format!("{number}.onnx"));
        let expected = folder.path().join(format!("{number}.safetensors"));
        let classes: Vec<f32> = classes.iter().collect();
        onnx::write(&path, &model, &classes, &class_names).unwrap();
        let named = |name: &str, data: TensorData| {
            let shape = data.shape().to_vec();
            (name.to_owned(), shape, data.iter().collect())
        };
        let tensors = [
            named("pixels", pixels),
            named("image_features", features.into_data()),
            named("logits", logits.into_data()),
        ];
        let names = serde_json::to_string(&class_names).unwrap();
        let metadata = BTreeMap::from([("classnames".to_owned(), names)]);
        write_floats(&expected, &tensors, &metadata);
        arguments.extend([path, expected]);
    }
    run_python("check_onnx.py", &arguments);
}

/// A tensor of sines that do not repeat, each changed.
fn wave(shape: &[usize], change: impl Fn(f32) -> f32) -> TensorData {
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|i: usize| change(((i * i) as f32 * 0.37).sin()))
        .collect();
    TensorData::new(values, shape.to_vec())
}

#[test]
fn what_is_no_classifier_or_too_large_is_not_written_as_onnx() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("classifier.onnx");
    let names = ["cat", "dog"].map(str::to_owned);
    let model = golden_model("clip_vit.safetensors");
    let refusal = |model: &Model, features: &[f32]| {
        onnx::write(&path, model, features, &names)
            .unwrap_err()
            .to_string()
    };
    assert_says(
        &refusal(&model, &[1.0; 3 * 128]),
        &["384 values", "2 classes"],
    );
    let mut features = [1.0; 2 * 128];
    features[128..].fill(0.0);
    assert_says(&refusal(&model, &features), &["class 1", "no direction"]);

    // The golden model with four million patches, in a file that takes no room on the disk.
    let bytes = fs::read(golden("clip_vit.safetensors")).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut entries = serde_json::Map::new();
    let mut end = 0;
    for (name, info) in header.tensors() {
        let shape = match &*name {
            "visual.conv1.weight" => vec![128, 3, 2, 2],
            "visual.positional_embedding" => vec![2048 * 2048 + 1, 128],
            _ => info.shape.clone(),
        };
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        let entry = json!({"dtype": "F16", "shape": shape, "data_offsets": [start, end]});
        entries.insert(name, entry);
    }
    let header = json!(entries).to_string();
    let large = folder.path().join("large.safetensors");
    let start = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    fs::write(&large, &start).unwrap();
    let file = fs::File::options().write(true).open(&large).unwrap();
    file.set_len((start.len() + end) as u64).unwrap();
    let message = refusal(&open_model(&large, None), &[1.0; 2 * 128]);
    assert_says(&message, &["classifier.onnx", "at most 2 GB"]);
    assert!(!path.exists());
}
