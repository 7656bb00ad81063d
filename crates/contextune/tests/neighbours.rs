//! CoOp's neighbours against the values of their official formulas (`tests-full-size/make_neighbours.py`), and what all
//! methods have in common: settings and prompt files that come back as they went.

mod common;

use burn::tensor::{Device, Tensor, activation};
use common::replay::{Learned, MOVED_BY_ADAM, MOVED_BY_SGD, MOVED_LITTLE, replay};
use common::{Golden, TOLERANCE, assert_values_close, elements, golden};
use contextune::evaluate::{Accuracy, largest};
use contextune::features::LabelledFeatures;
use contextune::model::{Model, ModelOptions};
use contextune::prompt::clip_adapter::ClipAdapterSettings;
use contextune::prompt::cocoop::CoCoOpSettings;
use contextune::prompt::coop::{ContextLayout, InitialContext, Position};
use contextune::prompt::format::PromptFile;
use contextune::prompt::kgcoop::{KgCoOp, KgCoOpSettings};
use contextune::prompt::linear_probe::LinearProbeSettings;
use contextune::prompt::prograd::{ProGrad, ProGradSettings};
use contextune::prompt::taskres::TaskResSettings;
use contextune::prompt::text_tuning::{TextBiasSettings, TextTransformSettings};
use contextune::prompt::tip_adapter::{TipAdapterFSettings, TipAdapterSettings};
use contextune::prompt::zeroshot::ZeroShotSettings;
use contextune::prompt::{Beginning, Classification, Lesson, Method, MethodError, TrainingViews};
use contextune::run::{RecipeName, RunFolder, Settings};
use contextune::train::Parameters;

/// On logits of one prompt computed twice, from features that went through a file.
const SAME: f64 = 1e-6;

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
        method: &Method,
        train: &LabelledFeatures,
        val: Option<&LabelledFeatures>,
    ) -> Beginning {
        method.learn().begin(&self.lesson(train, val)).unwrap()
    }

    fn lesson<'a>(
        &'a self,
        train: &'a LabelledFeatures,
        val: Option<&'a LabelledFeatures>,
    ) -> Lesson<'a> {
        Lesson {
            model: &self.model,
            class_names: &self.class_names,
            train,
            val,
            initial: &InitialContext::Random,
            seed: 1,
        }
    }

    /// The official beginning, first step and last step of `method`, with the published optimiser and rates; `learned`
    /// are the parameters, `random` says that the official beginning is drawn.
    fn replay(&self, method: &Method, learned: &[&str], random: bool, moved: f64) -> Beginning {
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

        let images = train.first_views(device).unwrap();
        let logits = beginning.prompt.logits(&beginning.parameters, images);
        golden.assert_close("logits", logits.unwrap(), TOLERANCE);
        let everything = usize::MAX;
        let views = TrainingViews::Whole;
        let task = Classification::new(&*beginning.prompt, &train, views, everything, 1, device);
        let learned: Vec<Learned> = learned.iter().map(|name| Learned::of(name)).collect();
        let fit = method.learn().published(Some(16)).fit;
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
    let method = Method::Kgcoop(KgCoOpSettings {
        layout: case.layout(),
        templates: case.templates(),
        guidance: KgCoOp {
            weight: case.number("weight"),
        },
    });
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
        let method = Method::Prograd(ProGradSettings {
            layout: case.layout(),
            templates: case.templates(),
            guidance: ProGrad {
                weight: case.number("weight"),
            },
        });
        case.replay(&method, &["ctx"], true, MOVED_BY_SGD);
    }
}

#[test]
fn clip_adapter_learns_as_the_official_code_does() {
    let case = Case::open("clip_adapter");
    let method = Method::ClipAdapter(ClipAdapterSettings {
        templates: case.templates(),
        ratio: case.number("ratio"),
    });
    let learned = ["fc.0.weight", "fc.2.weight"];
    case.replay(&method, &learned, true, MOVED_LITTLE);
}

#[test]
fn taskres_learns_as_the_official_code_does() {
    for name in ["taskres", "taskres_full"] {
        let case = Case::open(name);
        let method = Method::Taskres(TaskResSettings {
            templates: case.templates(),
            residual_scale: case.number("residual_scale"),
        });
        let learned = ["text_feature_residuals"];
        case.replay(&method, &learned, false, MOVED_BY_ADAM);
    }
}

