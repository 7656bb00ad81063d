//! Further openly licensed icons for pre-training: more styles of the emoji it may see, and things that no emoji shows.
//!
//! Nothing of what pre-training must not see comes in: see [`Hidden`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use anyhow::Result;
use sha2::{Digest, Sha256};

use crate::sources::{Drawing, IconSet, Names, Style, read_set};
use crate::split::{Role, Split};

/// Sets that draw emoji under their names.
pub const EMOJI_SETS: [&str; 4] = [
    "noto-v1",
    "fluent-emoji-high-contrast",
    "emojione-monotone",
    "streamline-emojis",
];

/// Sets that draw whatever they like, with the ending of the variant taken ("" for all).
pub const WORD_SETS: [(&str, &str); 19] = [
    ("game-icons", ""),
    ("mdi", ""),
    ("fa6-solid", ""),
    ("ph", "-fill"),
    ("healthicons", ""),
    ("icon-park", ""),
    ("mingcute", "-fill"),
    ("tabler", ""),
    ("lucide", ""),
    ("temaki", ""),
    ("maki", ""),
    ("marketeq", ""),
    ("flat-color-icons", ""),
    ("fluent-color", ""),
    ("streamline-color", ""),
    ("streamline-ultimate-color", ""),
    ("streamline-plump-color", ""),
    ("streamline-kameleon-color", ""),
    ("streamline-freehand-color", ""),
];

/// Icons of one set whose names begin with the same word: more than these are variations of a user interface.
const SAME_BEGINNING: usize = 4;
/// A tag that so many emoji have at most says what a hidden one shows ("golf"); others are as wide as "animal".
const TELLING_TAG: usize = 3;
/// Longer names describe actions of programs.
const MOST_WORDS: usize = 3;

/// Words that say how an icon is drawn, not what it shows.
const STYLE_WORDS: [&str; 18] = [
    "outline",
    "outlined",
    "fill",
    "filled",
    "solid",
    "bold",
    "flat",
    "duo",
    "duotone",
    "negative",
    "line",
    "alt",
    "alternate",
    "variant",
    "simple",
    "emoji",
    "two-tone",
    "rounded",
];
/// Words of icons that show marks of brands, signs of typesetting, or something crossed out.
const SKIPPED_WORDS: [&str; 24] = [
    "off", "slash", "brand", "brands", "logo", "alpha", "numeric", "letter", "number", "format",
    "align", "hexagram", "border", "layout", "text", "file", "folder", "arrow", "arrows",
    "chevron", "caret", "cursor", "http", "square",
];
/// Words that many names share; the rest of a hidden name is what must not be seen.
const COMMON_WORDS: [&str; 22] = [
    "face", "with", "of", "and", "in", "the", "from", "on", "at", "no", "person", "people", "man",
    "woman", "hand", "hands", "symbol", "building", "sign", "smiling", "playing", "black",
];
/// The silhouettes' classes, so that the task stays far from pre-training; see `dataset`.
const SILHOUETTES: [&str; 10] = [
    "bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra",
];

/// What pre-training must not see, as words.
pub struct Hidden {
    /// The telling words of each hidden name, and its telling tags: a name that has them all is hidden too.
    keys: Vec<BTreeSet<String>>,
    /// Hidden names, and tags of hidden emoji.
    texts: HashSet<String>,
}

impl Hidden {
    /// Everything in `split` outside pre-training, and the silhouettes' classes.
    pub fn new(split: &Split, names: &Names) -> Self {
        let mut keys: Vec<_> = SILHOUETTES.map(|word| BTreeSet::from([stem(word)])).into();
        let mut texts = HashSet::new();
        let mut shared_by: HashMap<&str, usize> = HashMap::new();
        for tag in names.tags.values().flatten() {
            *shared_by.entry(tag).or_default() += 1;
        }
        for concept in split.concepts.iter().filter(|c| c.role != Role::Pretrain) {
            let words = words(&concept.name);
            let telling: BTreeSet<_> = words
                .iter()
                .filter(|word| !COMMON_WORDS.contains(&word.as_str()))
                .map(|word| stem(word))
                .collect();
            keys.push(match telling.is_empty() {
                true => words.iter().map(|word| stem(word)).collect(),
                false => telling,
            });
            texts.insert(words.join(" "));
            for tag in names.tags.get(&concept.code).into_iter().flatten() {
                let words = self::words(tag);
                if shared_by[tag.as_str()] <= TELLING_TAG {
                    keys.push(words.iter().map(|word| stem(word)).collect());
                }
                texts.insert(words.join(" "));
            }
        }
        Self { keys, texts }
    }

    /// Whether a picture called `name` might show something hidden.
    pub fn covers(&self, name: &str) -> bool {
        let words = words(name);
        let stems: BTreeSet<String> = words.iter().map(|word| stem(word)).collect();
        self.texts.contains(&words.join(" ")) || self.keys.iter().any(|key| key.is_subset(&stems))
    }
}

