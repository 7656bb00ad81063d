//! The unpacked packages: which drawing shows which emoji.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The drawings of one style, by code (see [`code_of`]).
pub type Style = BTreeMap<String, Drawing>;

/// One drawing, not yet rendered.
#[derive(Debug, Clone, PartialEq)]
pub enum Drawing {
    /// A complete SVG document.
    Svg(String),
    /// A WebP file with an alpha channel.
    Webp(PathBuf),
}

/// Tags of the emoji and other names under which sets without code points list their drawings.
pub struct Names {
    /// Tags (English synonyms and related words) by code.
    pub tags: HashMap<String, Vec<String>>,
    /// Squeezed Unicode Common Locale Data names, the present ones first, then those other sets know.
    common: HashMap<String, String>,
    /// Squeezed names of the Unicode standard.
    standard: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Emoji {
    label: String,
    hexcode: String,
    #[serde(default)]
    tags: Vec<String>,
}

/// An Iconify set: `icons.json` of an `@iconify-json` package.
#[derive(Deserialize)]
pub struct IconSet {
    pub(crate) icons: BTreeMap<String, Icon>,
    #[serde(default)]
    aliases: BTreeMap<String, Alias>,
    #[serde(default = "square")]
    width: f32,
    #[serde(default = "square")]
    height: f32,
}

#[derive(Deserialize)]
pub(crate) struct Icon {
    body: String,
    /// Kept by the set for old users only.
    #[serde(default)]
    pub(crate) hidden: bool,
    width: Option<f32>,
    height: Option<f32>,
    #[serde(default)]
    left: f32,
    #[serde(default)]
    top: f32,
}

#[derive(Deserialize)]
struct Alias {
    parent: String,
    #[serde(default, rename = "hFlip")]
    mirrored: bool,
}

/// The side of an icon whose set gives none, as Iconify defines it.
fn square() -> f32 {
    16.0
}

/// The code of an emoji: its code points in lower-case hexadecimal, joined by `-`, without the variation selector.
pub fn code_of(code_points: &str) -> String {
    code_points
        .to_lowercase()
        .split('-')
        .filter(|point| *point != "fe0f")
        .collect::<Vec<_>>()
        .join("-")
}

/// Letters and digits only: the spelling in which names of different sets agree.
fn squeezed(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {}: fetch the sources first", path.display()))?;
    serde_json::from_str(&text).with_context(|| {
        format!(
            "{} is not what this builder was written for",
            path.display()
        )
    })
}

impl Names {
    /// Reads `emojibase-data` and the names of `twemoji` and `noto`, which come with code points, below `sources`.
    pub fn read(sources: &Path) -> Result<Self> {
        let emoji: Vec<Emoji> = read_json(&sources.join("emojibase-data/en/data.json"))?;
        let unicode: BTreeMap<String, String> =
            read_json(&sources.join("emojibase-data/meta/unicode-names.json"))?;
        let mut common = HashMap::new();
        let mut tags = HashMap::new();
        for entry in &emoji {
            let code = code_of(&entry.hexcode);
            common.insert(squeezed(&entry.label), code.clone());
            if let Some(country) = entry.label.strip_prefix("flag: ") {
                common.insert(
                    squeezed(&format!("flag for {}", country.replace('&', "and"))),
                    code.clone(),
                );
            }
            tags.insert(code, entry.tags.clone());
        }
        for set in ["twemoji", "noto"] {
            let icons: IconSet = read_json(&sources.join(set).join("icons.json"))?;
            let chars: BTreeMap<String, String> = read_json(&sources.join(set).join("chars.json"))?;
            let codes: HashMap<&str, String> = chars
                .iter()
                .map(|(points, name)| (name.as_str(), code_of(points)))
                .collect();
            let aliases = icons
                .aliases
                .iter()
                .map(|(name, alias)| (name.as_str(), alias.parent.as_str()));
            for (name, drawn) in icons
                .icons
                .keys()
                .map(|name| (name.as_str(), name.as_str()))
                .chain(aliases)
            {
                if let Some(code) = codes.get(name).or_else(|| codes.get(drawn)) {
                    common.entry(squeezed(name)).or_insert_with(|| code.clone());
                }
            }
        }
        let standard = unicode
            .iter()
            .map(|(points, name)| (squeezed(name), code_of(points)))
            .collect();
        Ok(Self {
            tags,
            common,
            standard,
        })
    }

