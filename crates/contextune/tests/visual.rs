//! Prompts on the image side against the values of the official code.

mod common;

use burn::tensor::{Device, Tensor, TensorData};
use common::{Golden, TOLERANCE, assert_values_close, elements, golden};
use contextune::backbone::ImageTower;
use contextune::checkpoint::{self, Normalization};
use contextune::input::{Examples, InputKind, Inputs};
use contextune::method::image::finetune::{FinetuneSettings, Tuned};
use contextune::method::image::pixel::{PixelSettings, Place};
use contextune::method::image::side;
use contextune::method::image::source::Target;
use contextune::method::image::vpt::{Depth, InitialPrompts, Location, Pooling, VptSettings};
use contextune::method::{Initialisation, Lesson, Method};
use contextune::model::{Model, ModelOptions};
use contextune::objective::{linear_head, similarity};
use contextune::parameters::Parameters;
use contextune::task::{Batch, Classify};
use contextune::train::StepOutcome;

/// What the official checkpoints call everything that belongs to the transformer.
const OFFICIAL: &str = "transformer.";

fn vision_transformer(device: &Device) -> Model {
    let path = golden("vit_imagenet21k_tiny.npz");
    let options = ModelOptions {
        // KMnP/vpt normalises by ImageNet's statistics, whatever the weights were trained with.
        normalization: Some(Normalization::IMAGENET),
        ..ModelOptions::default()
    };
    Model::open(path.to_str(), options, device, |_| ()).unwrap()
}

/// The golden pictures as they were before they were normalised, `[B, 3, size, size]`.
fn pixels(golden: &Golden, normalization: Normalization, device: &Device) -> Tensor<4> {
    let (mut values, shape) = golden.values("images");
    let size = shape[2] * shape[3];
    for (channel, pixels) in values.chunks_exact_mut(size).enumerate() {
        let (mean, std) = (
            normalization.mean[channel % 3],
            normalization.std[channel % 3],
        );
        pixels
            .iter_mut()
            .for_each(|pixel| *pixel = *pixel * std + mean);
    }
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The golden pictures and their labels as a step of training.
fn batch(golden: &Golden, normalization: Normalization, device: &Device) -> Batch<Classify> {
    let labels = golden.integers("labels");
    Batch {
        inputs: Inputs::Pixels(pixels(golden, normalization, device)),
        targets: labels.into_iter().map(|label| label as usize).collect(),
        seed: 1,
        step: 0,
    }
}

/// The same as a data set to learn from.
fn examples(golden: &Golden, device: &Device) -> Examples<usize> {
    let pixels = pixels(golden, Normalization::IMAGENET, device);
    let labels = golden.integers("labels");
    let labels = labels.iter().map(|&label| label as usize).collect();
    examples_of(pixels, labels)
}

fn examples_of(pixels: Tensor<4>, labels: Vec<usize>) -> Examples<usize> {
    let kind = InputKind::Pixels {
        side: pixels.dims()[2],
        margin: true,
    };
    Examples::in_memory(kind, &elements(pixels), 0, 1, labels)
}

/// Six classes without names.
fn class_names() -> Vec<String> {
    (0..6).map(|class| class.to_string()).collect()
}

fn lesson<'a>(
    model: &'a Model,
    train: &'a Examples<usize>,
    class_names: &'a [String],
) -> Lesson<'a, Classify> {
    Lesson {
        model,
        class_names,
        train,
        val: None,
        initial: &Initialisation::Random,
        seed: 7,
    }
}

