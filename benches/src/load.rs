//! `contextune serve` under load: many clients at once, some of them hostile, each answer held against what `predict` says.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::program;

/// One request in so many is hostile.
const HOSTILE_EVERY: usize = 5;
/// One client in so many sends so slowly that it must be let go.
const SLOW_EVERY: usize = 16;
/// Seconds that the server waits for a body.
const PATIENCE: u64 = 5;
/// Longer than any answer may take.
const STUCK: Duration = Duration::from_secs(60);
/// Starts of `predict` that are timed, after one that is not.
const STARTS: usize = 9;
/// Answers are the same where probabilities differ by less.
const TOLERANCE: f64 = 1e-4;
const BOUNDARY: &str = "a-boundary-that-no-picture-holds";

/// What came out.
#[derive(Debug, Serialize)]
pub struct Outcome {
    row: &'static str,
    when: u64,
    clients: usize,
    seconds: f64,
    /// Good requests that were answered rightly.
    answered: usize,
    /// Of these a second.
    answers_a_second: f64,
    p50_milliseconds: f64,
    p99_milliseconds: f64,
    /// Requests that were told to come again.
    busy: usize,
    /// Hostile requests, by what they got.
    hostile: BTreeMap<u16, usize>,
    /// Slow senders that were let go.
    slow: usize,
    /// One client alone, one request after another.
    alone_milliseconds: f64,
    /// A process of `contextune predict` for one picture.
    predict_milliseconds: f64,
    memory_before_bytes: u64,
    peak_memory_bytes: u64,
}

/// A good picture and what has to be answered.
struct Known {
    bytes: Vec<u8>,
    class: String,
    probability: f64,
}

/// What happened so far.
#[derive(Default)]
struct Tally {
    answered: Vec<Duration>,
    busy: usize,
    hostile: BTreeMap<u16, usize>,
    slow: usize,
}

/// Runs the load.
///
/// # Errors
/// An answer that is wrong or missing, a server that ends, and whatever keeps it from being started.
pub fn run(clients: usize, seconds: u64) -> Result<Outcome> {
    let contextune = program::contextune_path()?;
    let folder = std::env::temp_dir().join(format!("contextune-load-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let outcome = in_folder(&contextune, &folder, clients, Duration::from_secs(seconds));
    let removed = fs::remove_dir_all(&folder);
    let outcome = outcome?;
    removed?;
    Ok(outcome)
}

fn in_folder(contextune: &Path, folder: &Path, clients: usize, time: Duration) -> Result<Outcome> {
    let data = program::sources().join("../assets/demo/animal-silhouettes");
    let run = folder.join("run");
    let trained = Command::new(contextune)
        .args(["train", "coop", "--shots", "16", "--quiet", "--data"])
        .args([&data, &PathBuf::from("--out"), &run])
        .stdout(Stdio::null())
        .status()?;
    ensure!(trained.success(), "there is no run to serve");
    let known = known(contextune, &run, &data)?;
    let predict_milliseconds = starts(contextune, &run, &data)?;

    let mut server = Server::start(contextune, &run, folder)?;
    let alone = alone(&server, &known)?;
    let memory_before_bytes = server.memory("VmRSS:")?;
    let counter = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    let began = Instant::now();
    let tallies: Vec<Result<Tally>> = std::thread::scope(|scope| {
        let (known, counter, over) = (&known, &counter, &over);
        let address = server.address;
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                scope.spawn(move || {
                    let is_slow = client % SLOW_EVERY == SLOW_EVERY - 1;
                    let tally = match is_slow {
                        true => slow_client(address, over),
                        false => client_loop(address, known, counter, over),
                    };
                    // One wrong answer is enough to know.
                    if tally.is_err() {
                        over.store(true, Ordering::SeqCst);
                    }
                    tally
                })
            })
            .collect();
        while began.elapsed() < time && !over.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(50));
        }
        over.store(true, Ordering::SeqCst);
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a client failed")))
            .collect()
    });
    let took = began.elapsed().as_secs_f64();
    let mut all = Tally::default();
    for tally in tallies {
        let tally = tally?;
        all.answered.extend(tally.answered);
        all.busy += tally.busy;
        all.slow += tally.slow;
        for (status, count) in tally.hostile {
            *all.hostile.entry(status).or_default() += count;
        }
    }
    let peak_memory_bytes = server.memory("VmHWM:")?;
    server.stop()?;
    all.answered.sort();
    let at = |share: f64| {
        let place = (share * (all.answered.len() - 1) as f64) as usize;
        1e3 * all.answered[place].as_secs_f64()
    };
    ensure!(!all.answered.is_empty(), "nothing was answered");
    Ok(Outcome {
        row: "serve",
        when: std::time::UNIX_EPOCH.elapsed()?.as_secs(),
        clients,
        seconds: took,
        answered: all.answered.len(),
        answers_a_second: all.answered.len() as f64 / took,
        p50_milliseconds: at(0.5),
        p99_milliseconds: at(0.99),
        busy: all.busy,
        hostile: all.hostile,
        slow: all.slow,
        alone_milliseconds: alone,
        predict_milliseconds,
        memory_before_bytes,
        peak_memory_bytes,
    })
}

