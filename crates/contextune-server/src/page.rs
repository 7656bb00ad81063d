//! The page at `/`: its files are part of the program, and it asks nobody but this server.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use include_dir::{Dir, include_dir};

use crate::answer::Refusal;
use crate::state::ServerState;

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/assets");
const POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Builds the router of the page and its files.
pub(crate) fn router() -> Router<Arc<ServerState>> {
    Router::new()
        .route("/", get(async || file("index.html")))
        .route("/{file}", get(async |Path(name): Path<String>| file(&name)))
}

fn file(name: &str) -> Result<Response, Refusal> {
    let (Some(file), Some(kind)) = (FILES.get_file(name), kind_of(name)) else {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "there is nothing at this address; see /openapi.json",
        ));
    };
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        // The next version of the program has another page.
        (CACHE_CONTROL, "no-cache"),
    ];
    Ok((headers, file.contents()).into_response())
}

fn kind_of(name: &str) -> Option<&'static str> {
    Some(match name.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => return None,
    })
}
