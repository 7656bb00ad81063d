//! Where Hugging Face's own tools keep models, and how they reach the hub (`huggingface_hub/constants.py`).

use std::path::{Path, PathBuf};

/// Where models come from and where they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Address of the hub.
    pub endpoint: String,
    /// Folder of the cache.
    pub cache: PathBuf,
    /// Access token for private and gated models.
    pub token: Option<String>,
    /// Never use the network.
    pub offline: bool,
}

impl Options {
    /// Reads what Hugging Face's tools read, as they do: `HF_ENDPOINT`; `HF_HUB_CACHE` or the older `HUGGINGFACE_HUB_CACHE`, else
    /// `hub` in `HF_HOME`, else in `huggingface` in `XDG_CACHE_HOME` or `~/.cache`; `HF_TOKEN` or the older
    /// `HUGGING_FACE_HUB_TOKEN`, else the file `HF_TOKEN_PATH` or `token` in `HF_HOME`, which `hf auth login` writes;
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN`, `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`, of which 1, ON, YES and TRUE count. `None` where no folder is known.
    pub fn from_env() -> Option<Self> {
        Self::from_variables(|name| std::env::var(name).ok(), std::env::home_dir())
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
        user: Option<PathBuf>,
    ) -> Option<Self> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let place = |name: &str| Some(expanded(&given(name)?, &given, user.as_deref()));
        let home = place("HF_HOME").or_else(|| {
            let caches = place("XDG_CACHE_HOME").or_else(|| Some(user.as_ref()?.join(".cache")));
            Some(caches?.join("huggingface"))
        });
        let cache = place("HF_HUB_CACHE")
            .or_else(|| place("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(home.as_ref()?.join("hub")));
        let is_true =
            |value: &str| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str());
        let switch = |name: &str| given(name).is_some_and(|value| is_true(&value));
        let token = given("HF_TOKEN")
            .or_else(|| given("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| {
                let file = place("HF_TOKEN_PATH");
                std::fs::read_to_string(file.or_else(|| Some(home.as_ref()?.join("token")))?).ok()
            });
        let token = token.map(|token| token.replace(['\r', '\n'], "").trim().to_owned());
        let offline = given("HF_HUB_OFFLINE").or_else(|| given("TRANSFORMERS_OFFLINE"));
        Some(Self {
            endpoint: given("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
            cache: cache?,
            token: token
                .filter(|token| !token.is_empty() && !switch("HF_HUB_DISABLE_IMPLICIT_TOKEN")),
            offline: offline.is_some_and(|value| is_true(&value)),
        })
    }
}

/// Expands `~`, `$NAME` and `${NAME}` as Python's `expandvars(expanduser(path))`; unknown names stay as they are.
fn expanded(path: &str, variable: &dyn Fn(&str) -> Option<String>, user: Option<&Path>) -> PathBuf {
    let path = match (path.strip_prefix('~'), user) {
        (Some(rest), Some(user)) if rest.is_empty() || rest.starts_with('/') => {
            format!("{}{rest}", user.display())
        }
        _ => path.to_owned(),
    };
    let mut done = String::new();
    let mut rest = path.as_str();
    while let Some((before, after)) = rest.split_once('$') {
        done.push_str(before);
        let braced = after
            .strip_prefix('{')
            .and_then(|after| after.split_once('}'));
        let (name, behind) = braced.unwrap_or_else(|| {
            let is_other = |c: char| !c.is_ascii_alphanumeric() && c != '_';
            after.split_at(after.find(is_other).unwrap_or(after.len()))
        });
        match variable(name) {
            Some(value) => done.push_str(&value),
            None => done.push_str(&rest[before.len()..rest.len() - behind.len()]),
        }
        rest = behind;
    }
    done.push_str(rest);
    done.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(variables: &[(&str, &str)]) -> Options {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Options::from_variables(variable, Some("/home/me".into())).unwrap()
    }

    /// Each line as huggingface_hub 2.4 answers it.
    #[test]
    fn places_are_those_of_hugging_face() {
        for (variables, cache) in [
            (&[][..], "/home/me/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (
                &[("HF_HOME", "~/hf"), ("XDG_CACHE_HOME", "/x")],
                "/home/me/hf/hub",
            ),
            (
                &[("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "/old")],
                "/old",
            ),
            (
                &[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/new")],
                "/new",
            ),
            (
                &[
                    ("HF_HOME", "$DISK/${WHO}/hf"),
                    ("DISK", "/d"),
                    ("WHO", "me"),
                ],
                "/d/me/hf/hub",
            ),
            (
                &[("HF_HOME", "/$NOBODY/${KNOWS}/hf")],
                "/$NOBODY/${KNOWS}/hf/hub",
            ),
        ] {
            assert_eq!(
                options(variables).cache,
                PathBuf::from(cache),
                "{variables:?}"
            );
        }
    }

    #[test]
    fn only_what_means_yes_is_offline() {
        for yes in ["1", "on", "Yes", "TRUE"] {
            assert!(options(&[("HF_HUB_OFFLINE", yes)]).offline, "{yes}");
        }
        for no in ["", "0", "false", "off", "no", "2"] {
            assert!(!options(&[("HF_HUB_OFFLINE", no)]).offline, "{no}");
        }
        assert!(options(&[("TRANSFORMERS_OFFLINE", "1")]).offline);
        assert!(!options(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]).offline);
    }

    #[test]
    fn a_token_may_have_either_name_and_lie_in_a_file() {
        let older = [("HUGGING_FACE_HUB_TOKEN", "hf_old\n")];
        assert_eq!(options(&older).token.as_deref(), Some("hf_old"));
        let both = [older[0], ("HF_TOKEN", "hf_new")];
        assert_eq!(options(&both).token.as_deref(), Some("hf_new"));
        let folder = tempfile::TempDir::new().unwrap();
        std::fs::write(folder.path().join("token"), "hf_file\r\n").unwrap();
        let home = [("HF_HOME", folder.path().to_str().unwrap())];
        assert_eq!(options(&home).token.as_deref(), Some("hf_file"));
        let switched_off = [both[0], ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
        assert_eq!(options(&switched_off).token, None);
    }
}
