//! Byte pair encoding with CLIP's merges.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{BufRead, BufReader};
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use regex::Regex;

use super::{Result, TextError};

/// The list as published; see `assets/vocabulary/README.md`.
const COMPRESSED_MERGES: &[u8] =
    include_bytes!("../../../../assets/vocabulary/bpe_simple_vocab_16e6.txt.gz");

/// Ids 0 to 255 are bytes within a word; the same bytes at the end of a word follow, then the merges in order.
const AT_END: u32 = 256;
const FIRST_MERGE: u32 = 512;
/// The official vocabulary: 512 byte symbols, 48,894 merges, start and end of text.
const OFFICIAL_SIZE: usize = 49_408;

const END_OF_WORD: &str = "</w>";
const START_OF_TEXT: &str = "<|startoftext|>";
const END_OF_TEXT: &str = "<|endoftext|>";

/// Letters and digits of Unicode 17 and 18, which Python's `regex` 2026.11 has and the crate `regex` 1.13 not yet.
const NEWER_LETTERS: &str = concat!(
    r"\x{558}\x{58b}-\x{58c}\x{88f}\x{c5c}\x{cdc}\x{208f}\x{209d}-\x{209f}",
    r"\x{a7ce}-\x{a7cf}\x{a7d2}\x{a7d4}\x{a7dd}\x{a7e2}\x{a7f1}\x{ab6c}-\x{ab6d}",
    r"\x{107bb}-\x{107bf}\x{10940}-\x{10959}\x{10ec5}-\x{10ec7}\x{10ed9}-\x{10eee}",
    r"\x{11b0a}\x{11db0}-\x{11ddb}\x{11df1}\x{16ea0}-\x{16eb8}\x{16ebb}-\x{16ed3}",
    r"\x{16ff2}-\x{16ff3}\x{187f8}-\x{187ff}\x{18cd6}-\x{18cda}\x{18d09}-\x{18d20}",
    r"\x{18d80}-\x{18df2}\x{18e00}-\x{19191}\x{191a0}-\x{191d2}\x{1b123}-\x{1b128}",
    r"\x{1b168}\x{1d6a6}\x{1df1f}-\x{1df24}\x{1df2b}-\x{1df81}\x{1df90}-\x{1df96}",
    r"\x{1dfcd}-\x{1dfff}\x{1e6c0}-\x{1e6de}\x{1e6e0}-\x{1e6e2}\x{1e6e4}-\x{1e6e5}",
    r"\x{1e6e7}-\x{1e6ed}\x{1e6f0}-\x{1e6f4}\x{1e6fe}-\x{1e6ff}\x{2b73a}-\x{2b73f}",
    r"\x{2b81e}\x{2cea2}-\x{2cead}\x{323b0}-\x{33479}\x{3d000}-\x{3fc3f}",
);
const NEWER_DIGITS: &str = concat!(
    r"\x{11de0}-\x{11de9}\x{1246f}\x{12475}-\x{1247f}\x{12550}-\x{12686}",
    r"\x{16ff4}-\x{16ff6}",
);

/// CLIP's vocabulary and how a clean text is spelled in it.
#[derive(Debug)]
pub(super) struct BytePairEncoding {
    /// Each id as the official vocabulary writes it: a stand-in character a byte, `</w>` at the end of a word.
    words: Vec<String>,
    /// Id of a byte within a word.
    bytes: [u32; 256],
    /// Two neighbouring symbols to the one that replaces them. The smaller its id, the earlier the merge.
    merges: HashMap<(u32, u32), u32>,
}

