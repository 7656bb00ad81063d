//! `contextune data`: what is in a data set.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use contextune::data::{self, ClassCounts, Copies, Dataset, Inspection, PictureFacts, Split};
use serde::Serialize;

use crate::examples;
use crate::options::Context;
use crate::output::{self, out};
use crate::style::{ERROR, GOOD, HEADING, WARNING};

/// Groups of copies that are shown as text, of each kind.
const GROUPS: usize = 10;
/// Pictures of each of them.
const COPIES: usize = 6;

/// Look into a data set.
///
/// Example: contextune data inspect photos
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show the few-shot sample that training draws: split, label, class name and path of each picture.
    ///
    /// The same shots and seed draw the pictures that the official code draws.
    ///
    /// Example: contextune data sample photos --shots 4 --seed 2 --json
    Sample(SampleArguments),
    /// Count and check a data set: classes and splits, sizes and formats, pictures that cannot be read, and copies (the same
    /// picture, even resized or saved again) that stand in two splits or two classes.
    ///
    /// Of a features file, whose pictures are not there, the classes are counted and equal rows are found.
    ///
    /// Example: contextune data inspect photos --sheet photos.html
    Inspect(InspectArguments),
}

#[derive(Debug, clap::Args)]
struct SampleArguments {
    /// A folder of class folders, a published data set, or a features file.
    data: PathBuf,
    /// Training pictures of each class; validation pictures are at most 4 of each.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    shots: u32,
    /// Seed of the sample, and of the split of a data set that has none.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object with the lists train and val.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct InspectArguments {
    /// A folder of class folders, a published data set, or a features file.
    data: PathBuf,
    /// Write some pictures of each class to this file: an .html page with names, or a .png with a row for each class.
    #[arg(long, value_name = "FILE", value_parser = Sheet::parse)]
    sheet: Option<Sheet>,
    /// Pictures of each class in the sheet.
    #[arg(long, value_name = "N", default_value_t = 8, requires = "sheet", value_parser = clap::value_parser!(u16).range(1..))]
    pictures: u16,
    /// Seed of the split of a data set that has none.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print everything as one JSON object.
    #[arg(long)]
    json: bool,
}

/// A contact sheet to be written.
#[derive(Clone, Debug)]
enum Sheet {
    Page(PathBuf),
    Png(PathBuf),
}

impl Sheet {
    fn parse(path: &str) -> Result<Self, String> {
        let path = PathBuf::from(path);
        let ends_in = |ending: &str| {
            path.extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case(ending))
        };
        match (ends_in("html"), ends_in("png")) {
            (true, _) => Ok(Self::Page(path)),
            (_, true) => Ok(Self::Png(path)),
            _ => Err("a sheet is a file that ends in .html or .png".to_owned()),
        }
    }

    /// Writes what was kept of the pictures; `title` heads it.
    fn write(&self, title: &str, inspection: &Inspection) -> Result<()> {
        let (path, bytes) = match self {
            Self::Page(path) => (
                path,
                contextune_report::contact_sheet_page(title, inspection).into_bytes(),
            ),
            Self::Png(path) => {
                let png = contextune_report::contact_sheet_png(inspection)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                (path, png)
            }
        };
        fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The drawn pictures.
#[derive(Serialize)]
struct Sample<'a> {
    train: Vec<Drawn<'a>>,
    val: Vec<Drawn<'a>>,
}

#[derive(Serialize)]
struct Drawn<'a> {
    path: String,
    label: usize,
    classname: &'a str,
}

/// Looks and prints.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    match arguments.action {
        Action::Sample(arguments) => sample(&arguments, context),
        Action::Inspect(arguments) => inspect(&arguments, context),
    }
}

/// Draws and prints.
fn sample(arguments: &SampleArguments, context: &Context) -> Result<()> {
    let dataset = examples::open(&arguments.data, arguments.seed, context)?;
    let (shots, seed) = (arguments.shots as usize, arguments.seed);
    let sampled = dataset.few_shot(shots, seed)?;
    // Of the whole data set it was said when it was opened.
    for warning in sampled.warnings.iter().skip(dataset.warnings.len()) {
        context.screen.remark(warning);
    }
    let sample = Sample {
        train: drawn(&sampled, Split::Train),
        val: drawn(&sampled, Split::Val),
    };
    if arguments.json {
        out!("{}", serde_json::to_string(&sample)?);
        return Ok(());
    }
    for (split, list) in [(Split::Train, &sample.train), (Split::Val, &sample.val)] {
        for picture in list {
            out!(
                "{split}\t{}\t{}\t{}",
                picture.label,
                picture.classname,
                picture.path
            );
        }
    }
    Ok(())
}

fn drawn(dataset: &Dataset, split: Split) -> Vec<Drawn<'_>> {
    dataset
        .split(split)
        .iter()
        .map(|example| Drawn {
            path: dataset.input_name(&example.input),
            label: example.label,
            classname: &dataset.class_names[example.label],
        })
        .collect()
}

