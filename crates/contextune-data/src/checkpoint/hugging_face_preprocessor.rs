//! How Hugging Face's image processors prepare pictures: `preprocessor_config.json`, or `processor_config.json` since
//! transformers 5.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::{Error, Result};
use super::folder::{existing_file, read_json};
use super::opened::Normalization;
use crate::image::{Filter, Middle, Preprocess, Resize};

/// What a folder says about its pictures.
pub(super) struct Prepared {
    /// `size` is the side that pictures have in the end.
    pub(super) preprocess: Preprocess,
    pub(super) normalization: Normalization,
    /// Whether a file says so, or it is only usual.
    pub(super) is_given: bool,
}

/// The image processors whose settings are known, and what each takes where its file is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Processor {
    /// `CLIPImageProcessor`
    Clip,
    /// `ViTImageProcessor`
    Vit,
    /// `DeiTImageProcessor`
    Deit,
    /// `BitImageProcessor`, which DINOv2 uses.
    Bit,
}

impl Processor {
    /// Returns the processor of a class name, whatever computes it (`…Fast`, `…Pil`) and however old it is.
    fn named(name: &str) -> Option<Self> {
        let name = name.trim_end_matches("Fast").trim_end_matches("Pil");
        let name = name
            .strip_suffix("ImageProcessor")
            .or_else(|| name.strip_suffix("FeatureExtractor"))?;
        match name {
            "CLIP" => Some(Self::Clip),
            "ViT" => Some(Self::Vit),
            "DeiT" => Some(Self::Deit),
            "Bit" => Some(Self::Bit),
            _ => None,
        }
    }

    fn normalization(self) -> Normalization {
        match self {
            Self::Clip | Self::Bit => Normalization::OPENAI,
            Self::Vit | Self::Deit => Normalization::HALF,
        }
    }

    /// Whether it cuts the middle out unless it is told otherwise.
    fn crops(self) -> bool {
        self != Self::Vit
    }

    fn resize(self) -> Size {
        match self {
            Self::Clip => Size::shortest(224),
            Self::Vit => Size::square(224),
            Self::Deit => Size::square(256),
            Self::Bit => Size::shortest(224),
        }
    }

    /// What the files of published models with it say, for a folder without one: DeiT's, and DINOv2's for BiT.
    fn published(self) -> Settings {
        let [mean, std] = match self {
            Self::Clip | Self::Vit => return Settings::default(),
            Self::Deit | Self::Bit => [Normalization::IMAGENET.mean, Normalization::IMAGENET.std],
        };
        Settings {
            size: (self == Self::Bit).then(|| Size::shortest(256)),
            image_mean: Some(mean),
            image_std: Some(std),
            ..Settings::default()
        }
    }

    fn filter(self) -> Filter {
        match self {
            Self::Vit => Filter::Bilinear,
            _ => Filter::Bicubic,
        }
    }
}

/// The settings of an image processor.
#[derive(Default, Deserialize)]
struct Settings {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    do_resize: Option<bool>,
    size: Option<Size>,
    /// Pillow's number of the filter.
    resample: Option<u64>,
    do_center_crop: Option<bool>,
    crop_size: Option<Size>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
    do_pad: Option<bool>,
    pad_size: Option<serde_json::Value>,
}

/// `processor_config.json`
#[derive(Deserialize)]
struct Processors {
    image_processor: Option<Settings>,
}

/// A size in one of the ways that `transformers` has written it.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    /// The shorter side of some processors, the side of a square of others.
    Side(u32),
    Pair([u32; 2]),
    Named(NamedSize),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedSize {
    height: Option<u32>,
    width: Option<u32>,
    shortest_edge: Option<u32>,
    longest_edge: Option<u32>,
}

impl Size {
    fn square(side: u32) -> Self {
        Self::Named(NamedSize {
            height: Some(side),
            width: Some(side),
            shortest_edge: None,
            longest_edge: None,
        })
    }

    fn shortest(side: u32) -> Self {
        Self::Named(NamedSize {
            height: None,
            width: None,
            shortest_edge: Some(side),
            longest_edge: None,
        })
    }

    /// Returns the resize that a processor makes of it.
    fn resize(self, processor: Processor) -> Option<Resize> {
        let square = matches!(processor, Processor::Vit | Processor::Deit);
        let resize = match self {
            Self::Side(side) if square => Resize::Square(side),
            Self::Side(side) => Resize::ShorterSide(side),
            Self::Pair([height, width]) if height == width => Resize::Square(height),
            Self::Named(NamedSize {
                height: Some(height),
                width: Some(width),
                shortest_edge: None,
                longest_edge: None,
            }) if height == width => Resize::Square(height),
            Self::Named(NamedSize {
                height: None,
                width: None,
                shortest_edge: Some(side),
                longest_edge: None,
            }) => Resize::ShorterSide(side),
            Self::Pair(_) | Self::Named(_) => return None,
        };
        let (Resize::Square(side) | Resize::ShorterSide(side)) = resize else {
            return None;
        };
        (1..=MAX_SIDE).contains(&side).then_some(resize)
    }

