//! `contextune cache`: the features that are kept so that no picture is encoded twice.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use contextune::input::{FeatureCache, KeptEncoding};
use serde::Serialize;

use crate::options::{Context, WrongUsage};
use crate::output::{self, out};
use crate::words;

const SECONDS_A_DAY: u64 = 24 * 60 * 60;
/// Characters of the name of an encoding that are shown: enough to tell it from others.
const SHOWN: usize = 12;

/// See and delete the features that are kept so that no picture is encoded twice.
///
/// Example: contextune cache ls
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List what is kept: for each way of encoding its name, model, features, size and last use.
    ///
    /// Example: contextune cache ls --json
    Ls(LsArguments),
    /// Delete kept features: all of them, or those that every given condition fits. They are computed again when needed.
    ///
    /// Files that Contextune did not write stay.
    ///
    /// Example: contextune cache clear --older-than 30
    Clear(ClearArguments),
}

#[derive(Debug, clap::Args)]
struct LsArguments {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ClearArguments {
    /// Only these ways of encoding, by the names that `cache ls` prints.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Only features of the model with this name or path.
    #[arg(long)]
    model: Option<String>,
    /// Only what was last used more than so many days ago.
    #[arg(long, value_name = "DAYS")]
    older_than: Option<u64>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Print what was deleted as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listing<'a> {
    #[serde(serialize_with = "output::serialize_path")]
    folder: &'a Path,
    bytes: u64,
    encodings: &'a [KeptEncoding],
}

/// Lists or deletes.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let Some(root) = &context.cache else {
        return Err(WrongUsage("with --no-cache there is no cache to look into".into()).into());
    };
    let folder = FeatureCache::folder(root);
    let kept = FeatureCache::kept(root)
        .with_context(|| format!("cannot read the cache in {}", folder.display()))?;
    match arguments.action {
        Action::Ls(arguments) => list(&folder, &kept, arguments.json),
        Action::Clear(arguments) => clear(&folder, kept, &arguments),
    }
}

fn list(folder: &Path, kept: &[KeptEncoding], json: bool) -> Result<()> {
    let bytes = bytes_of(kept);
    if json {
        let listing = Listing {
            folder,
            bytes,
            encodings: kept,
        };
        out!("{}", serde_json::to_string(&listing)?);
        return Ok(());
    }
    out!("{}: {}", output::path(folder), summary(kept));
    for encoding in kept {
        let width = encoding
            .width
            .map_or_else(String::new, |width| format!(" × {width}"));
        out!(
            "{}  {:>16}  {:>7}  {:<12}  {}",
            &encoding.encoding[..SHOWN],
            format!("{}{width}", encoding.features),
            words::bytes(encoding.bytes),
            days_ago(encoding),
            encoding.model.as_deref().unwrap_or("unknown")
        );
    }
    Ok(())
}

fn clear(folder: &Path, kept: Vec<KeptEncoding>, arguments: &ClearArguments) -> Result<()> {
    for name in &arguments.names {
        // Every name begins with it: an unset variable of a script must not delete what nobody named.
        if name.is_empty() {
            let message =
                "a name is empty: give one that `contextune cache ls` prints, or none for all";
            return Err(WrongUsage(message.into()).into());
        }
        match kept
            .iter()
            .filter(|encoding| is_called(encoding, name))
            .count()
        {
            0 => bail!(
                "{} has nothing called {name}: see `contextune cache ls`",
                folder.display()
            ),
            1 => {}
            several => bail!("{several} names begin with {name}: give more of it"),
        }
    }
    if let Some(model) = &arguments.model
        && !kept
            .iter()
            .any(|encoding| encoding.model.as_ref() == Some(model))
    {
        bail!("no features of the model {model} are kept: `contextune cache ls` shows what is");
    }
    let chosen: Vec<KeptEncoding> = kept
        .into_iter()
        .filter(|encoding| {
            let names = &arguments.names;
            let is_named = names.is_empty() || names.iter().any(|name| is_called(encoding, name));
            let is_of_model = arguments.model.is_none() || encoding.model == arguments.model;
            let is_old = arguments
                .older_than
                .is_none_or(|days| age(encoding) > days.saturating_mul(SECONDS_A_DAY));
            is_named && is_of_model && is_old
        })
        .collect();
    if !chosen.is_empty() && !arguments.yes && !confirm(&summary(&chosen))? {
        bail!("nothing was deleted");
    }
    for encoding in &chosen {
        encoding.delete().with_context(|| {
            format!(
                "cannot delete {} in {}",
                encoding.encoding,
                folder.display()
            )
        })?;
    }
    match arguments.json {
        true => {
            let listing = Listing {
                folder,
                bytes: bytes_of(&chosen),
                encodings: &chosen,
            };
            out!("{}", serde_json::to_string(&listing)?);
        }
        false if chosen.is_empty() => out!("nothing to delete"),
        false => out!("deleted {}", summary(&chosen)),
    }
    Ok(())
}

/// Asks whether to delete; an error where there is nobody to ask.
fn confirm(what: &str) -> Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let message = format!("this would delete {what}: say --yes where nobody can be asked");
        return Err(WrongUsage(message).into());
    }
    output::ask(format_args!("delete {what}? [y/N] "));
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Whether the name of an encoding begins so.
fn is_called(encoding: &KeptEncoding, name: &str) -> bool {
    encoding.encoding.starts_with(name)
}

fn bytes_of(kept: &[KeptEncoding]) -> u64 {
    kept.iter().map(|encoding| encoding.bytes).sum()
}

fn summary(kept: &[KeptEncoding]) -> String {
    let features: usize = kept.iter().map(|encoding| encoding.features).sum();
    let size = words::bytes(bytes_of(kept));
    format!(
        "{features} features by {} way(s) of encoding, {size}",
        kept.len()
    )
}

/// Seconds since the last use.
fn age(encoding: &KeptEncoding) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs().saturating_sub(encoding.last_used))
}

fn days_ago(encoding: &KeptEncoding) -> String {
    match age(encoding) / SECONDS_A_DAY {
        0 => "today".to_owned(),
        1 => "yesterday".to_owned(),
        days => format!("{days} days ago"),
    }
}
