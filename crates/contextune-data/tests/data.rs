//! Data sets from disk: the published few-shot samples, every layout, and every bad input.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{assert_refused, golden};
use contextune_data::data::{
    self, DataError, DataWarning, Dataset, DatasetKind, FeatureRows, FeaturesFile, Input,
    NamedTensor, Split, Subset, TensorValues, class_list,
};
use half::{bf16, f16};
use proptest::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Empty files at `paths` below a new folder; folders for paths that end in `/`.
fn tree(paths: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for path in paths {
        let full = folder.path().join(path);
        if path.ends_with('/') {
            fs::create_dir_all(full).unwrap();
        } else {
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, b"").unwrap();
        }
    }
    folder
}

fn open(folder: &TempDir) -> data::Result<Dataset> {
    data::open(folder.path(), 1)
}

fn names(dataset: &Dataset, split: Split) -> Vec<String> {
    let examples = dataset.split(split).iter();
    examples
        .map(|example| dataset.input_name(&example.input))
        .collect()
}

// Few-shot sampling and subsets.

#[test]
fn few_shot_samples_equal_the_official_ones() {
    let folder = tree(&["images/class_7/train_0008.jpg"]);
    let split_file = folder.path().join("split_zhou_Synthetic.json");
    fs::copy(golden("split_zhou_Synthetic.json"), split_file).unwrap();
    let dataset = open(&folder).unwrap();
    assert_eq!(dataset.kind, DatasetKind::CoopSplit);
    assert_eq!(dataset.test.len(), 35);

    let samples = fs::read_to_string(golden("fewshot_samples.json")).unwrap();
    let samples: Vec<Value> = serde_json::from_str(&samples).unwrap();
    assert_eq!(samples.len(), 15);
    for sample in samples {
        let (shots, seed) = (&sample["shots"], &sample["seed"]);
        let drawn = dataset
            .few_shot(shots.as_u64().unwrap() as usize, seed.as_u64().unwrap())
            .unwrap();
        for split in [Split::Train, Split::Val] {
            let expected = &sample[split.to_string()];
            assert_eq!(
                json!(names(&drawn, split)),
                *expected,
                "{split}, {shots} shots, seed {seed}"
            );
        }
        assert_eq!(drawn.test, dataset.test);
    }
}

#[test]
fn shots_beyond_a_class_keep_all_of_it_and_say_so() {
    let folder = tree(&[
        "train/cat/1.png",
        "train/dog/1.png",
        "train/dog/2.png",
        "test/cat/3.png",
        "test/dog/3.png",
    ]);
    let dataset = open(&folder).unwrap();
    let drawn = dataset.few_shot(2, 1).unwrap();
    assert_eq!(drawn.class_counts(Split::Train), [1, 2]);
    let warning = DataWarning::FewerThanShots {
        shots: 2,
        classes: vec![("cat".into(), 1)],
    };
    assert_eq!(drawn.warnings, [warning]);
    assert!(drawn.warnings[0].to_string().contains("cat has 1"));
    assert!(dataset.few_shot(1, 1).unwrap().warnings.is_empty());
    assert_refused(dataset.few_shot(0, 1), &["0 shots"]);
}

#[test]
fn a_fixed_sample_is_four_fifths_train_one_fifth_val_and_no_test() {
    let files: Vec<String> = ["train", "val", "test"]
        .iter()
        .flat_map(|split| (0..30).map(move |i| format!("{split}/{}/{i:02}.png", ["a", "b"][i % 2])))
        .collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let folder = tree(&files);
    let dataset = open(&folder).unwrap();
    let drawn = dataset.fixed_sample(20).unwrap();
    assert_eq!((drawn.train.len(), drawn.val.len()), (16, 4));
    assert_eq!(drawn.test, dataset.test);
    assert_eq!(drawn.warnings, dataset.warnings);
    let mut all = [names(&drawn, Split::Train), names(&drawn, Split::Val)].concat();
    assert!(all.iter().any(|name| name.starts_with("val/")), "{all:?}");
    assert!(!all.iter().any(|name| name.starts_with("test/")), "{all:?}");
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 20);
    // Always the same: runs of all seeds learn from one sample.
    assert_eq!(
        names(&dataset.fixed_sample(20).unwrap(), Split::Train),
        names(&drawn, Split::Train)
    );
    let together = drawn.clone().learning_from_val().unwrap();
    assert_eq!((together.train.len(), together.val.len()), (20, 0));
    let whole = dataset.fixed_sample(1000).unwrap();
    assert_eq!((whole.train.len(), whole.val.len()), (48, 12));
    let warning = DataWarning::FewerExamples {
        asked: 1000,
        there: 60,
    };
    assert_eq!(whole.warnings, [warning]);
    assert_refused(drawn.fixed_sample(1), &["1 example"]);

    // Where val/ serves as the test, nothing of it is learned from.
    let folder = tree(&[
        "train/a/1.png",
        "train/b/1.png",
        "val/a/2.png",
        "val/b/2.png",
    ]);
    let dataset = open(&folder).unwrap();
    let names = names(&dataset.fixed_sample(1000).unwrap(), Split::Train);
    assert!(
        names.iter().all(|name| name.starts_with("train/")),
        "{names:?}"
    );
    assert_refused(
        dataset.few_shot(1, 1).unwrap().learning_from_val(),
        &["test pictures"],
    );
}