#[test]
fn a_layer_and_a_bias_on_the_text_features_learn_as_described() {
    let case = Case::open("text_transform");
    let method = Method::TextTransform(TextTransformSettings {
        templates: case.templates(),
    });
    case.replay(&method, &["text_transform.weight"], false, MOVED_BY_SGD);
    let case = Case::open("text_bias");
    let method = Method::TextBias(TextBiasSettings {
        templates: case.templates(),
    });
    case.replay(&method, &["text_bias"], false, MOVED_BY_SGD);
}

#[test]
fn tip_adapter_classifies_and_searches_as_the_official_code_does() {
    let case = Case::open("tip_adapter");
    let method = Method::TipAdapter(TipAdapterSettings {
        templates: case.templates(),
    });
    let (golden, device) = (&case.golden, case.model.device());
    let (views, shape) = golden.values("views");
    let labels = golden.integers("labels");
    let labels = labels.into_iter().map(|label| label as usize).collect();
    let train = LabelledFeatures::new(&views, shape[2], shape[1], labels);
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
            .logits(&parameters, train.first_views(device).unwrap())
            .unwrap();
        golden.assert_close(&format!("logits.{alpha}.{beta:.1}"), logits, TOLERANCE);
    }
    searches_as_the_official_code_does(&case, &method, Beginning { prompt, parameters });
}

#[test]
fn tip_adapter_f_learns_and_searches_as_the_official_code_does() {
    let case = Case::open("tip_adapter_f");
    let method = Method::TipAdapterF(TipAdapterFSettings {
        templates: case.templates(),
    });
    let learned = case.replay(&method, &["keys"], true, MOVED_BY_ADAM);
    searches_as_the_official_code_does(&case, &method, learned);
}

fn set_search(parameters: &mut Parameters, alpha: f32, beta: f32, device: &Device) {
    for (name, value) in [("alpha", alpha), ("beta", beta)] {
        parameters.insert_constant(name, Tensor::<1>::from_floats([value], device));
    }
}

