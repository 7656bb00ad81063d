//! The pages of runs and sweeps, as users get them.

mod common;

use std::fs;
use std::path::Path;

use common::{answer, class_folders, demo_data, failure, json, text};
use tempfile::TempDir;

fn page(path: &Path) -> String {
    let page = fs::read_to_string(path).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    // Self-contained: the only addresses are data and places in the page; what names SVG is no request.
    let plain = page.replace("http://www.w3.org/2000/svg", "");
    assert!(
        !plain.contains("http:") && !plain.contains("https:"),
        "{path:?}"
    );
    for (attribute, allowed) in [("src=\"", "data:image/png;base64,"), ("href=\"", "#")] {
        for rest in plain.split(attribute).skip(1) {
            assert!(rest.starts_with(allowed), "{attribute}{:.40}", rest);
        }
    }
    assert!(!plain.contains("<script") && !plain.contains("@import") && !plain.contains("url("));
    page
}

#[test]
fn a_run_shows_itself_as_a_page() {
    let folder = TempDir::new().unwrap();
    let data = demo_data("icon-demo");
    let run = folder.path().join("run");
    let line = [
        "train",
        "coop",
        "--data",
        text(&data),
        "--shots",
        "1",
        "--epochs",
        "3",
    ];
    let result = json(&answer(
        &[&line[..], &["--out", text(&run), "--json"]].concat(),
    ));
    let shown = page(&run.join("report.html"));
    let accuracy = format!("{:.1} %", 100.0 * result["accuracy"].as_f64().unwrap());
    assert!(shown.contains(&accuracy), "{accuracy}");
    for class in result["per_class"].as_object().unwrap().keys() {
        assert!(shown.contains(class), "{class}");
    }
    // What words come to is what a zero-shot run comes to.
    let words = folder.path().join("words");
    let zeroshot = [
        "train",
        "zeroshot",
        "--data",
        text(&data),
        "--templates",
        "a photo of a {}.",
    ];
    let zeroshot = json(&answer(
        &[&zeroshot[..], &["--out", text(&words), "--json"]].concat(),
    ));
    let words_accuracy = format!("{:.1} %", 100.0 * zeroshot["accuracy"].as_f64().unwrap());
    let baseline = shown.split("zero-shot, “a photo of a {}.”").nth(1).unwrap();
    assert!(
        baseline[..300].contains(&words_accuracy),
        "{words_accuracy}"
    );
    for part in [
        "id=\"learning\"",
        "id=\"confusion\"",
        "id=\"words\"",
        "id=\"map\"",
        "<svg",
    ] {
        assert!(shown.contains(part), "{part}");
    }
    assert!(shown.matches("data:image/png").count() > 17);
    assert!(shown.contains("contextune train coop --data"));
    assert!(shown.contains("learning_rate = "));

    // Written again it is the same; beside others it is compared.
    assert_eq!(
        answer(&["report", text(&run)]).trim_end(),
        text(&run.join("report.html"))
    );
    assert_eq!(page(&run.join("report.html")), shown);
    let compared = folder.path().join("compared.html");
    answer(&["report", text(&run), text(&words), "--out", text(&compared)]);
    let compared = page(&compared);
    assert!(compared.contains(&accuracy) && compared.contains(&words_accuracy));
}

/// Names are what people call their folders; nothing in them is markup.
#[test]
fn a_page_shows_any_name_and_any_kind_of_run() {
    let folder = TempDir::new().unwrap();
    let data = class_folders(folder.path());
    fs::rename(data.join("photo"), data.join("<b>&\"photo\"")).unwrap();
    let run = folder.path().join("run");
    answer(&[
        "train",
        "vpt",
        "--data",
        text(&data),
        "--epochs",
        "1",
        "--out",
        text(&run),
    ]);
    let shown = page(&run.join("report.html"));
    assert!(!shown.contains("<b>&"), "a class name became markup");
    assert!(shown.contains("&#60;b&#62;&#38;") || shown.contains("&lt;b&gt;&amp;"));

    // From features alone there are no pictures, and nothing else is missing.
    let features = folder.path().join("features.safetensors");
    answer(&[
        "encode",
        "--data",
        text(&demo_data("icon-demo")),
        "--out",
        text(&features),
    ]);
    let line = [
        "train",
        "linear-probe",
        "--data",
        text(&features),
        "--shots",
        "1",
    ];
    answer(&[&line[..], &["--out", text(&run), "--force"]].concat());
    let shown = page(&run.join("report.html"));
    assert!(!shown.contains("data:image/png") && shown.contains("id=\"confusion\""));

    fs::remove_file(run.join("result.json")).unwrap();
    let refused = failure(1, &["report", text(&run)]);
    assert!(refused.contains("contextune resume"), "{refused}");
}

#[test]
fn a_sweep_shows_its_tables_and_curves() {
    let folder = TempDir::new().unwrap();
    let plan = folder.path().join("plan.toml");
    let text_of_plan = format!(
        "out = \"runs\"\n[[experiment]]\ntitle = \"Few-shot\"\ndata = [{:?}]\nmethods = [\"tip-adapter\"]\nshots = [1, 2]\nseeds = [1, 2]\n",
        demo_data("animal-silhouettes")
    );
    fs::write(&plan, text_of_plan).unwrap();
    answer(&["sweep", text(&plan)]);
    let runs = folder.path().join("runs");
    let shown = page(&runs.join("report.html"));
    let summary = json(&fs::read_to_string(runs.join("summary.json")).unwrap());
    let mean = summary[0]["rows"][0]["entries"][1]["accuracy"]["mean"]
        .as_f64()
        .unwrap();
    assert!(shown.contains(&format!("{mean:.1} ± ")), "{mean}");
    assert!(shown.contains("<svg") && shown.contains("pictures of each class"));
    let of_run = page(&runs.join("animal-silhouettes/tip-adapter/2-shots/seed-2/report.html"));
    assert!(of_run.contains("contextune train tip-adapter"));
}
