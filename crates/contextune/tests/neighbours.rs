//! CoOp's neighbours against the values of their official formulas (`tests-full-size/make_neighbours.py`), and what all
//! methods have in common: settings and prompt files that come back as they went.

mod common;

use burn::tensor::{Device, Tensor, activation};
use common::replay::{Learned, MOVED_BY_ADAM, MOVED_BY_SGD, MOVED_LITTLE, replay};
use common::{Golden, TOLERANCE, assert_values_close, elements, golden};
use contextune::evaluate::{Accuracy, largest};
use contextune::input::{Examples, Inputs};
use contextune::method::feature::clip_adapter::ClipAdapterSettings;
use contextune::method::feature::linear_probe::LinearProbeSettings;
use contextune::method::feature::taskres::TaskResSettings;
use contextune::method::feature::text_tuning::{TextBiasSettings, TextTransformSettings};
use contextune::method::feature::tip_adapter::{TipAdapterFSettings, TipAdapterSettings};
use contextune::method::text::coop::{ContextLayout, Position};
use contextune::method::text::kgcoop::{KgCoOp, KgCoOpSettings};
use contextune::method::text::prograd::{ProGrad, ProGradSettings};
use contextune::method::{Beginning, Initialisation, Lesson, Method};
use contextune::model::{Model, ModelOptions};
use contextune::parameters::Parameters;
use contextune::task::{Classify, Training, TrainingViews};

/// A golden file with the model that it was computed on.
struct Case {
    golden: Golden,
    model: Model,
    class_names: Vec<String>,
}

impl Case {
    fn open(name: &str) -> Self {
        let golden = Golden::open(&format!("neighbours_{name}.safetensors"));
        Self {
            model: model(),
            class_names: serde_json::from_str(&golden.metadata("classnames")).unwrap(),
            golden,
        }
    }

    fn templates(&self) -> String {
        self.golden.metadata("templates")
    }

    fn number(&self, key: &str) -> f32 {
        self.golden.metadata(key).parse().unwrap()
    }

    /// As many vectors as the golden context has, before the name.
    fn layout(&self) -> ContextLayout {
        ContextLayout {
            length: self.golden.values("param.ctx").1[0],
            class_specific: false,
            position: Position::End,
            published_words: None,
        }
    }

    fn begin(
        &self,
        method: &impl Method<Task = Classify>,
        train: &Examples<usize>,
        val: Option<&Examples<usize>>,
    ) -> Beginning<Classify> {
        method.begin(&self.lesson(train, val)).unwrap()
    }

    fn lesson<'a>(
        &'a self,
        train: &'a Examples<usize>,
        val: Option<&'a Examples<usize>>,
    ) -> Lesson<'a, Classify> {
        Lesson {
            model: &self.model,
            class_names: &self.class_names,
            train,
            val,
            initial: &Initialisation::Random,
            seed: 1,
        }
    }

    /// The official beginning, first step and last step of `method`, with the published optimiser and rates; `learned`
    /// are the parameters, `random` says that the official beginning is drawn.
    fn replay(
        &self,
        method: &impl Method<Task = Classify>,
        learned: &[&str],
        random: bool,
        moved: f64,
    ) -> Beginning<Classify> {
        let (golden, device) = (&self.golden, self.model.device());
        let train = self.golden.labelled("");
        let mut beginning = self.begin(method, &train, None);
        let parameters = &mut beginning.parameters;
        let trained: Vec<&str> = parameters
            .names()
            .filter(|name| !parameters.is_constant(name))
            .collect();
        assert_eq!(trained, learned);
        for &name in learned {
            let own = parameters.data(name).unwrap();
            let official = format!("param.{name}");
            if !golden.has(&official) {
                continue;
            }
            let (values, shape) = golden.values(&official);
            assert_eq!(parameters.shape(name), Some(&shape[..]), "{name}");
            if !random {
                let difference = own.iter().zip(&values).map(|(a, b)| (a - b).abs());
                assert!(
                    difference.fold(0.0, f32::max) <= 1e-6,
                    "{name} begins elsewhere"
                );
            }
            parameters.insert_data(name, &shape, values, device);
        }
        for name in golden.names() {
            if let Some(constant) = name.strip_prefix("constant.") {
                assert!(parameters.is_constant(constant), "{constant}");
                let values = parameters.data(constant).unwrap();
                assert_values_close(constant, &values, &golden.values(&name).0, TOLERANCE);
            }
        }

        let images = first_features(&train, device);
        let logits = beginning.prompt.forward(&beginning.parameters, &images);
        golden.assert_close("logits", logits.unwrap(), TOLERANCE);
        let everything = usize::MAX;
        let views = TrainingViews::Whole;
        let task = Training::new(&*beginning.prompt, &train, views, everything, 1, device);
        let learned: Vec<Learned> = learned.iter().map(|name| Learned::of(name)).collect();
        let fit = method.published(Some(16)).fit;
        let parameters = replay(golden, &task, beginning.parameters, &learned, &fit, moved);
        Beginning {
            prompt: beginning.prompt,
            parameters,
        }
    }
}

