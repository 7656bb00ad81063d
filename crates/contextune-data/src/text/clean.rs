//! Cleaning of a text before it is split into words, equal to the official tokenizer's `basic_clean`,
//! `whitespace_clean` and `lower`.

use super::html;
use super::repair::repair;

/// Repairs mis-decoded text, resolves HTML references twice, collapses white space to single spaces and lowers case.
pub(super) fn clean(text: &str) -> String {
    let repaired = repair(text);
    let once = html::unescape(&repaired);
    let twice = html::unescape(&once);
    let mut cleaned = String::with_capacity(twice.len());
    for word in twice.split_whitespace() {
        if !cleaned.is_empty() {
            cleaned.push(' ');
        }
        cleaned.push_str(word);
    }
    cleaned.to_lowercase()
}