#[test]
fn base_and_new_halve_the_classes_and_count_labels_from_zero() {
    let folder = tree(&["c/1.png", "a/1.png", "e/1.png", "b/1.png", "d/1.png"]);
    let dataset = open(&folder).unwrap();
    let base = dataset.subset(Subset::Base);
    let new = dataset.subset(Subset::New);
    assert_eq!(base.class_names, ["a", "b", "c"]);
    assert_eq!(new.class_names, ["d", "e"]);
    assert_eq!(names(&new, Split::Train), ["d/1.png", "e/1.png"]);
    let labels: Vec<_> = new.train.iter().map(|example| example.label).collect();
    assert_eq!(labels, [0, 1]);
    assert_eq!(dataset.subset(Subset::All).train, dataset.train);
}

// Folders of class folders.

#[test]
fn unsplit_folders_are_split_50_20_30_by_the_documented_rule() {
    let mut files = vec![
        "cat/a.png",
        "cat/b.JPG",
        "cat/c.jpeg",
        "cat/deep/d.webp",
        "cat/e.gif",
        "cat/f.bmp",
        "cat/g.png",
        "cat/h.png",
        "cat/i.png",
        "cat/j.png",
        "dog/x.png",
        "dog/y.png",
        "dog/z.png",
        "owl/only.png",
        "pig/1.png",
        "pig/2.png",
    ];
    // Computed with Python 3.11 from the rule in the documentation of `open`, seed 7.
    let train = [
        "cat/i.png",
        "cat/deep/d.webp",
        "cat/b.JPG",
        "cat/e.gif",
        "cat/h.png",
        "dog/y.png",
        "dog/x.png",
        "owl/only.png",
        "pig/2.png",
    ];
    let val = ["cat/a.png", "cat/j.png"];
    let test = [
        "cat/g.png",
        "cat/c.jpeg",
        "cat/f.bmp",
        "dog/z.png",
        "pig/1.png",
    ];
    for _ in 0..2 {
        let folder = tree(&files);
        let dataset = data::open(folder.path(), 7).unwrap();
        assert_eq!(dataset.kind, DatasetKind::ClassFolders);
        assert_eq!(dataset.class_names, ["cat", "dog", "owl", "pig"]);
        assert_eq!(names(&dataset, Split::Train), train);
        assert_eq!(names(&dataset, Split::Val), val);
        assert_eq!(names(&dataset, Split::Test), test);
        // The order of creation, and so perhaps of the file system, does not count.
        files.reverse();
    }
    let folder = tree(&files);
    let other = data::open(folder.path(), 8).unwrap();
    assert_ne!(names(&other, Split::Train), train);
}

#[test]
fn given_splits_are_kept() {
    let folder = tree(&[
        "train/dog/1.png",
        "train/cat/2.png",
        "Test/dog/3.png",
        "Test/cat/4.png",
        "val/dog/5.png",
        "notes/readme.txt",
    ]);
    let dataset = open(&folder).unwrap();
    assert_eq!(dataset.class_names, ["cat", "dog"]);
    assert_eq!(
        names(&dataset, Split::Train),
        ["train/cat/2.png", "train/dog/1.png"]
    );
    assert_eq!(names(&dataset, Split::Val), ["val/dog/5.png"]);
    assert_eq!(
        names(&dataset, Split::Test),
        ["Test/cat/4.png", "Test/dog/3.png"]
    );
    let expected = [
        DataWarning::FoldersIgnored {
            folders: vec!["notes".into()],
        },
        DataWarning::ClassesMissing {
            split: Split::Val,
            classes: vec!["cat".into()],
        },
    ];
    assert_eq!(dataset.warnings, expected);
}

#[test]
fn absent_splits_have_defined_answers() {
    let val_only = tree(&[
        "train/a/1.png",
        "train/b/1.png",
        "val/a/2.png",
        "val/b/2.png",
    ]);
    let dataset = open(&val_only).unwrap();
    assert_eq!(dataset.warnings, [DataWarning::ValIsTest]);
    assert_eq!(dataset.test, dataset.val);
    assert_eq!(names(&dataset, Split::Test), ["val/a/2.png", "val/b/2.png"]);

    let train_only = tree(&[
        "train/a/1.png",
        "train/a/2.png",
        "train/b/1.png",
        "train/b/2.png",
    ]);
    let dataset = open(&train_only).unwrap();
    assert_eq!(dataset.warnings, [DataWarning::TrainWasSplit { seed: 1 }]);
    assert_eq!(dataset.class_counts(Split::Train), [1, 1]);
    assert_eq!(dataset.class_counts(Split::Test), [1, 1]);

    let test_only = tree(&["test/a/1.png", "test/b/1.png"]);
    let dataset = open(&test_only).unwrap();
    assert_eq!(dataset.warnings, [DataWarning::NothingToTrain]);
    assert_eq!(dataset.test.len(), 2);

    // A locomotive is no split.
    let dataset = open(&tree(&["train/1.png", "truck/1.png"])).unwrap();
    assert_eq!(dataset.class_names, ["train", "truck"]);
}

