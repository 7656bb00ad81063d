//! Errors as the terminal shows them: what went wrong, in the words of whoever found it, and what to type instead.
//!
//! The library says what is wrong and knows no command line. What an option or a command can do about it stands here, in
//! [`advice`].

use std::error::Error;
use std::iter;

use contextune::data::DataError;
use contextune::input::InputError;
use contextune::method::{MethodError, SettingError};
use contextune::model::ModelError;
use contextune::run::import::ImportError;
use contextune::run::{LearnError, RunError};
use contextune_report::ReportError;
use contextune_server::ShelfError;

/// The error with its causes, without those that it quotes itself, and with what can be done about it.
pub fn text(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    for link in error.chain() {
        for error in iter::successors(Some(link), |error| wrapped(*error)) {
            if let Some(setting) = error.downcast_ref::<SettingError>() {
                // On the command line a setting is the option of its name.
                let said = setting.to_string();
                text = text.replacen(&said, &format!("--{said}"), 1);
            }
            if let Some(advice) = advice(error) {
                text = with(text, &advice);
            }
        }
    }
    text
}

/// `text` and what to do, unless it says so itself or names the same options.
fn with(text: String, advice: &str) -> String {
    let is_letter = |letter: char| letter.is_alphanumeric() || letter == '-';
    let mut options = advice
        .split(|letter| !is_letter(letter))
        .filter(|word| word.starts_with("--"))
        .peekable();
    let names_options = options.peek().is_some() && options.all(|option| text.contains(option));
    match names_options || text.contains(advice) {
        true => text,
        false => format!("{text}: {advice}"),
    }
}

/// What to do on the command line about an error of the library, if there is something.
fn advice(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref() {
        return match error {
            RunError::Exists { .. } => {
                Some("choose another folder with --out, or replace it with --force".into())
            }
            RunError::Unfinished { path } => Some(format!(
                "finish it with `contextune resume {}`",
                path.display()
            )),
            RunError::NoClasses { path } => Some(format!(
                "import it again with --classes, or measure it on the classes of a data set with `contextune eval {} --data`",
                path.display()
            )),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            LearnError::Stopped { run, .. } => {
                Some(format!("go on with: contextune resume {}", run.display()))
            }
            LearnError::TooLarge { .. } => Some(
                "use fewer pictures in a step (--batch-size) or a shorter prompt (--tokens)".into(),
            ),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            InputError::Unreadable(_) => Some("without --strict it is left out".into()),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            ModelError::NoClassifier { .. } => Some(
                "use a model that has one, or for a CLIP the words of the classes (--target words)"
                    .into(),
            ),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            MethodError::OtherClasses { .. } => Some(
                "contexts for any classes are those of coop without --class-specific, cocoop, kgcoop and prograd"
                    .into(),
            ),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            ReportError::Unfinished { path } => {
                Some(format!("go on with `contextune resume {}`", path.display()))
            }
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            ImportError::Width { .. } | ImportError::MetaNet { .. } => {
                Some("pass the model that it was learned with to --model".into())
            }
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            DataError::MissingEntry { .. } => {
                Some("write one with `contextune encode --data`".into())
            }
            _ => None,
        };
    }
    None
}

/// The error that one of the library's errors speaks for: a chain of causes passes over those that only pass on.
fn wrapped<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    if let Some(error) = error.downcast_ref() {
        return match error {
            LearnError::Run(error) => Some(error),
            LearnError::Data(error) => Some(error),
            LearnError::Model(error) => Some(error),
            LearnError::NoTraining(error) | LearnError::Inputs(error) => Some(error),
            LearnError::Method(error) => Some(error),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            ReportError::Run(error) => Some(error),
            ReportError::Learned(error) => Some(error),
            ReportError::Data(error) => Some(error),
            ReportError::Inputs(error) => Some(error),
            ReportError::Model(error) => Some(error),
            ReportError::Method(error) => Some(error),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            ImportError::Method(error) => Some(error),
            ImportError::Model(error) => Some(error),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            ShelfError::Learned(error) => Some(error),
            ShelfError::Model(error) => Some(error),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            InputError::Model(error) => Some(error),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            MethodError::Model(error) => Some(error),
            MethodError::Setting(error) => Some(error),
            _ => None,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use anyhow::anyhow;

    use super::*;

    fn unfinished() -> RunError {
        let path = PathBuf::from("runs/photos");
        RunError::Unfinished { path }
    }

    #[test]
    fn causes_that_the_error_quotes_are_not_said_again() {
        let error = anyhow!("cause").context("told: cause").context("what");
        assert_eq!(text(&error), "what: told: cause");
    }

    /// However deep the error lies, what to do about it is said, and once.
    #[test]
    fn what_to_do_is_said_once() {
        let wrapped = ShelfError::from(LearnError::from(unfinished()));
        for error in [anyhow!(unfinished()), anyhow!(wrapped)] {
            let text = text(&error.context("the run"));
            let count = text.matches("contextune resume runs/photos").count();
            assert_eq!(count, 1, "{text}");
        }
    }

    #[test]
    fn a_setting_is_the_option_of_its_name() {
        let setting = SettingError::new("tokens", "is 0; 1 to 4096 is expected");
        let wrapped = LearnError::from(MethodError::from(setting.clone()));
        for error in [anyhow!(setting), anyhow!(wrapped)] {
            assert_eq!(text(&error), "--tokens is 0; 1 to 4096 is expected");
        }
    }

    #[test]
    fn advice_stands_behind_an_error_that_does_not_give_it() {
        let advice = "choose another folder with --out, or replace it with --force";
        let bare = "runs/photos exists already";
        let whole = format!("{bare}: {advice}");
        assert_eq!(with(bare.into(), advice), whole);
        assert_eq!(with(whole.clone(), advice), whole);
        let other = "runs/photos exists already: give another --out, or --force";
        assert_eq!(with(other.into(), advice), other);
    }
}