/// Logits, and the gradients of what is learned, of one official variant.
fn assert_variant(case: &str, settings: &VptSettings) {
    let device = Device::flex();
    let golden = Golden::open("vpt.safetensors");
    let model = vision_transformer(&device);
    let mut parameters = Parameters::default();
    let prefix = format!("{case}.param.{OFFICIAL}");
    for name in golden.names() {
        let Some(ours) = name.strip_prefix(&prefix) else {
            continue;
        };
        let ours = ours.trim_start_matches("embeddings.");
        // The official module keeps them, and learns the shared ones alone.
        if settings.depth == Depth::Shared && ours == "deep_prompt_embeddings" {
            continue;
        }
        let (values, shape) = golden.values(&name);
        parameters.insert_data(ours, &shape, values, &device);
    }
    for name in ["head.weight", "head.bias"] {
        let (values, shape) = golden.values(name);
        parameters.insert_data(name, &shape, values, &device);
    }
    let prompt = settings.open(&model, &class_names(), &parameters, None);
    let prompt = prompt.unwrap();
    let batch = batch(&golden, Normalization::IMAGENET, &device);
    let logits = prompt.forward(&parameters, &batch.inputs);
    golden.assert_close(&format!("{case}.logits"), logits.unwrap(), TOLERANCE);

    let outcome = prompt.step(&parameters.tracked(), &batch).unwrap();
    let mut compared = 0;
    for name in golden.names() {
        let Some(official) = name.strip_prefix(&format!("{case}.grad.")) else {
            continue;
        };
        let ours = official
            .trim_start_matches(OFFICIAL)
            .trim_start_matches("embeddings.");
        let gradient = elements(outcome.gradients[ours].clone());
        assert_values_close(&name, &gradient, &golden.values(&name).0, TOLERANCE);
        compared += 1;
    }
    // The head's bias has no official gradient.
    assert_eq!(compared + 1, outcome.gradients.len(), "{case}");
}

fn three_tokens(depth: Depth) -> VptSettings {
    VptSettings {
        tokens: 3,
        depth,
        ..VptSettings::default()
    }
}

#[test]
fn a_vision_transformer_from_jax_encodes_as_the_official_one() {
    let device = Device::flex();
    let golden = Golden::open("vpt.safetensors");
    let model = vision_transformer(&device);
    let ImageTower::Vit(tower) = model.image_tower().unwrap() else {
        panic!("it is a vision transformer")
    };
    let rows = tower.all_rows(
        tower.tokens(golden.tensor("images", &device)),
        &Default::default(),
    );
    golden.assert_close("base.encoded", rows, TOLERANCE);
    let resized = tower.positions(6).unsqueeze::<3>();
    golden.assert_close("resized_position_embedding_48px", resized, TOLERANCE);
}