fn model() -> Model {
    let path = golden("clip_vit.safetensors");
    let options = ModelOptions::default();
    Model::open(path.to_str(), options, &Device::flex(), |_| ()).unwrap()
}

#[test]
fn kgcoop_learns_as_the_official_code_does() {
    let case = Case::open("kgcoop");
    let method = KgCoOpSettings {
        layout: case.layout(),
        templates: case.templates(),
        guidance: KgCoOp {
            weight: case.number("weight"),
        },
    };
    case.replay(&method, &["ctx"], true, MOVED_BY_SGD);
}

/// Opposed in every step, with all and with a part of the opposing gradient taken away; never opposed.
#[test]
fn prograd_learns_as_the_official_code_does() {
    for (name, opposed) in [
        ("prograd", true),
        ("prograd_weaker", true),
        ("prograd_unopposed", false),
    ] {
        let case = Case::open(name);
        let projected: Vec<bool> =
            serde_json::from_str(&case.golden.metadata("projected")).unwrap();
        assert!(projected.into_iter().all(|step| step == opposed));
        let method = ProGradSettings {
            layout: case.layout(),
            templates: case.templates(),
            guidance: ProGrad {
                weight: case.number("weight"),
            },
        };
        case.replay(&method, &["ctx"], true, MOVED_BY_SGD);
    }
}

#[test]
fn clip_adapter_learns_as_the_official_code_does() {
    let case = Case::open("clip_adapter");
    let method = ClipAdapterSettings {
        templates: case.templates(),
        ratio: case.number("ratio"),
    };
    let learned = ["fc.0.weight", "fc.2.weight"];
    case.replay(&method, &learned, true, MOVED_LITTLE);
}

#[test]
fn taskres_learns_as_the_official_code_does() {
    for name in ["taskres", "taskres_full"] {
        let case = Case::open(name);
        let method = TaskResSettings {
            templates: case.templates(),
            residual_scale: case.number("residual_scale"),
        };
        let learned = ["text_feature_residuals"];
        case.replay(&method, &learned, false, MOVED_BY_ADAM);
    }
}

#[test]
fn a_layer_and_a_bias_on_the_text_features_learn_as_described() {
    let case = Case::open("text_transform");
    let method = TextTransformSettings {
        templates: case.templates(),
    };
    case.replay(&method, &["text_transform.weight"], false, MOVED_BY_SGD);
    let case = Case::open("text_bias");
    let method = TextBiasSettings {
        templates: case.templates(),
    };
    case.replay(&method, &["text_bias"], false, MOVED_BY_SGD);
}

#[test]
fn tip_adapter_classifies_and_searches_as_the_official_code_does() {
    let case = Case::open("tip_adapter");
    let method = TipAdapterSettings {
        templates: case.templates(),
    };
    let (golden, device) = (&case.golden, case.model.device());
    let (views, shape) = golden.values("views");
    let labels = golden.integers("labels");
    let labels = labels.into_iter().map(|label| label as usize).collect();
    let train = Examples::of_features(&views, shape[2], shape[1], labels);
    let val = case.golden.labelled("val_");
    let Beginning {
        prompt,
        mut parameters,
    } = case.begin(&method, &train, Some(&val));
    assert!(
        ["keys", "values", "alpha", "beta"].map(|name| parameters.is_constant(name)) == [true; 4]
    );
    golden.assert_close("keys", parameters.get::<2>("keys").unwrap(), TOLERANCE);
    golden.assert_close(
        "constant.values",
        parameters.get::<2>("values").unwrap(),
        0.0,
    );
    for (alpha, beta) in [(1.17, 1.0), (2.5, 5.5)] {
        set_search(&mut parameters, alpha, beta, device);
        let logits = prompt
            .forward(&parameters, &first_features(&train, device))
            .unwrap();
        golden.assert_close(&format!("logits.{alpha}.{beta:.1}"), logits, TOLERANCE);
    }
    searches_as_the_official_code_does(&case, &method, Beginning { prompt, parameters });
}