impl BytePairEncoding {
    /// Builds the vocabulary of the first `size` − 514 merges.
    ///
    /// # Errors
    /// `size` is outside 514..=49,408.
    pub(super) fn new(size: usize) -> Result<BytePairEncoding> {
        if !(FIRST_MERGE as usize + 2..=OFFICIAL_SIZE).contains(&size) {
            return Err(TextError::VocabularySize { size });
        }
        let stand_ins = stand_ins();
        let mut bytes = [0; 256];
        for (id, (byte, _)) in (0..).zip(stand_ins) {
            bytes[usize::from(byte)] = id;
        }
        let within = stand_ins.iter().map(|(_, stand_in)| stand_in.to_string());
        let at_end = stand_ins
            .iter()
            .map(|(_, stand_in)| format!("{stand_in}{END_OF_WORD}"));
        let mut words: Vec<String> = within.chain(at_end).collect();
        let mut ids: HashMap<String, u32> = words.iter().cloned().zip(0..).collect();
        let mut merges = HashMap::with_capacity(size);

        let list = BufReader::new(GzDecoder::new(COMPRESSED_MERGES));
        let merge_lines = list.lines().skip(1).take(size - FIRST_MERGE as usize - 2);
        for (id, line) in (FIRST_MERGE..).zip(merge_lines) {
            let line = line.expect("the embedded list is whole");
            let (left, right) = line.split_once(' ').expect("a merge has two parts");
            let word = format!("{left}{right}");
            merges.insert((ids[left], ids[right]), id);
            ids.insert(word.clone(), id);
            words.push(word);
        }
        words.extend([START_OF_TEXT.to_owned(), END_OF_TEXT.to_owned()]);
        Ok(BytePairEncoding {
            words,
            bytes,
            merges,
        })
    }

    pub(super) fn start_of_text(&self) -> u32 {
        self.words.len() as u32 - 2
    }

    pub(super) fn end_of_text(&self) -> u32 {
        self.words.len() as u32 - 1
    }

    pub(super) fn vocabulary_size(&self) -> usize {
        self.words.len()
    }

    pub(super) fn word(&self, id: u32) -> Option<&str> {
        self.words.get(id as usize).map(String::as_str)
    }

    /// Returns the ids of a text that has been cleaned.
    pub(super) fn encode(&self, cleaned: &str) -> Vec<u32> {
        // CLIP ignores case here too, which after lower-casing matters for one letter, the long s. Python's `regex`
        // then takes U+0345 (upper case Ι) for no letter and for no other character either: it is dropped.
        static WORD: LazyLock<Regex> = LazyLock::new(|| {
            let letter = format!(r"\p{{L}}{NEWER_LETTERS}");
            let digit = format!(r"\p{{N}}{NEWER_DIGITS}");
            Regex::new(&format!(
                r"<\|(?i:startoftext)\|>|<\|(?i:endoftext)\|>|'(?i:s|t|re|ve|m|ll|d)|[{letter}]+|[{digit}]|[^\s{letter}{digit}\x{{345}}]+"
            ))
            .expect("the pattern is valid")
        });
        let mut ids = Vec::with_capacity(cleaned.len() / 4);
        for word in WORD.find_iter(cleaned) {
            match word.as_str() {
                START_OF_TEXT => ids.push(self.start_of_text()),
                END_OF_TEXT => ids.push(self.end_of_text()),
                word => self.encode_word(word, &mut ids),
            }
        }
        ids
    }

    /// Merges neighbours, earliest merge first and from left to right, until none is left: O(n log n) in the bytes.
    ///
    /// The official code merges all occurrences of one pair at a time. That is the same, because no two merges make
    /// the same symbol, and a merge comes after those that made its parts.
    fn encode_word(&self, word: &str, ids: &mut Vec<u32>) {
        let mut symbols = Symbols::new(
            word.bytes()
                .map(|byte| self.bytes[usize::from(byte)])
                .collect(),
        );
        let merged = |symbols: &Symbols, left| self.merges.get(&symbols.pair(left)?).copied();
        let mut candidates: BinaryHeap<_> = (0..word.len())
            .filter_map(|left| Some(Reverse((merged(&symbols, left)?, left))))
            .collect();
        while let Some(Reverse((id, left))) = candidates.pop() {
            // Either symbol may have been merged with its other neighbour since.
            if merged(&symbols, left) != Some(id) {
                continue;
            }
            symbols.merge(left, id);
            for left in [symbols.before(left), Some(left)].into_iter().flatten() {
                candidates.extend(merged(&symbols, left).map(|id| Reverse((id, left))));
            }
        }
        ids.extend(symbols.ids());
    }
}

/// The symbols of a word, linked to their neighbours so that a merge moves none.
struct Symbols(Vec<Symbol>);

#[derive(Clone, Copy)]
struct Symbol {
    /// `None` once merged into the symbol before.
    id: Option<u32>,
    before: Option<usize>,
    after: Option<usize>,
}

