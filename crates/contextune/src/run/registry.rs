//! All methods by name: those of this library, one line each, and those that a program adds with [`register`].

use std::any::TypeId;
use std::sync::{PoisonError, RwLock};

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::any::AnyMethod;
use crate::format::MethodRecord;
use crate::method::feature::clip_adapter::ClipAdapterSettings;
use crate::method::feature::linear_probe::LinearProbeSettings;
use crate::method::feature::taskres::TaskResSettings;
use crate::method::feature::text_tuning::{TextBiasSettings, TextTransformSettings};
use crate::method::feature::tip_adapter::{TipAdapterFSettings, TipAdapterSettings};
use crate::method::image::finetune::FinetuneSettings;
use crate::method::image::image_encoder::ImageEncoderSettings;
use crate::method::image::pixel::PixelSettings;
use crate::method::image::reprogram::ReprogramSettings;
use crate::method::image::vpt::VptSettings;
use crate::method::text::cocoop::CoCoOpSettings;
use crate::method::text::coop::ContextLayout;
use crate::method::text::kgcoop::KgCoOpSettings;
use crate::method::text::prograd::ProGradSettings;
use crate::method::text::zeroshot::ZeroShotSettings;
use crate::method::{Method, MethodError};

/// The methods of this library.
const METHODS: &[Entry] = &[
    Entry::of::<ZeroShotSettings>(),
    Entry::of::<LinearProbeSettings>(),
    Entry::of::<ContextLayout>(),
    Entry::of::<CoCoOpSettings>(),
    Entry::of::<KgCoOpSettings>(),
    Entry::of::<ProGradSettings>(),
    Entry::of::<ClipAdapterSettings>(),
    Entry::of::<TipAdapterSettings>(),
    Entry::of::<TipAdapterFSettings>(),
    Entry::of::<TaskResSettings>(),
    Entry::of::<TextTransformSettings>(),
    Entry::of::<TextBiasSettings>(),
    Entry::of::<ImageEncoderSettings>(),
    Entry::of::<VptSettings>(),
    Entry::of::<PixelSettings>(),
    Entry::of::<ReprogramSettings>(),
    Entry::of::<FinetuneSettings>(),
];

/// Methods that programs have added.
static ADDED: RwLock<Vec<Entry>> = RwLock::new(Vec::new());

/// A method by name.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    name: &'static str,
    id: fn() -> TypeId,
    read: fn(Value) -> Result<AnyMethod, serde_json::Error>,
}

/// Two methods of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is a method {name} already: give this one another name")]
pub struct NameTaken {
    /// The name.
    pub name: &'static str,
}

impl Entry {
    const fn of<M: Method>() -> Self {
        Self {
            name: M::NAME,
            id: TypeId::of::<M>,
            read: |settings| Ok(serde_json::from_value::<M>(settings)?.into()),
        }
    }

    /// Returns the method's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Reads the method's settings.
    ///
    /// # Errors
    /// Settings that are missing or make no sense.
    pub fn read(&self, settings: Value) -> Result<AnyMethod, serde_json::Error> {
        (self.read)(settings)
    }
}

/// Adds a method of another crate, so that runs of it can be opened; call it before the first of them is. To add the same
/// method again does nothing.
///
/// # Errors
/// Another method has the name.
pub fn register<M: Method>() -> Result<(), NameTaken> {
    let entry = Entry::of::<M>();
    let mut added = ADDED.write().unwrap_or_else(PoisonError::into_inner);
    let name = entry.name;
    match METHODS
        .iter()
        .chain(&*added)
        .find(|known| known.name == name)
    {
        Some(known) if (known.id)() == (entry.id)() => Ok(()),
        Some(_) => Err(NameTaken { name }),
        None => {
            added.push(entry);
            Ok(())
        }
    }
}

/// Returns every method: those of this library first.
pub fn entries() -> Vec<Entry> {
    let added = ADDED.read().unwrap_or_else(PoisonError::into_inner);
    METHODS.iter().chain(&*added).copied().collect()
}

/// Returns the method of this name.
pub fn find(name: &str) -> Option<Entry> {
    entries().into_iter().find(|entry| entry.name == name)
}

/// Returns the names of all methods.
pub fn names() -> Vec<&'static str> {
    entries().iter().map(Entry::name).collect()
}

impl AnyMethod {
    /// Opens a method that a file keeps.
    ///
    /// # Errors
    /// [`MethodError::UnknownMethod`]: a method that is not in the registry, settings that are missing or make no sense.
    pub fn from_record(record: &MethodRecord) -> Result<Self, MethodError> {
        Self::read(&record.name, record.settings.clone())
    }

    fn read(name: &str, settings: Map<String, Value>) -> Result<Self, MethodError> {
        let unknown = |problem: String| MethodError::UnknownMethod {
            method: name.to_owned(),
            problem,
        };
        let entry =
            find(name).ok_or_else(|| unknown(format!("known are {}", names().join(", "))))?;
        entry
            .read(Value::Object(settings))
            .map_err(|error| unknown(error.to_string()))
    }
}

/// Settings as JSON; the error names one that is not a finite number.
fn json(settings: toml::Table) -> Result<Map<String, Value>, String> {
    let entry = |(name, value): (String, toml::Value)| {
        let value = match value {
            toml::Value::Float(number) if !number.is_finite() => {
                return Err(format!("{name} is {number}, not a finite number"));
            }
            toml::Value::Table(table) => Value::Object(json(table)?),
            value => serde_json::to_value(value).map_err(|error| format!("{name}: {error}"))?,
        };
        Ok((name, value))
    };
    settings.into_iter().map(entry).collect()
}

impl<'de> Deserialize<'de> for AnyMethod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        // JSON has no word for a number that is not finite: it would be taken for a setting that is absent.
        let settings = toml::Table::deserialize(deserializer)?;
        let mut settings = json(settings).map_err(D::Error::custom)?;
        match settings.remove("name") {
            Some(Value::String(name)) => Self::read(&name, settings).map_err(D::Error::custom),
            _ => Err(D::Error::missing_field("name")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::text::coop::Position;

    #[test]
    fn names_are_unique_and_an_unknown_method_is_told_the_known_ones() {
        let mut names = names();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METHODS.len());
        let record = MethodRecord {
            name: "telepathy".to_owned(),
            settings: Map::new(),
        };
        let error = AnyMethod::from_record(&record).unwrap_err().to_string();
        assert!(
            error.contains("telepathy") && error.contains("coop"),
            "{error}"
        );
        assert_eq!(register::<ContextLayout>(), Ok(()));
    }

    #[test]
    fn settings_survive_both_kinds_of_file() {
        let method: AnyMethod = ContextLayout {
            length: 4,
            class_specific: true,
            position: Position::Middle,
            published_words: None,
        }
        .into();
        #[derive(serde::Serialize, serde::Deserialize)]
        struct File {
            method: AnyMethod,
        }
        let text = toml::to_string(&File {
            method: method.clone(),
        })
        .unwrap();
        let expected = "[method]\nname = \"coop\"\ncontext_length = 4\nclass_specific = true\nposition = \"middle\"\n";
        assert_eq!(text, expected);
        assert_eq!(toml::from_str::<File>(&text).unwrap().method, method);
        let record = method.record().unwrap();
        assert_eq!(AnyMethod::from_record(&record).unwrap(), method);
    }
}