#[test]
fn splits_are_found_under_the_names_that_people_give_them() {
    let folder = tree(&[
        "Training/dog/1.png",
        "Training/cat/2.png",
        "Testing/dog/3.png",
        "Testing/cat/4.png",
        "seg_pred/5.png",
    ]);
    let dataset = open(&folder).unwrap();
    assert_eq!(dataset.class_names, ["cat", "dog"]);
    assert_eq!(dataset.class_counts(Split::Train), [1, 1]);
    assert_eq!(dataset.class_counts(Split::Test), [1, 1]);
    let expected = [
        DataWarning::FoldersIgnored {
            folders: vec!["seg_pred".into()],
        },
        DataWarning::SplitsTaken {
            folders: vec![
                (Split::Train, "Training".into()),
                (Split::Test, "Testing".into()),
            ],
        },
    ];
    assert_eq!(dataset.warnings, expected);

    let folder = tree(&[
        "train/a/1.png",
        "train/b/2.png",
        "valid/a/3.png",
        "valid/b/4.png",
    ]);
    let dataset = open(&folder).unwrap();
    assert_eq!(
        names(&dataset, Split::Train),
        ["train/a/1.png", "train/b/2.png"]
    );
    assert_eq!(
        names(&dataset, Split::Val),
        ["valid/a/3.png", "valid/b/4.png"]
    );
    assert!(dataset.warnings.contains(&DataWarning::ValIsTest));

    let twice = tree(&[
        "train/a/1.png",
        "train/b/2.png",
        "seg_test/a/3.png",
        "testing/a/4.png",
    ]);
    assert_refused(
        open(&twice),
        &["two folders for the test split, seg_test and testing"],
    );
}

/// What lies beside folders of the plain names never matters, and classes may be called anything.
#[test]
fn other_names_are_splits_only_among_splits() {
    let beside = tree(&[
        "train/a/1.png",
        "train/b/2.png",
        "test/a/3.png",
        "test/b/4.png",
        "train_images/5.png",
        "testing/a/6.png",
        "tests/fixtures/7.png",
        "validation/readme.txt",
    ]);
    let dataset = open(&beside).unwrap();
    assert_eq!(dataset.class_counts(Split::Train), [1, 1]);
    assert_eq!(dataset.class_counts(Split::Test), [1, 1]);
    assert!(dataset.val.is_empty());

    for (folders, classes) in [
        (
            &["valid/2020/1.png", "invalid/2020/2.png"][..],
            &["invalid", "valid"][..],
        ),
        (
            &[
                "training/2019/1.png",
                "office/2019/2.png",
                "meeting/2019/3.png",
            ],
            &["meeting", "office", "training"],
        ),
        (&["train_1/1.png", "train_2/2.png"], &["train_1", "train_2"]),
    ] {
        assert_eq!(open(&tree(folders)).unwrap().class_names, classes);
    }
}

#[test]
fn pictures_without_labels_are_left_out() {
    let folder = tree(&[
        "train/a/1.png",
        "train/a/2.png",
        "train/b/1.png",
        "train/b/2.png",
        "test/7.png",
        "test/8.png",
    ]);
    let dataset = open(&folder).unwrap();
    assert_eq!(dataset.class_names, ["a", "b"]);
    let left_out = DataWarning::SplitWithoutClasses {
        folder: folder.path().join("test"),
        pictures: 2,
    };
    assert!(
        dataset.warnings.contains(&left_out),
        "{:?}",
        dataset.warnings
    );

    let flat = tree(&["train/1.png", "test/a/2.png", "test/b/2.png"]);
    let error = open(&flat).unwrap_err().to_string();
    assert!(
        error.contains("a folder of pictures without classes"),
        "{error}"
    );
}

#[test]
fn class_folders_that_look_like_splits_are_told() {
    let folder = tree(&[
        "north/a/1.png",
        "north/b/2.png",
        "south/a/3.png",
        "south/b/4.png",
    ]);
    let dataset = open(&folder).unwrap();
    assert_eq!(dataset.class_names, ["north", "south"]);
    let doubt = DataWarning::LooksLikeSplits {
        folders: vec!["north".into(), "south".into()],
        inside: vec!["a".into(), "b".into()],
    };
    assert_eq!(dataset.warnings, [doubt]);
}

#[test]
fn names_that_look_alike_are_one_name() {
    let folder = tree(&["caf\u{e9}/1.png", "cafe\u{301}/2.png"]);
    let error = open(&folder).unwrap_err().to_string();
    assert!(
        error.contains("\"cafe\\u{301}\" and \"caf\u{e9}\""),
        "{error}"
    );
}

#[test]
fn a_split_file_of_windows_is_read() {
    let folder = tree(&["images/a/1.png", "images/b/2.png"]);
    let split = json!({
        "train": [["a\\1.png", 0, "a"]],
        "val": [],
        "test": [["b\\2.png", 1, "b"]],
    });
    fs::write(folder.path().join("split_zhou_Own.json"), split.to_string()).unwrap();
    let dataset = open(&folder).unwrap();
    assert_eq!(names(&dataset, Split::Train), ["a/1.png"]);
    assert_eq!(names(&dataset, Split::Test), ["b/2.png"]);
}

