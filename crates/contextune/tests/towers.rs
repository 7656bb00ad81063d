//! Towers and CoOp against the values of the official code, and the forest walk against the plain walk.

mod common;

use burn::tensor::{Device, Tensor, TensorData, activation};
use common::replay::{Learned, MOVED_BY_SGD, MOVED_LITTLE, replay};
use common::{Golden, TOLERANCE, assert_values_close, elements};
use contextune::backbone::{Activation, ImageTower, PromptLayout, Row, TextTower, TextTowerConfig};
use contextune::input::Inputs;
use contextune::method::text::cocoop::CoCoOp;
use contextune::method::text::coop::{
    CONTEXT, CoOp, ContextLayout, Placeholder, Position, placeholders,
};
use contextune::method::text::zeroshot;
use contextune::objective::similarity;
use contextune::parameters::{ParameterSource, Parameters};
use contextune::task::{Prompt, Training, TrainingViews};
use contextune::text::{TemplateSet, TextError, Tokenizer};
use contextune::train::{FitSettings, Optimizer, Progress, Schedule};
use proptest::prelude::*;

#[test]
fn vit_features_and_logits_equal_the_official_ones() {
    features_and_logits_equal_the_official_ones("clip_vit");
}

#[test]
fn resnet_features_and_logits_equal_the_official_ones() {
    features_and_logits_equal_the_official_ones("clip_rn");
}

fn features_and_logits_equal_the_official_ones(model: &str) {
    let device = Device::flex();
    let clip = common::model(&format!("{model}.safetensors"), &device);
    let io = Golden::open(&format!("{model}_io.safetensors"));

    let images = clip.image.forward(io.tensor("images", &device));
    io.assert_close("image_features", images.clone(), TOLERANCE);
    let prompts = io.prompts("tokens");
    let plain = clip.text.encode_tokens(&prompts).unwrap();
    io.assert_close("text_features", plain.clone(), TOLERANCE);
    let forest = clip.text.encode_frozen(&prompts).unwrap();
    io.assert_close("text_features", forest, TOLERANCE);
    let logits = similarity::logits(images, plain, clip.logit_scale);
    io.assert_close("logits_per_image", logits.clone(), TOLERANCE);
    io.assert_close("logits_per_text", logits.transpose(), TOLERANCE);
}

/// Patches have positions but no order; a picture of which all are kept is the picture.
#[test]
fn all_patches_in_any_order_give_the_features_of_the_picture() {
    let device = Device::flex();
    let clip = common::model("clip_vit.safetensors", &device);
    let ImageTower::Vit(tower) = clip.image else {
        panic!("the golden model has a vision transformer")
    };
    let images = Golden::open("clip_vit_io.safetensors").tensor::<4>("images", &device);
    let whole = elements(tower.forward(images.clone()));
    let kept: Vec<Vec<usize>> = (0..images.dims()[0])
        .map(|picture| {
            let mut patches: Vec<usize> = (0..tower.patches()).collect();
            patches.rotate_left(picture % tower.patches());
            patches
        })
        .collect();
    let kept_all = elements(tower.forward_patches(images.clone(), &kept));
    assert_values_close("all patches", &kept_all, &whole, 1e-5);
    let some: Vec<_> = kept.iter().map(|patches| patches[1..].to_vec()).collect();
    let kept_some = elements(tower.forward_patches(images, &some));
    let distance = kept_some.iter().zip(&whole).map(|(a, b)| (a - b).abs());
    assert!(
        distance.fold(0.0, f32::max) > 1e-3,
        "a patch left out changes nothing"
    );
}

#[test]
fn the_template_ensemble_equals_the_official_one() {
    let device = Device::flex();
    let expected = Golden::open("zeroshot_ensemble.safetensors");
    let clip = common::model("clip_vit.safetensors", &device);
    let list =
        |key: &str| -> Vec<String> { serde_json::from_str(&expected.metadata(key)).unwrap() };
    let templates = TemplateSet::new(&list("templates").join("\n"), "the golden file").unwrap();
    let tokenizer = Tokenizer::clip(1024).unwrap();
    let classifier =
        zeroshot::classifier(&clip.text, &tokenizer, &list("classnames"), &templates).unwrap();
    expected.assert_close("classifier", classifier.clone().transpose(), TOLERANCE);
    let images = Golden::open("clip_vit_io.safetensors").tensor("images", &device);
    let images = clip.image.forward(images);
    let logits = similarity::logits(images, classifier, clip.logit_scale);
    expected.assert_close("logits", logits.clone(), TOLERANCE);
    expected.assert_close("probs", activation::softmax(logits, 1), TOLERANCE);
}

