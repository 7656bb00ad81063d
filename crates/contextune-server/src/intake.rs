//! Reads request bodies within bounds: on the bytes of a picture, of a request and of all requests together, and on the time
//! that a body may take to arrive.

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
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, Engine as _};
use base64::{DecodeError, alphabet};
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

/// Deserializes a list, and refuses it as soon as it is too long, before the rest takes memory.
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
    /// Creates a budget of `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / PERMIT)))
    }

    /// Reserves `permits` more permits.
    ///
    /// # Errors
    /// 503 if fewer are left.
    fn reserve(&self, permits: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let reserved = Arc::clone(&self.0).try_acquire_many_owned(permits as u32);
        reserved.map_err(|_| Refusal::busy())
    }
}

/// Reads a request for predictions, sent as multipart form or as JSON.
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

/// Checks that classes and templates can be used and are not too many to be encoded at once.
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

/// Checks that a text is no longer than [`LONGEST_TEXT`].
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

/// Returns the media type of a body without its parameters, in lower case.
fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = value.split(';').next().unwrap_or_default();
    Some(kind.trim().to_ascii_lowercase())
}

/// Reads a whole body of at most `limit` bytes; returns it with the memory reserved for it.
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

/// Reads the fields and the pictures of a form.
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

/// Reads the fields and the pictures of a JSON body.
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
            match from_base64(encoded) {
                Ok(bytes) => Ok(NamedPicture {
                    name,
                    bytes: bytes.into(),
                }),
                Err(problem) => Err(unprocessable(format!(
                    "picture {name} is not in base64: {problem}"
                ))),
            }
        })
        .collect::<Result<_, Refusal>>()?;
    Ok((given, pictures))
}

/// Decodes base64 of either alphabet, with its padding or without, in one line or many; else says what the text is instead.
fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let encoded: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            byte => byte,
        })
        .collect();
    let error = match GeneralPurpose::new(&alphabet::STANDARD, LENIENT).decode(encoded) {
        Ok(bytes) => return Ok(bytes),
        Err(error) => error,
    };
    let begins = |start: &str| text.trim_start().starts_with(start);
    Err(
        if begins("http://") || begins("https://") || begins("file://") {
            "it is an address, and nothing is fetched; send the bytes of the picture".into()
        } else if begins("b'") || begins("b\"") {
            "it is how Python shows bytes; send base64.b64encode(picture).decode()".into()
        } else {
            match error {
                DecodeError::InvalidByte(place, byte) => {
                    format!("character {} is {:?}", place + 1, char::from(byte))
                }
                _ => "it is cut short".into(),
            }
        },
    )
}

/// Begins to read the parts of a form.
pub(crate) async fn multipart(request: Request) -> Result<Multipart, Refusal> {
    let parts = Multipart::from_request(request, &()).await;
    parts.map_err(|error| malformed(error.body_text()))
}

/// Reads a text field of a form, of at most [`LONGEST_FIELD`] bytes.
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

/// Counts the bytes of a form that have arrived and belong to no part yet: the form's parser buffers them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unclaimed(Arc<AtomicUsize>);

impl Unclaimed {
    /// Wraps a body so that it fails when too much of it arrives without [`Unclaimed::claim`].
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

