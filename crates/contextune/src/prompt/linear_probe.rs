//! The linear probe: logistic regression on image features that are not of unit length, as scikit-learn fits it, with the
//! search for its strength of CoOp's authors (Radford et al. 2021, §3.2; KaiyangZhou/CoOp, `lpclip/linear_probe.py`).

use argmin::core::{CostFunction, Executor, Gradient, State};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use burn::tensor::{DType, Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};

use super::{Beginning, Learn, Lesson, MethodError, Prompt, Recipe};
use crate::evaluate::Accuracy;
use crate::features::LabelledFeatures;
use crate::model::Model;
use crate::train::{Parameters, TrainError};

/// `[K, D]`
const WEIGHT: &str = "head.weight";
/// `[K]`
const BIAS: &str = "head.bias";
/// The C of openai/CLIP's README, for data without validation pictures.
const PUBLISHED_C: f64 = 0.316;
/// Strengths tried first, and how often the interval around the best is halved after that.
const SEARCHED: [f64; 7] = [1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6];
const HALVINGS: usize = 8;
/// As scikit-learn's `LogisticRegression(max_iter=1000)`.
const MOST_ITERATIONS: u64 = 1000;
const GRADIENT_TOLERANCE: f64 = 1e-4;
/// Steps that L-BFGS remembers.
const MEMORY: usize = 10;

/// A linear classifier instead of the text tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinearProbeSettings {
    /// scikit-learn's C, the inverse strength of the penalty on the weights; absent: searched on the validation pictures,
    /// or 0.316 if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub c: Option<f64>,
}

impl Learn for LinearProbeSettings {
    fn begin(&self, lesson: &Lesson<'_>) -> Result<Beginning, MethodError> {
        let classes = lesson.class_names.len();
        let problem = Regression::new(lesson.train, classes);
        let solution = match (self.c, lesson.val) {
            (Some(c), _) => problem.fit(c)?,
            (None, Some(val)) => search(&problem, val)?,
            (None, None) => problem.fit(PUBLISHED_C)?,
        };
        let (weight, bias) = solution.split_at(classes * lesson.train.width());
        let single = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
        let mut parameters = Parameters::default();
        let device = lesson.model.device();
        let shape = [classes, lesson.train.width()];
        parameters.insert_data(WEIGHT, &shape, single(weight), device);
        parameters.insert_data(BIAS, &[classes], single(bias), device);
        Ok(Beginning {
            prompt: Box::new(LinearProbe),
            parameters,
        })
    }

    fn open(
        &self,
        _model: &Model,
        _class_names: &[String],
        _parameters: &Parameters,
        _stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt>, MethodError> {
        Ok(Box::new(LinearProbe))
    }

    fn published(&self, _shots: Option<usize>) -> Recipe {
        Recipe::without_steps()
    }

    fn uses_validation(&self) -> bool {
        true
    }

    fn takes_other_classes(&self) -> bool {
        false
    }
}

/// x Wᵀ + b
#[derive(Debug)]
struct LinearProbe;

impl Prompt for LinearProbe {
    fn logits(
        &self,
        parameters: &Parameters,
        image_features: Tensor<2>,
    ) -> Result<Tensor<2>, TrainError> {
        let weight = parameters.get::<2>(WEIGHT)?;
        let bias = parameters.get::<1>(BIAS)?;
        Ok(image_features.matmul(weight.transpose()) + bias.unsqueeze())
    }
}

/// Multinomial logistic regression: mean cross-entropy + ‖W‖² / (2 C N), the bias without a penalty, in 64-bit floats.
#[derive(Clone, Debug)]
pub struct Regression {
    /// `[N, D]`
    features: Tensor<2>,
    /// `[N, K]`
    targets: Tensor<2>,
    classes: usize,
    width: usize,
}

/// [`Regression`] with its penalty.
#[derive(Clone)]
struct Penalised {
    regression: Regression,
    /// 1 / (C N)
    penalty: f64,
}

impl Regression {
    /// The first view of every picture, in `classes` classes.
    pub fn new(examples: &LabelledFeatures, classes: usize) -> Self {
        let device = Default::default();
        let features = examples.first_views(&device).cast(DType::F64);
        let mut targets = vec![0.0f64; examples.pictures() * classes];
        for (picture, &label) in examples.labels().iter().enumerate() {
            targets[picture * classes + label] = 1.0;
        }
        let targets = TensorData::new(targets, [examples.pictures(), classes]);
        Self {
            targets: Tensor::from_data(targets, (&device, DType::F64)),
            features,
            classes,
            width: examples.width(),
        }
    }