#[test]
fn coop_builds_and_initialises_prompts_as_the_official_code_does() {
    let device = Device::flex();
    let clip = common::model("clip_vit.safetensors", &device);
    let expected = Golden::open("coop_vit_unified_end_init.safetensors");
    let names: Vec<String> = serde_json::from_str(&expected.metadata("classnames")).unwrap();
    let tokenizer = Tokenizer::clip(1024).unwrap();
    let words = tokenizer.encode(&expected.metadata("ctx_init")).unwrap();
    expected.assert_close("ctx0", clip.text.embed(&words), 0.0);
    // The official placeholders are the words themselves here: only what follows them stays.
    let layout = ContextLayout {
        length: words.len(),
        class_specific: false,
        position: Position::End,
        published_words: None,
    };
    let ours = placeholders(&tokenizer, &names, &layout, 77).unwrap();
    for (ours, official) in ours.iter().zip(expected.prompts("prompts_tokens")) {
        assert_eq!(ours.ids[1 + words.len()..], official[1 + words.len()..]);
    }
}

/// Marks at the end of a name may join the full stop; a context may be longer than any prompt.
#[test]
fn unusual_names_and_lengths_of_context_make_prompts_or_an_error() {
    let device = Device::flex();
    let clip = common::model("clip_vit.safetensors", &device);
    let tokenizer = Tokenizer::clip(1024).unwrap();
    let names = ["...", "!!", "wow!?", ".", "dog"].map(str::to_owned);
    let layout_of = |length, position| ContextLayout {
        length,
        class_specific: true,
        position,
        published_words: None,
    };
    for position in [Position::End, Position::Middle, Position::Front] {
        let layout = layout_of(4, position);
        let placeholders = placeholders(&tokenizer, &names, &layout, 77).unwrap();
        for placeholder in &placeholders {
            assert!(placeholder.ids.len() > 1 + layout.length + placeholder.name_length);
        }
        CoOp::new(&clip.text, clip.logit_scale.clone(), &placeholders, &layout).unwrap();
    }
    for length in [76, 1_000_000_000_000] {
        assert!(matches!(
            placeholders(&tokenizer, &names, &layout_of(length, Position::End), 77),
            Err(TextError::NoRoomForName { .. })
        ));
    }
}

#[test]
fn coop_learns_as_the_official_code_does() {
    for (name, weight_decay) in [
        ("coop_vit_unified_end", 5e-4),
        ("coop_vit_unified_end_init", 5e-4),
        ("coop_vit_unified_end_decay", 0.2),
        ("coop_vit_unified_middle", 5e-4),
        ("coop_vit_unified_front", 5e-4),
        ("coop_vit_csc_end", 5e-4),
        ("coop_vit_csc_middle", 5e-4),
        ("coop_vit_csc_front", 5e-4),
        ("coop_rn_unified_end", 5e-4),
        ("coop_rn_unified_middle", 5e-4),
        ("coop_rn_csc_end", 5e-4),
        ("coop_rn_csc_middle", 5e-4),
    ] {
        coop_replays(name, weight_decay);
    }
}

/// `name` as the golden files are called: coop_MODEL_CONTEXT_POSITION.
fn coop_replays(name: &str, weight_decay: f32) {
    let device = Device::flex();
    let parts: Vec<&str> = name.split('_').collect();
    let clip = common::model(&format!("clip_{}.safetensors", parts[1]), &device);
    let expected = Golden::open(&format!("{name}.safetensors"));
    let layout = ContextLayout {
        length: expected.metadata("n_ctx").parse().unwrap(),
        class_specific: parts[2] == "csc",
        position: parts[3].parse().unwrap(),
        published_words: None,
    };
    let names: Vec<String> = serde_json::from_str(&expected.metadata("classnames")).unwrap();
    let tokenizer = Tokenizer::clip(1024).unwrap();
    let prompts: Vec<Placeholder> = expected
        .prompts("prompts_tokens")
        .into_iter()
        .zip(names)
        .map(|(ids, name)| Placeholder {
            ids,
            name_length: tokenizer.encode(&name).unwrap().len(),
        })
        .collect();
    let coop = CoOp::new(&clip.text, clip.logit_scale, &prompts, &layout).unwrap();
    let features = expected.labelled("");
    let task = Training::new(
        &coop,
        &features,
        TrainingViews::Whole,
        usize::MAX,
        1,
        &device,
    );
    let mut parameters = Parameters::default();
    match layout.class_specific {
        false => parameters.insert(CONTEXT, expected.tensor::<2>("ctx0", &device)),
        true => parameters.insert(CONTEXT, expected.tensor::<3>("ctx0", &device)),
    }

    let text_features = coop.text_features(&parameters).unwrap();
    expected.assert_close("text_features", text_features, TOLERANCE);
    let learned = Learned {
        name: CONTEXT.into(),
        gradient: "grad_ctx0".into(),
        last: "ctx_final".into(),
    };
    let settings = sgd(weight_decay);
    replay(
        &expected,
        &task,
        parameters,
        &[learned],
        &settings,
        MOVED_BY_SGD,
    );
}