#[test]
fn a_picture_is_known_by_its_content() {
    let folder = tree(&["a/1.png", "b/1.png"]);
    let png = fs::read(golden("preprocess_more").join("rgb16.png")).unwrap();
    let bmp = fs::read(golden("preprocess_more").join("rgb24.bmp")).unwrap();
    fs::write(folder.path().join("a/no_extension"), png).unwrap();
    fs::write(folder.path().join("b/1.dib"), &bmp).unwrap();
    fs::write(folder.path().join("b/1.bmp.bak"), bmp).unwrap();
    fs::write(
        folder.path().join("b/notes.md"),
        "BM is what a bitmap begins with",
    )
    .unwrap();
    let dataset = open(&folder).unwrap();
    let found = dataset.train.len() + dataset.val.len() + dataset.test.len();
    assert_eq!(found, 4);
}

#[test]
fn what_is_no_picture_is_counted() {
    let folder = tree(&[
        "a/1.png",
        "a/.hidden.png",
        "a/notes.txt",
        "b/1.png",
        "b/Thumbs.db",
        "stray.png",
        ".cache/x.png",
        "__MACOSX/a/1.png",
    ]);
    let dataset = open(&folder).unwrap();
    assert_eq!(dataset.class_names, ["a", "b"]);
    assert_eq!(dataset.train.len(), 2);
    let ignored = dataset.warnings.iter().find_map(|warning| match warning {
        DataWarning::FilesIgnored { count, .. } => Some(*count),
        _ => None,
    });
    assert_eq!(ignored, Some(4));
}

#[cfg(unix)]
#[test]
fn links_neither_loop_nor_multiply() {
    use std::os::unix::fs::symlink;
    let folder = tree(&["a/1.png", "b/1.png", "b/2.png", "elsewhere/x/3.png"]);
    let path = |name: &str| folder.path().join(name);
    fs::rename(path("elsewhere"), path(".elsewhere")).unwrap();
    symlink(path("a"), path("a/again")).unwrap();
    symlink(folder.path(), path("b/up")).unwrap();
    symlink(path("nowhere"), path("b/broken.png")).unwrap();
    symlink(path("a/self.png"), path("a/self.png")).unwrap();
    symlink(path(".elsewhere"), path("c")).unwrap();
    // A ladder of doubled links has 2^20 paths to its end.
    for rung in 0..20 {
        fs::create_dir(path(&format!(".ladder{rung}"))).unwrap();
        for side in ["left", "right"] {
            let next = path(&format!(".ladder{}", rung + 1));
            symlink(next, path(&format!(".ladder{rung}/{side}"))).unwrap();
        }
    }
    fs::create_dir(path(".ladder20")).unwrap();
    fs::write(path(".ladder20/end.png"), b"").unwrap();
    symlink(path(".ladder0"), path("d")).unwrap();

    let dataset = open(&folder).unwrap();
    assert_eq!(dataset.class_names, ["a", "b", "c", "d"]);
    let counts: Vec<usize> = (0..4)
        .map(|label| {
            let of_split = |split| dataset.class_counts(split)[label];
            Split::ALL.into_iter().map(of_split).sum()
        })
        .collect();
    assert_eq!(counts, [1, 2, 1, 1]);
}

