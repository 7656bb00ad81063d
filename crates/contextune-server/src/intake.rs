//! Bodies of requests, read within bounds: so many bytes a picture, so many a request, so many of all requests together, and
//! none for longer than a client is waited for.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest as _, Multipart, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contextune::data;
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::ToSchema;

use crate::answer::Refusal;
use crate::classifier::Wording;
use crate::server::Limits;

/// Bytes that one permit stands for.
const PERMIT: usize = 1024;
/// Classes named for a picture unless the client says otherwise, and the most that it can ask for.
const TOP: usize = 5;
const MOST_TOP: usize = 100;
/// Longest name of a class, longest template, in bytes.
const LONGEST_TEXT: usize = 500;
/// Classes times templates: what the text tower may have to read.
const MOST_TEXTS: usize = 1000;

/// A picture and what it is called.
#[derive(Clone, Debug)]
pub(crate) struct NamedPicture {
    /// Its file name, or its number from 1.
    pub name: String,
    pub bytes: Bytes,
}

/// A request for predictions, not yet held against what there is.
#[derive(Debug)]
pub(crate) struct PredictRequest {
    /// Absent: the first model.
    pub model: Option<String>,
    pub wording: Wording,
    pub top: usize,
    /// At least one.
    pub pictures: Vec<NamedPicture>,
    /// The memory that its body takes.
    pub memory: OwnedSemaphorePermit,
}

/// A request for predictions as JSON.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JsonRequest {
    /// Name of the model; absent: the first.
    #[schema(example = "photos")]
    model: Option<String>,
    /// Pictures in base64.
    images: Vec<JsonPicture>,
    /// Classes to choose from; absent: those that the model learned.
    classes: Option<Vec<String>>,
    /// For words alone: sentences with `{}` where the class stands.
    templates: Option<Vec<String>>,
    /// Classes to name for each picture, 1 to 100.
    #[schema(example = 5)]
    top: Option<usize>,
}

/// A picture as JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum JsonPicture {
    /// Its bytes in base64, or a `data:` address.
    Bytes(String),
    /// The same with a name.
    Named {
        /// What the answer calls it.
        name: String,
        /// Its bytes in base64, or a `data:` address.
        data: String,
    },
}

/// Memory for bodies that have arrived and are not yet answered.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<Semaphore>);

impl Memory {
    /// So many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / PERMIT)))
    }

    /// A place for so many bytes more, if there is one.
    fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let permits = bytes.div_ceil(PERMIT) as u32;
        let reserved = Arc::clone(&self.0).try_acquire_many_owned(permits);
        reserved.map_err(|_| Refusal::busy())
    }
}

/// Reads a request for predictions: multipart or JSON.
///
/// # Errors
/// 400, 408, 413, 415, 422, 503.
pub(crate) async fn predict_request(
    request: Request,
    limits: &Limits,
    memory: &Memory,
) -> Result<PredictRequest, Refusal> {
    let kind = content_type(request.headers());
    let (parts, body) = request.into_parts();
    let all = limits.request_bytes();
    let reading = whole(&parts.headers, body, all, memory);
    let (body, memory) = match tokio::time::timeout(limits.patience, reading).await {
        Ok(read) => read?,
        Err(_) => {
            return Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "the request did not arrive in time",
            ));
        }
    };
    let (given, pictures) = match kind.as_deref() {
        Some("multipart/form-data") => {
            let request = Request::from_parts(parts, Body::from(body));
            from_multipart(request, limits).await?
        }
        Some("application/json") => from_json(&body)?,
        _ => {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send pictures as multipart/form-data, or as application/json with base64",
            ));
        }
    };
    if pictures.is_empty() {
        return Err(unprocessable(
            "there is no picture in the request: add a part with a file name, or `images`",
        ));
    }
    if pictures.len() > limits.pictures {
        return Err(too_large(format!(
            "{} pictures in a request; at most {} are taken",
            pictures.len(),
            limits.pictures
        )));
    }
    if let Some(picture) = pictures
        .iter()
        .find(|picture| picture.bytes.len() > limits.picture_bytes)
    {
        return Err(too_large(format!(
            "{} has {} bytes; at most {} are taken",
            picture.name,
            picture.bytes.len(),
            limits.picture_bytes
        )));
    }
    let top = given.top.unwrap_or(TOP);
    if !(1..=MOST_TOP).contains(&top) {
        return Err(unprocessable(format!(
            "`top` is {top}; it can be 1 to {MOST_TOP}"
        )));
    }
    Ok(PredictRequest {
        model: given.model,
        wording: wording(given.classes, given.templates)?,
        top,
        pictures,
        memory,
    })
}

/// Refuses names and templates that cannot be used, or are too many to be read at once.
fn wording(
    classes: Option<Vec<String>>,
    templates: Option<Vec<String>>,
) -> Result<Wording, Refusal> {
    if let Some(classes) = &classes {
        if classes.is_empty() {
            return Err(unprocessable("`classes` names no class"));
        }
        data::check_class_names("`classes`", classes).map_err(unprocessable)?;
    }
    if templates.as_ref().is_some_and(Vec::is_empty) {
        return Err(unprocessable("`templates` has no template"));
    }
    let texts = || classes.iter().chain(&templates).flatten();
    if let Some(long) = texts().find(|text| text.len() > LONGEST_TEXT) {
        let start: String = long.chars().take(20).collect();
        return Err(unprocessable(format!(
            "\"{start}…\" has {} bytes; at most {LONGEST_TEXT} are taken",
            long.len()
        )));
    }
    let count = |texts: &Option<Vec<String>>| texts.as_ref().map_or(1, Vec::len);
    let texts = count(&classes).saturating_mul(count(&templates));
    if texts > MOST_TEXTS {
        return Err(unprocessable(format!(
            "classes times templates are {texts} texts; at most {MOST_TEXTS} are read for a request"
        )));
    }
    Ok(Wording { classes, templates })
}