/// One prompt for each class, from what the frozen tower makes of the class token of its pictures.
#[test]
fn prompts_begin_from_class_tokens() {
    let device = Device::flex();
    let golden = Golden::open("vpt.safetensors");
    let model = vision_transformer(&device);
    let all = examples(&golden, &device);
    assert_eq!(all.targets, [4, 0, 4, 2, 3]);
    // The classes that have pictures, without the gaps between them.
    let pixels = pixels(&golden, Normalization::IMAGENET, &device);
    let examples = examples_of(pixels, vec![3, 0, 3, 1, 2]);
    let names = class_names()[..4].to_vec();
    let lesson = lesson(&model, &examples, &names);
    let begin = |initial| {
        let settings = VptSettings {
            tokens: 4,
            initial,
            ..VptSettings::default()
        };
        settings.begin(&lesson).unwrap().parameters
    };
    // Prompts of all layers, one behind the other, [layers · 4 · d].
    let prompts = |initial| {
        let parameters = begin(initial);
        let first = elements(parameters.get::<3>("prompt_embeddings").unwrap());
        let deep = elements(parameters.get::<3>("deep_prompt_embeddings").unwrap());
        [first, deep].concat()
    };
    let last = prompts(InitialPrompts::FinalClassToken);
    let leaving = prompts(InitialPrompts::ClassTokensWithoutFirst);
    let entering = prompts(InitialPrompts::ClassTokensWithoutLast);
    let layers = 4;
    let size = last.len() / layers; // 4 · d
    assert_eq!(entering[size..], leaving[..(layers - 1) * size]);
    for layer in 0..layers {
        assert_eq!(
            last[layer * size..(layer + 1) * size],
            leaving[(layers - 1) * size..]
        );
    }

    // With the norm behind the last layer they are the official encoder's class tokens, averaged over each class.
    let parameters = model.image_parameters().unwrap();
    let [scale, shift] = ["weight", "bias"].map(|part| {
        parameters
            .get::<1>(&format!("visual.ln_post.{part}"))
            .unwrap()
    });
    let ImageTower::Vit(tower) = model.image_tower().unwrap() else {
        panic!("it is a vision transformer")
    };
    let pixels = golden.tensor::<4>("images", &device);
    let rows = tower.class_tokens(tower.tokens(pixels.clone()));
    let rows = rows.last().unwrap(); // [B, d]
    let [_, d] = rows.dims();
    let (variance, mean) = rows.clone().var_mean_bias(1);
    let normed = (rows.clone() - mean) / (variance + 1e-6).sqrt();
    let normed = normed * scale.unsqueeze() + shift.unsqueeze();
    assert_values_close(
        "class tokens",
        &elements(normed),
        &elements(tower.forward(pixels)),
        TOLERANCE,
    );
    let row = |picture: usize| rows.clone().narrow(0, picture, 1);
    let means = [
        (0, row(1)),
        (1, row(3)),
        (2, row(4)),
        (3, (row(0) + row(2)) / 2.0),
    ];
    for (class, mean) in means {
        let prompt = &last[class * d..(class + 1) * d];
        assert_values_close("prompt", prompt, &elements(mean), TOLERANCE);
    }
    let another_number = VptSettings {
        initial: InitialPrompts::FinalClassToken,
        ..VptSettings::default()
    };
    let refused = another_number.begin(&lesson).unwrap_err().to_string();
    assert!(refused.contains("leave it out"), "{refused}");
    let (tokens, names) = (6, class_names());
    let gaps = self::lesson(&model, &all, &names);
    let refused = VptSettings {
        tokens,
        ..another_number
    }
    .begin(&gaps)
    .unwrap_err();
    assert!(
        refused.to_string().contains("none to learn \"1\" from"),
        "{refused}"
    );
}

#[test]
fn prompts_of_every_depth_equal_the_official_ones() {
    for (case, depth) in [
        ("shallow", Depth::Shallow),
        ("deep", Depth::Deep),
        ("deep_shared", Depth::Shared),
        ("deep_first2", Depth::First(2)),
        ("deep_noexpand", Depth::FirstOnly(2)),
        ("deep_last2", Depth::LastAsPublished(2)),
    ] {
        assert_variant(case, &three_tokens(depth));
    }
    let project = VptSettings {
        project: Some(16),
        ..three_tokens(Depth::Deep)
    };
    assert_variant("deep_project", &project);
}

#[test]
fn prompts_at_every_place_equal_the_official_ones() {
    for (case, location, tokens) in [
        ("location_add", Location::Add, 3),
        ("location_add_1", Location::Add1, 3),
        ("location_prepend_pixel", Location::PrependPixel, 3),
        ("location_pad", Location::Pad, 4),
        ("location_below", Location::Below, 3),
    ] {
        let settings = VptSettings {
            tokens,
            location,
            ..three_tokens(Depth::Shallow)
        };
        assert_variant(case, &settings);
    }
}

#[test]
fn every_pooling_equals_the_official_one() {
    for (prefix, depth) in [("", Depth::Shallow), ("deep_", Depth::Deep)] {
        for (case, pooling) in [
            ("img_pool", Pooling::Image),
            ("prompt_pool", Pooling::Prompt),
            ("imgprompt_pool", Pooling::ImageAndPrompt),
        ] {
            let settings = VptSettings {
                pooling,
                ..three_tokens(depth)
            };
            assert_variant(&format!("{prefix}pool_{case}"), &settings);
        }
    }
}

