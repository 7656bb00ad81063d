//! What can be wrong with a data set, and what is merely worth saying.

use std::fmt;
use std::path::{Path, PathBuf};

use unicode_normalization::char::is_combining_mark;

use super::split::Split;

/// Result of this module.
pub type Result<T> = std::result::Result<T, DataError>;

/// Why a data set, a features file or a list of classes could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Something is there, but no data set.
    #[error("{} is not a data set: it is {what}; {advice}", path.display())]
    NotADataset {
        /// What was opened.
        path: PathBuf,
        /// What it is.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// A folder that should hold classes holds nothing of use.
    #[error("{} has no pictures and no class folders: make a folder of pictures for each class in it", path.display())]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// Classes without a single picture to learn from.
    #[error("{} has no pictures for {}: add some (png, jpg, jpeg, webp, gif, bmp) or remove the class", path.display(), quoted(classes))]
    NoPictures {
        /// The folder or split file.
        path: PathBuf,
        /// Names of the classes.
        classes: Vec<String>,
    },
    /// Classes that are tested but never trained.
    #[error("{} has {} in the {split} split but not in the train split: add training pictures, or remove them from {split}", path.display(), quoted(classes))]
    NotInTrain {
        /// The folder or split file.
        path: PathBuf,
        /// The split that has them.
        split: Split,
        /// Names of the classes.
        classes: Vec<String>,
    },
    /// Two classes whose prompts would be one text, because `_` is read as a space and neither case counts nor how accents are
    /// encoded.
    #[error(
        "{source_name} has two classes of one name, {} and {} (case, `_` and how accents are encoded do not count): rename or merge them",
        spelled(first),
        spelled(second)
    )]
    SameName {
        /// The folder, file or list.
        source_name: String,
        /// The earlier name.
        first: String,
        /// The later one.
        second: String,
    },
    /// A class whose name is blank or no text.
    #[error("{source_name}: {what} has no readable class name; give it one")]
    NoName {
        /// The folder, file or list.
        source_name: String,
        /// Which class.
        what: String,
    },
    /// Two folders that could both be one split.
    #[error("{} holds two folders for the {split} split, {first} and {second}: keep one, or merge them", path.display())]
    TwoSplitFolders {
        /// The data set.
        path: PathBuf,
        /// The split.
        split: Split,
        /// The earlier folder, by name.
        first: String,
        /// The later one.
        second: String,
    },
    /// One class leaves nothing to choose between.
    #[error("{} holds the single class {class:?}: telling classes apart needs two; is the data set one folder deeper?", path.display())]
    SingleClass {
        /// The folder or file.
        path: PathBuf,
        /// The class.
        class: String,
    },
    /// Several split files, of which one would have to be chosen.
    #[error("{} holds several split files ({}): keep one", path.display(), files.join(", "))]
    SeveralSplitFiles {
        /// The data set's folder.
        path: PathBuf,
        /// The files, by name.
        files: Vec<String>,
    },
    /// A split file that is not what CoOp writes.
    #[error("{}: {what}; expected {{\"train\": [[path, label, class name], ...], \"val\": ..., \"test\": ...}}", path.display())]
    SplitFile {
        /// The split file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A listed picture outside the data set's folder.
    #[error("{}: the picture {listed:?} is not below the data set's folder; only relative paths without `..` are read", path.display())]
    UnsafePath {
        /// The split file.
        path: PathBuf,
        /// The path as listed.
        listed: String,
    },
    /// None of the usual folders has the pictures that the split file lists.
    #[error("{} lists {listed:?}, which is in none of {}: unpack the pictures into one of these", path.display(), folders.join(", "))]
    PicturesNotFound {
        /// The split file.
        path: PathBuf,
        /// The first listed picture.
        listed: String,
        /// Where it was looked for.
        folders: Vec<String>,
    },
    /// A published data set without a file that it needs.
    #[error("{} is laid out as {dataset} but has no {file}, which comes with {origin}: put it there", path.display())]
    PublishedFileMissing {
        /// The data set's folder.
        path: PathBuf,
        /// Name of the data set.
        dataset: &'static str,
        /// Name of the file.
        file: String,
        /// Where it is to be had.
        origin: &'static str,
    },
    /// A line of a published list that is not what it should be.
    #[error("{}, line {line}: {what}; take the list as it is published", path.display())]
    ListLine {
        /// The list.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// A class folder that the list of class names does not know.
    #[error("{} is a folder that {} does not name: remove one of the two, or complete the list", path.display(), list.display())]
    ClassFolderUnknown {
        /// The folder.
        path: PathBuf,
        /// The list of class names.
        list: PathBuf,
    },
    /// A kept few-shot sample that is damaged or was not drawn from this data set.
    #[error("{}: {what}; remove or replace the file: without it the sample is drawn anew", path.display())]
    FewShotFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A features file whose bytes contradict its header, such as one cut short.
    #[error("{} is damaged: {what}; make it again or copy it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The contradiction.
        what: String,
    },
    /// A tensor or text that a features file needs is not there.
    #[error("{} is not a features file: it has no {missing} (it has {}); encode a data set to write one", path.display(), if found.is_empty() { "nothing".into() } else { found.join(", ") })]
    MissingEntry {
        /// The file.
        path: PathBuf,
        /// The tensor or metadata entry.
        missing: &'static str,
        /// What is there instead.
        found: Vec<String>,
    },
    /// Something in a features file has the wrong type, shape or value.
    #[error("{}: {entry} {what}", path.display())]
    WrongEntry {
        /// The file.
        path: PathBuf,
        /// The tensor or metadata entry.
        entry: String,
        /// What is wrong and what is needed.
        what: String,
    },
    /// A feature is NaN, infinite or beyond 32-bit floats.
    #[error("{}: image_features has the value {value} in row {row}{}, column {column}; every feature must be finite, so encode this picture again or leave it out", path.display(), name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The row, from 0.
        row: usize,
        /// The picture it was computed from, if the file says so.
        name: Option<String>,
        /// The column, from 0.
        column: usize,
        /// The value.
        value: f32,
    },
    /// Few-shot sampling of nothing.
    #[error("0 shots leave nothing to learn from: ask for at least 1 picture of each class")]
    NoShots,
    /// A sample that leaves nothing to choose settings by.
    #[error(
        "{} has {count} example(s) to learn from that are not for the test; a sample needs one to learn from and one to choose settings by",
        path.display()
    )]
    TooFewExamples {
        /// The data set.
        path: PathBuf,
        /// How many there are.
        count: usize,
    },
    /// There is nothing to choose settings by.
    #[error("{} has no validation pictures to choose settings by: add a val folder", path.display())]
    NoVal {
        /// The data set.
        path: PathBuf,
    },
    /// Validation pictures that are test pictures, where settings are chosen by them or they are learned from.
    #[error(
        "validation pictures of {} are its test pictures: what is chosen by them or learns from them cannot be measured on them. Give it val and test folders of their own",
        path.display()
    )]
    ValIsTest {
        /// The data set.
        path: PathBuf,
    },
    /// A list of class names that cannot be used.
    #[error("{source_name}: {what}")]
    ClassList {
        /// The file, or the list itself.
        source_name: String,
        /// What is wrong and what to do.
        what: String,
    },
}