/// Letters and digits in lower case, split at everything else.
fn words(name: &str) -> Vec<String> {
    name.to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A word without the endings that number and action give it: `locked` and `locks` are `lock`.
fn stem(word: &str) -> String {
    for ending in ["ing", "ies", "es", "ed", "s", "y", "e"] {
        if let Some(stem) = word.strip_suffix(ending)
            && stem.len() >= 3
        {
            return stem.to_owned();
        }
    }
    word.to_owned()
}

/// The drawings of an emoji set without code points, by code.
pub fn read_emoji_set(sources: &Path, set: &str, names: &Names) -> Result<Style> {
    let icons = read_set(sources, set)?;
    let mut style = Style::new();
    for name in icons.names() {
        if let (Some(code), Some(svg)) = (names.code(name, false), icons.svg(name)?) {
            let drawing = Drawing::Svg(coloured(&svg, set, name));
            style.entry(code.clone()).or_insert(drawing);
        }
    }
    Ok(style)
}

/// An icon of a word set.
pub struct Word {
    /// What it shows, in words.
    pub text: String,
    /// Its name in the set.
    pub name: String,
    /// The drawing.
    pub drawing: Drawing,
}

/// The drawings of a word set that pre-training may see, one for each text.
pub fn read_word_set(
    sources: &Path,
    set: &str,
    ending: &str,
    hidden: &Hidden,
) -> Result<Vec<Word>> {
    let icons = read_set(sources, set)?;
    let mut by_text: BTreeMap<String, &str> = BTreeMap::new();
    for name in icons.names() {
        let Some(text) = name.strip_suffix(ending).and_then(shown) else {
            continue;
        };
        if hidden.covers(&text) || hidden.covers(name) {
            continue;
        }
        // Of all drawings of one text the one with the shortest name: the plain one.
        let kept = by_text.entry(text).or_insert(name);
        if name.len() < kept.len() {
            *kept = name;
        }
    }
    let mut beginnings: HashMap<String, usize> = HashMap::new();
    let mut found = Vec::new();
    for (text, name) in by_text {
        let beginning = text.split(' ').next().unwrap_or_default().to_owned();
        let same = beginnings.entry(beginning).or_default();
        *same += 1;
        if *same > SAME_BEGINNING {
            continue;
        }
        if let Some(svg) = icons.svg(name)? {
            let drawing = Drawing::Svg(coloured(&svg, set, name));
            found.push(Word {
                text,
                name: name.to_owned(),
                drawing,
            });
        }
    }
    Ok(found)
}

/// The words of an icon's name that say what it shows; `None` if it is not worth showing.
fn shown(name: &str) -> Option<String> {
    let all = words(name);
    if all
        .iter()
        .any(|word| SKIPPED_WORDS.contains(&word.as_str()))
    {
        return None;
    }
    let telling: Vec<&str> = all
        .iter()
        .map(String::as_str)
        .filter(|word| !STYLE_WORDS.contains(word) && !word.contains(|c: char| c.is_ascii_digit()))
        .collect();
    let text = telling.join(" ");
    ((1..=MOST_WORDS).contains(&telling.len()) && text.len() >= 3).then_some(text)
}

/// A drawing in one colour gets one: black, white or any, by the hash of its name.
fn coloured(svg: &str, set: &str, name: &str) -> String {
    let hash = Sha256::digest(format!("{set}/{name}"));
    let colour = match hash[0] {
        0..=99 => "#000000".to_owned(),
        100..=139 => "#ffffff".to_owned(),
        _ => format!("#{:02x}{:02x}{:02x}", hash[1], hash[2], hash[3]),
    };
    svg.replace("currentColor", &colour)
}

impl IconSet {
    /// Names of the icons that the set still shows.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.icons
            .iter()
            .filter(|(_, icon)| !icon.hidden)
            .map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn what_an_icon_shows_is_told_without_the_way_it_is_drawn() {
        assert_eq!(shown("beer-stein-bold").as_deref(), Some("beer stein"));
        assert_eq!(shown("clock-2-filled-24px").as_deref(), Some("clock"));
        assert_eq!(shown("bell-off-outline"), None, "crossed out");
        assert_eq!(shown("brand-npm"), None);
        assert_eq!(shown("a"), None, "too short to mean anything");
        assert_eq!(shown("a-very-long-deed"), None);
    }

    #[test]
    fn names_that_show_something_hidden_are_found_in_any_form() {
        let path =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data-recipes/icons/split.json");
        let split = Split::read(&path).unwrap();
        let names = Names::with_tags([("1f418", vec!["mammal", "trunk"]), ("26f3", vec!["golf"])]);
        let hidden = Hidden::new(&split, &names);
        for name in [
            "elephant",
            "elephant-head",
            "anchors",
            "old-anchor",
            "lock",
            "locked",
            "golf-cart",
            "cats",
        ] {
            assert!(hidden.covers(name), "{name}");
        }
        for name in ["hammer", "planchette", "wolf", "catapult"] {
            assert!(!hidden.covers(name), "{name}");
        }
    }
}
