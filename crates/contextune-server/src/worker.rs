//! The thread that computes: pictures of the requests that wait go through the image tower together.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::http::StatusCode;
use contextune::image::ImageError;
use contextune::input::{InputEncoder, InputError, InputKind, PictureReader};
use contextune::run;
use lru::LruCache;
use rayon::prelude::*;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::answer::{Answer, Guess, Prediction, Refusal};
use crate::classifier::{Classifier, ClassifierError, Wording};
use crate::intake::NamedPicture;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::shelf::Entry;

/// Requests are taken until they have so many pictures together.
const PICTURES_AT_ONCE: usize = 32;
/// Features of recent pictures that are remembered: a few megabytes.
const REMEMBERED_FEATURES: usize = 4096;
/// Classifiers that are remembered, each of at most a thousand classes.
const REMEMBERED_CLASSIFIERS: usize = 16;

/// What a request asks of an entry.
pub(crate) struct Question {
    pub entry: Arc<Entry>,
    pub wording: Wording,
    /// Classes to name for each picture.
    pub top: usize,
    pub pictures: Vec<NamedPicture>,
    /// The memory that its body takes, given back with it.
    pub _memory: OwnedSemaphorePermit,
}

struct Job {
    question: Question,
    reply: oneshot::Sender<Result<Answer, Refusal>>,
    /// Its place in the queue.
    _place: OwnedSemaphorePermit,
}

/// The way to the thread; when the last is gone, the thread ends.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    jobs: mpsc::UnboundedSender<Job>,
    /// A permit for each picture that may wait: what bounds the queue.
    places: Arc<Semaphore>,
    limits: Limits,
}

impl Queue {
    /// Refuses at once if the queue is full, so that no body is read for nothing.
    pub fn check(&self) -> Result<(), Refusal> {
        match self.places.available_permits() {
            0 => Err(Refusal::busy()),
            _ => Ok(()),
        }
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&self, question: Question) -> Result<Answer, Refusal> {
        let pictures = question.pictures.len() as u32;
        let places = Arc::clone(&self.places);
        let place = places
            .try_acquire_many_owned(pictures)
            .map_err(|_| Refusal::busy())?;
        let (reply, answer) = oneshot::channel();
        let job = Job {
            question,
            reply,
            _place: place,
        };
        self.jobs.send(job).map_err(|_| stopped())?;
        match tokio::time::timeout(self.limits.patience, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the server failed on this request; it goes on with others",
            )),
            Err(_) => Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "there was no answer in time: try again, or with fewer pictures",
            )),
        }
    }

    /// Pictures that are not answered yet.
    pub fn waiting(&self) -> usize {
        self.limits.waiting - self.places.available_permits()
    }
}

fn stopped() -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping")
}

/// Starts the thread.
pub(crate) fn start(
    limits: Limits,
    metrics: Arc<Metrics>,
) -> std::io::Result<(Queue, JoinHandle<()>)> {
    let (sender, mut jobs) = mpsc::unbounded_channel::<Job>();
    let mut worker = Worker {
        pixels: limits.pixels,
        features: LruCache::new(remembered(REMEMBERED_FEATURES)),
        classifiers: LruCache::new(remembered(REMEMBERED_CLASSIFIERS)),
        metrics,
    };
    let thread = std::thread::Builder::new()
        .name("answers".into())
        .spawn(move || {
            while let Some(first) = jobs.blocking_recv() {
                let mut pictures = first.question.pictures.len();
                let mut batch = vec![first];
                while pictures < PICTURES_AT_ONCE
                    && let Ok(next) = jobs.try_recv()
                {
                    pictures += next.question.pictures.len();
                    batch.push(next);
                }
                // Whoever asked may have gone away.
                batch.retain(|job| !job.reply.is_closed());
                // A panic drops the replies, which is an answer too; what is remembered is whole at every moment.
                let _ = catch_unwind(AssertUnwindSafe(|| worker.answer(batch)));
            }
        })?;
    let queue = Queue {
        jobs: sender,
        places: Arc::new(Semaphore::new(limits.waiting)),
        limits,
    };
    Ok((queue, thread))
}

const fn remembered(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).expect("more than nothing is remembered")
}

/// One way from a picture's bytes to what a method is given of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Encoding {
    /// The model's number on the shelf.
    backbone: usize,
    kind: InputKind,
    exif: bool,
}