#[test]
fn cocoop_learns_as_the_official_code_does() {
    for name in ["cocoop_vit", "cocoop_rn"] {
        let device = Device::flex();
        let model = name.replace("cocoop", "clip") + ".safetensors";
        let clip = common::model(&model, &device);
        let expected = Golden::open(&format!("{name}.safetensors"));
        let names: Vec<String> = serde_json::from_str(&expected.metadata("classnames")).unwrap();
        let layout = ContextLayout {
            length: expected.metadata("n_ctx").parse().unwrap(),
            class_specific: false,
            position: Position::End,
            published_words: None,
        };
        let tokenizer = Tokenizer::clip(1024).unwrap();
        let prompts = placeholders(&tokenizer, &names, &layout, 77).unwrap();
        let prompt = CoCoOp::new(&clip.text, clip.logit_scale, prompts, layout.length).unwrap();
        let features = expected.labelled("");
        let task = Training::new(
            &prompt,
            &features,
            TrainingViews::Whole,
            usize::MAX,
            1,
            &device,
        );
        let mut parameters = Parameters::default();
        for learned in COCOOP_PARAMETERS {
            let (values, shape) = expected.values(&format!("param.{learned}"));
            parameters.insert_data(learned, &shape, values, &device);
        }

        let images = features.inputs.first_features(&device).unwrap();
        let forward = |images| prompt.forward(&parameters, &Inputs::Features(images));
        let logits = forward(images.clone()).unwrap();
        expected.assert_close("logits", logits.clone(), TOLERANCE);
        // A picture alone gets the logits that it gets among others.
        let alone = forward(images.narrow(0, 2, 1)).unwrap();
        let among = elements(logits.narrow(0, 2, 1));
        assert_values_close(name, &elements(alone), &among, 1e-5);

        let learned = COCOOP_PARAMETERS.map(Learned::of);
        replay(
            &expected,
            &task,
            parameters,
            &learned,
            &sgd(5e-4),
            MOVED_LITTLE,
        );
    }
}

const COCOOP_PARAMETERS: [&str; 5] = [
    "ctx",
    "meta_net.linear1.weight",
    "meta_net.linear1.bias",
    "meta_net.linear2.weight",
    "meta_net.linear2.bias",
];

/// CoOp's optimiser and rates.
fn sgd(weight_decay: f32) -> FitSettings {
    FitSettings {
        epochs: 0, // as many as there are official steps
        learning_rate: 0.002,
        optimizer: Optimizer::Sgd {
            momentum: 0.9,
            weight_decay,
        },
        schedule: Schedule::CoOp { warmup: 1e-5 },
    }
}

#[test]
fn the_learning_rate_is_the_official_one_at_every_epoch() {
    let text = std::fs::read_to_string(common::golden("lr_schedule.json")).unwrap();
    let official: std::collections::BTreeMap<usize, Vec<f64>> =
        serde_json::from_str(&text).unwrap();
    assert_eq!(official.len(), 4);
    for (epochs, rates) in official {
        for (epoch, expected) in rates.into_iter().enumerate() {
            let progress = Progress {
                epoch,
                epochs,
                step: epoch,
                steps: epochs,
            };
            let rate = Schedule::CoOp { warmup: 1e-5 }.learning_rate(0.002, progress);
            assert!(
                (f64::from(rate) - expected).abs() <= 1e-9,
                "{epoch} of {epochs}"
            );
        }
    }
}

/// A text tower of random weights from a seed.
fn random_tower(layers: usize, heads: usize, seed: u64, device: &Device) -> TextTower {
    let width = 8 * heads;
    let config = TextTowerConfig {
        context_length: 77,
        vocabulary_size: 20,
        width,
        layers,
        heads,
    };
    let mut source = RandomWeights {
        state: seed,
        device,
    };
    TextTower::build(&mut source, &config, 12, Activation::QuickGelu).unwrap()
}

