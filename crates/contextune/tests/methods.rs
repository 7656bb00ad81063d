//! One table of all methods, and what each of them must do: learn, be resumed, be opened again with and without stored text
//! features, take other classes or refuse them, and refuse files that are not what they should be.

mod common;

use std::cell::Cell;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use common::{assert_values_close, golden};
use contextune::data;
use contextune::input::{EncodingWatcher, Views};
use contextune::method::RecipeName;
use contextune::method::feature::clip_adapter::ClipAdapterSettings;
use contextune::method::feature::linear_probe::LinearProbeSettings;
use contextune::method::feature::taskres::TaskResSettings;
use contextune::method::feature::text_tuning::{TextBiasSettings, TextTransformSettings};
use contextune::method::feature::tip_adapter::{TipAdapterFSettings, TipAdapterSettings};
use contextune::method::image::finetune::{FinetuneSettings, Tuned};
use contextune::method::image::image_encoder::ImageEncoderSettings;
use contextune::method::image::pixel::{PixelSettings, Place};
use contextune::method::image::reprogram::ReprogramSettings;
use contextune::method::image::source::Target;
use contextune::method::image::vpt::{Depth, Location, VptSettings};
use contextune::method::text::cocoop::CoCoOpSettings;
use contextune::method::text::coop::{ContextLayout, Position};
use contextune::method::text::kgcoop::{KgCoOp, KgCoOpSettings};
use contextune::method::text::prograd::{ProGrad, ProGradSettings};
use contextune::method::text::zeroshot::ZeroShotSettings;
use contextune::model::{Model, ModelOptions};
use contextune::objective::label_map::LabelMapping;
use contextune::run::{
    self, AnyMethod, LearnError, Learned, RunFolder, RunWatcher, Settings, registry,
};
use contextune::task::{Classify, Task, TaskDataset};
use contextune::train::{EpochMetrics, Progress};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// On logits of one prompt computed twice, from features that went through a file.
const SAME: f64 = 1e-6;
const CLIP: &str = "clip_vit.safetensors";
const CLASSIFIER: &str = "efficientnet_tiny.pth";

/// Every method, some in several forms, and the golden model that each is learned with.
fn methods() -> Vec<(AnyMethod, &'static str)> {
    let templates = || "a photo of a {}.\nitap of a {}.".to_owned();
    let words = || Target::Words {
        templates: templates(),
    };
    let layout = |class_specific| ContextLayout {
        length: 4,
        class_specific,
        position: Position::Middle,
        published_words: None,
    };
    let vpt = |depth, location| VptSettings {
        tokens: 3,
        depth,
        location,
        ..VptSettings::default()
    };
    let pixel = |place| PixelSettings {
        place,
        size: 4,
        unit_gradient: false,
        target: words(),
    };
    let finetune = |tuned| AnyMethod::from(FinetuneSettings { tuned });
    let mut methods: Vec<AnyMethod> = vec![
        ZeroShotSettings {
            templates: templates(),
        }
        .into(),
        LinearProbeSettings { c: None }.into(),
        LinearProbeSettings { c: Some(0.316) }.into(),
        layout(false).into(),
        layout(true).into(),
        CoCoOpSettings {
            context_length: 4,
            published_words: None,
        }
        .into(),
        KgCoOpSettings {
            layout: layout(true),
            templates: templates(),
            guidance: KgCoOp { weight: 8.0 },
        }
        .into(),
        ProGradSettings {
            layout: layout(false),
            templates: templates(),
            guidance: ProGrad { weight: 0.8 },
        }
        .into(),
        ClipAdapterSettings {
            templates: templates(),
            ratio: 0.2,
        }
        .into(),
        TipAdapterSettings {
            templates: templates(),
        }
        .into(),
        TipAdapterFSettings {
            templates: templates(),
        }
        .into(),
        TaskResSettings {
            templates: templates(),
            residual_scale: 0.5,
        }
        .into(),
        TextTransformSettings {
            templates: templates(),
        }
        .into(),
        TextBiasSettings {
            templates: templates(),
        }
        .into(),
        ImageEncoderSettings {
            templates: templates(),
        }
        .into(),
        vpt(Depth::Deep, Location::Prepend).into(),
        vpt(Depth::Shallow, Location::Pad).into(),
        VptSettings {
            project: Some(5),
            ..vpt(Depth::First(2), Location::Add)
        }
        .into(),
        pixel(Place::Padding).into(),
        pixel(Place::FixedPatch).into(),
        ReprogramSettings {
            side: 8,
            penalty: 0.0,
            target: words(),
        }
        .into(),
    ];
    methods.extend(
        [
            Tuned::Linear,
            Tuned::Mlp(2),
            Tuned::Partial(1),
            Tuned::Bias,
            Tuned::Adapter,
            Tuned::Full,
        ]
        .map(finetune),
    );
    let with_clip = methods.into_iter().map(|method| (method, CLIP));
    let labels: AnyMethod = ReprogramSettings {
        side: 8,
        penalty: 0.001,
        target: Target::Labels {
            mapping: LabelMapping::First,
        },
    }
    .into();
    with_clip.chain([(labels, CLASSIFIER)]).collect()
}