    /// Nothing but these tags, by code.
    #[cfg(test)]
    pub(crate) fn with_tags<const N: usize>(tags: [(&str, Vec<&str>); N]) -> Self {
        let owned = |(code, tags): (&str, Vec<&str>)| {
            (
                code.to_owned(),
                tags.into_iter().map(str::to_owned).collect(),
            )
        };
        Self {
            tags: tags.into_iter().map(owned).collect(),
            common: HashMap::new(),
            standard: HashMap::new(),
        }
    }

    /// The code of the emoji that a set without code points calls `name`.
    pub fn code(&self, name: &str, standard_first: bool) -> Option<&String> {
        let name = squeezed(name);
        let (first, second) = if standard_first {
            (&self.standard, &self.common)
        } else {
            (&self.common, &self.standard)
        };
        first.get(&name).or_else(|| second.get(&name))
    }
}

/// Reads the drawings of the style in the folder `sources/style`: an Iconify set, or a folder of WebP files named by
/// code points.
pub fn read_style(sources: &Path, style: &str, names: &Names) -> Result<Style> {
    let folder = sources.join(style);
    if folder.join("assets").is_dir() {
        return read_webp_folder(&folder.join("assets"));
    }
    let set = read_set(sources, style)?;
    let chars: BTreeMap<String, String> = read_json(&folder.join("chars.json"))?;
    let mut drawings = Style::new();
    for (points, name) in &chars {
        if let Some(svg) = set.svg(name)? {
            drawings.entry(code_of(points)).or_insert(Drawing::Svg(svg));
        }
    }
    if !chars.is_empty() {
        return Ok(drawings);
    }
    // FxEmoji writes the names of the Unicode standard, EmojiOne those of the Common Locale Data Repository.
    let standard_first = style == "fxemoji";
    for name in set.icons.keys().chain(set.aliases.keys()) {
        // FxEmoji calls the face of a pig `pig` and the whole animal `pigside`.
        let face = format!("{name}face");
        let shown = if set.icons.contains_key(&format!("{name}side")) {
            &face
        } else {
            name
        };
        let Some(code) = names.code(shown, standard_first) else {
            continue;
        };
        if let Some(svg) = set.svg(name)? {
            drawings.entry(code.clone()).or_insert(Drawing::Svg(svg));
        }
    }
    Ok(drawings)
}

/// Reads the Iconify set in the folder `sources/set`.
pub fn read_set(sources: &Path, set: &str) -> Result<IconSet> {
    read_json(&sources.join(set).join("icons.json"))
}

fn read_webp_folder(folder: &Path) -> Result<Style> {
    let mut files = BTreeSet::new();
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        files.insert(entry?.path());
    }
    let mut drawings = Style::new();
    for path in files {
        if path
            .extension()
            .is_some_and(|extension| extension == "webp")
            && let Some(points) = path.file_stem().and_then(|stem| stem.to_str())
        {
            // Some emoji lie there twice, with and without the variation selector: the first in order of names stays.
            drawings
                .entry(code_of(points))
                .or_insert_with(|| Drawing::Webp(path.clone()));
        }
    }
    Ok(drawings)
}

impl IconSet {
    /// The SVG document of the icon or alias `name`; `None` if the set lacks it.
    pub fn svg(&self, name: &str) -> Result<Option<String>> {
        let (name, mirrored) = match self.aliases.get(name) {
            Some(alias) => (alias.parent.as_str(), alias.mirrored),
            None => (name, false),
        };
        let Some(icon) = self.icons.get(name) else {
            return Ok(None);
        };
        let (width, height) = (
            icon.width.unwrap_or(self.width),
            icon.height.unwrap_or(self.height),
        );
        let (left, top) = (icon.left, icon.top);
        let body = if mirrored {
            format!(
                r#"<g transform="translate({} 0) scale(-1 1)">{}</g>"#,
                2.0 * left + width,
                icon.body
            )
        } else {
            icon.body.clone()
        };
        Ok(Some(format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">{body}</svg>"#
        )))
    }
}
