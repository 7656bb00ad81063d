//! What is written below a training picture.

use rand::Rng;
use rand::seq::IndexedRandom;

/// The words around a name; plain names are half of the captions, so that the tower learns names first.
const TEMPLATES: [&str; 8] = [
    "{}",
    "{}",
    "{}",
    "{}",
    "a picture of {}",
    "an icon of {}",
    "a drawing of {}",
    "a photo of a {}.",
];

/// The texts that describe one picture: its name first, then other words for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captions {
    texts: Vec<String>,
}

impl Captions {
    /// A picture's name and the other words for it, maybe none.
    pub fn new(name: String, others: impl IntoIterator<Item = String>) -> Self {
        let mut texts = vec![name];
        texts.extend(others);
        Self { texts }
    }

    /// The name half of the time, else another word for it, in a random template.
    pub fn draw(&self, random: &mut impl Rng) -> String {
        use rand::RngExt;
        let (name, others) = self
            .texts
            .split_first()
            .expect("there is at least the name");
        let text = match others.choose(random) {
            Some(other) if random.random_bool(0.5) => other,
            _ => name,
        };
        let template = TEMPLATES.choose(random).expect("there are templates");
        template.replace("{}", text)
    }
}