#[test]
fn tip_adapter_f_learns_and_searches_as_the_official_code_does() {
    let case = Case::open("tip_adapter_f");
    let method = TipAdapterFSettings {
        templates: case.templates(),
    };
    let learned = case.replay(&method, &["keys"], true, MOVED_BY_ADAM);
    searches_as_the_official_code_does(&case, &method, learned);
}

fn set_search(parameters: &mut Parameters, alpha: f32, beta: f32, device: &Device) {
    for (name, value) in [("alpha", alpha), ("beta", beta)] {
        parameters.insert_constant(name, Tensor::<1>::from_floats([value], device));
    }
}

fn first_features(examples: &Examples<usize>, device: &Device) -> Inputs {
    Inputs::Features(examples.inputs.first_features(device).unwrap())
}

fn searches_as_the_official_code_does(
    case: &Case,
    method: &impl Method<Task = Classify>,
    learned: Beginning<Classify>,
) {
    let Beginning {
        prompt,
        mut parameters,
    } = learned;
    let (train, val) = (case.golden.labelled(""), case.golden.labelled("val_"));
    let lesson = case.lesson(&train, Some(&val));
    method.finish(&lesson, &*prompt, &mut parameters).unwrap();
    for name in ["alpha", "beta"] {
        let found = parameters.data(name).unwrap()[0];
        let official = case.number(name);
        assert!(
            (found - official).abs() <= 1e-5,
            "{name}: {found}, official {official}"
        );
    }
    let logits = prompt.forward(&parameters, &first_features(&val, case.model.device()));
    let logits = logits.unwrap();
    case.golden
        .assert_close("searched_logits", logits.clone(), TOLERANCE);
    let accuracy = Accuracy::of(&elements(logits), &val.targets, case.class_names.len());
    assert_eq!(
        accuracy.correct.to_string(),
        case.golden.metadata("correct")
    );
}

#[test]
fn the_linear_probe_finds_what_scikit_learn_finds() {
    for classes in [5, 2] {
        let mut case = Case::open(&format!("linear_probe_{classes}"));
        case.class_names = serde_json::from_str(&case.golden.metadata("names")).unwrap();
        let strengths: Vec<f64> = serde_json::from_str(&case.golden.metadata("strengths")).unwrap();
        let (train, test) = (case.golden.labelled(""), case.golden.labelled("test_"));
        let probabilities = |c: Option<f64>, val: Option<&Examples<usize>>| {
            let method = LinearProbeSettings { c };
            let begun = case.begin(&method, &train, val);
            let images = first_features(&test, case.model.device());
            let logits = begun.prompt.forward(&begun.parameters, &images).unwrap();
            elements(activation::softmax(logits, 1))
        };
        for c in strengths {
            let ours = probabilities(Some(c), None);
            let json = serde_json::to_string(&c).unwrap();
            let name = json.strip_suffix(".0").unwrap_or(&json);
            let allowed = match c {
                ..=1.0 => MODERATE,
                _ => WEAK,
            };
            let exact = case.golden.values(&format!("exact.{name}")).0;
            assert_probabilities(&ours, &exact, classes, allowed);
            // Their default stops as soon as no part of the gradient exceeds 1e-4.
            let theirs = case.golden.values(&format!("probabilities.{name}")).0;
            assert_probabilities(&ours, &theirs, classes, STOPPED_EARLY);
        }
        let val = case.golden.labelled("val_");
        let ours = probabilities(None, Some(&val));
        let theirs = case.golden.values("probabilities.searched").0;
        assert_probabilities(&ours, &theirs, classes, STOPPED_EARLY);
        let accuracy = Accuracy::of(&ours, &test.targets, classes).share();
        assert!((accuracy - case.number("test_accuracy")).abs() < 1e-6);
    }
}

/// On probabilities at the minimum, under a penalty that makes it well defined.
const MODERATE: f32 = 1e-3;
/// The same where the penalty hardly counts and the loss is flat: the gradient, which is compared, says less.
const WEAK: f32 = 5e-3;
/// Between two solvers that stop before the minimum, each in its own place.
const STOPPED_EARLY: f32 = 5e-3;

/// Close, and with equal predictions.
#[track_caller]
fn assert_probabilities(ours: &[f32], theirs: &[f32], classes: usize, allowed: f32) {
    for (ours, theirs) in ours.chunks(classes).zip(theirs.chunks(classes)) {
        assert_eq!(largest(ours), largest(theirs));
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!((ours - theirs).abs() <= allowed, "{ours}, not {theirs}");
        }
    }
}
