//! What goes back to a client.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Longest error of a refusal, in characters: errors quote what was sent.
const LONGEST_ERROR: usize = 400;

/// What came of the pictures of a request.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Answer {
    /// What answered.
    #[schema(example = "photos")]
    pub model: String,
    /// One for each picture, in their order.
    pub predictions: Vec<Prediction>,
}

/// What came of one picture.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Prediction {
    /// It was classified.
    Classified {
        /// The picture's name, or its number from 1 if it has none.
        #[schema(example = "holiday.jpg")]
        name: String,
        /// The most probable class.
        #[schema(example = "bear")]
        class: String,
        /// Its probability, 0 to 1.
        #[schema(example = 0.93)]
        probability: f32,
        /// The most probable classes, most probable first.
        top: Vec<Guess>,
    },
    /// It could not be read.
    Unreadable {
        /// The picture's name, or its number from 1 if it has none.
        name: String,
        /// What is wrong with it.
        error: String,
    },
}

/// A class and how probable it is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Guess {
    /// The class.
    #[schema(example = "bear")]
    pub class: String,
    /// 0 to 1.
    #[schema(example = 0.93)]
    pub probability: f32,
}

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Of the kind 4xx or 5xx.
    pub status: StatusCode,
    /// A sentence for a person.
    pub error: String,
}

/// The body of a refusal.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// A sentence for a person.
    error: String,
}

impl Refusal {
    /// Creates a refusal. A long `error` is cut: it may quote what was sent.
    pub fn new(status: StatusCode, error: impl ToString) -> Self {
        let mut error = error.to_string();
        if let Some((end, _)) = error.char_indices().nth(LONGEST_ERROR) {
            error.truncate(end);
            error.push('…');
        }
        Self { status, error }
    }

    /// Creates the refusal with 503 of a request that finds the server full.
    pub fn busy() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "more requests are waiting than the server holds: try again in a second",
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.error })).into_response();
        let (name, value) = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => (RETRY_AFTER, "1"),
            StatusCode::UNAUTHORIZED => (WWW_AUTHENTICATE, "Bearer"),
            _ => return response,
        };
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_cut_between_two_characters() {
        let error = |text: &str| Refusal::new(StatusCode::NOT_FOUND, text).error;
        let whole = "ä".repeat(LONGEST_ERROR);
        assert_eq!(error(&whole), whole);
        assert_eq!(error(&format!("{whole}b")), format!("{whole}…"));
        assert_eq!(error(&format!("{whole}{whole}")), format!("{whole}…"));
    }

    #[test]
    fn a_refusal_says_when_to_come_again_and_what_to_show() {
        let header = |status, name| {
            let response = Refusal::new(status, "no").into_response();
            assert_eq!(response.status(), status);
            response.headers().get(name).cloned()
        };
        assert_eq!(
            header(StatusCode::SERVICE_UNAVAILABLE, RETRY_AFTER).unwrap(),
            "1"
        );
        assert_eq!(
            header(StatusCode::UNAUTHORIZED, WWW_AUTHENTICATE).unwrap(),
            "Bearer"
        );
        assert_eq!(header(StatusCode::NOT_FOUND, RETRY_AFTER), None);
        assert_eq!(Refusal::busy().status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
