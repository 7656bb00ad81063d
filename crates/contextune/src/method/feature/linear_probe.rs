//! The linear probe: logistic regression on image features that are not of unit length, as scikit-learn fits it, with the
//! search for its strength of CoOp's authors (Radford et al. 2021, §3.2; KaiyangZhou/CoOp, `lpclip/linear_probe.py`).

use argmin::core::{CostFunction, Executor, Gradient, State, TerminationReason};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use burn::tensor::{DType, Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};

use crate::architecture::ModelConfig;
use crate::evaluate::Accuracy;
use crate::input::{Examples, InputError, Inputs};
use crate::method::{Beginning, Lesson, Method, MethodError, Needs, Recipe, SettingError};
use crate::model::Model;
use crate::objective::linear_head::{self, BIAS, WEIGHT};
use crate::parameters::{ExpectedTensor, Parameters, Size, elements_of};
use crate::task::{Classify, Prompt, PromptError};

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

impl Method for LinearProbeSettings {
    const NAME: &'static str = "linear-probe";

    type Task = Classify;

    fn needs(&self, _model: &ModelConfig) -> Needs {
        Needs::FEATURES
    }

    fn check(&self, _model: &ModelConfig) -> Result<(), SettingError> {
        match self.c {
            Some(c) if !(c > 0.0 && c.is_finite()) => Err(SettingError::new(
                "c",
                format!("is {c}; a positive number is needed"),
            )),
            _ => Ok(()),
        }
    }

    fn tensors(&self, model: &Model, classes: Size) -> Result<Vec<ExpectedTensor>, MethodError> {
        Ok(linear_head::tensors(
            classes,
            model.config().embedding_width,
        ))
    }

