//! `contextune data inspect`: what it finds in a data set, and what it does not.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{answer, command, demo_data, failure, json, text};
use contextune::image::{DecodeOptions, open};
use serde_json::Value;
use tempfile::TempDir;

/// An icon of the demo.
fn icon(name: &str) -> PathBuf {
    demo_data("icon-demo").join("images/fluent-3d").join(name)
}

/// The same as [`icon`]`("1f3b3.png")`, at 56 pixels instead of 80, as JPEG of quality 60.
fn shrunk_and_saved_again() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures/1f3b3-56-pixels.jpg")
}

/// Copies files to places below a new folder.
fn data_set(files: &[(&str, PathBuf)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (place, source) in files {
        let path = folder.path().join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(source, path).unwrap();
    }
    folder
}

fn inspected(data: &Path) -> Value {
    json(&answer(&["data", "inspect", text(data), "--json"]))
}

/// Paths of the examples in a group of copies.
fn paths(group: &Value) -> Vec<&str> {
    let examples = group["examples"].as_array().unwrap();
    examples
        .iter()
        .map(|copy| copy["path"].as_str().unwrap())
        .collect()
}

#[test]
fn copies_across_splits_and_classes_are_found_and_other_pictures_are_not() {
    let folder = data_set(&[
        ("train/games/pins.png", icon("1f3b3.png")),
        ("train/games/ball.png", icon("26be.png")),
        ("train/faces/wow.png", icon("1f62f.png")),
        ("train/faces/astonished.png", icon("1f632.png")),
        ("test/games/shrunk.jpg", shrunk_and_saved_again()),
        ("test/faces/mislabelled.png", icon("26be.png")),
        ("test/faces/confused.png", icon("1f615.png")),
    ]);
    let inspection = inspected(folder.path());
    let copies = inspection["copies"].as_array().unwrap();
    assert_eq!(copies.len(), 2, "{inspection}");
    let [ball, pins] = [&copies[0], &copies[1]];
    assert_eq!(
        paths(ball),
        ["train/games/ball.png", "test/faces/mislabelled.png"]
    );
    assert_eq!(ball["identical"], true);
    assert_eq!(ball["across_classes"], true);
    assert_eq!(
        paths(pins),
        ["train/games/pins.png", "test/games/shrunk.jpg"]
    );
    assert_eq!(pins["identical"], false);
    assert_eq!(pins["across_splits"], true);
    assert_eq!(pins["across_classes"], false);

    let said = answer(&["data", "inspect", text(folder.path())]);
    assert!(
        said.contains("copies in more than one split: 2 group(s)"),
        "{said}"
    );
    assert!(
        said.contains("one of the labels is probably wrong"),
        "{said}"
    );
}

#[test]
fn the_demo_has_no_copies_and_nothing_to_look_after() {
    for task in ["icon-demo", "animal-silhouettes"] {
        let inspection = inspected(&demo_data(task));
        assert_eq!(inspection["copies"], Value::Array(Vec::new()), "{task}");
        assert_eq!(inspection["findings"], Value::Array(Vec::new()), "{task}");
    }
}

#[test]
fn an_unreadable_picture_is_listed_and_the_sheets_show_the_others() {
    let folder = data_set(&[
        ("train/games/pins.png", icon("1f3b3.png")),
        ("train/games/ball.png", icon("26be.png")),
        ("train/faces/wow.png", icon("1f62f.png")),
        ("train/faces/cut.png", icon("1f632.png")),
    ]);
    let cut = folder.path().join("train/faces/cut.png");
    let whole = fs::read(&cut).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();

    let inspection = inspected(folder.path());
    let unreadable = inspection["pictures"]["unreadable"].as_array().unwrap();
    assert_eq!(unreadable.len(), 1, "{inspection}");
    assert_eq!(unreadable[0]["path"], "train/faces/cut.png");
    assert!(unreadable[0]["reason"].as_str().unwrap().contains("PNG"));
    assert_eq!(inspection["pictures"]["readable"], 3);
    assert_eq!(inspection["pictures"]["formats"]["PNG"], 3);
    assert_eq!(
        inspection["pictures"]["sizes"][1],
        serde_json::json!([80, 80])
    );

    let sheets = TempDir::new().unwrap();
    let [png, page] = ["sheet.PNG", "sheet.HTML"].map(|name| sheets.path().join(name));
    for sheet in [&png, &page] {
        let data = text(folder.path());
        answer(&[
            "data",
            "inspect",
            data,
            "--sheet",
            text(sheet),
            "--pictures",
            "2",
        ]);
    }
    let sheet = open(&png, &DecodeOptions::default()).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (2 * 98, 2 * 98));
    let page = fs::read_to_string(&page).unwrap();
    assert_eq!(page.matches("data:image/png;base64,").count(), 3);
    assert!(page.contains("<h2>games</h2>"), "{page}");
    let refused = failure(
        2,
        &[
            "data",
            "inspect",
            text(folder.path()),
            "--sheet",
            "sheet.gif",
        ],
    );
    assert!(refused.contains(".html or .png"), "{refused}");

    // Without a single readable picture there is no sheet, but what is wrong with each is said.
    for name in ["games/pins.png", "games/ball.png", "faces/wow.png"] {
        let path = folder.path().join("train").join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    }
    let empty = sheets.path().join("empty.png");
    let output = command()
        .args(["data", "inspect", text(folder.path()), "--json"])
        .args(["--sheet", text(&empty)])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let [said, errors] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    let inspection = json(&said);
    let unreadable = inspection["pictures"]["unreadable"].as_array().unwrap();
    assert_eq!(unreadable.len(), 4, "{said}");
    assert!(
        errors.contains("empty.png: none of the pictures"),
        "{errors}"
    );
    assert!(!empty.exists());
}

#[test]
fn equal_rows_of_a_features_file_are_copies() {
    let folder = data_set(&[
        ("train/games/pins.png", icon("1f3b3.png")),
        ("train/faces/wow.png", icon("1f62f.png")),
        ("test/games/pins.png", icon("1f3b3.png")),
        ("test/faces/confused.png", icon("1f615.png")),
    ]);
    let features = folder.path().join("features.safetensors");
    answer(&[
        "encode",
        "--data",
        text(folder.path()),
        "--out",
        text(&features),
    ]);
    let inspection = inspected(&features);
    assert_eq!(inspection["features"]["rows"], 4);
    assert_eq!(inspection["pictures"], Value::Null);
    let copies = inspection["copies"].as_array().unwrap();
    assert_eq!(copies.len(), 1, "{inspection}");
    assert_eq!(
        paths(&copies[0]),
        ["train/games/pins.png", "test/games/pins.png"]
    );
    failure(
        1,
        &["data", "inspect", text(&features), "--sheet", "sheet.png"],
    );
}