/// Random pictures of three classes, whose colours tell them apart.
fn pictures(root: &Path) {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for (split, count) in [("train", 4), ("val", 2), ("test", 3)] {
        for (class, name) in ["red", "green", "blue"].iter().enumerate() {
            let folder = root.join(split).join(name);
            fs::create_dir_all(&folder).unwrap();
            for picture in 0..count {
                let pixels: Vec<u8> = (0..40 * 40 * 3)
                    .map(|value| {
                        let own = if value % 3 == class { 128 } else { 0 };
                        own + random.random_range(0..128)
                    })
                    .collect();
                let file = File::create(folder.join(format!("{picture}.png"))).unwrap();
                let mut png = png::Encoder::new(file, 40, 40);
                png.set_color(png::ColorType::Rgb);
                png.write_header()
                    .and_then(|mut writer| writer.write_image_data(&pixels))
                    .unwrap();
            }
        }
    }
}

fn model(name: &str) -> Model {
    let path = golden(name);
    let options = ModelOptions::default();
    Model::open(path.to_str(), options, &Device::flex(), |_| ()).unwrap()
}

/// Two epochs of four pictures a step, where there are steps.
fn settings(method: &AnyMethod, data: &Path) -> Settings {
    let mut settings = Settings::new(data.into(), method.clone(), None, RecipeName::Fast);
    settings.training.batch_size = Some(4);
    settings.training.fit.epochs = settings.training.fit.epochs.min(2);
    settings.training.fit.learning_rate = 1e-3;
    settings
}

fn learn(
    settings: &Settings,
    model: &Model,
    folder: &RunFolder,
    watcher: &dyn RunWatcher,
) -> Result<run::Outcome, LearnError> {
    let dataset = data::open(settings.data.as_ref().unwrap(), 1).unwrap();
    let encoder = run::encoder(settings, model, None).unwrap();
    run::learn(settings, &dataset, model, &encoder, folder, watcher)
}

/// Logits of the test pictures.
fn logits(run: &Path, model: &Model, names: &[String]) -> Result<Vec<f32>, LearnError> {
    let learned = Learned::open(run, model.device())?;
    learned.check_model(model)?;
    let predictor = learned.predictor::<Classify>(model, names)?;
    let dataset = data::open(learned.settings.data.as_ref().unwrap(), 1).unwrap();
    let (inputs, _) = Classify::examples(&dataset, data::Split::Test);
    let encoder = run::encoder(&learned.settings, model, None)?;
    let (_, inputs) = encoder.inputs(dataset.place(), &inputs, Views::Whole, &())?;
    Ok(predictor.logits(&inputs).unwrap())
}

/// Ends a run after its first epoch.
struct Impatient(Cell<usize>);

impl EncodingWatcher for Impatient {
    fn encoded(&self, _done: usize, _all: usize) {}

    fn remark(&self, _text: String) {}
}

impl RunWatcher for Impatient {
    fn begin(&self) {}

    fn step(&self, _progress: Progress, _loss: f32) {}

    fn epoch(&self, _metrics: &EpochMetrics, _epochs: usize) -> ControlFlow<()> {
        self.0.set(self.0.get() + 1);
        ControlFlow::Break(())
    }
}

#[test]
fn the_table_has_every_method() {
    let mut here: Vec<&str> = methods().iter().map(|(method, _)| method.name()).collect();
    here.sort_unstable();
    here.dedup();
    let mut known = registry::names();
    known.sort_unstable();
    assert_eq!(here, known);
}

