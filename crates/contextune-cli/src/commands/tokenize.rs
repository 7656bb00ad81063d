//! `contextune tokenize`: texts to token ids.

use anyhow::Result;
use contextune::text::Overlong;
use serde::Serialize;

use crate::options::{Context, ModelArguments};
use crate::output::{self, out};

/// Show the token ids that the model sees for a text, from start to end token.
///
/// Example: contextune tokenize "a photo of a dog."
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// The texts.
    #[arg(required = true, value_name = "TEXT")]
    texts: Vec<String>,
    /// Cut texts that are too long for the model, instead of stopping.
    #[arg(long)]
    truncate: bool,
    /// One JSON object a text.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    text: &'a str,
    ids: Vec<u32>,
    tokens: Vec<String>,
}

/// Prints ids and tokens.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let model = arguments.model.open(context)?;
    let tokenizer = model.tokenizer()?;
    let overlong = match arguments.truncate {
        true => Overlong::Truncate,
        false => Overlong::Refuse,
    };
    let limit = model.text_config()?.context_length;
    for text in &arguments.texts {
        output::check()?;
        let ids = tokenizer.tokenize(text, limit, overlong)?;
        let tokens = ids
            .iter()
            .map(|&id| tokenizer.decode_token(id).unwrap_or_default())
            .collect();
        let answer = Answer { text, ids, tokens };
        if arguments.json {
            out!("{}", serde_json::to_string(&answer)?);
        } else {
            let pairs: Vec<String> = answer
                .ids
                .iter()
                .zip(&answer.tokens)
                .map(|(id, token)| format!("{id} {token}"))
                .collect();
            out!("{}", pairs.join(" | "));
        }
    }
    Ok(())
}