#[test]
fn bad_folders_are_refused() {
    assert_refused(
        data::open(Path::new("no/such/place"), 1),
        &["no/such/place"],
    );
    assert_refused(open(&tree(&[])), &["no pictures and no class folders"]);
    assert_refused(open(&tree(&["1.png", "2.png"])), &["without classes"]);
    assert_refused(
        open(&tree(&["a/1.png", "b/", "c/c.txt"])),
        &["no pictures for \"b\", \"c\""],
    );
    assert_refused(
        open(&tree(&["flowers/rose/1.png", "flowers/tulip/1.png"])),
        &["\"flowers\"", "deeper"],
    );
    for (first, second) in [("polar bear", "polar_bear"), ("Cat", "cat")] {
        let folder = tree(&[&format!("{first}/1.png"), &format!("{second}/1.png")]);
        // A file system that does not tell case apart has one folder here.
        if fs::read_dir(folder.path()).unwrap().count() == 2 {
            assert_refused(open(&folder), &["one name", first, second]);
        }
    }
    assert_refused(
        open(&tree(&["train/a/1.png", "train/b/1.png", "test/c/1.png"])),
        &["\"c\"", "in the test split but not in the train split"],
    );
    assert_refused(
        open(&tree(&["train/a/1.png", "train/b/", "test/b/1.png"])),
        &["train has no pictures for \"b\""],
    );
    assert_refused(
        open(&tree(&["train/a/1.png", "train/b/1.png", "test/"])),
        &["test has no pictures and no class folders"],
    );
    assert_refused(
        open(&tree(&["train/1.png", "test/1.png"])),
        &["train is not a data set", "without classes"],
    );
    assert_refused(open(&tree(&["test/a/", "test/b/"])), &["no pictures for"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_class_name_that_is_no_text_is_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = tree(&["a/1.png"]);
    let class = folder.path().join(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(class).unwrap();
    assert_refused(open(&folder), &["caf", "no readable class name"]);
}

// CoOp data sets.

fn coop(split: Value, files: &[&str]) -> TempDir {
    let folder = tree(files);
    fs::write(folder.path().join("split_zhou_X.json"), split.to_string()).unwrap();
    folder
}

#[test]
fn pictures_are_found_where_the_published_data_sets_have_them() {
    let split = json!({"train": [["a/1.jpg", 0, "a"], ["b/1.jpg", 1, "b"]], "val": [], "test": [["a/2.jpg", 0, "a"]]});
    for below in [
        "images/",
        "101_ObjectCategories/",
        "jpg/",
        "2750/",
        "UCF-101-midframes/",
        "SUN397/",
        "",
    ] {
        // Only a test picture is there: the training pictures may be unpacked elsewhere by mistake.
        let folder = coop(
            split.clone(),
            &[&format!("{below}a/2.jpg"), "annotations/x.txt"],
        );
        let dataset = open(&folder).unwrap();
        assert_eq!(names(&dataset, Split::Train), ["a/1.jpg", "b/1.jpg"]);
        let picture = folder.path().join(below).join("a/2.jpg");
        assert_eq!(dataset.test[0].input, Input::Picture(picture));
    }
    assert_refused(
        open(&coop(split, &["pictures/a/1.jpg"])),
        &["a/1.jpg", "101_ObjectCategories"],
    );
}

#[test]
fn bad_split_files_are_refused() {
    let file = |train: Value, test: Value| {
        coop(
            json!({"train": train, "val": [], "test": test}),
            &["images/1.jpg", "images/2.jpg"],
        )
    };
    let cases: [(TempDir, &[&str]); 13] = [
        (
            coop(json!({"train": [], "val": []}), &[]),
            &["missing field `test`"],
        ),
        (coop(json!([1, 2]), &[]), &["split_zhou_X.json", "expected"]),
        (file(json!([["1.jpg", -1, "a"]]), json!([])), &["-1"]),
        (file(json!([["1.jpg", 0.5, "a"]]), json!([])), &["0.5"]),
        (file(json!([["1.jpg", 0]]), json!([])), &["invalid length"]),
        (file(json!([]), json!([])), &["lists no pictures"]),
        (
            file(
                json!([["1.jpg", 0, "a"], ["2.jpg", u64::MAX, "b"]]),
                json!([]),
            ),
            &["without gaps"],
        ),
        (
            file(json!([["1.jpg", 0, "a"], ["2.jpg", 0, "b"]]), json!([])),
            &["label 0 is \"a\" first and \"b\" for \"2.jpg\""],
        ),
        (
            file(json!([["1.jpg", 0, "a"], ["2.jpg", 1, "a"]]), json!([])),
            &["class \"a\" has label 0 first and label 1"],
        ),
        (
            file(
                json!([["1.jpg", 0, "sea lion"], ["2.jpg", 1, "Sea_lion"]]),
                json!([]),
            ),
            &["one name"],
        ),
        (
            file(json!([["1.jpg", 0, "a"], ["2.jpg", 1, " "]]), json!([])),
            &["no readable class name"],
        ),
        (
            file(json!([["1.jpg", 0, "a"], ["../2.jpg", 1, "b"]]), json!([])),
            &["../2.jpg", "not below"],
        ),
        (
            file(
                json!([["/etc/passwd", 0, "a"], ["2.jpg", 1, "b"]]),
                json!([]),
            ),
            &["/etc/passwd", "not below"],
        ),
    ];
    for (folder, parts) in cases {
        assert_refused(open(&folder), parts);
    }

    let two = tree(&["split_zhou_A.json", "split_zhou_B.json", "images/1.jpg"]);
    assert_refused(
        open(&two),
        &["split_zhou_A.json, split_zhou_B.json", "keep one"],
    );
    let cut = tree(&["split_zhou_A.json"]);
    fs::write(cut.path().join("split_zhou_A.json"), r#"{"train": [["1.jp"#).unwrap();
    assert_refused(open(&cut), &["split_zhou_A.json", "EOF"]);
    assert_refused(
        data::open(&cut.path().join("split_zhou_A.json"), 1),
        &["give the folder that holds it"],
    );
}

// Features files.

#[test]
fn a_file_of_the_official_code_is_read() {
    let dataset = data::open(&golden("coop_vit_unified_end.safetensors"), 1).unwrap();
    assert_eq!(dataset.kind, DatasetKind::FeaturesFile);
    assert_eq!((dataset.train.len(), dataset.class_names.len()), (7, 11));
    assert_eq!(dataset.class_names[10], "café au lait");
    let features = dataset.features.as_ref().unwrap();
    assert_eq!((features.rows(), features.width()), (7, 128));

    let bytes = fs::read(golden("coop_vit_unified_end.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let expected: Vec<f32> = file.tensor("image_features").unwrap().data()[128 * 4 * 5..]
        [..128 * 4]
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    assert_eq!(features.read(&[5]), expected);
}

/// Two classes, four rows of width 3.
struct Sample {
    features: Vec<f32>,
    class_names: Vec<String>,
    paths: Vec<String>,
}

impl Sample {
    fn new() -> Self {
        Self {
            features: (0..12).map(|i| i as f32 / 7.0 - 0.5).collect(),
            class_names: ["cat", "hot_dog"].map(String::from).into(),
            paths: ["a.png", "b.png", "c.png", "d.png"]
                .map(String::from)
                .into(),
        }
    }

    fn rows(&self) -> FeatureRows<'_> {
        FeatureRows {
            image_features: &self.features,
            width: 3,
            labels: &[0, 1, 0, 1],
            class_names: &self.class_names,
            ..FeatureRows::default()
        }
    }
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("F.safetensors");
    let sample = Sample::new();
    let text_features = NamedTensor {
        name: "text_features",
        shape: &[1, 3],
        values: TensorValues::F32(&[1.0, 2.0, 3.0]),
    };
    let rows = FeatureRows {
        splits: Some(&[Split::Train, Split::Train, Split::Val, Split::Test]),
        paths: Some(&sample.paths),
        fingerprint: Some("abc"),
        others: &[text_features],
        ..sample.rows()
    };
    rows.write(&path).unwrap();
    let first = fs::read(&path).unwrap();
    rows.write(&path).unwrap();
    assert_eq!(
        fs::read(&path).unwrap(),
        first,
        "equal contents, equal bytes"
    );
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );

    let dataset = data::open(&path, 1).unwrap();
    assert_eq!(dataset.class_names, sample.class_names);
    assert_eq!(names(&dataset, Split::Train), ["a.png", "b.png"]);
    assert_eq!(names(&dataset, Split::Val), ["c.png"]);
    assert_eq!(dataset.test[0].label, 1);
    assert_eq!(dataset.test[0].input, Input::FeatureRow(3));
    let features = dataset.features.unwrap();
    assert_eq!(features.fingerprint(), Some("abc"));
    let expected = [&sample.features[9..], &sample.features[..3]].concat();
    assert_eq!(features.read(&[3, 0]), expected);
}

#[test]
fn views_of_a_picture_are_one_example() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("F.safetensors");
    let sample = Sample::new();
    // Training pictures in two views, whether ordered by picture or by view.
    for (views, labels, pictures) in [
        ([0, 1, 0, 1], [0, 0, 1, 1], [[0, 1], [2, 3]]),
        ([0, 0, 1, 1], [0, 1, 0, 1], [[0, 2], [1, 3]]),
    ] {
        let rows = FeatureRows {
            views: Some(&views),
            labels: &labels,
            ..sample.rows()
        };
        rows.write(&path).unwrap();
        let dataset = data::open(&path, 1).unwrap();
        let features = dataset.features.as_ref().unwrap();
        let found: Vec<_> = dataset
            .train
            .iter()
            .map(|example| match example.input {
                Input::FeatureRow(row) => features.views_of(row),
                _ => panic!("{example:?}"),
            })
            .collect();
        assert_eq!(found, pictures);
        assert_eq!(dataset.class_counts(Split::Train), [1, 1]);
    }
    let lopsided = FeatureRows {
        views: Some(&[0, 0, 0, 1]),
        ..sample.rows()
    };
    assert_refused(
        lopsided.write(&path),
        &["1 train rows of view 1 but 3 of view 0"],
    );
    let crossed = FeatureRows {
        views: Some(&[0, 1, 0, 1]),
        ..sample.rows()
    };
    assert_refused(crossed.write(&path), &["rows 0 and 1", "labels differ"]);
}

/// A safetensors file as another program may write it.
fn file(tensors: &[(&str, Dtype, &[usize], Vec<u8>)], metadata: &[(&str, &str)]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (
            *name,
            TensorView::new(*dtype, shape.to_vec(), bytes).unwrap(),
        )
    });
    let metadata = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string()));
    safetensors::serialize(views, Some(metadata.collect())).unwrap()
}