#[test]
fn every_method_learns_goes_on_and_is_opened_again() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    pictures(&data);
    let names = ["blue", "green", "red"].map(str::to_owned);
    let reversed: Vec<String> = names.iter().rev().cloned().collect();
    for (place, (method, model_name)) in methods().into_iter().enumerate() {
        let what = format!("{method:?}");
        let model = model(model_name);
        let settings = settings(&method, &data);
        let path = root.path().join(format!("run-{place}"));
        let folder = RunFolder::create(&path, &settings, false).unwrap();
        let outcome = learn(&settings, &model, &folder, &()).unwrap();
        assert!(outcome.result.accuracy.is_some(), "{what}");
        assert_eq!(folder.settings::<Settings>().unwrap(), settings, "{what}");
        let expected = logits(&path, &model, &names).unwrap();

        // What a stopped run goes on to is what one that was not stopped came to.
        if settings.training.fit.epochs > 1 {
            let path = root.path().join(format!("stopped-{place}"));
            let folder = RunFolder::create(&path, &settings, false).unwrap();
            let impatient = Impatient(Cell::new(0));
            let stopped = learn(&settings, &model, &folder, &impatient);
            assert!(matches!(stopped, Err(LearnError::Stopped { .. })), "{what}");
            learn(&settings, &model, &folder, &()).unwrap();
            let resumed = logits(&path, &model, &names).unwrap();
            assert_eq!(resumed, expected, "{what}");
        }

        // Without stored text features they are computed again.
        let file = path.join("prompt.safetensors");
        let mut stored = Stored::read(&file);
        stored
            .tensors
            .retain(|tensor| tensor.name != "text_features");
        stored.write(&file);
        let again = logits(&path, &model, &names).unwrap();
        assert_values_close(&what, &again, &expected, SAME);

        match (
            logits(&path, &model, &reversed),
            method.takes_other_classes(),
        ) {
            (Ok(backwards), true) => {
                let rows = backwards.chunks_exact(3);
                let turned: Vec<f32> = rows.flat_map(|row| row.iter().rev().copied()).collect();
                assert_values_close(&what, &turned, &expected, SAME);
            }
            (Err(error), false) => {
                let error = error.to_string();
                assert!(
                    error.contains(method.name()) && error.contains("classes"),
                    "{error}"
                );
            }
            (other, takes) => panic!("{what} takes other classes: {takes}, but {other:?}"),
        }
    }
}

/// A safetensors file in parts.
#[derive(Clone)]
struct Stored {
    tensors: Vec<StoredTensor>,
    metadata: std::collections::HashMap<String, String>,
}

#[derive(Clone)]
struct StoredTensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.iter().map(|(name, view)| StoredTensor {
            name: name.to_owned(),
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        });
        Self {
            tensors: tensors.collect(),
            metadata: header.metadata().clone().unwrap_or_default(),
        }
    }

    fn write(&self, path: &Path) {
        let views = self.tensors.iter().map(|tensor| {
            let StoredTensor {
                name,
                dtype,
                shape,
                bytes,
            } = tensor;
            let view = TensorView::new(*dtype, shape.clone(), bytes).unwrap();
            (name, view)
        });
        let metadata = Some(self.metadata.clone());
        fs::write(path, safetensors::serialize(views, metadata).unwrap()).unwrap();
    }

    fn with(&self, index: usize, change: impl FnOnce(&mut StoredTensor)) -> Self {
        let mut changed = self.clone();
        change(&mut changed.tensors[index]);
        changed
    }

    /// The file with each of its tensors damaged in every way, and what must be named in the error.
    fn damaged(&self) -> Vec<(String, Self)> {
        let mut damaged = Vec::new();
        for (index, tensor) in self.tensors.iter().enumerate() {
            let name = &tensor.name;
            let mut add = |file| damaged.push((name.clone(), file));
            if !tensor.name.ends_with("text_features") || tensor.name.starts_with("base") {
                let mut dropped = self.clone();
                dropped.tensors.remove(index);
                // Moments may be missing: a parameter that never had a gradient has none.
                if !name.starts_with("first/") && !name.starts_with("second/") {
                    add(dropped);
                }
            }
            add(self.with(index, |tensor| tensor.name.push_str(".renamed")));
            add(self.with(index, |tensor| {
                // One row more: another number of classes, or another width.
                let first = tensor.shape.first().copied().unwrap_or(1).max(1);
                let row = tensor.bytes.len() / first;
                let more = tensor.bytes[..row].to_vec();
                tensor.bytes.extend(more);
                match tensor.shape.first_mut() {
                    Some(size) => *size += 1,
                    None => tensor.shape = vec![2],
                }
            }));
            if !name.starts_with("first/") && !name.starts_with("second/") {
                add(self.with(index, |tensor| tensor.shape.push(1)));
            }
            add(self.with(index, |tensor| tensor.dtype = Dtype::I32));
            for value in [f32::NAN, f32::INFINITY] {
                add(self.with(index, |tensor| {
                    let last = tensor.bytes.len() - 4;
                    tensor.bytes[last..].copy_from_slice(&value.to_le_bytes());
                }));
            }
        }
        damaged
    }
}

