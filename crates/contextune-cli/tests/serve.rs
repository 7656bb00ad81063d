//! The server as clients meet it: real runs, real pictures, real connections.

mod common;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::server::{Form, Server, reply};
use common::{answer, demo_data, failure, json, text};
use serde_json::{Value, json as value};
use tempfile::TempDir;

/// A learned context, a classifier that knows its classes alone, and prompts inside the image tower.
static RUNS: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = TempDir::new().unwrap();
    let data = demo_data("animal-silhouettes");
    for (name, method) in [
        ("context", &["coop", "--epochs", "4"][..]),
        ("probe", &["linear-probe"]),
        ("inside", &["vpt", "--tokens", "2", "--epochs", "1"]),
    ] {
        let out = folder.path().join(name);
        let common = [
            "--data",
            text(&data),
            "--shots",
            "1",
            "--out",
            text(&out),
            "--quiet",
        ];
        answer(&[&["train"][..], method, &common].concat());
    }
    folder
});

fn runs() -> [String; 3] {
    ["context", "probe", "inside"].map(|name| text(&RUNS.path().join(name)).to_owned())
}

fn server(folder: &Path, options: &[&str]) -> Server {
    let runs = runs();
    let runs: Vec<&str> = runs.iter().map(String::as_str).collect();
    Server::start(folder, &[&runs[..], options].concat())
}

/// So many pictures of a class of the demo.
fn pictures(class: &str, count: usize) -> Vec<PathBuf> {
    let folder = demo_data("animal-silhouettes").join("images").join(class);
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    found.truncate(count);
    found
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// The same classes with the same probabilities.
#[track_caller]
fn assert_same(answered: &Value, printed: &Value) {
    let top = answered["top"].as_array().unwrap();
    for (guess, expected) in top.iter().zip(printed["top"].as_array().unwrap()) {
        assert_eq!(guess["class"], expected[0], "{answered} {printed}");
        let difference = guess["probability"].as_f64().unwrap() - expected[1].as_f64().unwrap();
        assert!(difference.abs() < 1e-5, "{answered} {printed}");
    }
    assert_eq!(top.len(), 5);
}

#[test]
fn many_clients_get_the_answers_of_predict_and_classify() {
    let folder = TempDir::new().unwrap();
    let server = server(folder.path(), &["--no-teach"]);
    let classes = "bear,bird,cat,cow,dog,elephant,giraffe";
    let pictures: Vec<PathBuf> = ["bear", "cow", "zebra"]
        .iter()
        .flat_map(|class| pictures(class, 4))
        .collect();
    let paths: Vec<&str> = pictures.iter().map(|path| text(path)).collect();
    let [context, _, inside] = runs();
    let printed = |arguments: &[&str]| -> Vec<Value> {
        answer(&[arguments, &paths, &["--json", "--quiet"]].concat())
            .lines()
            .map(json)
            .collect()
    };
    let expected = [
        ("context", printed(&["predict", &context])),
        ("inside", printed(&["predict", &inside])),
        ("zero-shot", printed(&["classify", "--classes", classes])),
    ];
    // Every client asks another model about another picture at each moment.
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (server, expected, pictures) = (&server, &expected, &pictures);
            scope.spawn(move || {
                for turn in 0..12 {
                    let (model, answers) = &expected[(client + turn) % expected.len()];
                    let picture = (client * 5 + turn) % pictures.len();
                    let path = &pictures[picture];
                    let mut form = Form::default().field("model", model);
                    if *model == "zero-shot" {
                        form = form.field("classes", classes);
                    }
                    let form = form.file("image", name(path), &fs::read(path).unwrap());
                    let reply = server.post("/v1/predict", &form);
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    let reply = reply.json();
                    assert_eq!(reply["model"], *model);
                    assert_eq!(reply["predictions"][0]["name"], name(path));
                    assert_same(&reply["predictions"][0], &answers[picture]);
                }
            });
        }
    });
    // Many pictures at once, one of them broken, by form and by JSON, in their order.
    let mut form = Form::default();
    let mut images = Vec::new();
    for path in &pictures {
        let bytes = fs::read(path).unwrap();
        images.push(value!({"name": name(path), "data": STANDARD.encode(&bytes)}));
        form = form.file("image", name(path), &bytes);
    }
    form = form.file("image", "cut.png", &fs::read(&pictures[0]).unwrap()[..60]);
    let by_form = server.post("/v1/predict", &form).json();
    let by_json = server
        .post_json(
            "/v1/predict",
            &value!({"model": "context", "images": images}),
        )
        .json();
    for (place, expected) in expected[0].1.iter().enumerate() {
        assert_same(&by_form["predictions"][place], expected);
        assert_eq!(by_form["predictions"][place], by_json["predictions"][place]);
    }
    let broken = &by_form["predictions"][pictures.len()];
    assert_eq!(broken["name"], "cut.png");
    assert!(
        broken["error"].as_str().unwrap().contains("PNG"),
        "{broken}"
    );
    // A learned context goes with other names as well.
    let form = Form::default()
        .field("classes", "ant\nwhale")
        .field("top", "1");
    let other = server
        .post(
            "/v1/predict",
            &form.file("image", "a.png", &fs::read(&pictures[0]).unwrap()),
        )
        .json();
    let top = other["predictions"][0]["top"].as_array().unwrap();
    assert!(top.len() == 1 && ["ant", "whale"].contains(&top[0]["class"].as_str().unwrap()));
    let counted = server.get("/metrics").text();
    assert!(
        counted.contains("contextune_pictures_total{model=\"context\"}"),
        "{counted}"
    );
    assert_eq!(server.interrupt().code(), Some(0));
}