/// All pictures of the demo, with what `predict` makes of them.
fn known(contextune: &Path, run: &Path, data: &Path) -> Result<Vec<Known>> {
    let mut known = Vec::new();
    for class in fs::read_dir(data.join("images"))? {
        let printed = Command::new(contextune)
            .args(["predict", "--json", "--quiet"])
            .args([run, &class?.path()])
            .output()?;
        for line in String::from_utf8(printed.stdout)?.lines() {
            let line: Value = serde_json::from_str(line)?;
            let path = line["path"].as_str().context("no path")?;
            known.push(Known {
                bytes: fs::read(path)?,
                class: line["class"].as_str().context("no class")?.to_owned(),
                probability: line["probability"].as_f64().context("no probability")?,
            });
        }
    }
    ensure!(
        !known.is_empty(),
        "there are no pictures in {}",
        data.display()
    );
    Ok(known)
}

/// The median of a process for one picture, in milliseconds.
fn starts(contextune: &Path, run: &Path, data: &Path) -> Result<f64> {
    let class = fs::read_dir(data.join("images"))?
        .next()
        .context("no class")??;
    let picture = fs::read_dir(class.path())?
        .next()
        .context("no picture")??
        .path();
    let mut milliseconds = Vec::new();
    for start in 0..=STARTS {
        let began = Instant::now();
        let output = Command::new(contextune)
            .args(["predict", "--no-cache", "--quiet"])
            .args([run, &picture])
            .output()?;
        ensure!(output.status.success(), "predict failed");
        if start > 0 {
            milliseconds.push(1e3 * began.elapsed().as_secs_f64());
        }
    }
    milliseconds.sort_by(f64::total_cmp);
    Ok(milliseconds[STARTS / 2])
}

/// The median of one request after another, in milliseconds.
fn alone(server: &Server, known: &[Known]) -> Result<f64> {
    let mut client = Client::new(server.address)?;
    let mut milliseconds = Vec::new();
    for (number, known) in known.iter().enumerate() {
        let began = Instant::now();
        let (status, body) = client.ask(&form("image", &fresh(&known.bytes, number)))?;
        check(status, &body, known)?;
        milliseconds.push(1e3 * began.elapsed().as_secs_f64());
    }
    milliseconds.sort_by(f64::total_cmp);
    Ok(milliseconds[milliseconds.len() / 2])
}

/// Asks until it is over, as fast as it gets answers.
fn client_loop(
    address: SocketAddr,
    known: &[Known],
    counter: &AtomicUsize,
    over: &AtomicBool,
) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut client = Client::new(address)?;
    while !over.load(Ordering::SeqCst) {
        let number = counter.fetch_add(1, Ordering::Relaxed);
        let picture = &known[number % known.len()];
        if number.is_multiple_of(HOSTILE_EVERY) {
            match hostile(&mut client, number / HOSTILE_EVERY, &picture.bytes)? {
                503 => tally.busy += 1,
                status => *tally.hostile.entry(status).or_default() += 1,
            }
            continue;
        }
        let began = Instant::now();
        let (status, body) = client.ask(&form("image", &fresh(&picture.bytes, number)))?;
        if status == 503 {
            tally.busy += 1;
            std::thread::sleep(Duration::from_millis(100));
            continue;
        }
        check(status, &body, picture)?;
        tally.answered.push(began.elapsed());
    }
    Ok(tally)
}

