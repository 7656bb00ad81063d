//! The tensors that something learned must have: one table, checked in one place.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::{ParameterError, Parameters};

/// One row of a table of tensors: a name and the shape that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedTensor {
    /// The name in prompt files.
    pub name: Cow<'static, str>,
    /// The size of each axis.
    pub shape: Vec<Size>,
}

/// The size of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// What the model, the classes and the settings imply.
    Exactly(usize),
    /// At least one, and the same wherever this letter stands in the table: known from the data alone.
    Any(char),
}

impl ExpectedTensor {
    /// A tensor whose shape is known.
    pub fn new(name: impl Into<Cow<'static, str>>, shape: &[usize]) -> Self {
        Self {
            name: name.into(),
            shape: shape.iter().copied().map(Size::Exactly).collect(),
        }
    }

    /// A tensor some of whose sizes the data decide.
    pub fn sized(name: impl Into<Cow<'static, str>>, shape: &[Size]) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(size) => write!(formatter, "{size}"),
            Self::Any(letter) => write!(formatter, "{letter}"),
        }
    }
}

impl Parameters {
    /// Checks that these are the tensors of `table`, all of them and no others, of finite numbers.
    ///
    /// # Errors
    /// The first tensor that is missing, of another shape, not finite, or not in the table.
    pub fn check(&self, table: &[ExpectedTensor]) -> Result<(), ParameterError> {
        // The size behind each letter, and the tensor that decides it.
        let mut decided: BTreeMap<char, (usize, &str)> = BTreeMap::new();
        for ExpectedTensor { name, shape } in table {
            let found = self.require_any(name)?;
            let fits = found.len() == shape.len()
                && found.iter().zip(shape).all(|(&found, size)| match *size {
                    Size::Exactly(size) => found == size,
                    Size::Any(letter) => {
                        found > 0 && decided.entry(letter).or_insert((found, name)).0 == found
                    }
                });
            if !fits {
                let sizes: Vec<String> = shape
                    .iter()
                    .map(|size| match size {
                        Size::Any(letter) => match decided.get(letter) {
                            Some((size, other)) if other != name => {
                                format!("{size} as in {other}")
                            }
                            _ => size.to_string(),
                        },
                        Size::Exactly(_) => size.to_string(),
                    })
                    .collect();
                return Err(ParameterError::Shape {
                    name: name.to_string(),
                    found: found.to_vec(),
                    expected: format!("[{}]", sizes.join(", ")),
                });
            }
        }
        let is_expected = |name: &str| table.iter().any(|expected| expected.name == name);
        if let Some(name) = self.names().find(|name| !is_expected(name)) {
            return Err(ParameterError::Unexpected { name: name.into() });
        }
        self.check_finite()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn a_table_refuses_what_is_not_in_it_and_sizes_that_disagree() {
        let device = Device::flex();
        let filled = |name: &str, shape: &[usize], parameters: &mut Parameters| {
            let elements = shape.iter().product();
            parameters.insert_data(name, shape, vec![1.0; elements], &device);
        };
        let table = [
            ExpectedTensor::sized("keys", &[Size::Any('N'), Size::Exactly(3)]),
            ExpectedTensor::sized("values", &[Size::Any('N'), Size::Exactly(2)]),
        ];
        let mut parameters = Parameters::default();
        filled("keys", &[4, 3], &mut parameters);
        assert!(matches!(
            parameters.check(&table),
            Err(ParameterError::Missing { name }) if name == "values"
        ));
        filled("values", &[5, 2], &mut parameters);
        assert!(matches!(
            parameters.check(&table),
            Err(ParameterError::Shape { name, expected, .. })
                if name == "values" && expected == "[4 as in keys, 2]"
        ));
        filled("values", &[4, 2], &mut parameters);
        assert!(parameters.check(&table).is_ok());
        filled("other", &[1], &mut parameters);
        assert!(matches!(
            parameters.check(&table),
            Err(ParameterError::Unexpected { name }) if name == "other"
        ));
    }
}