impl Symbols {
    /// Takes the bytes of a whole word as symbols within a word.
    fn new(mut bytes: Vec<u32>) -> Symbols {
        if let Some(last) = bytes.last_mut() {
            *last += AT_END;
        }
        let length = bytes.len();
        let link = |(place, id): (usize, u32)| Symbol {
            id: Some(id),
            before: place.checked_sub(1),
            after: Some(place + 1).filter(|after| *after < length),
        };
        Symbols(bytes.into_iter().enumerate().map(link).collect())
    }

    /// Returns the symbol at `left` and the one after it.
    fn pair(&self, left: usize) -> Option<(u32, u32)> {
        let Symbol { id, after, .. } = self.0[left];
        Some((id?, self.0[after?].id?))
    }

    fn before(&self, place: usize) -> Option<usize> {
        self.0[place].before
    }

    /// Puts `id` in the place of the symbol at `left` and the one after it.
    fn merge(&mut self, left: usize, id: u32) {
        let Some(right) = self.0[left].after else {
            return;
        };
        let after = self.0[right].after;
        self.0[right].id = None;
        self.0[left].id = Some(id);
        self.0[left].after = after;
        if let Some(after) = after {
            self.0[after].before = Some(left);
        }
    }

    fn ids(&self) -> impl Iterator<Item = u32> {
        self.0.iter().filter_map(|symbol| symbol.id)
    }
}

/// Returns the printable characters that stand for the bytes in vocabularies of this kind, in the order of their ids.
fn stand_ins() -> [(u8, char); 256] {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let as_they_are = (0..=255)
        .filter(printable)
        .map(|byte| (byte, char::from(byte)));
    let others = (0..=255).filter(|byte| !printable(byte)).zip('\u{100}'..);
    let mut all = as_they_are.chain(others);
    std::array::from_fn(|_| all.next().expect("there are 256 bytes"))
}

/// Writes a word of a byte-level vocabulary for people: text where its bytes are text, `<0xF0>` where they are not.
/// `None` if the word is not of that kind.
pub(super) fn readable(word: &str) -> Option<String> {
    static BYTES: LazyLock<HashMap<char, u8>> = LazyLock::new(|| {
        stand_ins()
            .into_iter()
            .map(|(byte, stand_in)| (stand_in, byte))
            .collect()
    });
    let (stem, end) = match word.strip_suffix(END_OF_WORD) {
        Some(stem) => (stem, END_OF_WORD),
        None => (word, ""),
    };
    let bytes: Vec<u8> = stem
        .chars()
        .map(|stand_in| BYTES.get(&stand_in).copied())
        .collect::<Option<_>>()?;
    let mut readable = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                let mut utf8 = [0; 4];
                push_bytes(&mut readable, character.encode_utf8(&mut utf8).as_bytes());
            } else {
                readable.push(character);
            }
        }
        push_bytes(&mut readable, chunk.invalid());
    }
    Some(readable + end)
}

fn push_bytes(readable: &mut String, bytes: &[u8]) {
    for byte in bytes {
        readable.push_str(&format!("<0x{byte:02X}>"));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The official algorithm: find the earliest merge among all neighbours, replace every occurrence of it, repeat.
    fn encode_word_as_published(bpe: &BytePairEncoding, word: &str) -> Vec<u32> {
        let mut symbols: Vec<u32> = word
            .bytes()
            .map(|byte| bpe.bytes[usize::from(byte)])
            .collect();
        *symbols.last_mut().unwrap() += AT_END;
        while let Some((id, pair)) = symbols
            .windows(2)
            .map(|pair| (pair[0], pair[1]))
            .filter_map(|pair| Some((*bpe.merges.get(&pair)?, pair)))
            .min()
        {
            let mut merged = Vec::new();
            let mut rest = &symbols[..];
            while let [first, after @ ..] = rest {
                if after.first() == Some(&pair.1) && *first == pair.0 {
                    merged.push(id);
                    rest = &after[1..];
                } else {
                    merged.push(*first);
                    rest = after;
                }
            }
            symbols = merged;
        }
        symbols
    }

    #[test]
    fn merging_by_place_equals_merging_by_pair() {
        let bpe = BytePairEncoding::new(OFFICIAL_SIZE).unwrap();
        proptest!(ProptestConfig::with_cases(2000), |(word in "[a-e]{1,40}|[a-z]{1,20}|[ha!]{1,40}|[éàß日本🇫🇷]{1,12}")| {
            let mut ids = Vec::new();
            bpe.encode_word(&word, &mut ids);
            prop_assert_eq!(ids, encode_word_as_published(&bpe, &word));
        });
    }
}