    /// Returns the side of the square that it crops to.
    fn crop(self) -> Option<u32> {
        let side = match self {
            Self::Side(side) => side,
            Self::Pair([height, width]) if height == width => height,
            Self::Named(NamedSize {
                height: Some(height),
                width: Some(width),
                ..
            }) if height == width => height,
            Self::Pair(_) | Self::Named(_) => return None,
        };
        (1..=MAX_SIDE).contains(&side).then_some(side)
    }
}

/// The longest side that pictures are resized to.
const MAX_SIDE: u32 = 8192;

/// Reads how pictures of a folder's model are prepared; `usual` is the processor that such a model has.
///
/// # Errors
/// A file that asks for what is not done here: what is dropped would change every feature.
pub(super) fn read(folder: &Path, usual: Processor) -> Result<Prepared> {
    let (path, settings) = match settings(folder)? {
        Some((path, settings)) => (path, Some(settings)),
        None => (folder.to_owned(), None),
    };
    let is_given = settings.is_some();
    let settings = settings.unwrap_or_else(|| usual.published());
    let refused = |what: String| {
        Error::unsupported(
            &path,
            what,
            "the image processors of CLIP, ViT, DeiT and BiT are supported, where pictures become squares",
        )
    };
    let name = settings
        .image_processor_type
        .as_ref()
        .or(settings.feature_extractor_type.as_ref());
    let processor = match name {
        Some(name) => {
            Processor::named(name).ok_or_else(|| refused(format!("pictures prepared by {name}")))?
        }
        None => usual,
    };
    if settings.do_pad == Some(true) && settings.pad_size.is_some() {
        return Err(refused("pictures that are padded (pad_size)".into()));
    }
    let resize = match settings.do_resize {
        Some(false) => Resize::Unchanged,
        _ => settings
            .size
            .unwrap_or(processor.resize())
            .resize(processor)
            .ok_or_else(|| refused("a size that is no square and no shortest edge".into()))?,
    };
    let crops = settings.do_center_crop.unwrap_or(processor.crops());
    let size = match (crops, resize) {
        (true, _) => settings
            .crop_size
            .unwrap_or(Size::Side(224))
            .crop()
            .ok_or_else(|| refused("a crop_size that is no square".into()))?,
        (false, Resize::Square(side)) => side,
        (false, _) => return Err(refused("pictures that do not become squares".into())),
    };
    let filter = match settings.resample {
        Some(number) => Filter::of_pillow(number)
            .ok_or_else(|| refused(format!("the unknown filter {number} (resample)")))?,
        None => processor.filter(),
    };
    Ok(Prepared {
        preprocess: Preprocess {
            size,
            resize,
            filter,
            fill: [0; 3],
            middle: Middle::RoundedDown,
            rgb_first: true,
        },
        normalization: settings.normalization(&path, processor)?,
        is_given,
    })
}

/// Returns the settings and the file that they stand in, if there is one. The newer file comes first, as in transformers.
fn settings(folder: &Path) -> Result<Option<(PathBuf, Settings)>> {
    if let Some(path) = existing_file(folder, "processor_config.json") {
        let Processors { image_processor } = read_json(&path)?;
        if let Some(settings) = image_processor {
            return Ok(Some((path, settings)));
        }
    }
    match existing_file(folder, "preprocessor_config.json") {
        Some(path) => Ok(Some((path.clone(), read_json(&path)?))),
        None => Ok(None),
    }
}

impl Settings {
    /// Returns what turns pixels in `[0, 1]` into what rescaling and normalising make of bytes:
    /// `(255 f x - mean) / std = (x - mean / 255 f) / (std / 255 f)`.
    fn normalization(&self, path: &Path, processor: Processor) -> Result<Normalization> {
        let usual = processor.normalization();
        let (mean, std) = match self.do_normalize {
            Some(false) => ([0.0; 3], [1.0; 3]),
            _ => (
                self.image_mean.unwrap_or(usual.mean),
                self.image_std.unwrap_or(usual.std),
            ),
        };
        let scale = match (self.do_rescale, self.rescale_factor) {
            (Some(false), _) => 255.0,
            (_, None) => 1.0,
            (_, Some(factor)) => 255.0 * factor,
        };
        // 1/255 is rounded in the file.
        let scaled = |value: f32| match (scale - 1.0).abs() < 1e-6 {
            true => value,
            false => (f64::from(value) / scale) as f32,
        };
        let normalization = Normalization {
            mean: mean.map(scaled),
            std: std.map(scaled),
        };
        normalization.check(path)?;
        Ok(normalization)
    }
}