/// An inspection with what was said when the data set was opened.
#[derive(Serialize)]
struct Inspected<'a> {
    #[serde(serialize_with = "output::serialize_path")]
    data: &'a Path,
    warnings: Vec<String>,
    #[serde(flatten)]
    inspection: &'a Inspection,
}

/// Looks at everything, prints, and writes the sheet.
fn inspect(arguments: &InspectArguments, context: &Context) -> Result<()> {
    let dataset = examples::open(&arguments.data, arguments.seed, context)?;
    if let (Some(_), Some(file)) = (&arguments.sheet, &dataset.features) {
        let file = file.path().display();
        bail!("{file} holds features, and a sheet shows pictures: inspect their folder");
    }
    let samples = arguments
        .sheet
        .as_ref()
        .map_or(0, |_| arguments.pictures.into());
    let bar = context.screen.bar("inspect", 0);
    let inspection = data::inspect(
        &dataset,
        samples,
        contextune_report::THUMBNAIL_SIDE,
        |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        },
    );
    bar.finish_and_clear();
    let name = arguments.data.display().to_string();
    // Before the sheet is written: one that fails must not cost what was found.
    if arguments.json {
        let inspected = Inspected {
            data: &arguments.data,
            warnings: dataset.warnings.iter().map(ToString::to_string).collect(),
            inspection: &inspection,
        };
        out!("{}", serde_json::to_string(&inspected)?);
    } else {
        print(&name, &inspection);
    }
    match &arguments.sheet {
        Some(sheet) => sheet.write(&name, &inspection),
        None => Ok(()),
    }
}

fn print(name: &str, inspection: &Inspection) {
    let total =
        |count: fn(&ClassCounts) -> usize| -> usize { inspection.classes.iter().map(count).sum() };
    let totals = ClassCounts {
        name: format!("all {} classes", inspection.classes.len()),
        train: total(|class| class.train),
        val: total(|class| class.val),
        test: total(|class| class.test),
    };
    let names = inspection
        .classes
        .iter()
        .chain([&totals])
        .map(|class| class.name.chars().count());
    let width = names.max().unwrap_or(0);
    out!("{HEADING}{name}{HEADING:#}");
    out!("{:<width$} {:>7} {:>7} {:>7}", "", "train", "val", "test");
    for class in [&totals].into_iter().chain(&inspection.classes) {
        let ClassCounts {
            name,
            train,
            val,
            test,
        } = class;
        out!("{name:<width$} {train:>7} {val:>7} {test:>7}");
    }
    if let Some(features) = &inspection.features {
        out!("\n{} rows of {} numbers", features.rows, features.width);
    }
    if let Some(pictures) = &inspection.pictures {
        print_pictures(pictures);
    }
    print_copies(
        "copies in more than one split",
        &inspection.copies,
        |copies| copies.across_splits,
    );
    print_copies(
        "copies in more than one class",
        &inspection.copies,
        |copies| copies.across_classes,
    );
    let others = inspection
        .copies
        .iter()
        .filter(|copies| !copies.across_splits && !copies.across_classes);
    let others = others.count();
    if others > 0 {
        out!(
            "\n{others} group(s) of copies within one split of one class, which does little harm (--json lists them)"
        );
    }
    match inspection.findings.is_empty() {
        true => out!("\n{GOOD}nothing to look after{GOOD:#}"),
        false => out!("\n{HEADING}to look after{HEADING:#}"),
    }
    for finding in &inspection.findings {
        out!("  {finding}");
    }
}

fn print_pictures(pictures: &PictureFacts) {
    let formats: Vec<String> = pictures
        .formats
        .iter()
        .map(|(format, count)| format!("{count} {format}"))
        .collect();
    out!("\n{} pictures: {}", pictures.readable, formats.join(", "));
    if let Some(sizes) = pictures.sizes {
        let [smallest, median, largest] =
            sizes.map(|[width, height]| format!("{width} × {height}"));
        out!("smallest {smallest}, median {median}, largest {largest}");
    }
    if !pictures.unreadable.is_empty() {
        out!("\n{ERROR}cannot be read{ERROR:#}");
    }
    for picture in &pictures.unreadable {
        out!("  {}: {}", picture.path, picture.reason);
    }
}

/// The first groups of copies of one kind, picture by picture.
fn print_copies(what: &str, copies: &[Copies], is_of_kind: impl Fn(&Copies) -> bool) {
    let groups: Vec<&Copies> = copies.iter().filter(|copies| is_of_kind(copies)).collect();
    if groups.is_empty() {
        return;
    }
    out!("\n{WARNING}{what}: {} group(s){WARNING:#}", groups.len());
    for group in groups.iter().take(GROUPS) {
        let how = match group.identical {
            true => "the same file",
            false => "nearly the same picture",
        };
        out!("  {how}");
        for copy in group.examples.iter().take(COPIES) {
            out!(
                "    {:<5} {}  {}",
                copy.split.to_string(),
                copy.class,
                copy.path
            );
        }
        if group.examples.len() > COPIES {
            out!("    and {} more", group.examples.len() - COPIES);
        }
    }
    if groups.len() > GROUPS {
        out!("  and {} more (--json lists them)", groups.len() - GROUPS);
    }
}