/// A PNG whose header declares 10,000 x 10,000 pixels.
fn bomb() -> Vec<u8> {
    let mut bytes = fs::read(&pictures("bear", 1)[0]).unwrap();
    bytes[16..24].copy_from_slice(&[0, 0, 0x27, 0x10, 0, 0, 0x27, 0x10]);
    // The checksum of the header has to be right for the size to be looked at.
    let checksum = bytes[12..29].iter().fold(!0u32, |checksum, &byte| {
        (0..8).fold(checksum ^ u32::from(byte), |rest, _| {
            rest >> 1 ^ (0xedb8_8320 * (rest & 1))
        })
    });
    bytes[29..33].copy_from_slice(&(!checksum).to_be_bytes());
    bytes
}

#[test]
fn what_cannot_be_answered_is_refused_with_a_sentence() {
    let folder = TempDir::new().unwrap();
    let server = server(folder.path(), &["--no-teach", "--max-picture-mb", "1"]);
    let picture = fs::read(&pictures("bear", 1)[0]).unwrap();
    let file = |form: Form| form.file("image", "bear.png", &picture);
    let form = Form::default;
    let many = vec!["a"; 1001].join("\n");
    let forms = [
        (422, "no picture", form()),
        (
            422,
            "no known picture format",
            form().file("image", "a.png", b"hello"),
        ),
        (
            422,
            "10000 x 10000",
            form().file("image", "bomb.png", &bomb()),
        ),
        (
            422,
            "PNG",
            form().file("image", "cut.png", &picture[..picture.len() / 2]),
        ),
        (
            413,
            "at most 1000000",
            form().file("image", "large.png", &vec![0; 2 << 20]),
        ),
        (404, "nobody", file(form().field("model", "nobody"))),
        (422, "templates", file(form().field("templates", "a {}."))),
        (422, "classes", file(form().field("model", "zero-shot"))),
        (
            422,
            "no others",
            file(form().field("model", "probe").field("classes", "a,b")),
        ),
        (
            422,
            "{}",
            file(
                form()
                    .field("model", "zero-shot")
                    .field("classes", "a,b")
                    .field("templates", "no place"),
            ),
        ),
        (422, "names no class", file(form().field("classes", " , "))),
        (422, "cat", file(form().field("classes", "cat, Cat"))),
        (
            422,
            "at most",
            file(form().field("classes", &many.replace('a', "ab"))),
        ),
        (422, "0", file(form().field("top", "0"))),
        (422, "no field", file(form().field("colour", "red"))),
    ];
    for (status, words, form) in forms {
        let reply = server.post("/v1/predict", &form);
        assert_eq!(reply.status, status, "{words}: {}", reply.text());
        let error = reply.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(words), "{words}: {error}");
    }
    let json = "Content-Type: application/json\r\n";
    let cut = [&Form::header()[..], ""].concat();
    for (status, line, headers, body) in [
        (400, "POST /v1/predict", json, &b"{\"images\": ["[..]),
        (400, "POST /v1/predict", json, b"{\"pictures\": []}"),
        (
            422,
            "POST /v1/predict",
            json,
            b"{\"images\": [\"not base64!\"]}",
        ),
        (
            415,
            "POST /v1/predict",
            "Content-Type: image/png\r\n",
            b"picture",
        ),
        (415, "POST /v1/predict", "", b""),
        (400, "POST /v1/predict", &cut, b"--something else"),
        (404, "GET /../Cargo.toml", "", b""),
        (404, "GET /v1/models/nobody/report.html", "", b""),
        (404, "GET /v1/models/zero-shot/prompt.safetensors", "", b""),
        (
            403,
            "GET /v1/models",
            "Origin: https://example.org\r\n",
            b"",
        ),
        (403, "GET /v1/models", "Host: rebound.example.org\r\n", b""),
        (403, "POST /v1/teach", &cut, b""),
        (405, "GET /v1/predict", "", b""),
    ] {
        let reply = server.send(line, headers, body);
        assert_eq!(reply.status, status, "{line} {headers}: {}", reply.text());
    }
    // None of this did any harm.
    assert_eq!(server.post("/v1/predict", &file(form())).status, 200);
    assert_eq!(server.get("/healthz").text(), "{\"status\":\"ok\"}");
}