/// One of the things that must do no harm; returns the status.
fn hostile(client: &mut Client, kind: usize, picture: &[u8]) -> Result<u16> {
    let (expected, (status, body)) = match kind % 7 {
        0 => (
            422,
            client.ask(&form("image", &picture[..picture.len() / 2]))?,
        ),
        1 => (422, client.ask(&form("image", &bomb(picture)))?),
        2 => (422, client.ask(&form("image", b"GIF89a is what it says"))?),
        3 => (404, client.ask(&with_field("model", "nobody", picture))?),
        4 => (
            415,
            client.send("POST /v1/predict", "Content-Type: image/png\r\n", picture)?,
        ),
        5 => (
            400,
            client.send(
                "POST /v1/predict",
                "Content-Type: application/json\r\n",
                b"{\"images\": [",
            )?,
        ),
        _ => {
            // Numbers where pictures belong, many of them: none may be kept.
            let body = format!("{{\"images\": [[{}0]]}}", "0,".repeat(100_000));
            let kind = "Content-Type: application/json\r\n";
            (400, client.send("POST /v1/predict", kind, body.as_bytes())?)
        }
    };
    ensure!(
        status == expected || status == 503,
        "a hostile request of kind {} got {status}: {}",
        kind % 7,
        String::from_utf8_lossy(&body)
    );
    Ok(status)
}

/// Sends a byte a second until it is let go, again and again.
fn slow_client(address: SocketAddr, over: &AtomicBool) -> Result<Tally> {
    let mut tally = Tally::default();
    while !over.load(Ordering::SeqCst) {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let head = format!(
            "POST /v1/predict HTTP/1.1\r\nHost: {address}\r\nContent-Length: 1000\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let began = Instant::now();
        let mut answer = [0; 12];
        while !over.load(Ordering::SeqCst) {
            ensure!(began.elapsed() < STUCK, "a slow sender was never let go");
            if stream.write_all(b"-").is_err() {
                break;
            }
            if stream.read_exact(&mut answer).is_ok() {
                ensure!(answer.ends_with(b"408"), "a slow sender got {answer:?}");
                tally.slow += 1;
                break;
            }
        }
    }
    Ok(tally)
}

/// The same picture in other bytes, so that no answer is remembered.
fn fresh(picture: &[u8], number: usize) -> Vec<u8> {
    [picture, &number.to_le_bytes()].concat()
}

/// The same picture with a header that declares 10,000 x 10,000 pixels.
fn bomb(picture: &[u8]) -> Vec<u8> {
    let mut bytes = picture.to_vec();
    bytes[16..24].copy_from_slice(&[0, 0, 0x27, 0x10, 0, 0, 0x27, 0x10]);
    let checksum = bytes[12..29].iter().fold(!0_u32, |checksum, &byte| {
        (0..8).fold(checksum ^ u32::from(byte), |rest, _| {
            (rest >> 1) ^ (0xedb8_8320 * (rest & 1))
        })
    });
    bytes[29..33].copy_from_slice(&(!checksum).to_be_bytes());
    bytes
}

fn form(name: &str, picture: &[u8]) -> Vec<u8> {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a.png\"\r\n\r\n"
    );
    [
        head.as_bytes(),
        picture,
        format!("\r\n--{BOUNDARY}--\r\n").as_bytes(),
    ]
    .concat()
}

fn with_field(name: &str, value: &str, picture: &[u8]) -> Vec<u8> {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
    );
    [head.as_bytes(), &form("image", picture)].concat()
}

fn check(status: u16, body: &[u8], known: &Known) -> Result<()> {
    let wrong = || {
        format!(
            "a good picture got {status}: {}",
            String::from_utf8_lossy(body)
        )
    };
    ensure!(status == 200, wrong());
    let answer: Value = serde_json::from_slice(body).with_context(wrong)?;
    let prediction = &answer["predictions"][0];
    let probability = prediction["probability"].as_f64().with_context(wrong)?;
    ensure!(
        prediction["class"] == known.class.as_str()
            && (probability - known.probability).abs() < TOLERANCE,
        "{}, where predict says {} {}",
        wrong(),
        known.class,
        known.probability
    );
    Ok(())
}

