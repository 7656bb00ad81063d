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

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use axum::http::header::HeaderName;

    use super::*;

    fn is_shown(name: HeaderName, values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_str(value).unwrap());
        }
        AccessToken::new("open-sesame").is_shown(&headers)
    }

    #[test]
    fn the_token_is_shown_as_bearer() {
        for right in [
            "Bearer open-sesame",
            "bearer open-sesame",
            "BEARER  open-sesame ",
        ] {
            assert!(is_shown(AUTHORIZATION, &[right]), "{right}");
        }
        for wrong in [
            "",
            "open-sesame",
            "Bearer",
            "Bearer ",
            "Bearer open-sesam",
            "Bearer open-sesame2",
            "Bearer Open-Sesame",
            "Basic open-sesame",
        ] {
            assert!(!is_shown(AUTHORIZATION, &[wrong]), "{wrong}");
        }
        assert!(!is_shown(AUTHORIZATION, &[]));
    }

    #[test]
    fn the_cookie_stands_for_the_token_and_is_not_the_token() {
        let set = AccessToken::new("open-sesame").set_cookie();
        assert!(
            set.ends_with("; HttpOnly; SameSite=Strict; Path=/"),
            "{set}"
        );
        let cookie = set.split(';').next().unwrap();
        assert!(!set.contains("open-sesame"));
        let hash = blake3::hash(b"open-sesame").to_hex();
        assert!(!set.contains(hash.as_str()), "the hash of the token leaks");
        let among_others = format!("a=b; {cookie};c=d");
        for right in [&[cookie][..], &[&among_others], &["a=b", cookie]] {
            assert!(is_shown(COOKIE, right), "{right:?}");
        }
        let other = AccessToken::new("open-barley").set_cookie();
        let renamed = cookie.replace(COOKIE_NAME, "other");
        for wrong in [
            other.split(';').next().unwrap(),
            &renamed,
            &cookie[..cookie.len() - 1],
            "contextune-token=open-sesame",
            "contextune-token=",
            "contextune-token",
        ] {
            assert!(!is_shown(COOKIE, &[wrong]), "{wrong}");
        }
        // What a cookie says is no token.
        let value = cookie.split_once('=').unwrap().1;
        assert!(!is_shown(AUTHORIZATION, &[&format!("Bearer {value}")]));
    }
}
