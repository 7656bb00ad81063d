//! Models of the hub, fetched from one that answers on the loopback interface.
#![cfg(feature = "hub")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::{assert_says, golden};
use contextune_data::checkpoint::{OpenOptions, hub, open};
use tempfile::TempDir;

/// Answers on the loopback interface as the hub does, and notes what it was asked.
struct Hub {
    endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
}

/// The file that breaks off in the middle when it is first asked for.
const BREAKS: &str = "model.safetensors";

impl Hub {
    fn serve(folder: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (base, log) = (endpoint.clone(), Arc::clone(&requests));
        std::thread::spawn(move || {
            let mut broken = false;
            for stream in listener.incoming() {
                // A client that went away is its own affair.
                let _ = Self::answer(stream.unwrap(), &base, &folder, &log, &mut broken);
            }
        });
        Self { endpoint, requests }
    }

    fn answer(
        mut stream: TcpStream,
        base: &str,
        folder: &Path,
        log: &Mutex<Vec<String>>,
        broken: &mut bool,
    ) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().unwrap()?;
        let target = request.split(' ').nth(1).unwrap().to_owned();
        let mut range = None;
        for line in lines {
            let line = line?.to_ascii_lowercase();
            if let Some(bytes) = line.strip_prefix("range: bytes=") {
                range = Some(bytes.to_owned());
            }
            if line.is_empty() {
                break;
            }
        }
        let asked = range.clone().unwrap_or_default();
        log.lock().unwrap().push(format!("{target} {asked}"));

        if target == "/api/models/owner/tiny/revision/main" {
            let names = fs::read_dir(folder)?.map(|file| file.unwrap().file_name());
            let siblings: Vec<_> = names
                .map(|name| serde_json::json!({"rfilename": name.to_str()}))
                .collect();
            let body = serde_json::json!({"sha": "c0ffee", "siblings": siblings}).to_string();
            return write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
        // Large files are redirected to another store, as the hub does.
        let resolve = "/owner/tiny/resolve/main/";
        if target == format!("{resolve}{BREAKS}") {
            return write!(
                stream,
                "HTTP/1.1 302 Found\r\nLocation: {base}/store/{BREAKS}\r\nX-Linked-Etag: \"big\"\r\nX-Repo-Commit: c0ffee\r\n\
                 Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        let name = target
            .strip_prefix(resolve)
            .or(target.strip_prefix("/store/"));
        let Some(bytes) = name.and_then(|name| fs::read(folder.join(name)).ok()) else {
            return write!(
                stream,
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        };
        let name = name.unwrap();
        let (from, to) = asked.split_once('-').unwrap();
        let from: usize = from.parse().unwrap();
        let to = to.parse().map_or(bytes.len(), |last: usize| last + 1);
        write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{}\r\nETag: \"{name}\"\r\n\
             X-Repo-Commit: c0ffee\r\nConnection: close\r\n\r\n",
            to - from,
            to - 1,
            bytes.len()
        )?;
        let mut body = &bytes[from..to];
        if name == BREAKS && body.len() > 1 && !*broken {
            *broken = true;
            body = &body[..body.len() / 2];
        }
        stream.write_all(body)
    }

    fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

#[test]
fn a_model_of_the_hub_is_fetched_once() {
    let hub = Hub::serve(golden("hf_clip"));
    let folder = TempDir::new().unwrap();
    let mut options = hub::Options {
        endpoint: hub.endpoint.clone(),
        cache: folder.path().join("hub"),
        token: None,
        offline: true,
    };
    let fetch = |options: &hub::Options| hub::fetch("owner/tiny", options, |_| {});
    let message = fetch(&options).unwrap_err().to_string();
    assert_says(&message, &["owner/tiny", "not in the cache"]);
    assert_eq!(hub.take_requests(), [""; 0]);

    options.offline = false;
    let mut last = BTreeMap::new();
    let fetched = hub::fetch("owner/tiny", &options, |progress| {
        assert!(progress.done <= progress.total);
        last.insert(progress.file.to_owned(), (progress.done, progress.total));
    })
    .unwrap();
    let model = open(&fetched, OpenOptions::default()).unwrap();
    let expected = open(&golden("hf_clip"), OpenOptions::default()).unwrap();
    let fingerprint = expected.weights.fingerprint().unwrap();
    assert_eq!(model.weights.fingerprint().unwrap(), fingerprint);
    assert_eq!(model.config, expected.config);
    assert!(model.tokenizer_file.is_some());
    let size = fs::metadata(golden("hf_clip").join(BREAKS)).unwrap().len();
    assert_eq!(last[BREAKS], (size, size));
    // The connection broke in the middle; the second attempt continued there.
    let half = format!("/store/{BREAKS} {}-", size / 2);
    assert!(hub.take_requests().contains(&half));

    // From now on nothing is asked.
    assert_eq!(fetch(&options).unwrap(), fetched);
    options.offline = true;
    assert_eq!(fetch(&options).unwrap(), fetched);
    assert_eq!(hub.take_requests(), [""; 0]);

    // A download that was killed before the weights were complete is continued.
    options.offline = false;
    let weights = fetched.join(BREAKS);
    let blob = weights.canonicalize().unwrap();
    let bytes = fs::read(&blob).unwrap();
    fs::write(blob.with_extension("part"), &bytes[..1000]).unwrap();
    fs::remove_file(&weights).unwrap();
    fs::remove_file(&blob).unwrap();
    assert_eq!(fetch(&options).unwrap(), fetched);
    assert_eq!(fs::read(&weights).unwrap(), bytes);
    assert!(
        hub.take_requests()
            .contains(&format!("/store/{BREAKS} 1000-"))
    );
}

#[test]
fn a_hub_that_cannot_help_says_why() {
    let hub = Hub::serve(golden("dassl"));
    let folder = TempDir::new().unwrap();
    let mut options = hub::Options {
        endpoint: hub.endpoint.clone(),
        cache: folder.path().join("hub"),
        token: None,
        offline: false,
    };
    let fetch =
        |id: &str, options: &hub::Options| hub::fetch(id, options, |_| {}).unwrap_err().to_string();
    let message = fetch("owner/absent", &options);
    assert_says(&message, &["owner/absent", "HTTP 404", "HF_TOKEN"]);
    let message = fetch("owner/tiny", &options);
    assert_says(&message, &["owner/tiny", "without CLIP weights"]);
    for id in [
        "tiny",
        "owner/",
        "../tiny",
        "a/b/c",
        "owner/ti ny",
        "owner/..",
    ] {
        assert!(!hub::is_id(id), "{id}");
        assert_says(&fetch(id, &options), &["owner/name"]);
    }
    assert!(hub::is_id("openai/clip-vit-base-patch32"));

    // A port that nothing listens on any more.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    options.endpoint = format!("http://{address}");
    let message = fetch("owner/tiny", &options);
    assert_says(&message, &["could not be fetched", "check the network"]);
}