/// A client that keeps its connection.
struct Client {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Client {
    fn new(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(STUCK))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            address,
            stream: BufReader::new(stream),
        })
    }

    fn ask(&mut self, form: &[u8]) -> Result<(u16, Vec<u8>)> {
        let kind = format!("Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n");
        self.send("POST /v1/predict", &kind, form)
    }

    fn send(&mut self, line: &str, headers: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
        let head = format!(
            "{line} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n{headers}\r\n",
            self.address,
            body.len()
        );
        self.stream
            .get_mut()
            .write_all(&[head.as_bytes(), body].concat())?;
        let (mut status, mut length, mut is_last) = (0, 0, false);
        let mut text = String::new();
        loop {
            text.clear();
            ensure!(
                self.stream.read_line(&mut text)? > 0,
                "the server broke off"
            );
            let text = text.trim_end().to_ascii_lowercase();
            if let Some(rest) = text.strip_prefix("http/1.1 ") {
                status = rest.split(' ').next().unwrap_or_default().parse()?;
            } else if let Some(value) = text.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            } else if text == "connection: close" {
                is_last = true;
            } else if text.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        if is_last {
            *self = Self::new(self.address)?;
        }
        Ok((status, body))
    }
}

/// The server as a process.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(contextune: &Path, run: &Path, folder: &Path) -> Result<Self> {
        let mut process = Command::new(contextune)
            .args(["serve", "--no-teach", "--listen", "127.0.0.1:0"])
            .args(["--timeout", &PATIENCE.to_string()])
            .arg(run)
            .current_dir(folder)
            .stderr(Stdio::piped())
            .spawn()?;
        let said = process.stderr.take().context("no standard error")?;
        let mut lines = BufReader::new(said).lines();
        let address = lines.find_map(|line| {
            let (_, rest) = line
                .ok()?
                .split_once("http://")
                .map(|(a, b)| (a.to_owned(), b.to_owned()))?;
            rest.split(' ').next()?.parse().ok()
        });
        std::thread::spawn(move || lines.for_each(drop));
        let address = address.context("the server did not say where it listens")?;
        Ok(Self { process, address })
    }

    /// A line of the system's account of the process, in bytes.
    fn memory(&self, line: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let found = status.lines().find_map(|text| text.strip_prefix(line));
        let kibibytes = found.and_then(|text| text.split_whitespace().next());
        Ok(1024
            * kibibytes
                .context("the system does not tell")?
                .parse::<u64>()?)
    }

    /// Ends it as Ctrl-C does.
    fn stop(&mut self) -> Result<()> {
        let id = self.process.id().to_string();
        ensure!(
            Command::new("kill").args(["-INT", &id]).status()?.success(),
            "the server was gone"
        );
        ensure!(
            self.process.wait()?.success(),
            "the server did not end well"
        );
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        writeln!(
            formatter,
            "{} clients, {:.0} s: {} right answers, none wrong, {:.0} a second; p50 {:.0} ms, p99 {:.0} ms; {} told to come again",
            self.clients,
            self.seconds,
            self.answered,
            self.answers_a_second,
            self.p50_milliseconds,
            self.p99_milliseconds,
            self.busy
        )?;
        writeln!(
            formatter,
            "hostile requests by status: {:?}; slow senders let go: {}",
            self.hostile, self.slow
        )?;
        writeln!(
            formatter,
            "one client alone: {:.1} ms a request; a process of predict: {:.1} ms, {:.1} a second, 1/{:.0} of the server under load",
            self.alone_milliseconds,
            self.predict_milliseconds,
            1e3 / self.predict_milliseconds,
            self.answers_a_second * self.predict_milliseconds / 1e3
        )?;
        write!(
            formatter,
            "memory: {:.0} MB before, at most {:.0} MB",
            megabytes(self.memory_before_bytes),
            megabytes(self.peak_memory_bytes)
        )
    }
}
