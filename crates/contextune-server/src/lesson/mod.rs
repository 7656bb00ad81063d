//! Lessons: pictures that were sent, learned from in a thread of their own, one lesson at a time.
//!
//! A lesson is a folder like any other: `data/train/` and `data/test/` with a folder for each class, and the run in `run/`.
//! `upload` receives it and plans what is to be learned, `learn` learns it, `progress` is what can be asked meanwhile, in which
//! `names` gives pictures the names that the client knows.

mod learn;
mod names;
mod progress;
mod upload;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use axum::extract::Request;
use axum::http::StatusCode;
use contextune::run::RunFolder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::learn::{Learner, RUN};
use self::progress::LessonHandle;
pub(crate) use self::progress::LessonProgress;
pub(crate) use self::upload::MOST_BYTES;
use self::upload::{Upload, cannot_keep, conflict, remove_abandoned};
use crate::answer::Refusal;
use crate::limits::Limits;
use crate::shelf::Shelf;

/// Lessons that may arrive at a time.
const ARRIVING: usize = 4;

/// All lessons since the server started, and where they are kept.
#[derive(Debug)]
pub(crate) struct Lessons {
    folder: PathBuf,
    learner: Arc<Learner>,
    arriving: Semaphore,
    /// One permit: whoever holds it learns.
    free: Arc<Semaphore>,
    lessons: Mutex<BTreeMap<String, Arc<LessonHandle>>>,
    /// The thread of the newest lesson.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A lesson that is on disk already.
#[derive(Clone, Debug)]
pub struct Taught {
    /// Its name.
    pub name: String,
    /// Its run folder.
    pub run: PathBuf,
    /// Whether it has a learned prompt; without one it can be resumed.
    pub is_finished: bool,
}

/// Returns the lessons in a folder, sorted by name; none if there is no such folder.
pub fn taught(folder: &Path) -> Vec<Taught> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut taught: Vec<Taught> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let run = RunFolder::open(&entry.path().join(RUN)).ok()?;
            Some(Taught {
                name: entry.file_name().to_string_lossy().into_owned(),
                run: run.path().to_owned(),
                is_finished: run.prompt_file().is_file(),
            })
        })
        .collect();
    taught.sort_by(|a, b| a.name.cmp(&b.name));
    taught
}

impl Lessons {
    /// Removes abandoned uploads from `folder`, which is created when the first lesson arrives.
    pub fn new(folder: PathBuf, cache: Option<PathBuf>, pixels: u64, shelf: Arc<Shelf>) -> Self {
        remove_abandoned(&folder);
        Self {
            folder,
            learner: Arc::new(Learner {
                cache,
                pixels,
                shelf,
                stopping: AtomicBool::new(false),
            }),
            arriving: Semaphore::new(ARRIVING),
            free: Arc::new(Semaphore::new(1)),
            lessons: Mutex::default(),
            thread: Mutex::default(),
        }
    }

    fn lessons(&self) -> MutexGuard<'_, BTreeMap<String, Arc<LessonHandle>>> {
        self.lessons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the progress of the lesson called `name`.
    pub fn progress(&self, name: &str) -> Option<LessonProgress> {
        let lesson = self.lessons().get(name).cloned()?;
        Some(lesson.progress().clone())
    }

    /// Ends the lesson called `name` after its current epoch; returns whether there is one.
    pub fn stop_one(&self, name: &str) -> bool {
        let lessons = self.lessons();
        let lesson = lessons.get(name);
        lesson.inspect(|lesson| lesson.stop()).is_some()
    }

    /// Ends the current lesson after its current epoch, and refuses new ones.
    pub fn stop(&self) {
        self.learner.stopping.store(true, Ordering::SeqCst);
    }

    /// Waits until the current lesson has ended.
    pub fn join(&self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A panic in it was told already, as a lesson that failed.
            let _ = thread.join();
        }
    }
}

/// Receives a lesson and starts to learn it; returns its name.
///
/// # Errors
/// 409 if another lesson is under way or the name is taken, 408, 413, 422, 503, and 500 if the disk cannot be written.
pub(crate) async fn begin(
    lessons: &Arc<Lessons>,
    request: Request,
    limits: &Limits,
) -> Result<String, Refusal> {
    let under_way = || conflict("another lesson is under way: wait until it is done, or stop it");
    if lessons.free.available_permits() == 0 {
        return Err(under_way());
    }
    let _arriving = lessons
        .arriving
        .try_acquire()
        .map_err(|_| Refusal::busy())?;
    let upload = Upload::receive(&lessons.folder, &lessons.learner.shelf, request, limits).await?;
    let turn = Arc::clone(&lessons.free);
    let turn = turn.try_acquire_owned().map_err(|_| under_way())?;
    let lessons = Arc::clone(lessons);
    // Thousands of pictures get their places: not on a thread that serves others.
    let begun = tokio::task::spawn_blocking(move || start(lessons, upload, turn)).await;
    begun.map_err(io::Error::from).map_err(cannot_keep)?
}

/// Starts the thread that learns and that holds `turn` until it is done.
fn start(
    lessons: Arc<Lessons>,
    upload: Upload,
    turn: OwnedSemaphorePermit,
) -> Result<String, Refusal> {
    if lessons.learner.stopping.load(Ordering::SeqCst) {
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the server is stopping",
        ));
    }
    let plan = upload.plan()?;
    let name = plan.name.clone();
    let lesson = Arc::new(LessonHandle::new(name.clone(), plan.held_out));
    lessons.lessons().insert(name.clone(), Arc::clone(&lesson));
    let (learning, folder) = (Arc::clone(&lessons.learner), plan.folder.clone());
    // Held until the thread is in it, so that whoever stops the server waits for it.
    let mut thread = lessons
        .thread
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let spawned = std::thread::Builder::new()
        .name("lesson".into())
        .spawn(move || {
            learning.learn(&plan, &lesson);
            drop(turn);
        });
    match spawned {
        Ok(handle) => {
            *thread = Some(handle);
            Ok(name)
        }
        Err(error) => {
            lessons.lessons().remove(&name);
            // Nothing else can be done about what cannot be removed.
            let _ = fs::remove_dir_all(folder);
            Err(cannot_keep(error))
        }
    }
}