#[test]
fn a_full_queue_and_slow_clients_are_told_so() {
    let folder = TempDir::new().unwrap();
    let server = server(
        folder.path(),
        &["--no-teach", "--queue", "1", "--timeout", "1"],
    );
    let picture = fs::read(&pictures("bear", 1)[0]).unwrap();
    // What could never find a place is not told to come again.
    let two = Form::default()
        .file("image", "a.png", &picture)
        .file("image", "b.png", &picture);
    let refused = server.post("/v1/predict", &two);
    assert_eq!(refused.status, 413, "{}", refused.text());
    // Of many at once, those without a place are.
    let replies: Vec<_> = std::thread::scope(|scope| {
        let (server, picture) = (&server, &picture);
        let asked: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(move || {
                    let form = Form::default().field("model", "inside");
                    server.post("/v1/predict", &form.file("image", "a.png", picture))
                })
            })
            .collect();
        asked
            .into_iter()
            .map(|asked| asked.join().unwrap())
            .collect()
    });
    let (answered, busy): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert!(!answered.is_empty() && !busy.is_empty());
    for reply in busy {
        assert_eq!(
            (reply.status, reply.header("retry-after")),
            (503, Some("1")),
            "{}",
            reply.text()
        );
    }
    // Someone sends a byte and no more.
    let mut slow = server.connect();
    let head = format!(
        "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 1000\r\n{}\r\n-",
        Form::header()
    );
    slow.write_all(head.as_bytes()).unwrap();
    let began = Instant::now();
    // Others are answered meanwhile.
    let one = Form::default().file("image", "a.png", &picture);
    assert_eq!(server.post("/v1/predict", &one).status, 200);
    assert_eq!(reply(slow).status, 408);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn others_need_a_token() {
    let folder = TempDir::new().unwrap();
    let error = failure(2, &["serve", "--listen", "0.0.0.0:0"]);
    assert!(error.contains("--token"), "{error}");
    let server = server(
        folder.path(),
        &["--listen", "0.0.0.0:0", "--token", "open-sesame"],
    );
    assert_eq!(server.get("/v1/models").status, 401);
    assert_eq!(server.get("/metrics").status, 401);
    assert_eq!(server.get("/healthz").status, 200);
    for wrong in ["open-sesam", "", "open-sesame2"] {
        let headers = format!("Authorization: Bearer {wrong}\r\n");
        assert_eq!(server.send("GET /v1/models", &headers, b"").status, 401);
    }
    let headers = "Authorization: Bearer open-sesame\r\nHost: pictures.example.org\r\n";
    assert_eq!(server.send("GET /v1/models", headers, b"").status, 200);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(server.send("POST /login", form, b"token=no").status, 401);
    let reply = server.send("POST /login", form, b"token=open-sesame");
    let cookie = reply.header("set-cookie").unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let headers = format!("Cookie: a=b; {}\r\n", cookie.split(';').next().unwrap());
    assert_eq!(server.send("GET /v1/models", &headers, b"").status, 200);
}