/// The type of a body without its parameters, in lower case.
fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = value.split(';').next().unwrap_or_default();
    Some(kind.trim().to_ascii_lowercase())
}

/// A whole body of at most `limit` bytes, with the memory it takes.
async fn whole(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    memory: &Memory,
) -> Result<(Bytes, OwnedSemaphorePermit), Refusal> {
    let over = || {
        too_large(format!(
            "the request has more than {limit} bytes, which is the most that is taken"
        ))
    };
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|declared| declared > limit as u64) {
        return Err(over());
    }
    let mut reserved = memory.reserve(0)?;
    let mut bytes = Vec::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| malformed(format!("the request broke off: {error}")))?;
        if bytes.len() + chunk.len() > limit {
            return Err(over());
        }
        reserved.merge(memory.reserve(chunk.len())?);
        bytes.extend_from_slice(&chunk);
    }
    Ok((bytes.into(), reserved))
}

/// The fields of a form, and its pictures.
async fn from_multipart(
    request: Request,
    limits: &Limits,
) -> Result<(JsonRequest, Vec<NamedPicture>), Refusal> {
    let mut parts = multipart(request).await?;
    let mut given = JsonRequest::default();
    let mut pictures = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(broken_form)? {
        let name = part.name().unwrap_or_default().to_owned();
        if let Some(file) = part.file_name().map(ToOwned::to_owned) {
            let name = match file.is_empty() {
                true => (pictures.len() + 1).to_string(),
                false => file,
            };
            let bytes = part.bytes().await.map_err(broken_form)?;
            pictures.push(NamedPicture { name, bytes });
            if pictures.len() > limits.pictures {
                break; // refused for their number
            }
            continue;
        }
        let text = text(part).await?;
        match name.as_str() {
            "model" => given.model = Some(text),
            "classes" => given.classes = Some(class_lines(&text)),
            "templates" => given.templates = Some(lines(&text)),
            "top" => {
                let top = text.trim().parse();
                given.top = Some(top.map_err(|_| {
                    unprocessable(format!("`top` is {text:?}, which is no number"))
                })?);
            }
            _ => {
                return Err(unknown_field(
                    &name,
                    "model, classes, templates, top, and pictures as files",
                ));
            }
        }
    }
    Ok((given, pictures))
}

/// The same in JSON.
fn from_json(body: &[u8]) -> Result<(JsonRequest, Vec<NamedPicture>), Refusal> {
    let mut given: JsonRequest = serde_json::from_slice(body)
        .map_err(|error| malformed(format!("the JSON is not what is expected: {error}")))?;
    let pictures = std::mem::take(&mut given.images)
        .into_iter()
        .enumerate()
        .map(|(index, picture)| {
            let (name, text) = match picture {
                JsonPicture::Bytes(text) => ((index + 1).to_string(), text),
                JsonPicture::Named { name, data } => (name, data),
            };
            let encoded = match text.strip_prefix("data:") {
                Some(address) => address.split_once(',').map_or("", |(_, encoded)| encoded),
                None => &text,
            };
            match STANDARD.decode(encoded.trim()) {
                Ok(bytes) => Ok(NamedPicture {
                    name,
                    bytes: bytes.into(),
                }),
                Err(error) => Err(unprocessable(format!(
                    "picture {name} is not in base64: {error}"
                ))),
            }
        })
        .collect::<Result<_, Refusal>>()?;
    Ok((given, pictures))
}

/// The parts of a form.
pub(crate) async fn multipart(request: Request) -> Result<Multipart, Refusal> {
    let parts = Multipart::from_request(request, &()).await;
    parts.map_err(|error| malformed(error.body_text()))
}

/// A field of a form that is text.
pub(crate) async fn text(field: Field<'_>) -> Result<String, Refusal> {
    field.text().await.map_err(broken_form)
}

/// A form that is not one, or was cut short.
pub(crate) fn broken_form(error: MultipartError) -> Refusal {
    Refusal::new(error.status(), error.body_text())
}

pub(crate) fn unknown_field(name: &str, known: &str) -> Refusal {
    unprocessable(format!("there is no field {name:?}; there are {known}"))
}

pub(crate) fn malformed(error: impl ToString) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, error)
}

pub(crate) fn unprocessable(error: impl ToString) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error)
}

pub(crate) fn too_large(error: impl ToString) -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error)
}

/// Class names: one a line, or where there is one line, separated by commas.
fn class_lines(text: &str) -> Vec<String> {
    let separator = if text.trim().contains('\n') {
        '\n'
    } else {
        ','
    };
    let names = text.trim().split(separator).map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(ToOwned::to_owned)
        .collect()
}

/// The lines that are not blank.
fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .map(ToOwned::to_owned)
        .collect()
}
