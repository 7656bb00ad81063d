//! Who may ask. Without a token only this machine can reach the server, and only pages that it serves itself may speak to it:
//! another site open in the same browser could otherwise send requests to it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Form;
use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::{IntoResponses, ToSchema};

use crate::answer::{ErrorBody, Refusal};
use crate::state::ServerState;

/// Documents the refusal of [`token`].
#[derive(IntoResponses)]
#[response(status = 401, description = "the token is missing")]
#[expect(dead_code, reason = "it documents a response and is never made")]
pub(crate) struct Unauthorized(ErrorBody);

/// Documents the refusal of [`origin`].
#[derive(IntoResponses)]
#[response(
    status = 403,
    description = "another site's page asks, or under another name of the machine"
)]
#[expect(dead_code, reason = "it documents a response and is never made")]
pub(crate) struct ForeignPage(ErrorBody);

/// Lets a request through if it shows the access token, as `Authorization: Bearer …` or by the cookie of `/login`.
pub(crate) async fn token(
    State(state): State<Arc<ServerState>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let Some(token) = &state.token else {
        return Ok(next.run(request).await);
    };
    match token.is_shown(request.headers()) {
        true => Ok(next.run(request).await),
        false => Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "this server asks for its token: send it as `Authorization: Bearer TOKEN`",
        )),
    }
}

/// What the page's form sends.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Login {
    token: String,
}

/// Gives who knows the token a cookie that stands for it, which no script can read.
#[utoipa::path(post, path = "/login",
    request_body(content = Login, content_type = "application/x-www-form-urlencoded"),
    responses(ForeignPage,
        (status = 204, description = "the cookie is set"),
        (status = 401, body = ErrorBody, description = "another token"),
        (status = 413, body = ErrorBody, description = "too large"),
        (status = 415, body = ErrorBody, description = "no form"),
        (status = 422, body = ErrorBody, description = "a form without `token`"),
    ))]
pub(crate) async fn login(
    State(state): State<Arc<ServerState>>,
    Form(Login { token: given }): Form<Login>,
) -> Result<Response, Refusal> {
    match &state.token {
        None => Ok(StatusCode::NO_CONTENT.into_response()),
        Some(token) if token.is(&given) => {
            let cookie = [(SET_COOKIE, token.set_cookie())];
            Ok((StatusCode::NO_CONTENT, cookie).into_response())
        }
        Some(_) => Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "this is not the token that the server was started with",
        )),
    }
}

/// Refuses requests from other sites' pages, and requests to host names that another site may have pointed at this machine.
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
            "without a token the server answers under localhost and loopback addresses alone",
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
    let address = host.parse::<Uri>().ok();
    let Some(name) = address.as_ref().and_then(Uri::host) else {
        return false;
    };
    let number = name.trim_matches(['[', ']']).parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || number.is_ok_and(|number| number.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn is_answered(host: &str, origin: Option<&str>, has_token: bool) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        let checked = check_origin(&headers, has_token);
        if let Err(refusal) = &checked {
            assert_eq!(refusal.status, StatusCode::FORBIDDEN);
        }
        checked.is_ok()
    }

    #[test]
    fn without_a_token_only_names_of_this_machine_are_answered() {
        for host in [
            "localhost",
            "LocalHost:8321",
            "127.0.0.1",
            "127.0.0.1:8321",
            "127.8.9.10:1",
            "[::1]",
            "[::1]:8321",
        ] {
            assert!(is_answered(host, None, false), "{host}");
        }
        for host in [
            "",
            "example.org",
            "localhost.example.org",
            "example.org/localhost",
            "127.0.0.1.example.org",
            "user@example.org",
            "10.0.0.1:8321",
            "0.0.0.0:8321",
            "[::2]:8321",
            "[::1",
        ] {
            assert!(!is_answered(host, None, false), "{host}");
            assert!(is_answered(host, None, true), "{host}");
        }
        assert!(check_origin(&HeaderMap::new(), false).is_err());
    }

    #[test]
    fn pages_of_other_sites_are_not_answered() {
        for has_token in [false, true] {
            let is_answered = |origin| is_answered("localhost:8321", Some(origin), has_token);
            assert!(is_answered("http://localhost:8321"));
            assert!(is_answered("http://LOCALHOST:8321"));
            for other in [
                "http://localhost",
                "http://localhost:8322",
                "http://127.0.0.1:8321",
                "https://example.org",
                "https://localhost:8321.example.org",
                "null",
                "",
            ] {
                assert!(!is_answered(other), "{other}");
            }
        }
    }
}