    /// Resets the count: a part, or a piece of one, was read.
    pub fn claim(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Refuses a form that is malformed, was cut short, or has a part without end.
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

/// Splits class names: one per line, or separated by commas if there is only one line.
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

/// Splits a text into trimmed lines and drops the blank ones.
fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .map(ToOwned::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::stream;

    use super::*;

    const LIMITS: Limits = Limits {
        picture_bytes: 1000,
        pixels: 1_000_000,
        waiting: 3,
        patience: Duration::from_secs(60),
    };
    const FORM: &str = "multipart/form-data; boundary=x";
    const JSON: &str = "application/json";

    fn request(kind: &str, body: impl Into<Body>) -> Request {
        let request = Request::builder().header(CONTENT_TYPE, kind);
        request.body(body.into()).unwrap()
    }

    async fn read(kind: &str, body: impl Into<Body>) -> Result<PredictRequest, Refusal> {
        let memory = Memory::new(LIMITS.memory_bytes());
        predict_request(request(kind, body), &LIMITS, &memory).await
    }

    /// Writes a form with `fields` and with `pictures` pictures of one byte each.
    fn form(fields: &[(&str, &str)], pictures: usize) -> String {
        let fields = fields.iter().map(|(name, text)| {
            format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
        });
        let pictures = (0..pictures).map(|number| {
            format!("--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"{number}.png\"\r\n\r\nP\r\n")
        });
        fields.chain(pictures).chain(["--x--\r\n".into()]).collect()
    }

    #[test]
    fn base64_is_read_as_tools_write_it() {
        for text in ["+/8=", "+/8", "-_8=", "-_8", " +/\r\n8= "] {
            assert_eq!(from_base64(text).unwrap(), [0xfb, 0xff], "{text}");
        }
        for (text, says) in [
            ("https://example.org/cat.png", "an address"),
            ("b'aGVsbG8='", "how Python shows bytes"),
            ("aGVs*G8=", "character 5 is '*'"),
            ("aGVsb", "cut short"),
        ] {
            let problem = from_base64(text).unwrap_err();
            assert!(problem.contains(says), "{text}: {problem}");
        }
    }

    #[tokio::test]
    async fn forms_and_json_say_the_same() {
        let form = "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nphotos\r\n\
            --x\r\nContent-Disposition: form-data; name=\"classes\"\r\n\r\n cat, big dog ,\r\n\
            --x\r\nContent-Disposition: form-data; name=\"templates\"\r\n\r\na {}.\n\n  the {}, really.\r\n\
            --x\r\nContent-Disposition: form-data; name=\"top\"\r\n\r\n 2\r\n\
            --x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"\"\r\n\r\nfirst\r\n\
            --x\r\nContent-Disposition: form-data; name=\"any\"; filename=\"my cat.png\"\r\n\r\nsecond\r\n\
            --x--\r\n";
        let json = serde_json::json!({
            "model": "photos",
            "classes": ["cat", "big dog"],
            "templates": ["a {}.", "the {}, really."],
            "top": 2,
            "images": ["Zmly\nc3Q=", {"name": "my cat.png", "data": "data:image/png;base64,c2Vjb25k"}],
        });
        for (kind, body) in [(FORM, form.to_owned()), (JSON, json.to_string())] {
            let read = read(kind, body).await.unwrap();
            assert_eq!(read.model.as_deref(), Some("photos"));
            assert_eq!(read.wording.classes.unwrap(), ["cat", "big dog"]);
            assert_eq!(
                read.wording.templates.unwrap(),
                ["a {}.", "the {}, really."]
            );
            assert_eq!(read.top, 2);
            let pictures: Vec<(&str, &[u8])> = read
                .pictures
                .iter()
                .map(|picture| (picture.name.as_str(), &picture.bytes[..]))
                .collect();
            assert_eq!(
                pictures,
                [("1", &b"first"[..]), ("my cat.png", &b"second"[..])]
            );
        }
        // One a line, commas belong to names.
        let lines = form.replace(" cat, big dog ,", "cat\nbig, bad dog");
        let read = read(FORM, lines).await.unwrap();
        assert_eq!(read.wording.classes.unwrap(), ["cat", "big, bad dog"]);
    }

    #[tokio::test]
    async fn requests_at_a_limit_are_read_and_those_above_are_refused() {
        let images =
            |count: usize| format!("{{\"images\": [{}]}}", vec!["\"AA==\""; count].join(","));
        let picture = |bytes: usize| {
            format!(
                "--x\r\nContent-Disposition: form-data; name=\"i\"; filename=\"a.png\"\r\n\r\n{}\r\n--x--\r\n",
                "P".repeat(bytes)
            )
        };
        let names = |count: usize| {
            let names: Vec<String> = (0..count).map(|number| format!("c{number}")).collect();
            names.join(",")
        };
        let (text, long_text) = ("a".repeat(LONGEST_TEXT), "a".repeat(LONGEST_TEXT + 1));
        let templates = vec!["a {}."; MOST_TEXTS / 2].join("\n");
        let long_field = "a".repeat(LONGEST_FIELD + 1);
        for (status, kind, body) in [
            (200, FORM, form(&[], LIMITS.waiting)),
            (413, FORM, form(&[], LIMITS.waiting + 1)),
            (200, JSON, images(LIMITS.waiting)),
            (413, JSON, images(LIMITS.waiting + 1)),
            (400, JSON, images(MOST_PICTURES + 1)),
            (422, JSON, images(0)),
            (422, FORM, form(&[], 0)),
            (200, FORM, picture(LIMITS.picture_bytes)),
            (413, FORM, picture(LIMITS.picture_bytes + 1)),
            (200, FORM, form(&[("top", "1")], 1)),
            (200, FORM, form(&[("top", &MOST_TOP.to_string())], 1)),
            (422, FORM, form(&[("top", "0")], 1)),
            (422, FORM, form(&[("top", &(MOST_TOP + 1).to_string())], 1)),
            (422, FORM, form(&[("top", "-1")], 1)),
            (200, FORM, form(&[("model", &text)], 1)),
            (422, FORM, form(&[("model", &long_text)], 1)),
            (200, FORM, form(&[("classes", &format!("{text},b"))], 1)),
            (
                422,
                FORM,
                form(&[("classes", &format!("{long_text},b"))], 1),
            ),
            (200, FORM, form(&[("classes", &names(MOST_TEXTS))], 1)),
            (422, FORM, form(&[("classes", &names(MOST_TEXTS + 1))], 1)),
            (
                200,
                FORM,
                form(&[("classes", "a,b"), ("templates", &templates)], 1),
            ),
            (
                422,
                FORM,
                form(&[("classes", "a,b,c"), ("templates", &templates)], 1),
            ),
            (413, FORM, form(&[("classes", &long_field)], 1)),
            (422, FORM, form(&[("model", "a"), ("model", "b")], 1)),
            (422, FORM, form(&[("colour", "red")], 1)),
            (
                400,
                JSON,
                "{\"images\": [\"AA==\"], \"colour\": \"red\"}".into(),
            ),
            (422, JSON, "{\"images\": [\"A\"]}".into()),
            (415, "image/png", "P".into()),
        ] {
            let read = read(kind, body.clone()).await;
            let found = read
                .as_ref()
                .map_or_else(|refusal| refusal.status.as_u16(), |_| 200);
            let start: String = body.chars().take(200).collect();
            assert_eq!(found, status, "{start}: {:?}", read.err());
        }
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_refused_before_it_is_read_to_its_end() {
        // Declared, it is not read at all.
        let mut declared = request(
            JSON,
            Body::from_stream(stream::pending::<Result<Bytes, String>>()),
        );
        let length = (LIMITS.request_bytes() + 1).to_string();
        declared
            .headers_mut()
            .insert(CONTENT_LENGTH, length.parse().unwrap());
        let memory = Memory::new(LIMITS.memory_bytes());
        let refusal = predict_request(declared, &LIMITS, &memory)
            .await
            .unwrap_err();
        assert_eq!(refusal.status, StatusCode::PAYLOAD_TOO_LARGE);
        // Otherwise it is read as far as the limit, though it never ends.
        let endless = stream::repeat_with(|| Ok::<_, String>(Bytes::from_static(&[b' '; 1 << 16])));
        let refusal = read(JSON, Body::from_stream(endless)).await.unwrap_err();
        assert_eq!(refusal.status, StatusCode::PAYLOAD_TOO_LARGE);
        // Not even in front of a form's first part.
        let unclaimed = Unclaimed::default();
        let mut watched = unclaimed
            .watch(Body::from(vec![0; MOST_UNCLAIMED + 1]))
            .into_data_stream();
        assert!(watched.next().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_given_up() {
        let limits = Limits {
            patience: Duration::from_millis(20),
            ..LIMITS
        };
        let pending = Body::from_stream(stream::pending::<Result<Bytes, String>>());
        let memory = Memory::new(limits.memory_bytes());
        let read = predict_request(request(JSON, pending), &limits, &memory).await;
        assert_eq!(read.unwrap_err().status, StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn all_bodies_together_are_bounded_and_give_their_memory_back() {
        let memory = Memory::new(4 * PERMIT);
        let body = format!("{{\"images\": [\"{}\"]}}", "AAAA".repeat(200));
        let read = || predict_request(request(JSON, body.clone()), &LIMITS, &memory);
        let held = [
            read().await.unwrap(),
            read().await.unwrap(),
            read().await.unwrap(),
        ];
        // The fourth permit is the last, and this takes two.
        let large = format!("{}{body}", " ".repeat(PERMIT));
        let refused = predict_request(request(JSON, large.clone()), &LIMITS, &memory).await;
        assert_eq!(refused.unwrap_err(), Refusal::busy());
        drop(held);
        let held = predict_request(request(JSON, large), &LIMITS, &memory).await;
        assert!(held.is_ok());
    }
}