impl DataError {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// Something about a data set that its user should know, though it can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DataWarning {
    /// Files that are hidden, no pictures, links to nothing, or not below a class folder.
    FilesIgnored {
        /// How many.
        count: usize,
        /// One of them.
        example: PathBuf,
    },
    /// Folders that were taken for splits although they are called otherwise.
    SplitsTaken {
        /// Each split and the name of its folder.
        folders: Vec<(Split, String)>,
    },
    /// A folder for a split that holds pictures but no class folders.
    SplitWithoutClasses {
        /// The folder.
        folder: PathBuf,
        /// How many pictures it holds.
        pictures: usize,
    },
    /// Class folders that hold folders of the same names, as splits do.
    LooksLikeSplits {
        /// Names of the class folders.
        folders: Vec<String>,
        /// Names of the folders that each of them holds.
        inside: Vec<String>,
    },
    /// Folders beside `train/`, `val/` and `test/`.
    FoldersIgnored {
        /// Their names.
        folders: Vec<String>,
    },
    /// Classes without examples in a split that has some.
    ClassesMissing {
        /// The split.
        split: Split,
        /// Names of the classes.
        classes: Vec<String>,
    },
    /// There is `val/` but no `test/`: the validation pictures are the test pictures, as for ImageNet.
    ValIsTest,
    /// There is only `train/`: it was split 50/20/30 by the seed.
    TrainWasSplit {
        /// The seed.
        seed: u64,
    },
    /// A published data set without its split file: it was split 50/20/30 by the seed.
    NoSplitFile {
        /// Name of the split file.
        file: String,
        /// The seed.
        seed: u64,
    },
    /// Classes of a published list that have the name of an earlier one; their labels differ.
    SameNames {
        /// The names.
        names: Vec<String>,
    },
    /// Classes that a published list names but that have no folder.
    ClassFoldersMissing {
        /// The list.
        list: PathBuf,
        /// Folder and name of each class.
        classes: Vec<String>,
    },
    /// The few-shot sample is one that the official code has drawn and kept.
    FewShotFileUsed {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing to train on: the data set serves evaluation only.
    NothingToTrain,
    /// Fewer examples to learn from than asked for: all of them are used.
    FewerExamples {
        /// How many were asked for.
        asked: usize,
        /// How many there are.
        there: usize,
    },
    /// Classes with fewer training examples than shots: all of theirs are used.
    FewerThanShots {
        /// The shots asked for.
        shots: usize,
        /// Name and number of training examples of each such class.
        classes: Vec<(String, usize)>,
    },
}

impl fmt::Display for DataWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FilesIgnored { count, example } => write!(
                f,
                "ignored {count} file(s) that are hidden, no picture or not below a class folder, such as {}",
                example.display()
            ),
            Self::SplitsTaken { folders } => {
                let taken: Vec<_> = folders
                    .iter()
                    .map(|(split, folder)| format!("{folder}/ as {split}"))
                    .collect();
                write!(f, "using {}", taken.join(", "))
            }
            Self::SplitWithoutClasses { folder, pictures } => write!(
                f,
                "{} holds {pictures} picture(s) without class folders: they have no labels and are left out",
                folder.display()
            ),
            Self::LooksLikeSplits { folders, inside } => write!(
                f,
                "the class folders {} hold folders of the same names ({}): if these are the classes, call the outer folders train, val and test",
                quoted(folders),
                shortened(inside)
            ),
            Self::FoldersIgnored { folders } => write!(
                f,
                "only folders for train, val and test are read; ignored: {}",
                folders.join(", ")
            ),
            Self::ClassesMissing { split, classes } => {
                write!(
                    f,
                    "the {split} split has no examples of {}",
                    quoted(classes)
                )
            }
            Self::ValIsTest => write!(f, "there is no test/: accuracy is measured on val/"),
            Self::TrainWasSplit { seed } => write!(
                f,
                "there is neither val/ nor test/: train/ is split 50/20/30 with seed {seed}"
            ),
            Self::NoSplitFile { file, seed } => write!(
                f,
                "there is no {file}: the pictures are split 50/20/30 with seed {seed}, so results do not compare with published ones"
            ),
            Self::SameNames { names } => write!(
                f,
                "several classes have one name and are told apart by label only: {}",
                quoted(names)
            ),
            Self::ClassFoldersMissing { list, classes } => write!(
                f,
                "{} names classes without a folder, which are left out: {}",
                list.display(),
                quoted(classes)
            ),
            Self::FewShotFileUsed { path } => write!(
                f,
                "the few-shot sample is the one kept in {}",
                path.display()
            ),
            Self::NothingToTrain => {
                write!(
                    f,
                    "there are no training examples: this data set can only be evaluated on"
                )
            }
            Self::FewerExamples { asked, there } => write!(
                f,
                "there are {there} examples to learn from, fewer than {asked}: all of them are used"
            ),
            Self::FewerThanShots { shots, classes } => {
                let counts: Vec<_> = classes
                    .iter()
                    .map(|(name, count)| format!("{name} has {count}"))
                    .collect();
                write!(
                    f,
                    "fewer than {shots} training examples, all of them are used: {}",
                    shortened(&counts)
                )
            }
        }
    }
}

/// Quotes a name; accents that are characters of their own are spelled out, because they look like those that are not.
fn spelled(name: &str) -> String {
    let escaped: String = name
        .chars()
        .flat_map(|character| match is_combining_mark(character) {
            true => character.escape_unicode().collect::<Vec<_>>(),
            false => vec![character],
        })
        .collect();
    format!("\"{escaped}\"")
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
    shortened(&quoted)
}

/// Lists the first names and how many more there are: a data set may have thousands of classes.
pub(super) fn shortened(items: &[String]) -> String {
    const SHOWN: usize = 8;
    match items.len().saturating_sub(SHOWN) {
        0 => items.join(", "),
        more => format!("{} and {more} more", items[..SHOWN].join(", ")),
    }
}