/// What `work` says is wrong; it must not panic, and must not succeed.
#[track_caller]
fn refused<T>(what: &str, work: impl FnOnce() -> Result<T, LearnError>) -> String {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Err(error)) => error.to_string(),
        Ok(Ok(_)) => panic!("{what}: accepted"),
        Err(_) => panic!("{what}: panicked"),
    }
}

#[test]
fn damaged_prompts_of_every_method_are_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    pictures(&data);
    let names = ["blue", "green", "red"].map(str::to_owned);
    let mut random = ChaCha8Rng::seed_from_u64(2);
    for (place, (method, model_name)) in methods().into_iter().enumerate() {
        let model = model(model_name);
        let settings = settings(&method, &data);
        let path = root.path().join(format!("run-{place}"));
        let folder = RunFolder::create(&path, &settings, false).unwrap();
        learn(&settings, &model, &folder, &()).unwrap();
        let file = path.join("prompt.safetensors");
        let whole = fs::read(&file).unwrap();
        let stored = Stored::read(&file);
        let open = || -> Result<(), LearnError> {
            let learned = Learned::open(&path, model.device())?;
            learned.predictor::<Classify>(&model, &names).map(drop)
        };
        open().unwrap();

        let mut damaged = stored.damaged();
        damaged.shuffle(&mut random);
        // Towers have many tensors that are alike.
        for (tensor, damaged) in damaged.into_iter().take(60) {
            damaged.write(&file);
            let what = format!("{} with damage to {tensor}", method.name());
            let error = refused(&what, open);
            assert!(error.contains("prompt.safetensors"), "{what}: {error}");
            let known = tensor.rsplit('/').next().unwrap();
            assert!(error.contains(known), "{what}: {error}");
        }

        // Another number of classes than the tensors have, other settings, another format.
        let mut fewer = stored.clone();
        fewer
            .metadata
            .insert("classnames".into(), "[\"blue\"]".into());
        let mut no_list = stored.clone();
        no_list.metadata.insert("classnames".into(), "blue".into());
        let mut newer = stored.clone();
        newer.metadata.insert("format_version".into(), "999".into());
        let mut unknown = stored.clone();
        unknown.metadata.insert("method".into(), "telepathy".into());
        for damaged in [&fewer, &no_list, &newer, &unknown] {
            let ignores_classes = !damaged.metadata["classnames"].starts_with("blue")
                && damaged.metadata["classnames"].len() < 10
                && stored
                    .tensors
                    .iter()
                    .all(|tensor| !tensor.shape.contains(&3));
            if ignores_classes {
                continue;
            }
            damaged.write(&file);
            let error = refused(method.name(), open);
            assert!(error.contains("prompt.safetensors"), "{error}");
        }
        for key in stored.metadata.keys() {
            if ["fingerprint", "format_version"].contains(&key.as_str()) {
                continue;
            }
            for value in ["-1", "1000000000000", "[]", ""] {
                // Imported prompts may have no class names.
                if key == "classnames" && value == "[]" {
                    continue;
                }
                let mut damaged = stored.clone();
                damaged.metadata.insert(key.clone(), value.into());
                damaged.write(&file);
                refused(&format!("{} with {key} = {value:?}", method.name()), open);
            }
        }

        // Whatever the bytes, there is no panic; a prompt that is opened all the same gives numbers.
        for _ in 0..40 {
            let mut bytes = whole.clone();
            if random.random_bool(0.5) {
                bytes.truncate(random.random_range(0..bytes.len()));
                fs::write(&file, &bytes).unwrap();
                refused(method.name(), open);
                continue;
            }
            let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let at = random.random_range(0..header);
            bytes[at] ^= 1 << random.random_range(0..8);
            fs::write(&file, &bytes).unwrap();
            let outcome = catch_unwind(AssertUnwindSafe(open));
            assert!(outcome.is_ok(), "{}: byte {at} panicked", method.name());
        }
    }
}