    fn begin(&self, lesson: &Lesson<'_, Classify>) -> Result<Beginning<Classify>, MethodError> {
        let classes = lesson.class_names.len();
        let problem = Regression::new(lesson.train, classes)?;
        let solution = match (self.c, lesson.val) {
            (Some(c), _) => problem.fit(c)?,
            (None, Some(val)) => search(&problem, val)?,
            (None, None) => problem.fit(PUBLISHED_C)?,
        };
        let (weight, bias) = solution.split_at(classes * lesson.train.inputs.width());
        let single = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
        let mut parameters = Parameters::default();
        let device = lesson.model.device();
        let shape = [classes, lesson.train.inputs.width()];
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
    ) -> Result<Box<dyn Prompt<Classify>>, MethodError> {
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

impl Prompt<Classify> for LinearProbe {
    fn forward(&self, parameters: &Parameters, inputs: &Inputs) -> Result<Tensor<2>, PromptError> {
        Ok(linear_head::logits(parameters, inputs.features()?)?)
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
    ///
    /// # Errors
    /// The inputs are pixels.
    pub fn new(examples: &Examples<usize>, classes: usize) -> Result<Self, InputError> {
        let device = Default::default();
        let features = examples.inputs.first_features(&device)?.cast(DType::F64);
        let mut targets = vec![0.0f64; examples.count() * classes];
        for (picture, &label) in examples.targets.iter().enumerate() {
            targets[picture * classes + label] = 1.0;
        }
        let targets = TensorData::new(targets, [examples.count(), classes]);
        Ok(Self {
            targets: Tensor::from_data(targets, (&device, DType::F64)),
            features,
            classes,
            width: examples.inputs.width(),
        })
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
        minimise(problem, self.classes * (self.width + 1))
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

/// L-BFGS from zero to the lowest point that it finds.
fn minimise<P>(problem: P, unknowns: usize) -> Result<Vec<f64>, MethodError>
where
    P: CostFunction<Param = Vec<f64>, Output = f64>
        + Gradient<Param = Vec<f64>, Gradient = Vec<f64>>,
{
    let failed = |error: argmin::core::Error| MethodError::Solver(error.to_string());
    let solver = LBFGS::new(MoreThuenteLineSearch::new(), MEMORY)
        .with_tolerance_grad(GRADIENT_TOLERANCE)
        .map_err(failed)?;
    let start = vec![0.0f64; unknowns];
    let result = Executor::new(problem, solver)
        .configure(|state| state.param(start.clone()).max_iters(MOST_ITERATIONS))
        .run()
        .map_err(failed)?;
    let state = result.state();
    let best = state.get_best_param().unwrap_or(&start);
    match state.get_termination_reason() {
        // A line search that fails on the way ends it like too many iterations; one that fails at once leaves nothing.
        Some(TerminationReason::SolverExit(reason)) if *best == start => {
            Err(MethodError::Solver(reason.clone()))
        }
        _ => Ok(best.clone()),
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
        let cost = -entropy / examples + 0.5 * self.penalty * weights;
        // The line search would go on with it for ever.
        match cost.is_finite() {
            true => Ok(cost),
            false => Err(argmin::core::Error::msg("its loss is no finite number")),
        }
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
fn search(problem: &Regression, val: &Examples<usize>) -> Result<Vec<f64>, MethodError> {
    let measured = |c: f64| -> Result<(usize, Vec<f64>), MethodError> {
        let solution = problem.fit(c)?;
        let (weight, bias) = problem.unpack(&solution);
        let features = val
            .inputs
            .first_features(&Default::default())?
            .cast(DType::F64);
        let logits: Tensor<2> = features.matmul(weight.transpose()) + bias;
        let logits = elements_of("logits", logits.cast(DType::F32))?;
        let correct = Accuracy::of(&logits, &val.targets, problem.classes).correct;
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    use super::*;

    /// Classes that overlap a little more than they can be told apart.
    fn examples(pictures: usize, width: usize, classes: usize, scale: f32) -> Examples<usize> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut normal = || -> f32 { StandardNormal.sample(&mut random) };
        let centres: Vec<f32> = (0..classes * width).map(|_| 0.2 * normal()).collect();
        let labels: Vec<usize> = (0..pictures).map(|picture| picture % classes).collect();
        let features: Vec<f32> = labels
            .iter()
            .flat_map(|label| &centres[label * width..(label + 1) * width])
            .map(|centre| scale * (centre + normal()))
            .collect();
        Examples::of_features(&features, width, 1, labels)
    }

    /// The largest strengths leave almost no penalty, the smallest almost nothing else.
    #[test]
    fn the_solver_reaches_a_minimum_at_every_strength_that_is_searched() {
        let (pictures, width, classes) = (100, 64, 10);
        for scale in [0.05, 1.0, 30.0] {
            let problem =
                Regression::new(&examples(pictures, width, classes, scale), classes).unwrap();
            for c in SEARCHED {
                let solution = problem.fit(c).unwrap();
                let penalised = Penalised {
                    regression: problem.clone(),
                    penalty: 1.0 / (c * pictures as f64),
                };
                let gradient = penalised.gradient(&solution).unwrap();
                let length = gradient.iter().map(|value| value * value).sum::<f64>();
                assert!(
                    length.sqrt() < GRADIENT_TOLERANCE,
                    "scale {scale}, C {c}: {length}"
                );
            }
        }
    }

    #[test]
    fn features_that_are_not_finite_are_an_error() {
        let features = Examples::of_features(&[1.0, f32::INFINITY, 2.0], 1, 1, vec![0, 1, 0]);
        let outcome = Regression::new(&features, 2).unwrap().fit(1.0);
        assert!(matches!(outcome, Err(MethodError::Solver(_))));
    }

    /// A bowl that can be looked at so many times.
    struct Bowl {
        looks: Cell<usize>,
    }

    const UNKNOWNS: usize = 20;

    fn height(point: &[f64]) -> f64 {
        let slopes = (1..).map(f64::from);
        let squares = point.iter().zip(slopes);
        squares.map(|(x, slope)| slope * (x - 1.0).powi(2)).sum()
    }

    impl CostFunction for Bowl {
        type Param = Vec<f64>;
        type Output = f64;

        fn cost(&self, point: &Vec<f64>) -> Result<f64, argmin::core::Error> {
            let looks = self.looks.get().checked_sub(1);
            self.looks
                .set(looks.ok_or_else(|| argmin::core::Error::msg("no more"))?);
            Ok(height(point))
        }
    }

    impl Gradient for Bowl {
        type Param = Vec<f64>;
        type Gradient = Vec<f64>;

        fn gradient(&self, point: &Vec<f64>) -> Result<Vec<f64>, argmin::core::Error> {
            let slopes = (1..).map(f64::from);
            let both = point.iter().zip(slopes);
            Ok(both.map(|(x, slope)| 2.0 * slope * (x - 1.0)).collect())
        }
    }

    #[test]
    fn a_line_search_that_fails_leaves_the_best_point_if_there_is_one() {
        let after = |looks: usize| {
            let looks = Cell::new(looks);
            minimise(Bowl { looks }, UNKNOWNS)
        };
        let minimum = after(1000).unwrap();
        assert!(height(&minimum) < 1e-6);
        let halfway = height(&after(12).unwrap());
        assert!(1e-6 < halfway && halfway < 0.5 * height(&[0.0; UNKNOWNS]));
        for at_once in [0, 1] {
            assert!(matches!(after(at_once), Err(MethodError::Solver(_))));
        }
    }
}