    /// Weights `[K, D]` and then biases `[K]`, row-major.
    ///
    /// # Errors
    /// The solver finds no way down.
    pub fn fit(&self, c: f64) -> Result<Vec<f64>, MethodError> {
        let examples = self.targets.dims()[0] as f64;
        // Of two classes scikit-learn fits one weight vector w; ours are ±w/2, whose penalty counts half.
        let halves = if self.classes == 2 { 2.0 } else { 1.0 };
        let problem = Penalised {
            regression: self.clone(),
            penalty: halves / (c * examples),
        };
        let failed = |error: argmin::core::Error| MethodError::Solver(error.to_string());
        let line_search = MoreThuenteLineSearch::new();
        let solver = LBFGS::new(line_search, MEMORY)
            .with_tolerance_grad(GRADIENT_TOLERANCE)
            .map_err(failed)?;
        let start = vec![0.0f64; self.classes * (self.width + 1)];
        let result = Executor::new(problem, solver)
            .configure(|state| state.param(start).max_iters(MOST_ITERATIONS))
            .run()
            .map_err(failed)?;
        let best = result.state().get_best_param().cloned();
        best.ok_or_else(|| MethodError::Solver("it did not take a single step".into()))
    }

    fn unpack(&self, solution: &[f64]) -> (Tensor<2>, Tensor<2>) {
        let device = self.features.device();
        let (weight, bias) = solution.split_at(self.classes * self.width);
        let tensor = |values: &[f64], shape: [usize; 2]| {
            Tensor::from_data(
                TensorData::new(values.to_vec(), shape),
                (&device, DType::F64),
            )
        };
        (
            tensor(weight, [self.classes, self.width]),
            tensor(bias, [1, self.classes]),
        )
    }

    /// log softmax of the logits, `[N, K]`.
    fn log_likelihoods(&self, weight: Tensor<2>, bias: Tensor<2>) -> Tensor<2> {
        activation::log_softmax(self.features.clone().matmul(weight.transpose()) + bias, 1)
    }
}

impl CostFunction for Penalised {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, solution: &Vec<f64>) -> Result<f64, argmin::core::Error> {
        let (weight, bias) = self.regression.unpack(solution);
        let weights = weight.clone().square().sum();
        let likelihoods = self.regression.log_likelihoods(weight, bias);
        let examples = likelihoods.dims()[0] as f64;
        let entropy: f64 = (likelihoods * self.regression.targets.clone())
            .sum()
            .into_scalar();
        let weights: f64 = weights.into_scalar();
        Ok(-entropy / examples + 0.5 * self.penalty * weights)
    }
}

impl Gradient for Penalised {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, solution: &Vec<f64>) -> Result<Vec<f64>, argmin::core::Error> {
        let (weight, bias) = self.regression.unpack(solution);
        let likelihoods = self.regression.log_likelihoods(weight.clone(), bias);
        let examples = likelihoods.dims()[0] as f64;
        let error = (likelihoods.exp() - self.regression.targets.clone()) / examples; // [N, K]
        let by_weight = error
            .clone()
            .transpose()
            .matmul(self.regression.features.clone())
            + weight * self.penalty; // [K, D]
        let by_bias = error.sum_dim(0); // [1, K]
        let values = |tensor: Tensor<2>| tensor.into_data().try_to_vec::<f64>();
        let mut gradient =
            values(by_weight).map_err(|error| argmin::core::Error::msg(format!("{error:?}")))?;
        gradient.extend(
            values(by_bias).map_err(|error| argmin::core::Error::msg(format!("{error:?}")))?,
        );
        Ok(gradient)
    }
}

/// The solution for the C that the official search ends with on the validation pictures.
fn search(problem: &Regression, val: &LabelledFeatures) -> Result<Vec<f64>, MethodError> {
    let measured = |c: f64| -> Result<(usize, Vec<f64>), MethodError> {
        let solution = problem.fit(c)?;
        let (weight, bias) = problem.unpack(&solution);
        let features = val.first_views(&Default::default()).cast(DType::F64);
        let logits: Tensor<2> = features.matmul(weight.transpose()) + bias;
        let logits = logits
            .cast(DType::F32)
            .into_data()
            .try_to_vec::<f32>()
            .unwrap_or_default();
        let correct = Accuracy::of(&logits, val.labels(), problem.classes).correct;
        Ok((correct, solution))
    };
    let mut peak = (0, SEARCHED[0]);
    for (index, c) in SEARCHED.into_iter().enumerate() {
        let (correct, _) = measured(c)?;
        if index == 0 || correct > peak.0 {
            peak = (correct, c);
        }
    }
    let (mut left, mut right) = (peak.1.log10() - 1.0, peak.1.log10() + 1.0);
    let mut last = Vec::new();
    for _ in 0..HALVINGS {
        let (at_left, solution_left) = measured(10f64.powf(left))?;
        let (at_right, solution_right) = measured(10f64.powf(right))?;
        let middle = 0.5 * (left + right);
        if at_left < at_right {
            (left, last) = (middle, solution_right);
        } else {
            (right, last) = (middle, solution_left);
        }
    }
    Ok(last)
}