#[test]
fn damaged_states_of_every_method_are_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    pictures(&data);
    let mut random = ChaCha8Rng::seed_from_u64(3);
    for (place, (method, model_name)) in methods().into_iter().enumerate() {
        let model = model(model_name);
        let settings = settings(&method, &data);
        if settings.training.fit.epochs < 2 {
            continue;
        }
        let path = root.path().join(format!("run-{place}"));
        let folder = RunFolder::create(&path, &settings, false).unwrap();
        learn(&settings, &model, &folder, &Impatient(Cell::new(0))).unwrap_err();
        let file = path.join("resume/state.safetensors");
        let stored = Stored::read(&file);
        let mut damaged = stored.damaged();
        damaged.shuffle(&mut random);
        let mut too_far = stored.clone();
        too_far.metadata.insert("epochs_done".into(), "7".into());
        let damaged = damaged.into_iter().take(12);
        for (tensor, damaged) in damaged.chain([(String::new(), too_far)]) {
            damaged.write(&file);
            let what = format!("{} with damage to {tensor}", method.name());
            let error = refused(&what, || learn(&settings, &model, &folder, &()));
            assert!(error.contains("state.safetensors"), "{what}: {error}");
            let known = tensor.split_once('/').map_or("", |(_, name)| name);
            assert!(error.contains(known), "{what}: {error}");
        }
        stored.write(&file);
        learn(&settings, &model, &folder, &()).unwrap();
    }
}

/// Settings that no run can have, whoever wrote them.
#[test]
fn impossible_settings_are_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    pictures(&data);
    let model = model(CLIP);
    let zeroshot = AnyMethod::from(ZeroShotSettings {
        templates: "a {}.".into(),
    });
    let coop = AnyMethod::from(ContextLayout {
        length: 2,
        class_specific: false,
        position: Position::End,
        published_words: None,
    });
    let cases: [(&AnyMethod, &str, &str, &str); 8] = [
        (
            &coop,
            "kind = \"whole\"",
            "kind = \"drawn\"\ncount = 0",
            "views",
        ),
        (
            &coop,
            "kind = \"whole\"",
            "kind = \"all\"\ncount = 99999999999",
            "views",
        ),
        (&zeroshot, "epochs = 0", "epochs = 3", "epochs"),
        (&coop, "batch_size = 4", "batch_size = 0", "batch-size"),
        (&coop, "least_area = 8", "least_area = 0", "least-area"),
        (&coop, "learning_rate = 0.001", "learning_rate = nan", "lr"),
        (
            &coop,
            "context_length = 2",
            "context_length = 0",
            "context-length",
        ),
        (
            &coop,
            "format_version = 1",
            "format_version = 99",
            "format-version",
        ),
    ];
    for (place, (method, from, to, setting)) in cases.into_iter().enumerate() {
        let settings = settings(method, &data);
        let path = root.path().join(format!("run-{place}"));
        let folder = RunFolder::create(&path, &settings, false).unwrap();
        let file = path.join("run.toml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replace(from, to)).unwrap();
        let error = refused(to, || {
            let settings: Settings = folder.settings()?;
            learn(&settings, &model, &folder, &())
        });
        assert!(error.contains(setting), "{to}: {error}");
    }
}

/// A data set that only trains is learned from; where there is no test split, validation pictures are measured on.
#[test]
fn learning_without_anything_to_measure_on_is_a_success() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    pictures(&data);
    let model = model(CLIP);
    let method = AnyMethod::from(LinearProbeSettings { c: Some(1.0) });
    let settings = settings(&method, &data);
    let measured_on = |keep: &[data::Split], name: &str| {
        let mut dataset = data::open(&data, 1).unwrap();
        for (split, examples) in [
            (data::Split::Val, &mut dataset.val),
            (data::Split::Test, &mut dataset.test),
        ] {
            if !keep.contains(&split) {
                examples.clear();
            }
        }
        let path: PathBuf = root.path().join(name);
        let folder = RunFolder::create(&path, &settings, false).unwrap();
        let encoder = run::encoder(&settings, &model, None).unwrap();
        let outcome = run::learn(&settings, &dataset, &model, &encoder, &folder, &()).unwrap();
        assert!(folder.prompt_file().is_file());
        (
            outcome.result,
            fs::read_to_string(path.join("result.json")).unwrap(),
        )
    };
    let (result, text) = measured_on(&[], "alone");
    assert_eq!(result.accuracy, None);
    assert!(
        text.contains("\"accuracy\":null") && text.contains("unmeasured"),
        "{text}"
    );
    let (result, _) = measured_on(&[data::Split::Val], "val");
    assert!(result.accuracy.is_some() && result.split == data::Split::Val);
}