fn searches_as_the_official_code_does(case: &Case, method: &Method, learned: Beginning) {
    let Beginning {
        prompt,
        mut parameters,
    } = learned;
    let (train, val) = (case.golden.labelled(""), case.golden.labelled("val_"));
    let lesson = case.lesson(&train, Some(&val));
    method
        .learn()
        .finish(&lesson, &*prompt, &mut parameters)
        .unwrap();
    for name in ["alpha", "beta"] {
        let found = parameters.data(name).unwrap()[0];
        let official = case.number(name);
        assert!(
            (found - official).abs() <= 1e-5,
            "{name}: {found}, official {official}"
        );
    }
    let logits = prompt.logits(&parameters, val.first_views(case.model.device()).unwrap());
    let logits = logits.unwrap();
    case.golden
        .assert_close("searched_logits", logits.clone(), TOLERANCE);
    let accuracy = Accuracy::of(&elements(logits), val.labels(), case.class_names.len());
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
        let probabilities = |c: Option<f64>, val: Option<&LabelledFeatures>| {
            let method = Method::LinearProbe(LinearProbeSettings { c });
            let begun = case.begin(&method, &train, val);
            let images = test.first_views(case.model.device()).unwrap();
            let logits = begun.prompt.logits(&begun.parameters, images).unwrap();
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
        let accuracy = Accuracy::of(&ours, test.labels(), classes).share();
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

/// Every method, some in several forms.
fn methods() -> Vec<Method> {
    let templates = || "a photo of a {}.\nitap of a {}.".to_owned();
    let layout = |class_specific| ContextLayout {
        length: 4,
        class_specific,
        position: Position::Middle,
        published_words: None,
    };
    let kgcoop = |class_specific| {
        Method::Kgcoop(KgCoOpSettings {
            layout: layout(class_specific),
            templates: templates(),
            guidance: KgCoOp { weight: 8.0 },
        })
    };
    vec![
        Method::Zeroshot(ZeroShotSettings {
            templates: templates(),
        }),
        Method::LinearProbe(LinearProbeSettings { c: None }),
        Method::LinearProbe(LinearProbeSettings { c: Some(0.316) }),
        Method::Coop(layout(false)),
        Method::Coop(layout(true)),
        Method::Cocoop(CoCoOpSettings {
            context_length: 4,
            published_words: None,
        }),
        kgcoop(false),
        kgcoop(true),
        Method::Prograd(ProGradSettings {
            layout: layout(false),
            templates: templates(),
            guidance: ProGrad { weight: 0.8 },
        }),
        Method::ClipAdapter(ClipAdapterSettings {
            templates: templates(),
            ratio: 0.2,
        }),
        Method::TipAdapter(TipAdapterSettings {
            templates: templates(),
        }),
        Method::TipAdapterF(TipAdapterFSettings {
            templates: templates(),
        }),
        Method::Taskres(TaskResSettings {
            templates: templates(),
            residual_scale: 0.5,
        }),
        Method::TextTransform(TextTransformSettings {
            templates: templates(),
        }),
        Method::TextBias(TextBiasSettings {
            templates: templates(),
        }),
    ]
}

/// Words that could be taken for something else where they are written down: JSON, TOML.
fn methods_with_unusual_words() -> Vec<Method> {
    let texts = [
        "{}",
        "{} \"quoted\"",
        "\"{}\"",
        "[\"{}\"]",
        "{}\n# {}\n= {}",
    ];
    let zeroshot = texts.map(|templates| {
        Method::Zeroshot(ZeroShotSettings {
            templates: templates.into(),
        })
    });
    let coop = ["2012", "true", "null", "a photo of a", "'"].map(|words| {
        Method::Coop(ContextLayout {
            length: 1,
            class_specific: false,
            position: Position::End,
            published_words: Some(words.into()),
        })
    });
    zeroshot.into_iter().chain(coop).collect()
}

#[test]
fn every_method_comes_back_from_metadata_and_from_run_folders() {
    let folder = tempfile::tempdir().unwrap();
    for method in methods().into_iter().chain(methods_with_unusual_words()) {
        let back = Method::from_metadata(&method.to_metadata());
        assert_eq!(back.unwrap(), method);
        for (recipe, shots) in [(RecipeName::Published, Some(16)), (RecipeName::Fast, None)] {
            let settings = Settings::new("pictures".into(), method.clone(), shots, recipe);
            let run = RunFolder::create(&folder.path().join("run"), &settings, true).unwrap();
            assert_eq!(run.settings::<Settings>().unwrap(), settings);
        }
    }
}

/// With and without stored text features, for the same classes and for others.
#[test]
fn every_method_gives_the_same_logits_from_its_prompt_file() {
    let case = Case::open("tip_adapter");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prompt.safetensors");
    let device = case.model.device();
    let (train, val) = (case.golden.labelled(""), case.golden.labelled("val_"));
    let images = val.first_views(device).unwrap();
    let reversed: Vec<String> = case.class_names.iter().rev().cloned().collect();
    for method in methods() {
        let Beginning {
            prompt,
            mut parameters,
        } = case.begin(&method, &train, Some(&val));
        learn_something(&mut parameters);
        let logits = prompt.logits(&parameters, images.clone()).unwrap();
        let expected = elements(logits.clone());
        let features = prompt.stored_features(&parameters).unwrap();
        let mut file = PromptFile {
            method: method.clone(),
            fingerprint: "that of the model".into(),
            class_names: case.class_names.clone(),
            text_features: features.map(elements),
            parameters,
        };
        for stored in [true, false] {
            if !stored {
                file.text_features = None;
            }
            file.write(&path).unwrap();
            let read = PromptFile::read(&path, device).unwrap();
            assert_eq!(read.method, method);
            assert_eq!(read.text_features, file.text_features);
            let opened = Method::open(&read, &case.model, &case.class_names).unwrap();
            let again = opened.logits(&read.parameters, images.clone()).unwrap();
            assert_values_close(&format!("{method:?}"), &elements(again), &expected, SAME);

            let others = Method::open(&read, &case.model, &reversed);
            if !method.learn().takes_other_classes() {
                assert!(
                    matches!(others, Err(MethodError::OtherClasses { method: name }) if name == method.name()),
                    "{method:?} takes other classes"
                );
                continue;
            }
            let logits_of_others = others.unwrap().logits(&read.parameters, images.clone());
            let backwards = elements(logits_of_others.unwrap().flip([1]));
            assert_values_close(&format!("{method:?}"), &backwards, &expected, SAME);
        }
    }
}

/// Moves what is learned away from where it began.
fn learn_something(parameters: &mut Parameters) {
    let before = parameters.clone();
    parameters.update(|name, _, values| {
        if before.is_constant(name) {
            return values;
        }
        let wave: Vec<f32> = (0..values.dims()[0])
            .map(|index| 0.05 * (index as f32).sin())
            .collect();
        let device = values.device();
        values + Tensor::<1>::from_floats(&wave[..], &device)
    });
}
