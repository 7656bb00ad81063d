//! A data set at a glance: some pictures of every class.

use askama::Template;

use crate::pictures;
use contextune::data::Inspection;
use contextune::image::DecodeOptions;

/// White pixels between pictures.
const GAP: usize = 2;
/// From one picture to the next in pixels.
const STEP: usize = pictures::SIDE as usize + GAP;
/// The most rows, and the most columns: few programs open a PNG with longer sides.
const MOST: usize = DecodeOptions::MAX_SIDE as usize / STEP;

/// Why there is no contact sheet as a PNG file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContactSheetError {
    /// The inspection kept no picture of any class.
    #[error(
        "none of the pictures for the sheet can be read: repair them or show more of each class"
    )]
    NoPictures,
    /// So many rows that few programs could open the file.
    #[error(
        "{classes} classes are too many for one PNG, which holds {MOST}: write the sheet to an .html file"
    )]
    TooManyClasses {
        /// How many.
        classes: usize,
    },
    /// So many columns that few programs could open the file.
    #[error(
        "{pictures} pictures of a class are too many for one PNG, which holds {MOST}: show fewer of each class, or write the sheet to an .html file"
    )]
    TooManyPictures {
        /// How many of the class that has the most.
        pictures: usize,
    },
}

#[derive(Template)]
#[template(path = "contact_sheet.html")]
struct ContactSheet<'a> {
    title: &'a str,
    classes: Vec<ClassPictures<'a>>,
    findings: Vec<String>,
    version: &'static str,
}

struct ClassPictures<'a> {
    name: &'a str,
    train: usize,
    val: usize,
    test: usize,
    pictures: Vec<String>,
}

/// The samples of an inspection under the names of their classes: HTML that needs no other file and no network.
pub fn contact_sheet_page(title: &str, inspection: &Inspection) -> String {
    let classes = inspection.classes.iter().zip(&inspection.samples);
    let page = ContactSheet {
        title,
        classes: classes
            .map(|(class, samples)| ClassPictures {
                name: &class.name,
                train: class.train,
                val: class.val,
                test: class.test,
                pictures: samples.iter().map(pictures::of_planes).collect(),
            })
            .collect(),
        findings: inspection
            .findings
            .iter()
            .map(ToString::to_string)
            .collect(),
        version: env!("CARGO_PKG_VERSION"),
    };
    page.render()
        .expect("a page is written into a text, which always takes it")
}

/// The samples of an inspection as a PNG file, a row for each class in the order of labels.
///
/// # Errors
/// There are no samples, or so many that few programs could open the file.
pub fn contact_sheet_png(inspection: &Inspection) -> Result<Vec<u8>, ContactSheetError> {
    let rows = inspection.samples.len();
    let columns = inspection.samples.iter().map(Vec::len).max().unwrap_or(0);
    if columns == 0 {
        return Err(ContactSheetError::NoPictures);
    }
    if rows > MOST {
        return Err(ContactSheetError::TooManyClasses { classes: rows });
    }
    if columns > MOST {
        return Err(ContactSheetError::TooManyPictures { pictures: columns });
    }
    let (width, height) = (columns * STEP, rows * STEP);
    let mut planes = vec![255; 3 * width * height];
    for (row, samples) in inspection.samples.iter().enumerate() {
        for (column, sample) in samples.iter().enumerate() {
            let side = sample.width() as usize;
            for (line, values) in sample.as_bytes().chunks_exact(side).enumerate() {
                let (channel, y) = (line / side, line % side);
                let start = (channel * height + row * STEP + y) * width + column * STEP;
                planes[start..start + side].copy_from_slice(values);
            }
        }
    }
    Ok(pictures::png_of([width as u32, height as u32], &planes))
}
