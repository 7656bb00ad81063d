//! The table of published data sets: how each lies on disk, and what belongs to it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::data::class_names::is_wordnet_id;
use crate::data::error::{DataError, Result};
use crate::data::folder_reader::Reader;
use crate::text::TemplateSet;

/// Where split files and `classnames.txt` come from.
pub(super) const COOP: &str = "CoOp (see DATASETS.md of KaiyangZhou/CoOp)";

/// One of the 11 data sets and 4 variants of ImageNet that prompt learning is compared on.
#[derive(Debug, PartialEq, Eq)]
pub struct PublishedDataset {
    title: &'static str,
    name: &'static str,
    /// The data set's folder in the official instructions, which settles a doubt.
    folder: &'static str,
    /// The pictures' folder below that.
    pictures: &'static str,
    /// What lies beside the pictures' folder: any one tells the data set. None: that folder's name is enough.
    signs: &'static [&'static str],
    pub(super) source: Source,
}

/// What says which picture belongs to which class and split.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// `split_zhou_{title}.json`. Without it the official code splits class folders, or else annotations of many formats.
    SplitFile(Option<CleanUps>),
    /// `images_variant_{train,val,test}.txt`.
    VariantLists,
    /// Folders named by WordNet ids below `train/` and `val/`; `classnames.txt` names the classes.
    WordNetSplits,
    /// Folders named by WordNet ids, all of them to test on.
    WordNetTest {
        /// Whether every class of `classnames.txt` should be there.
        all_classes: bool,
    },
    /// Folders named by the lines of `classnames.txt`, from 0, all of them to test on.
    NumberedTest,
}

/// How the official code makes class names of folder names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CleanUps {
    /// Folders that are no classes.
    pub(super) left_out: &'static [&'static str],
    /// Folders whose class has another name.
    pub(super) renamed: &'static [(&'static str, &'static str)],
}

impl CleanUps {
    /// Returns the class name that a folder stands for.
    pub(super) fn class_name<'a>(&self, folder: &'a str) -> &'a str {
        let renamed = self.renamed.iter().find(|(from, _)| *from == folder);
        renamed.map_or(folder, |&(_, to)| to)
    }
}

const AS_THEY_ARE: CleanUps = CleanUps {
    left_out: &[],
    renamed: &[],
};

/// All of them. Pictures that a split file lists are looked for in the pictures' folders in this order.
pub(super) static ALL: [PublishedDataset; 15] = [
    PublishedDataset {
        title: "OxfordPets",
        name: "oxford_pets",
        folder: "oxford_pets",
        pictures: "images",
        signs: &[
            "annotations/trainval.txt",
            "annotations/list.txt",
            "annotations/trimaps",
        ],
        source: Source::SplitFile(None),
    },
    PublishedDataset {
        title: "Food101",
        name: "food101",
        folder: "food-101",
        pictures: "images",
        signs: &["meta"],
        source: Source::SplitFile(Some(AS_THEY_ARE)),
    },
    PublishedDataset {
        title: "DescribableTextures",
        name: "dtd",
        folder: "dtd",
        pictures: "images",
        // `labels/` alone is not enough: many detection data sets have it beside `images/`.
        signs: &["imdb", "labels/labels_joint_anno.txt"],
        source: Source::SplitFile(Some(AS_THEY_ARE)),
    },
    PublishedDataset {
        title: "Caltech101",
        name: "caltech101",
        folder: "caltech-101",
        pictures: "101_ObjectCategories",
        signs: &[],
        source: Source::SplitFile(Some(CleanUps {
            left_out: &["BACKGROUND_Google", "Faces_easy"],
            renamed: &[
                ("airplanes", "airplane"),
                ("Faces", "face"),
                ("Leopards", "leopard"),
                ("Motorbikes", "motorbike"),
            ],
        })),
    },
    PublishedDataset {
        title: "OxfordFlowers",
        name: "oxford_flowers",
        folder: "oxford_flowers",
        pictures: "jpg",
        signs: &["imagelabels.mat", "cat_to_name.json"],
        source: Source::SplitFile(None),
    },
    PublishedDataset {
        title: "EuroSAT",
        name: "eurosat",
        folder: "eurosat",
        pictures: "2750",
        signs: &[],
        source: Source::SplitFile(Some(CleanUps {
            left_out: &[],
            renamed: &[
                ("AnnualCrop", "Annual Crop Land"),
                ("HerbaceousVegetation", "Herbaceous Vegetation Land"),
                ("Highway", "Highway or Road"),
                ("Industrial", "Industrial Buildings"),
                ("Pasture", "Pasture Land"),
                ("PermanentCrop", "Permanent Crop Land"),
                ("Residential", "Residential Buildings"),
                ("SeaLake", "Sea or Lake"),
            ],
        })),
    },
    PublishedDataset {
        title: "UCF101",
        name: "ucf101",
        folder: "ucf101",
        pictures: "UCF-101-midframes",
        signs: &[],
        source: Source::SplitFile(None),
    },
    PublishedDataset {
        title: "SUN397",
        name: "sun397",
        folder: "sun397",
        pictures: "SUN397",
        signs: &[],
        source: Source::SplitFile(None),
    },
    PublishedDataset {
        title: "StanfordCars",
        name: "stanford_cars",
        folder: "stanford_cars",
        pictures: "",
        signs: &["cars_train", "devkit/cars_meta.mat"],
        source: Source::SplitFile(None),
    },
    PublishedDataset {
        title: "FGVCAircraft",
        name: "fgvc_aircraft",
        folder: "fgvc_aircraft",
        pictures: "images",
        signs: &[
            "images_variant_train.txt",
            "images_variant_val.txt",
            "images_variant_test.txt",
        ],
        source: Source::VariantLists,
    },
    PublishedDataset {
        title: "ImageNet",
        name: "imagenet",
        folder: "imagenet",
        pictures: "images",
        signs: &[],
        source: Source::WordNetSplits,
    },
    PublishedDataset {
        title: "ImageNetV2",
        name: "imagenetv2",
        folder: "imagenetv2",
        pictures: "imagenetv2-matched-frequency-format-val",
        signs: &[],
        source: Source::NumberedTest,
    },
    PublishedDataset {
        title: "ImageNetSketch",
        name: "imagenet_sketch",
        folder: "imagenet-sketch",
        pictures: "images",
        signs: &[],
        source: Source::WordNetTest { all_classes: true },
    },
    PublishedDataset {
        title: "ImageNetA",
        name: "imagenet_a",
        folder: "imagenet-adversarial",
        pictures: "imagenet-a",
        signs: &[],
        source: Source::WordNetTest { all_classes: false },
    },
    PublishedDataset {
        title: "ImageNetR",
        name: "imagenet_r",
        folder: "imagenet-rendition",
        pictures: "imagenet-r",
        signs: &[],
        source: Source::WordNetTest { all_classes: false },
    },
];

