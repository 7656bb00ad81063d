//! The thread that computes: pictures of the requests that wait go through the image tower together.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::http::StatusCode;
use burn::tensor::{Device, Tensor, TensorData};
use contextune::features::{PictureReader, Sees};
use contextune::image::ImageError;
use contextune::model::ModelError;
use contextune::prompt::MethodError;
use contextune::run;
use lru::LruCache;
use rayon::prelude::*;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::answer::{Answer, Guess, Prediction, Refusal};
use crate::classifier::{Classifier, Wording};
use crate::intake::NamedPicture;
use crate::metrics::Metrics;
use crate::server::Limits;
use crate::shelf::Entry;

/// Requests are taken until they have so many pictures together.
const PICTURES_AT_ONCE: usize = 32;
/// Features of recent pictures that are remembered: a few megabytes.
const REMEMBERED_FEATURES: usize = 4096;
/// Classifiers that are remembered.
const REMEMBERED_CLASSIFIERS: usize = 64;

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
    metrics: Arc<Metrics>,
    limits: Limits,
}

impl Queue {
    /// Refuses at once if the queue is full, so that no body is read for nothing.
    pub fn check(&self) -> Result<(), Refusal> {
        match self.places.available_permits() {
            0 => Err(self.refuse()),
            _ => Ok(()),
        }
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&self, question: Question) -> Result<Answer, Refusal> {
        let pictures = question.pictures.len() as u32;
        let places = Arc::clone(&self.places);
        let place = places
            .try_acquire_many_owned(pictures)
            .map_err(|_| self.refuse())?;
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

    fn refuse(&self) -> Refusal {
        self.metrics.refused("queue full");
        Refusal::busy()
    }
}

fn stopped() -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping")
}

/// Starts the thread.
pub(crate) fn start(
    device: Device,
    limits: Limits,
    metrics: Arc<Metrics>,
) -> std::io::Result<(Queue, JoinHandle<()>)> {
    let (sender, mut jobs) = mpsc::unbounded_channel::<Job>();
    let mut worker = Worker {
        device,
        pixels: limits.pixels,
        features: LruCache::new(remembered(REMEMBERED_FEATURES)),
        classifiers: LruCache::new(remembered(REMEMBERED_CLASSIFIERS)),
        metrics: Arc::clone(&metrics),
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
        metrics,
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
    sees: Sees,
    exif: bool,
}

struct Worker {
    device: Device,
    /// Pictures that declare more are refused.
    pixels: u64,
    features: LruCache<(Encoding, blake3::Hash), Arc<[f32]>>,
    classifiers: LruCache<(String, Wording), Arc<Classifier>>,
    metrics: Arc<Metrics>,
}

/// What is known of a picture, or why nothing is.
type Row = Result<Arc<[f32]>, String>;

impl Worker {
    fn answer(&mut self, jobs: Vec<Job>) {
        let mut groups: HashMap<Encoding, Vec<Job>> = HashMap::new();
        for job in jobs {
            let encoding = Encoding::of(&job.question.entry);
            groups.entry(encoding).or_default().push(job);
        }
        for (encoding, jobs) in groups {
            let pictures: Vec<&NamedPicture> =
                jobs.iter().flat_map(|job| &job.question.pictures).collect();
            self.metrics.batch(pictures.len());
            match self.rows(&encoding, &jobs[0].question.entry, &pictures) {
                Ok(rows) => {
                    let mut rows = rows.into_iter();
                    for job in jobs {
                        let own: Vec<Row> =
                            rows.by_ref().take(job.question.pictures.len()).collect();
                        let answer = self.classify(&job.question, own);
                        // Whoever asked may have gone away.
                        let _ = job.reply.send(answer);
                    }
                }
                Err(error) => {
                    for job in jobs {
                        let refusal = Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, &error);
                        let _ = job.reply.send(Err(refusal));
                    }
                }
            }
        }
    }

    /// What the method is given of each picture: remembered, or decoded and encoded together.
    fn rows(
        &mut self,
        encoding: &Encoding,
        entry: &Entry,
        pictures: &[&NamedPicture],
    ) -> Result<Vec<Row>, ModelError> {
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
        let model = &entry.backbone.model;
        let encoder = run::encoder(&entry.settings, model, None)?;
        let mut reader = encoder.reader();
        reader.decoding.max_pixels = self.pixels;
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
            let encoded = encoder.of_pixels(pixels)?; // [read, D]
            let width = encoded.dims()[1];
            let values: Vec<f32> = encoded.into_data().try_to_vec().unwrap_or_default();
            for (picture, row) in read.into_iter().zip(values.chunks_exact(width)) {
                let row: Arc<[f32]> = row.into();
                // Pixels are cheap to compute again, and large.
                if encoding.sees == Sees::Features {
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

    fn classify(&mut self, question: &Question, rows: Vec<Row>) -> Result<Answer, Refusal> {
        let unusable = |error: MethodError| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error);
        let entry = &question.entry;
        let classifier = self
            .classifier(entry, &question.wording)
            .map_err(unusable)?;
        let read: Vec<&Arc<[f32]>> = rows.iter().filter_map(|row| row.as_ref().ok()).collect();
        if let (true, Some(Err(error))) = (read.is_empty(), rows.first()) {
            return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error));
        }
        let width = read.first().map_or(0, |row| row.len());
        let values: Vec<f32> = read.iter().flat_map(|row| row.iter().copied()).collect();
        let inputs = Tensor::from_data(TensorData::new(values, [read.len(), width]), &self.device);
        let guesses = classifier.guesses(inputs, question.top).map_err(unusable)?;
        self.metrics.answered(&entry.name, guesses.len());
        let mut guesses = guesses.into_iter();
        let predictions = question
            .pictures
            .iter()
            .zip(rows)
            .map(|(picture, row)| {
                let name = picture.name.clone();
                match row {
                    Ok(_) => classified(name, guesses.next().unwrap_or_default()),
                    Err(error) => Prediction::Unreadable { name, error },
                }
            })
            .collect();
        Ok(Answer {
            model: entry.name.clone(),
            predictions,
        })
    }

    fn classifier(
        &mut self,
        entry: &Entry,
        wording: &Wording,
    ) -> Result<Arc<Classifier>, MethodError> {
        let key = (entry.name.clone(), wording.clone());
        if let Some(classifier) = self.classifiers.get(&key) {
            return Ok(Arc::clone(classifier));
        }
        let classifier = Arc::new(Classifier::new(entry, wording)?);
        self.classifiers.put(key, Arc::clone(&classifier));
        Ok(classifier)
    }
}

impl Encoding {
    fn of(entry: &Entry) -> Self {
        let settings = &entry.settings;
        Self {
            backbone: entry.backbone.number,
            sees: settings.method.learn().sees(&entry.backbone.model),
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

fn classified(name: String, top: Vec<Guess>) -> Prediction {
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