struct RandomWeights<'a> {
    state: u64,
    device: &'a Device,
}

impl RandomWeights<'_> {
    /// Uniform in −0.5 .. 0.5 from a 64-bit linear congruential generator.
    fn next(&mut self) -> f32 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }
}

impl ParameterSource for RandomWeights<'_> {
    type Error = std::convert::Infallible;

    fn parameter<const D: usize>(
        &mut self,
        _name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, Self::Error> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| self.next()).collect();
        Ok(Tensor::from_data(
            TensorData::new(values, shape),
            self.device,
        ))
    }
}

const LEARNED_ROWS: usize = 6;

/// Prompts that share beginnings now and then, with tokens and learned rows in any order.
fn layouts() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let row = prop_oneof![
        (0..20u32).prop_map(Row::Token),
        (0..LEARNED_ROWS).prop_map(Row::Learned)
    ];
    let run = prop::collection::vec(row, 1..8);
    let stems = prop::collection::vec(run.clone(), 1..4);
    let ends = prop::collection::vec((any::<prop::sample::Index>(), run), 1..24);
    (stems, ends).prop_map(|(stems, ends)| {
        ends.into_iter()
            .map(|(stem, end)| {
                let mut prompt = vec![Row::Token(18)];
                prompt.extend(&stems[stem.index(stems.len())]);
                prompt.extend(end);
                prompt
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Values and gradients of the forest walk equal those of the plain walk over all 77 rows.
    #[test]
    fn the_forest_walk_equals_the_plain_walk(
        prompts in layouts(), layers in 1..4usize, heads in 1..4usize, seed: u64,
    ) {
        let device = Device::flex();
        let tower = random_tower(layers, heads, seed, &device);
        let width = 8 * heads;
        let mut random = RandomWeights { state: !seed, device: &device };
        let mut parameters = Parameters::default();
        parameters.insert("ctx", random.parameter("ctx", [LEARNED_ROWS, width]).unwrap());
        let weights: Tensor<2> = random.parameter("weights", [prompts.len(), 12]).unwrap();

        let run = |forest: bool| {
            let leaves = parameters.tracked();
            let learned = leaves.get::<2>("ctx").unwrap();
            let features = if forest {
                let prepared = tower.prepare(&PromptLayout::new(&prompts)).unwrap();
                tower.encode(&prepared, Some(learned))
            } else {
                plain_features(&tower, &prompts, learned)
            };
            let values = elements(features.clone());
            let loss = (features * weights.clone()).sum();
            if !loss.is_tracked() {
                return (values, None);
            }
            let gradient = leaves.gradients(&mut loss.backward()).remove("ctx").map(elements);
            (values, gradient)
        };
        let (forest, forest_gradient) = run(true);
        let (plain, plain_gradient) = run(false);
        prop_assert!(common::relative_error(&forest, &plain) <= 1e-5);
        let zero = vec![0.0; LEARNED_ROWS * width];
        let forest_gradient = forest_gradient.unwrap_or_else(|| zero.clone());
        let plain_gradient = plain_gradient.unwrap_or(zero);
        if plain_gradient.iter().any(|&g| g != 0.0) {
            prop_assert!(common::relative_error(&forest_gradient, &plain_gradient) <= 1e-4);
        } else {
            prop_assert!(forest_gradient.iter().all(|&g| g == 0.0));
        }
    }
}

/// All prompts padded to 77 rows, through the plain walk.
fn plain_features(tower: &TextTower, prompts: &[Vec<Row>], learned: Tensor<2>) -> Tensor<2> {
    let rows: Vec<Tensor<3>> = prompts
        .iter()
        .map(|prompt| {
            let mut rows: Vec<Tensor<2>> = prompt
                .iter()
                .map(|row| match *row {
                    Row::Token(id) => tower.embed(&[id]),
                    Row::Learned(row) => learned.clone().narrow(0, row, 1),
                })
                .collect();
            rows.push(tower.embed(&vec![0; 77 - prompt.len()]));
            Tensor::cat(rows, 0).unsqueeze()
        })
        .collect();
    let end: Vec<usize> = prompts.iter().map(|prompt| prompt.len() - 1).collect();
    tower.encode_rows(Tensor::cat(rows, 0), &end)
}
