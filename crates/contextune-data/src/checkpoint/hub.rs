//! Models of the Hugging Face hub, by ids such as `openai/clip-vit-base-patch32`.
//!
//! Files land in the cache that Hugging Face's own tools share, so a model that one of them fetched is found here.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo};

use super::error::{Error, Result};
use super::folder::existing_file;
pub use super::hub_id::{FetchProgress as Progress, is_id};
pub use super::hub_options::Options;
use super::{hugging_face, open_clip};

/// A model in the cache.
#[derive(Clone, Debug)]
pub struct CachedModel {
    /// Its id, `owner/name`.
    pub id: String,
    /// The folder to open; absent for one that is not complete or that cannot be read here.
    pub folder: Option<PathBuf>,
    /// On disk.
    pub bytes: u64,
}

/// Returns the models in the cache, sorted by id; none where there is no cache.
///
/// # Errors
/// A folder that is there cannot be read.
pub fn cached(options: &Options) -> Result<Vec<CachedModel>> {
    let entries = match std::fs::read_dir(&options.cache) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io(&options.cache))?,
    };
    let cache = Cache::new(options.cache.clone());
    let mut models = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io(&options.cache))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let id = name
            .strip_prefix("models--")
            .map(|name| name.replacen("--", "/", 1));
        if let Some(id) = id.filter(|id| is_id(id)) {
            models.push(CachedModel {
                folder: complete_folder(&cache.model(id.clone())),
                bytes: bytes_in(&entry.path().join("blobs")),
                id,
            });
        }
    }
    models.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(models)
}

/// Returns the total size of the files directly in a folder, in bytes; files that cannot be read do not count.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let sizes = entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
    sizes.sum()
}

/// Attempts for a file that breaks off; each continues where the last one ended.
const ATTEMPTS: usize = 3;