fn i64s(values: &[i64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn read(bytes: &[u8]) -> data::Result<FeaturesFile> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("F.safetensors");
    fs::write(&path, bytes).unwrap();
    FeaturesFile::open(&path)
}

const NAMES: &[(&str, &str)] = &[("classnames", r#"["cat", "dog"]"#)];

#[test]
fn other_float_types_are_read() {
    let values = [0.5, -1.25, 3.0, 0.0];
    let bytes = [
        (
            Dtype::F16,
            values
                .iter()
                .flat_map(|&v| f16::from_f64(v).to_le_bytes())
                .collect(),
        ),
        (
            Dtype::BF16,
            values
                .iter()
                .flat_map(|&v| bf16::from_f64(v).to_le_bytes())
                .collect(),
        ),
        (
            Dtype::F64,
            values
                .iter()
                .flat_map(|&v| v.to_le_bytes())
                .collect::<Vec<u8>>(),
        ),
    ];
    for (dtype, bytes) in bytes {
        let labels = ("labels", Dtype::I64, &[2][..], i64s(&[0, 1]));
        let features = ("image_features", dtype, &[2, 2][..], bytes);
        let file = read(&file(&[labels, features], NAMES)).unwrap();
        assert_eq!(file.read(&[1, 0]), [3.0, 0.0, 0.5, -1.25]);
    }
}

#[test]
fn bad_features_files_are_refused() {
    let features = || {
        (
            "image_features",
            Dtype::F32,
            &[2, 2][..],
            f32s(&[0.0, 1.0, 2.0, 3.0]),
        )
    };
    let labels = || ("labels", Dtype::I64, &[2][..], i64s(&[0, 1]));
    let with = |name, dtype, shape, bytes| {
        file(&[features(), labels(), (name, dtype, shape, bytes)], NAMES)
    };
    let featuring =
        |dtype, shape, bytes| file(&[("image_features", dtype, shape, bytes), labels()], NAMES);
    let labelled =
        |dtype, shape, bytes| file(&[features(), ("labels", dtype, shape, bytes)], NAMES);
    let named = |metadata| file(&[features(), labels()], metadata);

    let cases: [(Vec<u8>, &[&str]); 22] = [
        (
            file(&[labels()], NAMES),
            &["no tensor image_features", "it has classnames, labels"],
        ),
        (
            file(&[features()], NAMES),
            &["no tensor labels", "encode a data set"],
        ),
        (named(&[]), &["no metadata entry classnames"]),
        (
            named(&[("classnames", "cat,dog")]),
            &["classnames", "no JSON list"],
        ),
        (
            named(&[("classnames", r#"["cat", "Cat"]"#)]),
            &["one name", "Cat"],
        ),
        (
            named(&[("classnames", r#"["cat", ""]"#)]),
            &["class 2 of 2"],
        ),
        (
            named(&[
                ("classnames", r#"["cat", "dog"]"#),
                ("paths", r#"["1.png"]"#),
            ]),
            &["1 paths for 2 rows"],
        ),
        (
            featuring(Dtype::I32, &[2, 2], i64s(&[0, 0])),
            &["image_features is of type I32"],
        ),
        (featuring(Dtype::F32, &[4], f32s(&[0.0; 4])), &["shape [4]"]),
        (featuring(Dtype::F32, &[0, 4], vec![]), &["shape [0, 4]"]),
        (
            featuring(Dtype::F32, &[usize::MAX, 0], vec![]),
            &["at least one of each"],
        ),
        (
            featuring(Dtype::F32, &[2, 2], f32s(&[0.0, 1.0, f32::NAN, 0.0])),
            &["NaN in row 1, column 0"],
        ),
        (
            featuring(
                Dtype::F32,
                &[2, 2],
                f32s(&[0.0, f32::NEG_INFINITY, 0.0, 0.0]),
            ),
            &["-inf in row 0, column 1"],
        ),
        (
            featuring(
                Dtype::F64,
                &[2, 1],
                [0.0f64, 1e300].map(f64::to_le_bytes).concat(),
            ),
            &["inf in row 1"],
        ),
        (
            labelled(Dtype::I64, &[2], i64s(&[0, 2])),
            &["labels is 2 in row 1"],
        ),
        (
            labelled(Dtype::I64, &[2], i64s(&[-1, 0])),
            &["labels is -1 in row 0"],
        ),
        (
            labelled(Dtype::I64, &[1], i64s(&[0])),
            &["labels has type I64 and shape [1]", "2 rows"],
        ),
        (
            labelled(Dtype::I32, &[2], i64s(&[0])),
            &["labels has type I32"],
        ),
        (
            with("split", Dtype::I64, &[2], i64s(&[0, 3])),
            &["split is 3 in row 1"],
        ),
        (
            with("split", Dtype::I64, &[2, 1], i64s(&[0, 0])),
            &["split has type I64 and shape [2, 1]"],
        ),
        (
            with("view", Dtype::I64, &[2], i64s(&[0, -7])),
            &["view is -7 in row 1"],
        ),
        (
            with("view", Dtype::I64, &[2], i64s(&[1, 1])),
            &["2 train rows of view 1 but 0 of view 0"],
        ),
    ];
    for (bytes, parts) in cases {
        assert_refused(read(&bytes), parts);
    }

    let path = ("paths", r#"["x/1.png", "x/2.png"]"#);
    let bad = file(
        &[
            (
                "image_features",
                Dtype::F32,
                &[2, 1],
                f32s(&[1.0, f32::NAN]),
            ),
            labels(),
        ],
        &[NAMES[0], path],
    );
    assert_refused(read(&bad), &["row 1 (x/2.png), column 0"]);

    let good = named(NAMES);
    for length in [9, 40, good.len() - 1] {
        assert_refused(read(&good[..length]), &["damaged"]);
    }
    assert_refused(read(&[good.clone(), vec![0]].concat()), &["damaged"]);
    assert_refused(read(b""), &["an empty file"]);
    #[cfg(unix)]
    assert_refused(data::open(Path::new("/dev/zero"), 1), &["no regular file"]);
    assert_refused(
        read(b"\x89PNG\r\n\x1a\n and so on"),
        &["no safetensors file"],
    );
    assert_refused(read(b"PK\x03\x04 and so on"), &["an archive or checkpoint"]);
}

#[test]
fn headers_that_lie_are_refused() {
    let header = |text: &str| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.bytes());
        bytes
    };
    let huge = r#"{"image_features": {"dtype": "F32", "shape": [1000000000000, 512], "data_offsets": [0, 2048000000000000]}}"#;
    let overflow = r#"{"image_features": {"dtype": "F32", "shape": [18446744073709551615, 8], "data_offsets": [0, 8]}}"#;
    let deep = format!("{{\"a\": {}", "[".repeat(100_000));
    for text in [huge, overflow, &deep] {
        assert_refused(read(&header(text)), &["damaged"]);
    }
    let mut longer_than_the_file = header("{}");
    longer_than_the_file[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_refused(read(&longer_than_the_file), &["damaged"]);
}

#[test]
fn a_refused_file_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("F.safetensors");
    let mut sample = Sample::new();
    sample.rows().write(&path).unwrap();
    let before = fs::read(&path).unwrap();

    sample.features[4] = f32::NAN;
    assert_refused(
        sample.rows().write(&path),
        &["F.safetensors: ", "row 1, column 1"],
    );
    let too_wide = FeatureRows {
        width: 4,
        ..sample.rows()
    };
    assert_refused(too_wide.write(&path), &["12 elements", "[4, 4]"]);
    let twice = [NamedTensor {
        name: "labels",
        shape: &[0],
        values: TensorValues::F32(&[]),
    }];
    let twice = FeatureRows {
        others: &twice,
        ..sample.rows()
    };
    assert_refused(twice.write(&path), &["labels is given twice"]);
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_refused(
        data::write_tensors(&folder.path().join("no/F"), &[], &BTreeMap::new()),
        &["no/F"],
    );
}

#[test]
fn a_single_class_is_refused_as_a_data_set() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("F.safetensors");
    let names = ["cat".to_owned()];
    let rows = FeatureRows {
        image_features: &[1.0],
        width: 1,
        labels: &[0],
        class_names: &names,
        ..FeatureRows::default()
    };
    rows.write(&path).unwrap();
    assert!(matches!(
        data::open(&path, 1),
        Err(DataError::SingleClass { .. })
    ));
}

proptest! {
    /// Whatever bytes change, opening ends with a file or an error.
    #[test]
    fn damaged_files_do_no_harm(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<Option<prop::sample::Index>>()) {
        let split = ("split", Dtype::I64, &[2][..], i64s(&[0, 2]));
        let view = ("view", Dtype::I64, &[2][..], i64s(&[0, 0]));
        let labels = ("labels", Dtype::I64, &[2][..], i64s(&[0, 1]));
        let features = ("image_features", Dtype::F16, &[2, 1][..], vec![0; 4]);
        let mut bytes = file(&[split, view, labels, features], NAMES);
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(file) = read(&bytes) {
            let rows: Vec<usize> = (0..file.rows()).collect();
            prop_assert!(file.read(&rows).iter().all(|value| value.is_finite()));
            prop_assert!(file.labels().iter().all(|&label| label < file.class_names().len()));
        }
    }
}

// Lists of classes.

#[test]
fn class_lists_come_from_arguments_and_files() {
    assert_eq!(
        class_list("cat, hot dog,owl").unwrap(),
        ["cat", "hot dog", "owl"]
    );
    assert_eq!(class_list("cat").unwrap(), ["cat"]);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("names");
    let from_file = |text: &[u8]| {
        fs::write(&path, text).unwrap();
        class_list(path.to_str().unwrap())
    };
    assert_eq!(
        from_file(b"\xef\xbb\xbfshoes, red\r\n polar_bear \r\n\r\n").unwrap(),
        ["shoes, red", "polar_bear"]
    );
    assert_eq!(
        from_file(b"cat\rhot dog\rowl").unwrap(),
        ["cat", "hot dog", "owl"],
        "an old Mac's list"
    );
    assert_eq!(
        from_file(b"n01440764 tench\nn01443537 goldfish\n").unwrap(),
        ["tench", "goldfish"]
    );
    assert_eq!(
        from_file(b"n04355933 sunglasses\nn04356056 sunglasses\n").unwrap(),
        ["sunglasses", "sunglasses"],
        "ImageNet's list"
    );
    assert_eq!(
        from_file(b"n01440764 tench\nn2 x\n").unwrap(),
        ["n01440764 tench", "n2 x"]
    );

    assert_refused(
        from_file(b"cat\ndog\nCat\n"),
        &["names has two classes", "\"Cat\""],
    );
    assert_refused(from_file(b"cat\n\ndog\n"), &["class 2 of 3"]);
    assert_refused(from_file(b"\n \n"), &["no class names"]);
    assert_refused(from_file(b"caf\xe9\n"), &["UTF-8"]);
    assert_refused(from_file(&vec![b'a'; (8 << 20) + 1]), &["8 MiB"]);
    assert_refused(class_list(""), &["no class names"]);
    assert_refused(class_list("cat,,dog"), &["class 2 of 3"]);
    assert_refused(class_list("polar bear,polar_bear"), &["one name"]);
    assert_refused(class_list("no/such/classes.txt"), &["no such file"]);
}
