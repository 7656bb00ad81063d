//! A data set at a glance: some pictures of every class.

use askama::Template;

use super::pictures;
use crate::data::Inspection;
use crate::image::DecodeOptions;

/// White pixels between pictures.
const GAP: usize = 2;

#[derive(Template)]
#[template(path = "report/contact_sheet.html")]
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

/// The samples of an inspection as a PNG file, a row for each class in the order of labels; `None` if there are so many classes
/// that few programs could open it, or no pictures at all.
pub fn contact_sheet_png(inspection: &Inspection) -> Option<Vec<u8>> {
    let columns = inspection.samples.iter().map(Vec::len).max()?;
    let step = pictures::SIDE as usize + GAP;
    let (width, height) = (columns * step, inspection.samples.len() * step);
    if columns == 0 || height > DecodeOptions::MAX_SIDE as usize {
        return None;
    }
    let mut planes = vec![255; 3 * width * height];
    for (row, samples) in inspection.samples.iter().enumerate() {
        for (column, sample) in samples.iter().enumerate() {
            let side = sample.width() as usize;
            for (line, values) in sample.as_bytes().chunks_exact(side).enumerate() {
                let (channel, y) = (line / side, line % side);
                let start = (channel * height + row * step + y) * width + column * step;
                planes[start..start + side].copy_from_slice(values);
            }
        }
    }
    Some(pictures::png_of([width as u32, height as u32], &planes))
}
