//! The server as clients meet it: real connections, and the model that is part of the program.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use contextune::model::{Model, ModelError, ModelOptions};
use contextune_server::{Limits, Options, Server, Shelf, ShelfError, taught};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(120);
const LIMITS: Limits = Limits {
    picture_bytes: 20_000,
    pixels: 64 * 64,
    waiting: 8,
    patience: PATIENCE,
};
const FORM: &str = "Content-Type: multipart/form-data; boundary=x\r\n";

/// A server in this process; it ends with the test.
struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

fn embedded(_: Option<&str>, options: ModelOptions) -> Result<Model, ModelError> {
    Model::open(None, options, &Device::flex(), |_| ())
}

/// A shelf with the words of the embedded model.
fn words() -> Shelf {
    let mut shelf = Shelf::new(Device::flex());
    shelf
        .add_model(None, ModelOptions::default(), &mut embedded)
        .unwrap();
    shelf
}

fn start(shelf: Shelf, token: Option<&str>, taught: Option<&Path>) -> Running {
    let options = Options {
        token: token.map(ToOwned::to_owned),
        limits: LIMITS,
        taught: taught.map(ToOwned::to_owned),
        cache: None,
    };
    let server = Server::new(shelf, options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let listening = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listener = runtime.block_on(listening).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let serve = async move {
        let stopped = async {
            // Sent, or dropped by a test that fails.
            let _ = stopped.await;
        };
        server.serve(listener, stopped).await
    };
    Running {
        address,
        stop: Some(stop),
        thread: Some(std::thread::spawn(move || runtime.block_on(serve))),
    }
}

impl Running {
    #[track_caller]
    fn send(&self, line: &str, headers: &str, body: &[u8]) -> Reply {
        let host = match headers.contains("Host:") {
            true => String::new(),
            false => format!("Host: {}\r\n", self.address),
        };
        let length = body.len();
        let head = format!(
            "{line} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses a body does not read it.
        let _ = stream.write_all(body);
        let mut reply = Vec::new();
        let read = stream.read_to_end(&mut reply);
        let reply = String::from_utf8_lossy(&reply);
        let Some((head, body)) = reply.split_once("\r\n\r\n") else {
            panic!("{line}: no answer, but {read:?} and {reply:?}");
        };
        let status = head.split(' ').nth(1).unwrap();
        Reply {
            status: status.parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    #[track_caller]
    fn get(&self, path: &str) -> Reply {
        self.send(&format!("GET {path}"), "", b"")
    }

    #[track_caller]
    fn post(&self, path: &str, form: Form) -> Reply {
        self.send(&format!("POST {path}"), FORM, &form.end())
    }

    /// Waits until a lesson is over.
    #[track_caller]
    fn lesson(&self, name: &str) -> Value {
        let began = Instant::now();
        loop {
            let progress = self.get(&format!("/v1/teach/{name}")).json();
            if !["encoding", "learning"].contains(&progress["state"].as_str().unwrap()) {
                return progress;
            }
            assert!(began.elapsed() < PATIENCE, "{progress}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it, and waits for what is under way.
    fn stop(mut self) {
        drop(self.stop.take());
        let thread = self.thread.take().unwrap();
        thread.join().unwrap().unwrap();
    }
}

impl Reply {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The sentence of a refusal.
    #[track_caller]
    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// A form that is being written.
#[derive(Default)]
struct Form(Vec<u8>);

impl Form {
    fn field(mut self, name: &str, value: &str) -> Self {
        let part =
            format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        self.0.extend(part.into_bytes());
        self
    }

    fn file(mut self, name: &str, file: &str, bytes: &[u8]) -> Self {
        let head = format!(
            "--x\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\r\n"
        );
        self.0.extend(head.into_bytes());
        self.0.extend(bytes);
        self.0.extend(b"\r\n");
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend(b"--x--\r\n");
        self.0
    }
}

/// A picture of one colour, as BMP.
fn picture(side: u32, [red, green, blue]: [u8; 3]) -> Vec<u8> {
    let pixels = (0..side).flat_map(|_| {
        let row = (0..side).flat_map(|_| [blue, green, red]);
        row.chain((0..side % 4).map(|_| 0)) // rows are padded to four bytes
    });
    let pixels: Vec<u8> = pixels.collect();
    let mut bytes = b"BM".to_vec();
    for number in [54 + pixels.len() as u32, 0, 54, 40, side, side] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend([1, 0, 24, 0]); // planes, bits of a pixel
    bytes.extend([0; 24]);
    bytes.extend(pixels);
    bytes
}

const RED: [u8; 3] = [220, 20, 20];
const BLUE: [u8; 3] = [20, 20, 220];

#[test]
fn pictures_are_classified_and_the_rest_is_refused_with_a_sentence() {
    let server = start(words(), None, None);
    let red = picture(32, RED);
    let models = server.get("/v1/models").json();
    assert_eq!(models["models"][0]["name"], "zero-shot");
    assert_eq!(models["teach"], false);
    assert_eq!(
        models["limits"],
        json!({"picture_bytes": 20_000, "pixels": 4096, "pictures": 8, "request_bytes": 32 << 20})
    );

    // One that cannot be read costs the others nothing.
    let form = Form::default()
        .field("classes", "red, blue, green")
        .field("top", "2")
        .file("image", "my red.bmp", &red)
        .file("image", "cut.bmp", &red[..100])
        .file("image", "large.bmp", &picture(65, RED))
        .file("image", "", &picture(64, BLUE));
    let reply = server.post("/v1/predict", form);
    assert_eq!(reply.status, 200, "{}", reply.body);
    let answer = reply.json();
    assert_eq!(answer["model"], "zero-shot");
    let predictions = answer["predictions"].as_array().unwrap();
    let names: Vec<&str> = predictions
        .iter()
        .map(|prediction| prediction["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["my red.bmp", "cut.bmp", "large.bmp", "4"]);
    for classified in [&predictions[0], &predictions[3]] {
        let top = classified["top"].as_array().unwrap();
        assert_eq!(top.len(), 2);
        assert_eq!(classified["class"], top[0]["class"]);
        assert!(top[0]["probability"].as_f64() >= top[1]["probability"].as_f64());
    }
    assert!(predictions[1]["error"].as_str().unwrap().contains("BMP"));
    assert!(
        predictions[2]["error"]
            .as_str()
            .unwrap()
            .contains("65 x 65")
    );

    let asked = || Form::default().file("image", "a.bmp", &red);
    let long = "m".repeat(500);
    for (status, words, form) in [
        (404, "nobody", asked().field("model", "nobody")),
        (404, "mmm", asked().field("model", &long)),
        (422, "`classes`", asked()),
        (
            422,
            "{}",
            asked().field("classes", "a,b").field("templates", "a"),
        ),
        (
            413,
            "at most 20000",
            Form::default().file("image", "a.bmp", &picture(90, RED)),
        ),
        (
            422,
            "no known picture format",
            Form::default()
                .field("classes", "a,b")
                .file("image", "a.bmp", b"hello"),
        ),
    ] {
        let reply = server.post("/v1/predict", form);
        assert_eq!(reply.status, status, "{words}: {}", reply.body);
        let error = reply.error();
        assert!(error.contains(words), "{words}: {error}");
        assert!(error.chars().count() <= 401, "{error}");
        assert_eq!(error.contains("mmm"), error.ends_with('…'), "{error}");
    }
    for (status, line) in [
        (404, "GET /v1/nothing"),
        (404, "GET /../Cargo.toml"),
        (404, "GET /v1/models/nobody/report.html"),
        (404, "GET /v1/models/zero-shot/prompt.safetensors"),
        (400, "GET /v1/models/%ff/report.html"),
        (405, "GET /v1/predict"),
        (405, "DELETE /v1/models"),
        (403, "POST /v1/teach"),
        (403, "GET /v1/teach/pets"),
    ] {
        let reply = server.send(line, "", b"");
        assert_eq!(reply.status, status, "{line}: {}", reply.body);
        assert!(!reply.error().contains("--"), "{}", reply.body);
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    }

    let metrics = server.get("/metrics").body;
    for line in [
        "contextune_requests_total{path=\"/v1/predict\",status=\"200\"} 1",
        "contextune_requests_total{path=\"/v1/predict\",status=\"404\"} 2",
        "contextune_requests_total{path=\"/v1/models/{name}/report.html\",status=\"404\"} 1",
        "contextune_pictures_total{model=\"zero-shot\"} 2",
        "contextune_waiting_pictures 0",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
    server.stop();
}

#[test]
fn every_path_that_the_document_guards_is_guarded() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(words(), Some("open-sesame"), Some(folder.path()));
    let document = server.get("/openapi.json").json();
    let mut guarded = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let line = format!("{} {}", method.to_uppercase(), path);
            let line = line.replace("{name}", "zero-shot");
            let responses = &operation["responses"];
            let foreign = server.send(&line, "Origin: https://example.org\r\n", b"");
            assert_eq!(foreign.status, 403, "{line}: {}", foreign.body);
            let is_open = ["/healthz", "/openapi.json"].contains(&path.as_str());
            assert_eq!(responses.get("403").is_none(), is_open, "{line}");
            if is_open || path == "/login" {
                assert_ne!(server.send(&line, "", b"").status, 401, "{line}");
                continue;
            }
            guarded += 1;
            assert!(responses.get("401").is_some(), "{line}");
            for headers in ["", "Authorization: Bearer open-barley\r\n"] {
                let reply = server.send(&line, headers, b"");
                assert_eq!(reply.status, 401, "{line}: {}", reply.body);
                assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
            }
            let bearer = "Authorization: Bearer open-sesame\r\nHost: pets.example.org\r\n";
            let reply = server.send(&line, bearer, b"");
            assert_ne!(reply.status, 401, "{line}: {}", reply.body);
            assert_ne!(reply.status, 403, "{line}: {}", reply.body);
        }
    }
    assert_eq!(guarded, 8);

    let login = |token: &str| {
        let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
        server.send("POST /login", headers, format!("token={token}").as_bytes())
    };
    assert_eq!(login("open-barley").status, 401);
    let reply = login("open-sesame");
    assert_eq!(reply.status, 204);
    let cookie = reply.header("set-cookie").unwrap().split(';').next();
    let headers = format!("Cookie: a=b; {}\r\n", cookie.unwrap());
    assert_eq!(server.send("GET /v1/models", &headers, b"").status, 200);
    server.stop();
}

#[test]
fn a_lesson_is_learned_reported_and_served() {
    let folder = tempfile::tempdir().unwrap();
    let lessons = folder.path().join("my lessons");
    let server = start(words(), None, Some(&lessons));
    let shade = |[red, green, blue]: [u8; 3], by: u8| [red - by, green + by, blue - by];
    let lesson = |name: &str, method: &str| {
        let mut form = Form::default().field("name", name).field("method", method);
        for number in 0..6 {
            let file = format!("{number}.bmp");
            let [red, blue] = [RED, BLUE].map(|colour| picture(32, shade(colour, 3 * number)));
            form = form
                .file("class/bright red", &file, &red)
                .file("class/blue", &file, &blue);
        }
        form
    };
    let broken = &picture(32, RED)[..200];
    let form = lesson("colours", "linear-probe")
        .file("class/blue", "00001.bmp, 'cut'.bmp", broken)
        .file("class/bright red", "cut short: 00002.bmp", broken);
    let reply = server.post("/v1/teach", form);
    assert_eq!(reply.status, 202, "{}", reply.body);
    assert_eq!(
        reply.json(),
        json!({"name": "colours", "status": "/v1/teach/colours"})
    );
    let progress = server.lesson("colours");
    assert_eq!(progress["state"], "done", "{progress}");
    assert_eq!(progress["held_out"], 2);
    assert_eq!(progress["accuracy"], 1.0, "{progress}");
    assert_eq!(progress["encoded"], progress["to_encode"]);
    // It tells of pictures by the names that were sent, and not where they are kept.
    let remarks = progress["remarks"].to_string();
    for sent in ["00001.bmp, 'cut'.bmp", "cut short: 00002.bmp"] {
        assert!(remarks.contains(sent), "{remarks}");
    }
    assert!(!remarks.contains("my lessons"), "{remarks}");
    assert!(!remarks.contains("train"), "{remarks}");

    let form = Form::default()
        .field("model", "colours")
        .file("image", "a.bmp", &picture(40, BLUE));
    let answer = server.post("/v1/predict", form).json();
    assert_eq!(answer["predictions"][0]["class"], "blue");
    let page = server.get("/v1/models/colours/report.html");
    assert!(page.status == 200 && page.body.starts_with("<!doctype html>"));

    for (status, words, form) in [
        (409, "colours", lesson("colours", "coop")),
        (409, "zero-shot", lesson("zero-shot", "coop")),
        (422, "../out", lesson("../out", "coop")),
        (422, "vpt", lesson("new", "vpt")),
        (
            422,
            "backbone",
            lesson("new", "coop").field("backbone", "nobody"),
        ),
        (422, "twice", lesson("new", "coop").field("name", "newer")),
        (
            422,
            "../a",
            lesson("new", "coop").file("class/../a", "a.bmp", broken),
        ),
        (
            422,
            "a.txt",
            lesson("new", "coop").file("class/a", "a.txt", b"hello"),
        ),
        (
            413,
            "more than 20000",
            lesson("new", "coop").file("class/a", "a.bmp", &picture(90, RED)),
        ),
        (422, "two classes", Form::default().field("name", "new")),
        (
            422,
            "no name",
            Form::default().file("class/a", "a.bmp", broken),
        ),
    ] {
        let reply = server.post("/v1/teach", form);
        assert_eq!(reply.status, status, "{words}: {}", reply.body);
        assert!(reply.error().contains(words), "{words}: {}", reply.body);
    }

    // One at a time; what is stopped leaves nothing.
    assert_eq!(
        server.post("/v1/teach", lesson("second", "coop")).status,
        202
    );
    assert_eq!(
        server.post("/v1/teach", lesson("third", "coop")).status,
        409
    );
    assert_eq!(server.send("DELETE /v1/teach/second", "", b"").status, 204);
    assert_eq!(server.send("DELETE /v1/teach/third", "", b"").status, 404);
    assert_eq!(server.lesson("second")["state"], "stopped");
    let left: Vec<_> = lessons.read_dir().unwrap().map(Result::unwrap).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    server.stop();

    // The next server finds it, under this name or another, but not twice under one.
    let found = taught(&lessons);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].name == "colours" && found[0].is_finished);
    let mut shelf = words();
    let run = &found[0].run;
    shelf.add_run("colours", run, true, &mut embedded).unwrap();
    shelf.add_run("first", run, false, &mut embedded).unwrap();
    let twice = shelf.add_run("colours", run, false, &mut embedded);
    assert!(
        matches!(twice, Err(ShelfError::SameName { .. })),
        "{twice:?}"
    );
    assert_eq!(shelf.learned(), 2);
    let nothing = shelf.add_run("nothing", folder.path(), false, &mut embedded);
    assert!(nothing.is_err());
    let server = start(shelf, None, None);
    let models = server.get("/v1/models").json();
    let names: Vec<&str> = models["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["first", "zero-shot", "colours"]);
    server.stop();
}
