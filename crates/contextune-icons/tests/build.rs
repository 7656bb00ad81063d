//! The whole way from packages to datasets, on a handful of drawings made for this test.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use contextune_icons::dataset::{Builder, Count};
use serde_json::{Value, json};

const SIDE: u32 = 64;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixture")
}

/// All datasets below `out`; what they count.
fn build(out: &Path) -> Vec<Count> {
    let builder = Builder::new(&fixture(), &fixture().join("split.json"), SIDE).unwrap();
    let (concepts, dropped) = builder.concepts(out).unwrap();
    assert_eq!(
        dropped, 1,
        "the tag `pig` of the red square is a held-out name"
    );
    let mut counts = vec![concepts];
    counts.extend(builder.subgroups(out).unwrap());
    counts.push(builder.demo_icons(out).unwrap());
    counts.push(builder.silhouettes(out, None).unwrap());
    counts
}

fn json(path: PathBuf) -> Value {
    serde_json::from_reader(BufReader::new(File::open(path).unwrap())).unwrap()
}

/// Every file below `root` with its bytes.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(
                    path.strip_prefix(root).unwrap().to_owned(),
                    std::fs::read(&path).unwrap(),
                );
            }
        }
    }
    found
}

/// The pixels of a picture, which must be opaque RGB.
fn pixels(path: &Path, side: u32) -> Vec<[u8; 3]> {
    let mut reader = png::Decoder::new(BufReader::new(File::open(path).unwrap()))
        .read_info()
        .unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    assert_eq!(
        (info.width, info.height, info.color_type),
        (side, side, png::ColorType::Rgb),
        "{}",
        path.display()
    );
    bytes.as_chunks().0.to_vec()
}

#[test]
fn each_part_gets_what_the_split_file_says() {
    let out = tempfile::tempdir().unwrap();
    let counts = build(out.path());
    let count = |dataset: &str, classes, train, val, test| Count {
        dataset: dataset.into(),
        classes,
        train,
        val,
        test,
    };
    assert_eq!(
        counts,
        [
            count("icon-concepts", 4, 4, 1, 2),
            count("icon-subgroups", 2, 4, 2, 4),
            count("icon-subgroups-coarse", 2, 4, 2, 4),
            count("icon-styles/noto", 2, 2, 1, 2),
            count("icon-styles/fluent-3d", 2, 2, 1, 2),
            count("icon-demo", 2, 2, 1, 2),
            count("animal-silhouettes", 10, 20, 10, 20),
        ]
    );
    let concepts = out.path().join("icon-concepts");
    assert_eq!(
        json(concepts.join("split_zhou_IconConcepts.json")),
        json!({
            "train": [
                ["noto/1f437.png", 0, "pig face"],
                ["twemoji/1f437.png", 0, "pig face"],
                // This set has no code points and calls the pig's face `pig`.
                ["fxemoji/1f437.png", 0, "pig face"],
                ["noto/1f7e5.png", 1, "red square"],
            ],
            "val": [["noto/1f44b.png", 2, "waving hand"]],
            "test": [
                ["noto/1f416.png", 3, "pig"],
                ["fluent-3d/1f416.png", 3, "pig"],
            ],
        })
    );
    assert_eq!(
        json(concepts.join("captions.json")),
        json!({
            "noto/1f437.png": ["pig face", "animal", "farm", "face"],
            "twemoji/1f437.png": ["pig face", "animal", "farm", "face"],
            "fxemoji/1f437.png": ["pig face", "animal", "farm", "face"],
            "noto/1f7e5.png": ["red square", "color", "geometric"],
        })
    );
    assert_eq!(
        json(concepts.join("held_out_style.json")),
        json!({ "train": [], "val": [], "test": [["fluent-3d/1f437.png", 0, "pig face"]] })
    );
    let pictures = files(&concepts.join("images"));
    assert_eq!(pictures.len(), 8, "one file for each row, and no others");
}

#[test]
fn pictures_are_opaque_and_stand_apart_from_their_background() {
    let out = tempfile::tempdir().unwrap();
    build(out.path());
    let side = SIDE as usize;
    let images = out.path().join("icon-concepts/images");
    let at = |pixels: &[[u8; 3]], x: usize, y: usize| pixels[y * side + x];

    let square = pixels(&images.join("noto/1f7e5.png"), SIDE);
    let background = at(&square, 0, 0);
    assert_eq!(at(&square, side / 2, side / 2), [255, 0, 0]);
    for (x, y) in [(side - 1, 0), (0, side - 1), (side - 1, side - 1)] {
        assert_eq!(at(&square, x, y), background, "a plain background");
    }
    let apart = background
        .iter()
        .zip([255, 0, 0])
        .map(|(a, b)| a.abs_diff(b))
        .max()
        .unwrap();
    assert!(apart > 40, "{background:?} hides red");

    // The alias mirrors its parent: the hand that fills the left half fills the right half.
    let hand = pixels(&images.join("noto/1f44b.png"), SIDE);
    assert_eq!(at(&hand, 3 * side / 4, side / 2), [0xff, 0xc8, 0x3d]);
    assert_eq!(at(&hand, side / 4, side / 2), at(&hand, 0, 0));

    let webp = pixels(&images.join("fluent-3d/1f416.png"), SIDE);
    assert_eq!(at(&webp, side / 2, side / 2), [0, 0, 255]);
    // 48 of the 64 source pixels are blue: 0.9375 * 48 = 45 of 64 pixels here.
    let blue = (0..side)
        .filter(|&x| at(&webp, x, side / 2) == [0, 0, 255])
        .count();
    assert!((44..=45).contains(&blue), "{blue} blue pixels in a row");

    let backgrounds: std::collections::BTreeSet<_> = files(&images)
        .keys()
        .map(|path| pixels(&images.join(path), SIDE)[0])
        .collect();
    assert!(backgrounds.len() >= 6, "the backgrounds differ");
}

#[test]
fn silhouettes_come_once_and_in_one_part() {
    let out = tempfile::tempdir().unwrap();
    build(out.path());
    let root = out.path().join("animal-silhouettes");
    let pictures: Vec<_> = files(&root.join("images")).into_iter().collect();
    for (i, (path, bytes)) in pictures.iter().enumerate() {
        assert!(
            pictures[..i].iter().all(|(_, other)| other != bytes),
            "{} comes twice",
            path.display()
        );
    }
    assert_eq!(
        pixels(&root.join("images").join(&pictures[0].0), 28).len(),
        28 * 28
    );
    let split = json(root.join("split_zhou_AnimalSilhouettes.json"));
    let mut paths: Vec<&str> = ["train", "val", "test"]
        .iter()
        .flat_map(|part| split[part].as_array().unwrap())
        .map(|item| item[0].as_str().unwrap())
        .collect();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), pictures.len());
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    build(first.path());
    build(second.path());
    assert_eq!(files(first.path()), files(second.path()));
}

#[test]
fn a_folder_that_exists_is_not_written_into() {
    let out = tempfile::tempdir().unwrap();
    std::fs::create_dir(out.path().join("icon-demo")).unwrap();
    let builder = Builder::new(&fixture(), &fixture().join("split.json"), SIDE).unwrap();
    let error = builder.demo_icons(out.path()).unwrap_err().to_string();
    assert!(error.contains("icon-demo exists: delete it"), "{error}");
}

#[test]
fn a_missing_package_says_what_to_do() {
    let empty = tempfile::tempdir().unwrap();
    let error = Builder::new(empty.path(), &fixture().join("split.json"), SIDE)
        .err()
        .unwrap();
    assert!(
        format!("{error:#}").contains("fetch the sources first"),
        "{error:#}"
    );
}