/// Returns the data set whose split file has this name.
pub(in crate::data) fn of_split_file(name: &str) -> Option<&'static PublishedDataset> {
    with_split_file().find(|published| published.split_file() == name)
}

/// Returns the data set with this [`name`](PublishedDataset::name).
pub(in crate::data) fn of_name(name: &str) -> Option<&'static PublishedDataset> {
    ALL.iter().find(|published| published.name == name)
}

/// Returns the folders in which the pictures of split files lie, each once.
pub(in crate::data) fn picture_folders() -> Vec<&'static str> {
    let mut folders = Vec::new();
    for published in with_split_file() {
        if !folders.contains(&published.pictures) {
            folders.push(published.pictures);
        }
    }
    folders
}

fn with_split_file() -> impl Iterator<Item = &'static PublishedDataset> {
    ALL.iter()
        .filter(|published| matches!(published.source, Source::SplitFile(_)))
}

impl PublishedDataset {
    /// Returns its name in the official code, such as `DescribableTextures`.
    pub fn title(&self) -> &'static str {
        self.title
    }

    /// Returns its name in the official configuration files and among the [`TemplateSet`]s, such as `dtd`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the hand-written template that the official code gives it.
    pub fn template(&self) -> Option<&'static str> {
        TemplateSet::lines_of(self.name)
    }

    /// Returns the name of the file that lists its examples, in the data set's folder.
    pub(super) fn split_file(&self) -> String {
        format!("split_zhou_{}.json", self.title)
    }

    /// Returns the pictures' folder.
    pub(super) fn pictures(&self, folder: &Path) -> PathBuf {
        folder.join(self.pictures)
    }

    /// Returns whether the official code validates on the test pictures, all of them however many shots are drawn.
    pub(in crate::data) fn validates_on_test(&self) -> bool {
        self.source == Source::WordNetSplits
    }

    /// Returns the path of a file that the data set needs; where it is missing, the error says that it comes with
    /// `origin`.
    pub(super) fn file(&self, folder: &Path, name: &str, origin: &'static str) -> Result<PathBuf> {
        let path = folder.join(name);
        match path.is_file() {
            true => Ok(path),
            false => Err(self.lacks(folder, name, origin)),
        }
    }

    pub(super) fn lacks(&self, folder: &Path, file: &str, origin: &'static str) -> DataError {
        DataError::PublishedFileMissing {
            path: folder.to_owned(),
            dataset: self.title,
            file: file.to_owned(),
            origin,
        }
    }

    pub(super) fn is_in(&self, folder: &Path) -> bool {
        let pictures = self.pictures(folder);
        let has_sign = self.signs.iter().any(|sign| folder.join(sign).exists());
        // A link may have the name or lead to it, and `.` leads to it too.
        let has_name = fs::canonicalize(folder)
            .is_ok_and(|real| real.ends_with(self.folder) || folder.ends_with(self.folder));
        // Cars have no folder for pictures: a folder of that name may be laid out in other ways.
        let has_name = has_name && !self.pictures.is_empty();
        let is_told = self.signs.is_empty() || has_sign || has_name;
        match self.source {
            Source::SplitFile(None) if !self.signs.is_empty() => is_told && pictures.is_dir(),
            Source::SplitFile(_) => is_told && holds_folders(&pictures, |_| true),
            Source::VariantLists => has_sign || (has_name && pictures.is_dir()),
            Source::WordNetSplits => ["train", "val"]
                .iter()
                .any(|split| holds_folders(&pictures.join(split), is_wordnet_id)),
            Source::WordNetTest { .. } => holds_folders(&pictures, is_wordnet_id),
            Source::NumberedTest => pictures.is_dir(),
        }
    }
}

impl fmt::Display for PublishedDataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title)
    }
}

/// Returns whether a folder holds folders with such names and no pictures beside them.
fn holds_folders(folder: &Path, is_named: impl Fn(&str) -> bool) -> bool {
    Reader::default().list(folder).is_ok_and(|listing| {
        let mut names = listing.folders.iter().filter_map(|path| path.file_name());
        listing.pictures.is_empty() && names.any(|name| is_named(name.to_str().unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::{ALL, of_name};

    #[test]
    fn every_data_set_has_a_template_with_one_place_and_a_name_of_its_own() {
        for published in &ALL {
            let template = published.template().unwrap_or_default();
            assert_eq!(template.matches("{}").count(), 1, "{published}");
            assert_eq!(of_name(published.name), Some(published));
        }
    }
}
