//! The access token: the secret that clients show, and the cookie that stands for it.

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE};

const COOKIE_NAME: &str = "contextune-token";

/// What the cookie's value is derived for (BLAKE3's key derivation).
const COOKIE_CONTEXT: &str = "contextune 2026-11-22 cookie of the page";

/// The secret that clients have to show. Only hashes are stored: they are compared in constant time, and a leaked cookie does
/// not reveal the token.
#[derive(Clone, Debug)]
pub(crate) struct AccessToken {
    token: blake3::Hash,
    cookie: blake3::Hash,
}

impl AccessToken {
    /// Hashes `token`.
    pub fn new(token: &str) -> Self {
        Self {
            token: blake3::hash(token.as_bytes()),
            cookie: blake3::Hash::from_bytes(blake3::derive_key(COOKIE_CONTEXT, token.as_bytes())),
        }
    }

    /// Checks whether `given` is the token.
    pub fn is(&self, given: &str) -> bool {
        self.token == blake3::hash(given.trim().as_bytes())
    }

    /// Checks whether a request shows the token, as `Authorization: Bearer …` or by its cookie.
    pub fn is_shown(&self, headers: &HeaderMap) -> bool {
        bearer(headers).is_some_and(|given| self.is(given))
            || cookies(headers)
                .filter_map(|given| blake3::Hash::from_hex(given).ok())
                .any(|given| given == self.cookie)
    }

    /// Returns the value of the `Set-Cookie` header that lets a browser in. No script can read the cookie.
    pub fn set_cookie(&self) -> String {
        let cookie = self.cookie.to_hex();
        format!("{COOKIE_NAME}={cookie}; HttpOnly; SameSite=Strict; Path=/")
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, given) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(given)
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let cookies = headers.get_all(COOKIE).into_iter();
    cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE_NAME)
        .map(|(_, value)| value)
}
