//! Ids of the Hugging Face hub, such as `openai/clip-vit-base-patch32`. Known without the feature `hub` too, so that one
//! is refused with an explanation.

/// How far a download is.
#[derive(Clone, Copy, Debug)]
pub struct FetchProgress<'a> {
    /// The file.
    pub file: &'a str,
    /// Bytes on disk, those of an earlier attempt included.
    pub done: u64,
    /// Bytes of the whole file.
    pub total: u64,
}

/// Returns whether a text has the form of a hub id, `owner/name`.
pub fn is_id(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= 96
            && !name.starts_with(['.', '-'])
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    text.split_once('/')
        .is_some_and(|(owner, name)| is_name(owner) && is_name(name))
}

/// Refuses a path that does not exist but has the form of a hub id.
#[cfg(not(feature = "hub"))]
pub(super) fn refuse(path: &std::path::Path) -> super::error::Result<()> {
    match path.to_str() {
        Some(id) if is_id(id) && !path.exists() => {
            Err(super::error::Error::HubUnavailable { id: id.to_owned() })
        }
        _ => Ok(()),
    }
}
