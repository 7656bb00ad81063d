//! A method of one's own, through the public interface alone: context vectors that are a product of two small matrices.
//!
//! CoOp learns M context vectors of width d in front of every class name. Here they are A · B with A `[M, r]` and B `[r, d]`:
//! fewer parameters, which all vectors share. The program learns them on pictures that come with this repository, opens the
//! run again and classifies a picture:
//!
//! ```sh
//! cargo run --release -p contextune --example own_method
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};

use contextune::architecture::ModelConfig;
use contextune::burn::tensor::{Device, Tensor};
use contextune::data;
use contextune::method::text::coop::{CONTEXT, CoOp, ContextLayout, Position};
use contextune::method::{
    Beginning, Lesson, Method, MethodError, Needs, Recipe, RecipeName, SettingError,
};
use contextune::model::{Model, ModelOptions};
use contextune::parameters::{ExpectedTensor, Initial, Parameters, Size};
use contextune::run::{self, Learned, RunFolder, Settings, registry};
use contextune::task::{ClassFeatures, Classify, LearnedClassifier, Prompt, PromptError};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// A, `[M, r]`, and B, `[r, d]`.
const FACTORS: [&str; 2] = ["context.a", "context.b"];

/// The settings: they are kept in `run.toml` and in the prompt file, under these names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LowRankContext {
    /// Context vectors, M.
    context_length: usize,
    /// Columns of A and rows of B, r.
    rank: usize,
}

impl LowRankContext {
    /// Where the vectors stand: CoOp's layout, one context for all classes in front of their names.
    fn layout(&self) -> ContextLayout {
        ContextLayout {
            length: self.context_length,
            class_specific: false,
            position: Position::End,
            published_words: None,
        }
    }

    /// Shapes of A and B in front of a text tower of width d.
    fn shapes(&self, model: &Model) -> Result<[[usize; 2]; 2], MethodError> {
        let width = model.text_config()?.width;
        Ok([[self.context_length, self.rank], [self.rank, width]])
    }

    fn prompt(
        &self,
        model: &Model,
        class_names: &[String],
    ) -> Result<Box<LowRankPrompt>, MethodError> {
        let coop = CoOp::of_model(model, class_names, &self.layout())?;
        Ok(Box::new(LowRankPrompt { coop }))
    }
}

impl Method for LowRankContext {
    const NAME: &'static str = "low-rank-context";

    type Task = Classify;

    fn needs(&self, _model: &ModelConfig) -> Needs {
        Needs::FEATURES_AND_WORDS
    }

    fn check(&self, model: &ModelConfig) -> Result<(), SettingError> {
        match (1..=self.context_length).contains(&self.rank) {
            true => self.layout().check_length(model),
            false => Err(SettingError::new(
                "rank",
                format!("is {}; 1 to {} is possible", self.rank, self.context_length),
            )),
        }
    }

    fn tensors(&self, model: &Model, _classes: Size) -> Result<Vec<ExpectedTensor>, MethodError> {
        let both = FACTORS.into_iter().zip(self.shapes(model)?);
        Ok(both
            .map(|(name, shape)| ExpectedTensor::new(name, &shape))
            .collect())
    }

    fn begin(&self, lesson: &Lesson<'_, Classify>) -> Result<Beginning<Classify>, MethodError> {
        let mut random = ChaCha8Rng::seed_from_u64(lesson.seed);
        let mut parameters = Parameters::default();
        // The product has elements of about 0.02, as CoOp's vectors begin.
        let deviation = (0.02 / (self.rank as f32).sqrt()).sqrt();
        for (name, shape) in FACTORS.into_iter().zip(self.shapes(lesson.model)?) {
            let values = Initial::Normal(deviation).draw(shape.iter().product(), &mut random);
            parameters.insert_data(name, &shape, values, lesson.model.device());
        }
        Ok(Beginning {
            prompt: self.prompt(lesson.model, lesson.class_names)?,
            parameters,
        })
    }

    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        _parameters: &Parameters,
        stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt<Classify>>, MethodError> {
        Ok(match stored {
            // The prompt file holds the class features: no text is encoded.
            Some(features) => Box::new(ClassFeatures::new(features, model.logit_scale()?)),
            None => self.prompt(model, class_names)?,
        })
    }

    fn published(&self, shots: Option<usize>) -> Recipe {
        Recipe::full_batch(shots)
    }
}

/// CoOp whose context is a product.
#[derive(Debug)]
struct LowRankPrompt {
    coop: CoOp,
}

impl LearnedClassifier for LowRankPrompt {
    fn classifier(&self, parameters: &Parameters) -> Result<ClassFeatures, PromptError> {
        let [a, b] = FACTORS.map(|name| parameters.get::<2>(name));
        let mut context = Parameters::default();
        context.insert(CONTEXT, a?.matmul(b?)); // [M, d]
        let features = self.coop.text_features(&context)?; // [K, D]
        Ok(ClassFeatures::new(features, self.coop.logit_scale()))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    registry::register::<LowRankContext>()?;
    let device = Device::flex();
    let model = Model::open(None, ModelOptions::default(), &device, |_| ())?;
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/demo/animal-silhouettes");
    let dataset = data::open(&place, 1)?;

    let method = LowRankContext {
        context_length: 16,
        rank: 4,
    };
    let settings = Settings::new(place, method, Some(16), RecipeName::Fast);
    let path: PathBuf = std::env::temp_dir().join(format!("own-method-{}", std::process::id()));
    let folder = RunFolder::create(&path, &settings, false)?;
    let encoder = run::encoder(&settings, &model, None)?;
    let outcome = run::learn(&settings, &dataset, &model, &encoder, &folder, &())?;
    let accuracy = outcome.result.accuracy.ok_or("nothing was measured")?;
    println!(
        "{}: {:.1} % of the test pictures, chance is {:.1} %, {} trainable parameters",
        outcome.result.method,
        100.0 * accuracy,
        100.0 / dataset.class_names.len() as f32,
        outcome.result.parameters
    );

    // Whoever opens the run needs nothing but the folder and the registry.
    let learned = Learned::open(&path, &device)?;
    learned.check_model(&model)?;
    let predictor = learned.any_predictor(&model, learned.class_names()?)?;
    let picture = dataset.root.join("bear/00031.png");
    let (_, inputs) = encoder.pictures(&[picture], &())?;
    for answer in predictor.all_answers(&inputs, 3)? {
        println!("a bear: {answer}");
    }
    std::fs::remove_dir_all(&path)?;

    // Three times chance: what nothing was learned of does not get there.
    match accuracy > 0.3 {
        true => Ok(()),
        false => Err("it learned nothing".into()),
    }
}