/// Waits until a lesson is over.
fn lesson(server: &Server, name: &str) -> Value {
    let began = Instant::now();
    loop {
        let progress = server.get(&format!("/v1/teach/{name}")).json();
        if !["encoding", "learning"].contains(&progress["state"].as_str().unwrap()) {
            return progress;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "{progress}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The most memory that the server has held, in bytes.
fn peak_memory(server: &Server) -> f64 {
    let counted = server.get("/metrics").text();
    let line = counted
        .lines()
        .find_map(|line| line.strip_prefix("contextune_memory_peak_bytes "));
    line.unwrap().parse().unwrap()
}

fn lesson_form(name: &str, count: usize) -> Form {
    let mut form = Form::default().field("name", name);
    for class in ["bear", "giraffe"] {
        for path in pictures(class, count) {
            form = form.file(
                &format!("class/{class}"),
                "picture.png",
                &fs::read(path).unwrap(),
            );
        }
    }
    form
}

#[test]
fn a_lesson_is_learned_kept_and_served_again() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &[]);
    let reply = server.post("/v1/teach", &lesson_form("animals", 10));
    assert_eq!(reply.status, 202, "{}", reply.text());
    let progress = lesson(&server, "animals");
    assert_eq!(progress["state"], "done", "{progress}");
    assert_eq!(progress["held_out"], 4);
    assert_eq!(
        progress["curve"].as_array().unwrap().len(),
        progress["epochs"].as_u64().unwrap() as usize
    );
    let curve = progress["curve"].as_array().unwrap();
    let loss = |point: &Value| point["loss"].as_f64().unwrap();
    assert!(
        loss(&curve[curve.len() - 1]) < 0.5 * loss(&curve[0]),
        "{progress}"
    );
    // The other pictures of these classes are told apart far better than by chance.
    let mut right = 0;
    for class in ["bear", "giraffe"] {
        for path in pictures(class, 40).iter().skip(10) {
            let form = Form::default().field("model", "animals").file(
                "image",
                "a.png",
                &fs::read(path).unwrap(),
            );
            right += usize::from(
                server.post("/v1/predict", &form).json()["predictions"][0]["class"] == class,
            );
        }
    }
    assert!(right >= 42, "{right} of 60");
    let page = server.get("/v1/models/animals/report.html");
    assert!(page.status == 200 && page.text().starts_with("<!doctype html>"));
    let prompt = server.get("/v1/models/animals/prompt.safetensors");
    let kept = fs::read(
        folder
            .path()
            .join("contextune-taught/animals/run/prompt.safetensors"),
    )
    .unwrap();
    assert_eq!(prompt.body, kept);
    // The command line takes the lesson for the run that it is.
    let run = folder.path().join("contextune-taught/animals/run");
    let evaluated = json(&answer(&["eval", text(&run), "--json"]));
    assert_eq!(evaluated["accuracy"], progress["accuracy"]);
    assert_eq!(server.interrupt().code(), Some(0));

    let server = Server::start(folder.path(), &[]);
    let models = server.get("/v1/models").json();
    assert_eq!(
        (&models["models"][1]["name"], &models["models"][1]["taught"]),
        (&value!("animals"), &value!(true))
    );
    assert_eq!(
        server.post("/v1/teach", &lesson_form("animals", 2)).status,
        409
    );
    // Too few to hold any out: all are learned from.
    assert_eq!(server.post("/v1/teach", &lesson_form("few", 2)).status, 202);
    let progress = lesson(&server, "few");
    assert_eq!(
        (&progress["state"], &progress["accuracy"]),
        (&value!("done"), &Value::Null),
        "{progress}"
    );
    for (form, words) in [
        (Form::default().file("class/a", "a.png", b"x"), "name"),
        (
            Form::default()
                .field("name", "../out")
                .file("class/a", "a.png", b"x"),
            "../out",
        ),
        (
            Form::default()
                .field("name", "new")
                .file("class/../a", "a.png", b"x"),
            "../a",
        ),
        (
            Form::default()
                .field("name", "new")
                .file("class/a", "words.png", b"hello"),
            "words.png",
        ),
        (Form::default().field("name", "new"), "two classes"),
    ] {
        let reply = server.post("/v1/teach", &form);
        assert!(
            reply.status == 422 && reply.text().contains(words),
            "{words}: {}",
            reply.text()
        );
    }
    // What never ends is let go before it has taken memory, in a field or in front of the first part; so is a list of numbers
    // where pictures belong.
    let before = peak_memory(&server);
    let flood = "x".repeat(8 << 20);
    let reply = server.post("/v1/teach", &Form::default().field("name", &flood));
    assert_eq!(reply.status, 413, "{}", reply.text());
    let reply = server.send("POST /v1/teach", &Form::header(), flood.as_bytes());
    assert_eq!(reply.status, 400, "{}", reply.text());
    let numbers = format!("{{\"images\": [[{}0]]}}", "0,".repeat(12 << 20));
    let headers = "Content-Type: application/json\r\n";
    let reply = server.send("POST /v1/predict", headers, numbers.as_bytes());
    assert_eq!(reply.status, 400, "{}", reply.text());
    let taken = peak_memory(&server) - before;
    assert!(taken < 128e6, "{taken} bytes more");
    // What is held out but cannot be read costs the accuracy, not the lesson.
    let mut form = lesson_form("broken", 4);
    let picture = fs::read(&pictures("bear", 1)[0]).unwrap();
    form = form.file("class/bear", "cut short.png", &picture[..picture.len() / 2]);
    assert_eq!(server.post("/v1/teach", &form).status, 202);
    let progress = lesson(&server, "broken");
    assert_eq!(
        (&progress["state"], &progress["accuracy"]),
        (&value!("done"), &Value::Null),
        "{progress}"
    );
    assert!(
        progress["remarks"].to_string().contains("cut short.png"),
        "{progress}"
    );
    let left: Vec<_> = fs::read_dir(folder.path().join("contextune-taught"))
        .unwrap()
        .collect();
    assert_eq!(
        left.len(),
        3,
        "nothing is left of lessons that were refused: {left:?}"
    );
    assert_eq!(server.interrupt().code(), Some(0));
}

#[test]
fn the_document_describes_every_path() {
    let folder = TempDir::new().unwrap();
    let server = server(folder.path(), &[]);
    let document = server.get("/openapi.json").json();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 9, "{paths:?}");
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let line = format!(
                "{} {}",
                method.to_uppercase(),
                path.replace("{name}", "context")
            );
            let reply = server.send(&line, "", b"");
            assert_ne!(reply.status, 405, "{line}");
            let is_known = reply.text().contains("nothing at this address");
            assert!(!is_known, "{line}: {}", reply.text());
        }
    }
    // Every description that is referred to is there.
    let text = document.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(
            document["components"]["schemas"].get(name).is_some(),
            "{name}"
        );
    }
}

/// The page in Chromium. `CONTEXTUNE_CHROMIUM` names the browser; without it the test is skipped, except where `CI` is set: there
/// it must not be forgotten.
#[test]
fn slow_the_page_works_in_a_browser() {
    let Some(browser) = std::env::var_os("CONTEXTUNE_CHROMIUM") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must set CONTEXTUNE_CHROMIUM"
        );
        eprintln!("skipped: CONTEXTUNE_CHROMIUM is not set");
        return;
    };
    let folder = TempDir::new().unwrap();
    let data = demo_data("animal-silhouettes");
    let run = folder.path().join("silhouettes");
    answer(&[
        "train",
        "coop",
        "--data",
        text(&data),
        "--shots",
        "4",
        "--out",
        text(&run),
        "--quiet",
    ]);
    let server = Server::start(folder.path(), &["silhouettes"]);
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests-browser");
    let output = Command::new("node")
        .args(["--test", "page.test.mjs"])
        .current_dir(tests)
        .env("CHROMIUM", browser)
        .env("CONTEXTUNE_URL", format!("http://{}/", server.address))
        .env("CONTEXTUNE_PICTURES", data.join("images"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}
