//! Bodies of requests, read within bounds: so many bytes a picture, so many a request, so many of all requests together, and
//! none for longer than a client is waited for.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest as _, Multipart, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contextune::data;
use futures_util::StreamExt as _;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::ToSchema;

use crate::answer::Refusal;
use crate::classifier::Wording;
use crate::limits::{Limits, MOST_PICTURES};

/// Bytes that one permit stands for.
const PERMIT: usize = 1024;
/// Classes named for a picture unless the client says otherwise, and the most that it can ask for.
const TOP: usize = 5;
const MOST_TOP: usize = 100;
/// Longest name of a class, longest template, in bytes.
const LONGEST_TEXT: usize = 500;
/// Classes times templates: what the text tower may have to read.
const MOST_TEXTS: usize = 1000;
/// Longest field of a form that is no picture, in bytes: all classes, or all templates.
const LONGEST_FIELD: usize = MOST_TEXTS * LONGEST_TEXT;
/// What may arrive of a form before a part of it is complete, in bytes.
const MOST_UNCLAIMED: usize = 2 << 20;

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
    /// Pictures in base64, 1 to 64.
    #[serde(deserialize_with = "at_most::<_, _, MOST_PICTURES>")]
    images: Vec<JsonPicture>,
    /// Classes to choose from; absent: those that the model learned.
    #[serde(default, deserialize_with = "some_texts")]
    classes: Option<Vec<String>>,
    /// For words alone: sentences with `{}` where the class stands.
    #[serde(default, deserialize_with = "some_texts")]
    templates: Option<Vec<String>>,
    /// Classes to name for each picture, 1 to 100.
    #[schema(example = 5)]
    top: Option<usize>,
}

/// A picture as JSON.
// As clients serialise it: that is where the document takes its shape from.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum JsonPicture {
    /// Its bytes in base64, or a `data:` address.
    Bytes(String),
    /// The same with a name.
    Named(NamedJsonPicture),
}

// Derived, it would keep all of an element before it looks at it: fifty times the bytes of a list of numbers.
impl<'a> Deserialize<'a> for JsonPicture {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct Picture;

        impl<'a> Visitor<'a> for Picture {
            type Value = JsonPicture;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(
                    "a picture: its bytes in base64, or an object with `name` and `data`",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<JsonPicture, E> {
                Ok(JsonPicture::Bytes(text.to_owned()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<JsonPicture, E> {
                Ok(JsonPicture::Bytes(text))
            }

            fn visit_map<A: MapAccess<'a>>(self, map: A) -> Result<JsonPicture, A::Error> {
                NamedJsonPicture::deserialize(MapAccessDeserializer::new(map))
                    .map(JsonPicture::Named)
            }
        }

        deserializer.deserialize_any(Picture)
    }
}

/// A picture with a name as JSON.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedJsonPicture {
    /// What the answer calls it.
    name: String,
    /// Its bytes in base64, or a `data:` address.
    data: String,
}

/// A list that is refused as soon as it is too long, before the rest of it takes memory.
fn at_most<'a, D: Deserializer<'a>, T: Deserialize<'a>, const MOST: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct List<T, const MOST: usize>(PhantomData<T>);

    impl<'a, T: Deserialize<'a>, const MOST: usize> Visitor<'a> for List<T, MOST> {
        type Value = Vec<T>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(formatter, "a list of at most {MOST}")
        }

        fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = list.next_element()? {
                if elements.len() == MOST {
                    return Err(A::Error::invalid_length(MOST + 1, &self));
                }
                elements.push(element);
            }
            Ok(elements)
        }
    }

    deserializer.deserialize_seq(List::<T, MOST>(PhantomData))
}

fn some_texts<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    at_most::<_, _, MOST_TEXTS>(deserializer).map(Some)
}

/// Memory for bodies that have arrived and are not yet answered. While a body is taken apart, it takes up to four times as much
/// for a moment.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<Semaphore>);