#[test]
fn pixel_prompts_equal_the_official_ones() {
    let device = Device::flex();
    let golden = Golden::open("pixel_prompts.safetensors");
    let path = common::golden("clip_vit.safetensors");
    let model = Model::open(path.to_str(), ModelOptions::default(), &device, |_| ()).unwrap();
    let words = Golden::open("clip_vit_io.safetensors").tensor::<2>("text_features", &device);
    for (case, place, size) in [
        ("padding", Place::Padding, 5),
        ("fixed_patch", Place::FixedPatch, 6),
    ] {
        let settings = PixelSettings {
            place,
            size,
            unit_gradient: false,
            target: Target::Words {
                templates: "a {}.".into(),
            },
        };
        let mut parameters = Parameters::default();
        for name in golden.names() {
            if let Some(ours) = name.strip_prefix(&format!("{case}.param.")) {
                let (values, shape) = golden.values(&name);
                parameters.insert_data(ours, &shape, values, &device);
            }
        }
        let prompt = settings.open(&model, &[], &parameters, Some(words.clone()));
        let prompt = prompt.unwrap();
        let batch = batch(&golden, Normalization::OPENAI, &device);
        let logits = prompt.forward(&parameters, &batch.inputs);
        golden.assert_close(&format!("{case}.logits"), logits.unwrap(), TOLERANCE);
        let outcome = prompt.step(&parameters.tracked(), &batch).unwrap();
        let loss = golden.values(&format!("{case}.loss")).0[0];
        assert!((outcome.loss - loss).abs() <= 1e-4 * loss + 1e-5, "{case}");
        for (name, gradient) in outcome.gradients {
            let official = golden.values(&format!("{case}.grad.{name}")).0;
            assert_values_close(&name, &elements(gradient), &official, TOLERANCE);
        }
    }
}

#[test]
fn efficientnet_lite_equals_the_official_one() {
    let device = Device::flex();
    let golden = Golden::open("efficientnet_tiny.safetensors");
    let path = common::golden("efficientnet_tiny.pth");
    let model = Model::open(path.to_str(), ModelOptions::default(), &device, |_| ()).unwrap();
    let tower = model.image_tower().unwrap();
    let (weight, bias) = model.pretrained_head().unwrap();
    for prefix in ["", "odd."] {
        let name = |name: &str| format!("{prefix}{name}");
        let pixels = golden.tensor::<4>(&name("pixels"), &device);
        let pixels = pixels.autodiff().require_grad();
        let features = tower.forward(pixels.clone());
        golden.assert_close(&name("features"), features.clone(), TOLERANCE);
        let logits = features.matmul(weight.clone().transpose().autodiff())
            + bias.clone().unsqueeze::<2>().autodiff();
        golden.assert_close(&name("logits"), logits.clone(), TOLERANCE);
        let labels = golden.integers(&name("labels"));
        let labels = Tensor::from_data(TensorData::new(labels.clone(), [labels.len()]), &device);
        let loss = similarity::cross_entropy(logits, labels);
        let gradient = pixels.grad(&loss.backward()).unwrap();
        golden.assert_close(&name("grad.pixels"), gradient, TOLERANCE);
    }
}