struct Worker {
    /// Pictures that declare more are refused.
    pixels: u64,
    features: LruCache<(Encoding, blake3::Hash), Arc<[f32]>>,
    classifiers: LruCache<(String, Wording), Arc<Classifier>>,
    metrics: Arc<Metrics>,
}

/// What is known of a picture, or why nothing is.
type Row = Result<Arc<[f32]>, String>;

/// What is asked of one classifier: the jobs, and a row for each of their pictures, one after another.
type Asked = (Vec<Job>, Vec<Row>);

impl Worker {
    fn answer(&mut self, jobs: Vec<Job>) {
        let mut by_encoding: HashMap<Encoding, Vec<Job>> = HashMap::new();
        for job in jobs {
            let encoding = Encoding::of(&job.question.entry);
            by_encoding.entry(encoding).or_default().push(job);
        }
        for (encoding, jobs) in by_encoding {
            let pictures: Vec<&NamedPicture> =
                jobs.iter().flat_map(|job| &job.question.pictures).collect();
            let rows = match self.rows(&encoding, &jobs[0].question.entry, &pictures) {
                Ok(rows) => rows,
                Err(error) => {
                    refuse_all(
                        jobs,
                        &Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error),
                    );
                    continue;
                }
            };
            let mut rows = rows.into_iter();
            let mut by_classifier: HashMap<(String, Wording), Asked> = HashMap::new();
            for job in jobs {
                let own = rows.by_ref().take(job.question.pictures.len());
                let key = (
                    job.question.entry.name.clone(),
                    job.question.wording.clone(),
                );
                let (jobs, rows) = by_classifier.entry(key).or_default();
                rows.extend(own);
                jobs.push(job);
            }
            for (jobs, rows) in by_classifier.into_values() {
                self.classify(jobs, rows);
            }
        }
    }

    /// What the method is given of each picture: remembered, or decoded and encoded together.
    fn rows(
        &mut self,
        encoding: &Encoding,
        entry: &Entry,
        pictures: &[&NamedPicture],
    ) -> Result<Vec<Row>, InputError> {
        let hashes: Vec<blake3::Hash> = pictures
            .par_iter()
            .map(|picture| blake3::hash(&picture.bytes))
            .collect();
        let mut rows: Vec<Option<Row>> = hashes
            .iter()
            .map(|&hash| {
                self.features
                    .get(&(encoding.clone(), hash))
                    .cloned()
                    .map(Ok)
            })
            .collect();
        let missing: Vec<usize> = (0..pictures.len())
            .filter(|&picture| rows[picture].is_none())
            .collect();
        let encoder = encoder(entry, self.pixels)?;
        let reader = encoder.reader();
        for missing in missing.chunks(PICTURES_AT_ONCE) {
            let decoded: Vec<Result<Vec<f32>, String>> = missing
                .par_iter()
                .map(|&picture| decode(&reader, &pictures[picture].bytes))
                .collect();
            let mut pixels = Vec::new();
            let mut read = Vec::new();
            for (&picture, outcome) in missing.iter().zip(decoded) {
                match outcome {
                    Ok(planes) => {
                        pixels.extend(planes);
                        read.push(picture);
                    }
                    Err(error) => rows[picture] = Some(Err(error)),
                }
            }
            if read.is_empty() {
                continue;
            }
            self.metrics.batch(read.len());
            let values = encoder.values(pixels)?; // [read, D]
            let width = encoder.values_of_input();
            for (picture, row) in read.into_iter().zip(values.chunks_exact(width)) {
                let row: Arc<[f32]> = row.into();
                // Pixels are cheap to compute again, and large.
                if encoding.kind == InputKind::Features {
                    let key = (encoding.clone(), hashes[picture]);
                    self.features.put(key, Arc::clone(&row));
                }
                rows[picture] = Some(Ok(row));
            }
        }
        let nothing = || Err("the model gave nothing for this picture".to_owned());
        Ok(rows
            .into_iter()
            .map(|row| row.unwrap_or_else(nothing))
            .collect())
    }

    /// Answers jobs that ask the same classifier.
    fn classify(&mut self, jobs: Vec<Job>, rows: Vec<Row>) {
        // Whoever asked may have gone away while others were answered.
        if jobs.iter().all(|job| job.reply.is_closed()) {
            return;
        }
        let top = jobs.iter().map(|job| job.question.top).max().unwrap_or(1);
        let guesses = match self.guesses(&jobs[0].question, &rows, top) {
            Ok(guesses) => guesses,
            Err(error) => {
                refuse_all(jobs, &Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error));
                return;
            }
        };
        let (mut rows, mut guesses) = (rows.into_iter(), guesses.into_iter());
        for Job {
            question, reply, ..
        } in jobs
        {
            let rows: Vec<Row> = rows.by_ref().take(question.pictures.len()).collect();
            let nothing_read = match &rows[..] {
                [Err(error), ..] if rows.iter().all(Result::is_err) => Some(error.clone()),
                _ => None,
            };
            let predictions: Vec<Prediction> = question
                .pictures
                .into_iter()
                .zip(rows)
                .map(|(NamedPicture { name, .. }, row)| match row {
                    Ok(_) => classified(name, guesses.next().unwrap_or_default(), question.top),
                    Err(error) => Prediction::Unreadable { name, error },
                })
                .collect();
            let answer = match nothing_read {
                Some(error) => Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error)),
                None => Ok(Answer {
                    model: question.entry.name.clone(),
                    predictions,
                }),
            };
            // Whoever asked may have gone away.
            let _ = reply.send(answer);
        }
    }

    /// The `top` most probable classes of every row that could be read.
    fn guesses(
        &mut self,
        question: &Question,
        rows: &[Row],
        top: usize,
    ) -> Result<Vec<Vec<Guess>>, ClassifierError> {
        let read: Vec<&Arc<[f32]>> = rows.iter().filter_map(|row| row.as_ref().ok()).collect();
        if read.is_empty() {
            return Ok(Vec::new());
        }
        let entry = &question.entry;
        let classifier = self.classifier(entry, &question.wording)?;
        let encoder = encoder(entry, self.pixels)?;
        let mut guesses = Vec::with_capacity(read.len());
        for read in read.chunks(PICTURES_AT_ONCE) {
            let values = read.iter().flat_map(|row| row.iter().copied()).collect();
            guesses.extend(classifier.guesses(&encoder.batch(values), top)?);
        }
        self.metrics.answered(&question.entry.name, guesses.len());
        Ok(guesses)
    }

    fn classifier(
        &mut self,
        entry: &Entry,
        wording: &Wording,
    ) -> Result<Arc<Classifier>, ClassifierError> {
        let key = (entry.name.clone(), wording.clone());
        if let Some(classifier) = self.classifiers.get(&key) {
            return Ok(Arc::clone(classifier));
        }
        let classifier = Arc::new(Classifier::new(entry, wording)?);
        self.classifiers.put(key, Arc::clone(&classifier));
        Ok(classifier)
    }
}