impl Memory {
    /// So many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / PERMIT)))
    }

    /// So many permits more, if there are.
    fn reserve(&self, permits: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let reserved = Arc::clone(&self.0).try_acquire_many_owned(permits as u32);
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
        // Megabytes of base64 would hold up whoever is served by this thread.
        Some("application/json") => tokio::task::spawn_blocking(move || from_json(&body))
            .await
            .map_err(malformed)??,
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
    if pictures.len() > limits.pictures() {
        return Err(too_large(format!(
            "{} pictures in a request; at most {} are taken",
            pictures.len(),
            limits.pictures()
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
    for name in pictures
        .iter()
        .map(|picture| &picture.name)
        .chain(&given.model)
    {
        check_length(name)?;
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
    if classes.as_ref().is_some_and(Vec::is_empty) {
        return Err(unprocessable("`classes` names no class"));
    }
    if templates.as_ref().is_some_and(Vec::is_empty) {
        return Err(unprocessable("`templates` has no template"));
    }
    let count = |texts: &Option<Vec<String>>| texts.as_ref().map_or(1, Vec::len);
    let texts = count(&classes).saturating_mul(count(&templates));
    if texts > MOST_TEXTS {
        return Err(unprocessable(format!(
            "classes times templates are {texts} texts; at most {MOST_TEXTS} are read for a request"
        )));
    }
    for text in classes.iter().chain(&templates).flatten() {
        check_length(text)?;
    }
    if let Some(classes) = &classes {
        data::check_class_names("`classes`", classes).map_err(unprocessable)?;
    }
    Ok(Wording { classes, templates })
}

/// Refuses a text that is longer than any name.
fn check_length(text: &str) -> Result<(), Refusal> {
    if text.len() <= LONGEST_TEXT {
        return Ok(());
    }
    let start: String = text.chars().take(20).collect();
    Err(unprocessable(format!(
        "\"{start}…\" has {} bytes; at most {LONGEST_TEXT} are taken",
        text.len()
    )))
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
        let needed = (bytes.len() + chunk.len()).div_ceil(PERMIT);
        reserved.merge(memory.reserve(needed - reserved.num_permits())?);
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
            if pictures.len() > limits.pictures() {
                break; // refused for their number
            }
            continue;
        }
        let text = text(part).await?;
        let is_again = match name.as_str() {
            "model" => given.model.replace(text).is_some(),
            "classes" => given.classes.replace(class_lines(&text)).is_some(),
            "templates" => given.templates.replace(lines(&text)).is_some(),
            "top" => {
                let top = text.trim().parse();
                let top = top
                    .map_err(|_| unprocessable(format!("`top` is {text:?}, which is no number")))?;
                given.top.replace(top).is_some()
            }
            _ => {
                return Err(unknown_field(
                    &name,
                    "model, classes, templates, top, and pictures as files",
                ));
            }
        };
        if is_again {
            return Err(twice(&name));
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
                JsonPicture::Named(NamedJsonPicture { name, data }) => (name, data),
            };
            let encoded = match text.strip_prefix("data:") {
                Some(address) => address.split_once(',').map_or("", |(_, encoded)| encoded),
                None => &text,
            };
            // Tools break lines in it.
            let encoded: Vec<u8> = encoded
                .bytes()
                .filter(|byte| !byte.is_ascii_whitespace())
                .collect();
            match STANDARD.decode(encoded) {
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

/// A field of a form that is text, of at most [`LONGEST_FIELD`] bytes.
pub(crate) async fn text(mut field: Field<'_>) -> Result<String, Refusal> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(broken_form)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LONGEST_FIELD {
            let name: String = field.name().unwrap_or_default().chars().take(20).collect();
            return Err(too_large(format!(
                "the field {name:?} has more than {LONGEST_FIELD} bytes"
            )));
        }
    }
    String::from_utf8(bytes).map_err(|_| malformed("a field of the form is not UTF-8"))
}

/// Watches how much of a form arrives that belongs to no part yet: a form's parser keeps all of that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unclaimed(Arc<AtomicUsize>);

impl Unclaimed {
    /// The same body, which fails when too much of it arrives without [`Unclaimed::claim`].
    pub fn watch(&self, body: Body) -> Body {
        let unclaimed = Arc::clone(&self.0);
        Body::from_stream(body.into_data_stream().map(move |chunk| {
            let chunk = chunk.map_err(|error| error.to_string())?;
            let before = unclaimed.fetch_add(chunk.len(), Ordering::Relaxed);
            match before + chunk.len() > MOST_UNCLAIMED {
                true => Err("the form has a part without end".to_owned()),
                false => Ok(chunk),
            }
        }))
    }

    /// A part, or a piece of one, was taken up.
    pub fn claim(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A form that is not one, was cut short, or has a part without end.
pub(crate) fn broken_form(error: MultipartError) -> Refusal {
    // The last cause is what the client did.
    let mut cause: &dyn Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    match error.status() {
        status if status.is_server_error() => malformed(cause),
        status => Refusal::new(status, cause),
    }
}

pub(crate) fn unknown_field(name: &str, known: &str) -> Refusal {
    unprocessable(format!("there is no field {name:?}; there are {known}"))
}

pub(crate) fn twice(name: &str) -> Refusal {
    unprocessable(format!("the field {name:?} is there twice"))
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