/// What is learned of a tower's parts is what the whole tower would learn, and nothing is changed before it is learned.
#[test]
fn parts_of_a_tower_learn_as_they_do_in_the_whole() {
    let device = Device::flex();
    let golden = Golden::open("vpt.safetensors");
    let model = vision_transformer(&device);
    let (examples, names) = (examples(&golden, &device), class_names());
    let lesson = lesson(&model, &examples, &names);
    let batch = batch(&golden, Normalization::IMAGENET, &device);
    let head = |parameters: &mut Parameters| {
        for name in ["head.weight", "head.bias"] {
            let (values, shape) = golden.values(name);
            parameters.insert_data(name, &shape, values, &device);
        }
    };
    let learn = |tuned| {
        let begun = FinetuneSettings { tuned }.begin(&lesson).unwrap();
        let mut parameters = begun.parameters;
        head(&mut parameters);
        let logits = begun.prompt.forward(&parameters, &batch.inputs);
        golden.assert_close("base.logits", logits.unwrap(), TOLERANCE);
        begun
            .prompt
            .step(&parameters.tracked(), &batch)
            .unwrap()
            .gradients
    };
    let whole = learn(Tuned::Full);
    for (tuned, tensors) in [(Tuned::Bias, 4 * 6 + 2), (Tuned::Partial(2), 2 * 12 + 2)] {
        let part = learn(tuned);
        assert_eq!(part.len(), tensors + 2, "{tuned}");
        for (name, gradient) in part {
            let expected = elements(whole[&name].clone());
            assert_values_close(&name, &elements(gradient), &expected, TOLERANCE);
        }
    }
    let zero = |gradient: &Tensor<1>| elements(gradient.clone()).iter().all(|g| *g == 0.0);
    let learns = |tuned, part: &str| {
        let gradients = learn(tuned);
        let name = format!("visual.transformer.resblocks.1.adapter_{part}");
        gradients.get(&name).is_some_and(|gradient| !zero(gradient))
    };
    // As published the weights of adapters never learn: both factors of their product are zero.
    for part in ["downsample.weight", "upsample.weight", "downsample.bias"] {
        assert!(!learns(Tuned::AdapterAsPublished, part), "{part}");
    }
    assert!(learns(Tuned::AdapterAsPublished, "upsample.bias"));
    assert!(learns(Tuned::Adapter, "upsample.weight"));
}

#[test]
fn side_tuning_equals_the_official_one() {
    let device = Device::flex();
    let golden = Golden::open("side_tuning.safetensors");
    let network = checkpoint::tensors_of(&common::golden("alexnet_tiny.pth")).unwrap();
    let mut parameters = Parameters::default();
    for (name, tensor) in &network {
        if name.starts_with("features.") {
            let values = tensor.read().unwrap();
            parameters.insert_data(&format!("side.{name}"), tensor.shape(), values, &device);
        }
    }
    for name in [
        "side_projection.weight",
        "side_alpha",
        "head.weight",
        "head.bias",
    ] {
        let (values, shape) = golden.values(name);
        parameters.insert_data(name, &shape, values, &device);
    }
    let pixels = golden.tensor::<4>("pixels", &device);
    let encoded = golden.tensor::<2>("encoded", &device);
    let leaves = parameters.tracked();
    let mixed = side::mixed(&leaves, pixels, encoded).unwrap();
    let logits = linear_head::logits(&leaves, mixed).unwrap();
    golden.assert_close("logits", logits.clone(), TOLERANCE);
    let labels = golden.integers("labels");
    let labels = Tensor::from_data(TensorData::new(labels.clone(), [labels.len()]), &device);
    let outcome = StepOutcome::backward(similarity::cross_entropy(logits, labels), &leaves, 0, 2);
    assert_eq!(outcome.gradients.len(), 14);
    for (name, gradient) in outcome.gradients {
        let official = format!("grad.{}", name.trim_start_matches("side."));
        let expected = golden.values(&official).0;
        assert_values_close(&name, &elements(gradient), &expected, TOLERANCE);
    }
}

#[test]
fn vision_transformers_of_hugging_face_encode_as_they_do_there() {
    let device = Device::flex();
    for (folder, classes) in [
        ("hf_vit", None),
        ("hf_vit_classifier", Some(7)),
        ("hf_deit", Some(7)),
        ("hf_dinov2", None),
    ] {
        let path = golden(folder);
        let model = Model::open(path.to_str(), ModelOptions::default(), &device, |_| ()).unwrap();
        let expected = Golden::open(&format!("{folder}/expected.safetensors"));
        let tower = model.image_tower().unwrap();
        let features = tower.forward(expected.tensor("pixels", &device));
        expected.assert_close("features", features.clone(), TOLERANCE);
        assert_eq!(model.config().pretrained_classes, classes, "{folder}");
        assert_eq!(model.config().image.image_size(), 32, "{folder}");
        if classes.is_some() {
            let (weight, bias) = model.pretrained_head().unwrap();
            let logits = features.matmul(weight.transpose()) + bias.unsqueeze();
            expected.assert_close("logits", logits, TOLERANCE);
        }
    }
}