/// The way from pictures to what the entry's method is given of them.
fn encoder(entry: &Entry, pixels: u64) -> Result<InputEncoder<'_>, InputError> {
    let model = &entry.backbone.model;
    Ok(run::encoder(&entry.settings, model, None)?.refusing_above(pixels))
}

fn refuse_all(jobs: Vec<Job>, refusal: &Refusal) {
    for job in jobs {
        // Whoever asked may have gone away.
        let _ = job.reply.send(Err(refusal.clone()));
    }
}

impl Encoding {
    fn of(entry: &Entry) -> Self {
        let settings = &entry.settings;
        Self {
            backbone: entry.backbone.number,
            kind: settings.method.needs(entry.backbone.model.config()).input,
            exif: settings.exif,
        }
    }
}

/// The pixels of one picture. Decoders meet hostile bytes here: whatever one does is an error of this picture alone.
fn decode(reader: &PictureReader, bytes: &[u8]) -> Result<Vec<f32>, String> {
    let decoded = catch_unwind(|| reader.whole(bytes));
    match decoded {
        Ok(outcome) => outcome.map_err(|error: ImageError| error.to_string()),
        Err(_) => Err("not a readable picture".to_owned()),
    }
}

fn classified(name: String, mut top: Vec<Guess>, count: usize) -> Prediction {
    top.truncate(count);
    match top.first().cloned() {
        Some(Guess { class, probability }) => Prediction::Classified {
            name,
            class,
            probability,
            top,
        },
        None => Prediction::Unreadable {
            name,
            error: "there are no classes".to_owned(),
        },
    }
}