/// Returns the folder of a model, to be opened by [`super::open`]; what the cache lacks is downloaded.
///
/// A model that is complete in the cache needs no network. `progress` hears about each download.
///
/// # Errors
/// [`Error::HubId`], [`Error::HubNotFound`], [`Error::HubUnreachable`], [`Error::HubOffline`], and
/// [`Error::NotACheckpoint`] for a model without weights that can be read.
pub fn fetch(
    id: &str,
    options: &Options,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<PathBuf> {
    if !is_id(id) {
        return Err(Error::HubId { id: id.to_owned() });
    }
    let cache = Cache::new(options.cache.clone());
    if let Some(folder) = complete_folder(&cache.model(id.to_owned())) {
        return Ok(folder);
    }
    if options.offline {
        return Err(Error::HubOffline {
            id: id.to_owned(),
            cache: options.cache.clone(),
        });
    }

    let hub_error = |error| hub_error(id, options, error);
    let repository = ApiBuilder::from_cache(cache)
        .with_endpoint(options.endpoint.trim_end_matches('/').to_owned())
        .with_token(options.token.clone())
        .with_progress(false)
        .build()
        .map_err(hub_error)?
        .model(id.to_owned());
    let info = repository.info().map_err(hub_error)?;
    let available: Vec<&str> = info.siblings.iter().map(|file| &*file.rfilename).collect();
    let has = |name: &str| available.contains(&name);

    let weights = |names: &[&'static str]| names.iter().copied().find(|name| has(name));
    let (config, weight_file) = match (
        weights(&hugging_face::WEIGHT_FILES).filter(|_| has("config.json")),
        weights(&open_clip::WEIGHT_FILES).filter(|_| has(open_clip::CONFIG_FILE)),
    ) {
        (Some(file), _) => ("config.json", file),
        (None, Some(file)) => (open_clip::CONFIG_FILE, file),
        (None, None) => {
            return Err(Error::not_a_checkpoint(
                Path::new(id),
                "a hub repository without CLIP weights",
                "it needs config.json or open_clip_config.json, and safetensors or PyTorch weights",
            ));
        }
    };
    // The weights come last: their presence says that the rest is there (see complete_folder).
    for file in [
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer.json",
    ] {
        if has(file) {
            download(&repository, id, options, file, &mut progress)?;
        }
    }
    let config = download(&repository, id, options, config, &mut progress)?;
    if weight_file.ends_with(".index.json") {
        let index = download(&repository, id, options, weight_file, &mut progress)?;
        for part in hugging_face::parts(&index)? {
            download(&repository, id, options, &part, &mut progress)?;
        }
    } else {
        download(&repository, id, options, weight_file, &mut progress)?;
    }
    Ok(config.parent().unwrap_or(Path::new("")).to_owned())
}

/// Returns the snapshot folder of a model in the cache, if its configuration and all its weights are there.
fn complete_folder(cached: &CacheRepo) -> Option<PathBuf> {
    let in_folder = |config: &str, weight_files: &[&str]| {
        let folder = cached.get(config)?.parent()?.to_owned();
        let file = weight_files
            .iter()
            .find_map(|name| existing_file(&folder, name))?;
        if file
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let parts = hugging_face::parts(&file).ok()?;
            if !parts.iter().all(|part| folder.join(part).is_file()) {
                return None;
            }
        }
        Some(folder)
    };
    in_folder("config.json", &hugging_face::WEIGHT_FILES)
        .or_else(|| in_folder(open_clip::CONFIG_FILE, &open_clip::WEIGHT_FILES))
}

/// Returns the path of a file in the cache, downloaded if it is not there.
fn download(
    repository: &ApiRepo,
    id: &str,
    options: &Options,
    file: &str,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf> {
    let cached = Cache::new(options.cache.clone())
        .model(id.to_owned())
        .get(file);
    if let Some(path) = cached {
        return Ok(path);
    }
    let mut attempt = 1;
    loop {
        let mut meter = Meter {
            file: String::new(),
            done: 0,
            total: 0,
            report: &mut *progress,
        };
        match repository.download_with_progress(file, &mut meter) {
            // A server that ignores where to continue would leave a longer file.
            Ok(path) if path.metadata().is_ok_and(|data| data.len() == meter.total) => {
                return Ok(path);
            }
            Ok(path) => {
                for path in [path.canonicalize().unwrap_or_default(), path] {
                    // Nothing to do about a file that cannot be removed: the error below is reported.
                    let _ = std::fs::remove_file(path);
                }
                let reason = format!("{file} came with the wrong length");
                return Err(unreachable(id, options, reason));
            }
            Err(ApiError::IoError(_)) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(hub_error(id, options, error)),
        }
    }
}

fn hub_error(id: &str, options: &Options, error: ApiError) -> Error {
    match error {
        ApiError::RequestError(error) => match *error {
            // The hub answers 401 for a model that does not exist when no token is sent.
            ureq::Error::StatusCode(status @ (401 | 403 | 404)) => Error::HubNotFound {
                id: id.to_owned(),
                endpoint: options.endpoint.clone(),
                status,
            },
            other => unreachable(id, options, other.to_string()),
        },
        other => unreachable(id, options, other.to_string()),
    }
}

fn unreachable(id: &str, options: &Options, reason: String) -> Error {
    Error::HubUnreachable {
        id: id.to_owned(),
        endpoint: options.endpoint.clone(),
        reason,
    }
}

/// Adds up what `hf-hub` reports.
struct Meter<'a> {
    file: String,
    done: u64,
    total: u64,
    report: &'a mut dyn FnMut(Progress<'_>),
}

impl hf_hub::api::Progress for &mut Meter<'_> {
    fn init(&mut self, size: usize, filename: &str) {
        self.file = filename.to_owned();
        self.done = 0;
        self.total = size as u64;
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        (self.report)(Progress {
            file: &self.file,
            done: self.done,
            total: self.total,
        });
    }

    fn finish(&mut self) {}
}
