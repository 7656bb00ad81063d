//! Sentences that class names are put into.

use std::fmt;
use std::path::Path;

use super::error::read_bounded;
use super::{Result, TextError};

/// The default template.
pub const TEMPLATE: &str = "a photo of a {}.";

/// Where the class name goes.
const PLACE: &str = "{}";

const LARGEST_FILE: u64 = 1 << 20;

/// The sets that are known by name: one template a line.
///
/// `openai-80` and `openai-7`: the ImageNet templates of OpenAI's "Prompt Engineering for ImageNet" notebook;
/// `actionclip-16`: ActionCLIP's for actions in videos; the others: CoOp's hand-written template of each data set
/// (`trainers/zsclip.py`), under the names of its configuration files.
const NAMED: [(&str, &str); 18] = [
    ("openai-80", include_str!("templates/openai-80.txt")),
    ("openai-7", include_str!("templates/openai-7.txt")),
    ("actionclip-16", include_str!("templates/actionclip-16.txt")),
    ("caltech101", "a photo of a {}."),
    ("dtd", "{} texture."),
    ("eurosat", "a centered satellite photo of {}."),
    ("fgvc_aircraft", "a photo of a {}, a type of aircraft."),
    ("food101", "a photo of {}, a type of food."),
    ("imagenet", "a photo of a {}."),
    ("imagenet_a", "a photo of a {}."),
    ("imagenet_r", "a photo of a {}."),
    ("imagenet_sketch", "a photo of a {}."),
    ("imagenetv2", "a photo of a {}."),
    ("oxford_flowers", "a photo of a {}, a type of flower."),
    ("oxford_pets", "a photo of a {}, a type of pet."),
    ("stanford_cars", "a photo of a {}."),
    ("sun397", "a photo of a {}."),
    ("ucf101", "a photo of a person doing {}."),
];

/// Returns the words of a class name as prompts say them: `_` is read as a space, because folders and published lists
/// write it for one. Case and other signs stay as they are.
///
/// ```
/// assert_eq!(contextune_data::text::class_words("golden_retriever"), "golden retriever");
/// ```
pub fn class_words(name: &str) -> String {
    name.replace('_', " ")
}

/// A sentence with one place for a class name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    before: String,
    after: String,
}

impl Template {
    /// Reads a template such as `a photo of a {}.`; `origin` says where it stands, for the error.
    ///
    /// # Errors
    /// `{}` is missing or there more than once.
    pub fn new(template: &str, origin: &str) -> Result<Template> {
        match template.split_once(PLACE) {
            Some((before, after)) if !after.contains(PLACE) => Ok(Template {
                before: before.to_owned(),
                after: after.to_owned(),
            }),
            _ => Err(TextError::Placeholder {
                origin: origin.to_owned(),
                template: template.to_owned(),
                count: template.matches(PLACE).count(),
            }),
        }
    }

    /// Returns the sentence about a class, in the words of its name ([`class_words`]).
    pub fn fill(&self, class_name: &str) -> String {
        format!("{}{}{}", self.before, class_words(class_name), self.after)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{PLACE}{}", self.before, self.after)
    }
}

/// One or more templates, whose embeddings are averaged for each class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateSet {
    templates: Vec<Template>,
}

impl TemplateSet {
    /// Reads templates, one a line; empty lines do not count. `origin` says where they stand, for errors.
    ///
    /// # Errors
    /// There is none, or one has not exactly one `{}`.
    pub fn new(lines: &str, origin: &str) -> Result<TemplateSet> {
        let templates: Vec<Template> = lines
            .lines()
            .enumerate()
            .map(|(number, line)| (number + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty())
            .map(|(number, line)| Template::new(line, &format!("{origin}, line {number}")))
            .collect::<Result<_>>()?;
        if templates.is_empty() {
            return Err(TextError::NoTemplates {
                origin: origin.to_owned(),
            });
        }
        Ok(TemplateSet { templates })
    }

    /// Reads what a person means by `argument`: with `{}` in it a single template, else a file with a template a line,
    /// else the name of a set.
    ///
    /// # Errors
    /// It is none of these (the error lists the known names), or the file is unreadable or has a bad template.
    pub fn from_argument(argument: &str) -> Result<TemplateSet> {
        if argument.contains(PLACE) {
            let templates = vec![Template::new(argument, "templates")?];
            return Ok(TemplateSet { templates });
        }
        let path = Path::new(argument);
        if path.is_file() {
            let bytes = read_bounded(path, "a list of templates", LARGEST_FILE)?;
            let lines = String::from_utf8(bytes).map_err(|error| TextError::Io {
                path: path.to_owned(),
                source: std::io::Error::new(std::io::ErrorKind::InvalidData, error),
            })?;
            return TemplateSet::new(lines.trim_start_matches('\u{feff}'), argument);
        }
        match Self::lines_of(argument) {
            Some(lines) => TemplateSet::new(lines, argument),
            None => Err(TextError::UnknownTemplates {
                argument: argument.to_owned(),
                known: Self::names().collect(),
            }),
        }
    }

    /// Returns the lines of a set that is known by name.
    pub(crate) fn lines_of(name: &str) -> Option<&'static str> {
        let known = NAMED.iter().find(|(known, _)| *known == name);
        known.map(|(_, lines)| *lines)
    }

    /// Names of the sets that [`from_argument`](Self::from_argument) knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, _)| *name)
    }

    /// Returns the templates in order, at least one.
    pub fn templates(&self) -> &[Template] {
        &self.templates
    }

    /// Writes the templates as text, one a line.
    pub fn lines(&self) -> String {
        let lines: Vec<String> = self.templates.iter().map(ToString::to_string).collect();
        lines.join("\n")
    }

    /// Fills every template with a class name, in order.
    pub fn fill(&self, class_name: &str) -> impl Iterator<Item = String> {
        self.templates
            .iter()
            .map(move |template| template.fill(class_name))
    }
}
