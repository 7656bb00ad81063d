//! Who may ask. Without a token only this machine can reach the server, and only pages that it serves itself may speak to it:
//! another site open in the same browser could otherwise send requests to it.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::answer::Refusal;
use crate::server::State as ServerState;

const COOKIE_NAME: &str = "contextune-token";

/// A token, kept as its hash: hashes are compared in constant time.
#[derive(Clone, Debug)]
pub(crate) struct Token(blake3::Hash);

impl Token {
    pub fn new(token: &str) -> Self {
        Self(blake3::hash(token.as_bytes()))
    }

    fn is(&self, given: &str) -> bool {
        self.0 == blake3::hash(given.trim().as_bytes())
    }
}

/// Lets through who shows the token, in `Authorization: Bearer …` or in the cookie of `/login`.
pub(crate) async fn token(
    State(state): State<Arc<ServerState>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let Some(token) = &state.token else {
        return Ok(next.run(request).await);
    };
    let is_right = shown(request.headers()).any(|given| token.is(given));
    match is_right {
        true => Ok(next.run(request).await),
        false => Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "this server asks for its token: send it as `Authorization: Bearer TOKEN`",
        )),
    }
}

fn shown(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let cookies = headers.get_all(COOKIE).into_iter();
    let cookie = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE_NAME)
        .map(|(_, value)| value);
    bearer.into_iter().chain(cookie)
}

/// What the page's form sends.
#[derive(Deserialize)]
pub(crate) struct Login {
    token: String,
}

/// Puts the token into a cookie that only this server gets, and no script.
pub(crate) async fn login(
    State(state): State<Arc<ServerState>>,
    Form(Login { token: given }): Form<Login>,
) -> Result<Response, Refusal> {
    let is_right = state.token.as_ref().is_none_or(|token| token.is(&given));
    let is_a_cookie = given.trim().bytes().all(is_cookie_byte);
    if !is_right || !is_a_cookie {
        return Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "this is not the token that the server was started with",
        ));
    }
    let cookie = format!(
        "{COOKIE_NAME}={}; HttpOnly; SameSite=Strict; Path=/",
        given.trim()
    );
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response())
}

/// What a cookie's value can hold (RFC 6265, 4.1.1).
pub(crate) fn is_cookie_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

/// Turns away what another site's page sends, and names of this machine that another site made up.
pub(crate) async fn origin(
    State(state): State<Arc<ServerState>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    check_origin(request.headers(), state.token.is_some())?;
    Ok(next.run(request).await)
}

fn check_origin(headers: &HeaderMap, has_token: bool) -> Result<(), Refusal> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = header(HOST).unwrap_or_default();
    // With a token, the server may have any name.
    if !has_token && !is_this_machine(host) {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "without a token the server answers under localhost, 127.0.0.1 and [::1] alone",
        ));
    }
    if let Some(origin) = header(ORIGIN) {
        let from = origin.split_once("://").map_or(origin, |(_, host)| host);
        if !from.eq_ignore_ascii_case(host) {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "requests of other sites' pages are not answered",
            ));
        }
    }
    Ok(())
}

fn is_this_machine(host: &str) -> bool {
    let Ok(address) = host.parse::<Uri>() else {
        return false;
    };
    match address.host() {
        Some(name) => matches!(name, "localhost" | "127.0.0.1" | "[::1]"),
        None => false,
    }
}
