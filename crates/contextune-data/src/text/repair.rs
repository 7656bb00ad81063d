//! Repair of mis-decoded and oddly typed text, equal to `ftfy.fix_text` 6.3.1, which the official tokenizer calls.
//!
//! After ftfy by Robyn Speer (Apache-2.0); its tables stand in `repair/`. A mistake that it repairs: the UTF-8 bytes of
//! `é`, read in the single-byte encoding Windows-1252, are `Ã©`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use encoding_rs::Encoding;
use regex::Regex;
use regex::bytes::Regex as ByteRegex;
use unicode_normalization::UnicodeNormalization;

use super::html;

/// Longest piece of a line, in characters, that is repaired as a whole; ftfy takes a million. Some steps are quadratic
/// on hostile text.
const SEGMENT_LENGTH: usize = 16_384;

/// A repair may make the next one possible; ftfy repeats until nothing changes, this often at most here.
const ROUNDS: usize = 16;

/// Repairs each line by itself.
pub(super) fn repair(text: &str) -> Cow<'_, str> {
    // No step changes plain ASCII; almost every caption is that.
    if text
        .bytes()
        .all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r') && byte != b'&')
    {
        return Cow::Borrowed(text);
    }
    let mut repaired = String::with_capacity(text.len());
    let mut unescape = true;
    for line in text.split_inclusive('\n') {
        for segment in segments(line) {
            // A tag means that this is HTML, whose references are kept, from here on.
            unescape &= !segment.contains('<');
            repaired.push_str(&until_unchanged(segment, |text| {
                repair_once(text, unescape)
            }));
        }
    }
    Cow::Owned(repaired)
}

/// Cuts a line into pieces of [`SEGMENT_LENGTH`] characters.
fn segments(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let end = rest
            .char_indices()
            .nth(SEGMENT_LENGTH)
            .map_or(rest.len(), |(end, _)| end);
        let (segment, after) = rest.split_at(end);
        rest = after;
        (!segment.is_empty()).then_some(segment)
    })
}

fn until_unchanged(text: &str, step: impl Fn(&str) -> String) -> String {
    let mut text = text.to_owned();
    for _ in 0..ROUNDS {
        let next = step(&text);
        if next == text {
            break;
        }
        text = next;
    }
    text
}

/// Takes all steps of ftfy in their order.
fn repair_once(text: &str, unescape: bool) -> String {
    static ESCAPE: LazyLock<Regex> = LazyLock::new(|| compiled(r"\x1b\[[\d;]*[a-zA-Z]"));
    let text = match unescape {
        true => html::unescape_unambiguous(text),
        false => Cow::Borrowed(text),
    };
    let text = fix_encoding(&text);
    let mut typed = String::with_capacity(text.len());
    for character in text.chars() {
        push_as_meant(&mut typed, character);
    }
    ESCAPE
        .replace_all(&typed, "")
        .chars()
        .filter(|character| !is_removed_control(*character))
        .nfc()
        .collect()
}

/// Rewrites C1 controls as Windows-1252, ligatures and digraphs as letters, wide and narrow forms as usual ones, curly
/// quotes and special line breaks as plain ones.
fn push_as_meant(text: &mut String, character: char) {
    let character = match character {
        '\u{80}'..='\u{9f}' => html::WINDOWS_1252[character as usize - 0x80],
        other => other,
    };
    match character {
        'Ĳ' => text.push_str("IJ"),
        'ĳ' => text.push_str("ij"),
        // The apostrophe of this digraph is a quote by the next step.
        'ŉ' => text.push_str("'n"),
        'Ǳ' => text.push_str("DZ"),
        'ǲ' => text.push_str("Dz"),
        'ǳ' => text.push_str("dz"),
        'Ǆ' => text.push_str("DŽ"),
        'ǅ' => text.push_str("Dž"),
        'ǆ' => text.push_str("dž"),
        'Ǉ' => text.push_str("LJ"),
        'ǈ' => text.push_str("Lj"),
        'ǉ' => text.push_str("lj"),
        'Ǌ' => text.push_str("NJ"),
        'ǋ' => text.push_str("Nj"),
        'ǌ' => text.push_str("nj"),
        'ﬀ' => text.push_str("ff"),
        'ﬁ' => text.push_str("fi"),
        'ﬂ' => text.push_str("fl"),
        'ﬃ' => text.push_str("ffi"),
        'ﬄ' => text.push_str("ffl"),
        'ﬅ' => text.push_str("ſt"),
        'ﬆ' => text.push_str("st"),
        '\u{3000}' => text.push(' '),
        '\u{ff01}'..='\u{ffef}' => text.extend(std::iter::once(character).nfkc()),
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => text.push('\''),
        '\u{201c}'..='\u{201f}' => text.push('"'),
        '\u{2028}' | '\u{2029}' => text.push('\n'),
        other => text.push(other),
    }
}

/// Returns whether ftfy drops a character: controls other than white space, deprecated Arabic and annotation controls,
/// the byte order mark.
fn is_removed_control(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x08' | '\x0b' | '\x0e'..='\x1f' | '\x7f' | '\u{206a}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffc}'
    )
}

/// Undoes the reading of UTF-8 in single-byte encodings, as many times as it happened.
fn fix_encoding(text: &str) -> String {
    until_unchanged(text, fix_encoding_once)
}

fn fix_encoding_once(text: &str) -> String {
    if text.is_ascii() || !is_mojibake(text) {
        return text.to_owned();
    }
    if let Some(decoded) = CHARMAPS.iter().find_map(|charmap| charmap.undo(text)) {
        return decoded;
    }
    let inconsistent = fix_embedded(text);
    if inconsistent != text {
        return inconsistent;
    }
    // What is left of C1 controls was Windows-1252, whether the text is Latin-1 as a whole or not.
    text.chars()
        .map(|character| match character {
            '\u{80}'..='\u{9f}' => html::WINDOWS_1252[character as usize - 0x80],
            other => other,
        })
        .collect()
}

/// Returns whether the text has a sequence of characters that hardly occurs in text that was read correctly.
fn is_mojibake(text: &str) -> bool {
    static SIGNS: LazyLock<Regex> = LazyLock::new(|| {
        let signs: Vec<&str> = include_str!("repair/mojibake_signs.txt").lines().collect();
        compiled(&signs.join("|"))
    });
    SIGNS.is_match(text)
}

/// Repairs stretches that look like UTF-8 in an otherwise sound text.
fn fix_embedded(text: &str) -> String {
    static CLUES: LazyLock<[Regex; 3]> = LazyLock::new(|| {
        let lines: Vec<&str> = include_str!("repair/utf8_clues.txt").lines().collect();
        let [of_2, of_3, of_4, rest, strict] = lines[..] else {
            panic!("the table has five lines");
        };
        let character = format!("[{of_2}][{rest}]|[{of_3}][{rest}]{{2}}|[{of_4}][{rest}]{{3}}");
        [
            compiled(&character),
            compiled(&format!("^(?:{character})+")),
            compiled(&format!("[{strict}]$")),
        ]
    });
    let [character, stretch, continuation] = &*CLUES;
    let mut fixed = String::with_capacity(text.len());
    let (mut copied, mut from) = (0, 0);
    while let Some(found) = character.find_at(text, from) {
        let start = found.start();
        let before = text[..start].chars().next_back();
        if before.is_some_and(|before| continuation.is_match(before.encode_utf8(&mut [0; 4]))) {
            // Amid another character.
            from = start + text[start..].chars().next().map_or(1, char::len_utf8);
            continue;
        }
        let length = stretch
            .find(&text[start..])
            .map_or(found.len(), |stretch| stretch.len());
        from = start + length;
        let part = &text[start..from];
        fixed.push_str(&text[copied..start]);
        copied = from;
        if part.len() < text.len() && is_mojibake(part) {
            fixed.push_str(&fix_encoding(part));
        } else {
            fixed.push_str(part);
        }
    }
    fixed.push_str(&text[copied..]);
    fixed
}

/// A single-byte encoding in which UTF-8 is read by mistake.
struct Charmap {
    /// Bytes of all characters beyond ASCII.
    bytes: HashMap<char, u8>,
    /// Whether the byte 0x1A stands for a lost byte, written U+FFFD.
    lossy: bool,
    /// Whether a blank may be a non-breaking space that was replaced. Not in Mac OS Roman: a dash and a blank.
    blanks: bool,
}

/// In the order in which they are tried.
static CHARMAPS: LazyLock<Vec<Charmap>> = LazyLock::new(|| {
    let windows = |encoding| Charmap::new(decoded(encoding), true, true);
    vec![
        Charmap::new((0x80..=0xff).map(char::from).collect(), false, true),
        windows(encoding_rs::WINDOWS_1252),
        windows(encoding_rs::WINDOWS_1251),
        windows(encoding_rs::WINDOWS_1250),
        windows(encoding_rs::WINDOWS_1253),
        windows(encoding_rs::WINDOWS_1254),
        windows(encoding_rs::WINDOWS_1257),
        Charmap::new(decoded(encoding_rs::ISO_8859_2), false, true),
        Charmap::new(decoded(encoding_rs::MACINTOSH), false, false),
        Charmap::new(CODE_PAGE_437.chars().collect(), false, true),
    ]
});

/// MS-DOS's characters 0x80 to 0xFF, which `encoding_rs` leaves out.
const CODE_PAGE_437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
     αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// Returns the characters 0x80 to 0xFF of an encoding; bytes without one stand for themselves.
fn decoded(encoding: &'static Encoding) -> Vec<char> {
    (0x80..=0xff_u8)
        .map(|byte| {
            let bytes = [byte];
            let (text, failed) = encoding.decode_without_bom_handling(&bytes);
            let character = if failed { None } else { text.chars().next() };
            character.unwrap_or(char::from(byte))
        })
        .collect()
}

impl Charmap {
    fn new(characters: Vec<char>, lossy: bool, blanks: bool) -> Charmap {
        Charmap {
            bytes: characters.into_iter().zip(0x80..=0xff).collect(),
            lossy,
            blanks,
        }
    }

    /// Finds the text that reading UTF-8 in this encoding has made into `text`, if it was so.
    fn undo(&self, text: &str) -> Option<String> {
        static BLANK_FOR_A0: LazyLock<ByteRegex> = LazyLock::new(|| {
            compiled_bytes(
                r"[\xc2\xc3\xc5\xce\xd0\xd9]\x20|[\xe2\xe3]\x20[\x80-\x84\x86-\x9f\xa1-\xbf]
                |[\xe0-\xe3][\x80-\x84\x86-\x9f\xa1-\xbf]\x20
                |\xf0\x20[\x80-\xbf]{2}|\xf0[\x80-\xbf]\x20[\x80-\xbf]|\xf0[\x80-\xbf]{2}\x20",
            )
        });
        static LOST_BYTE: LazyLock<ByteRegex> = LazyLock::new(|| {
            compiled_bytes(
                r"[\xc2-\xdf]\x1a|[\xc2\xc3]\?
                |\xed[\xa0-\xaf][\x1a?]\xed[\xb0-\xbf][\x1a?\x80-\xbf]|\xed[\xa0-\xaf][\x1a?\x80-\xbf]\xed[\xb0-\xbf][\x1a?]
                |[\xe0-\xef][\x1a?][\x1a\x80-\xbf]|[\xe0-\xef][\x1a\x80-\xbf][\x1a?]
                |[\xf0-\xf4][\x1a?][\x1a\x80-\xbf]{2}|[\xf0-\xf4][\x1a\x80-\xbf][\x1a?][\x1a\x80-\xbf]
                |[\xf0-\xf4][\x1a\x80-\xbf]{2}[\x1a?]|\x1a",
            )
        });
        let mut bytes = text
            .chars()
            .map(|character| self.byte(character))
            .collect::<Option<Vec<u8>>>()?;
        if self.blanks && BLANK_FOR_A0.is_match(&bytes) {
            let words = separate_a_grave(&bytes);
            let restored = BLANK_FOR_A0.replace_all(&words, |found: &regex::bytes::Captures| {
                found[0]
                    .iter()
                    .map(|byte| if *byte == b' ' { 0xa0 } else { *byte })
                    .collect::<Vec<u8>>()
            });
            bytes = restored.into_owned();
        }
        if self.lossy {
            bytes = LOST_BYTE
                .replace_all(&bytes, "\u{fffd}".as_bytes())
                .into_owned();
        }
        String::from_utf8(standard_utf8(&bytes)).ok()
    }

    fn byte(&self, character: char) -> Option<u8> {
        match character {
            '\x1a' if self.lossy => None,
            '\u{fffd}' if self.lossy => Some(0x1a),
            '\0'..='\x7f' => Some(character as u8),
            _ => self.bytes.get(&character).copied(),
        }
    }
}

/// Reads `Ã ` as `à` and a blank, the French word, except before what makes it a Portuguese one.
fn separate_a_grave(bytes: &[u8]) -> Vec<u8> {
    let mut separated = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        rest = after;
        separated.push(*first);
        if let (0xc3, Some(word)) = (first, after.strip_prefix(b" ")) {
            let joined: [&[u8]; 5] = [b" ", b"quele", b"quela", b"quilo", b"s "];
            if !joined.iter().any(|joined| word.starts_with(joined)) {
                separated.extend(b"\xa0 ");
                rest = word;
            }
        }
    }
    separated
}

/// Makes two variants of UTF-8 standard: characters written as a pair of surrogates (CESU-8), and Java's zero.
fn standard_utf8(bytes: &[u8]) -> Vec<u8> {
    let mut standard = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => return standard,
            [0xc0, 0x80, after @ ..] => {
                standard.push(0);
                after
            }
            &[
                0xed,
                a @ 0xa0..=0xaf,
                b @ 0x80..=0xbf,
                0xed,
                c @ 0xb0..=0xbf,
                d @ 0x80..=0xbf,
                ref after @ ..,
            ] => {
                let bits = |byte: u8, mask: u8, shift: u32| u32::from(byte & mask) << shift;
                let code = 0x1_0000
                    + bits(a, 0x0f, 16)
                    + bits(b, 0x3f, 10)
                    + bits(c, 0x0f, 6)
                    + bits(d, 0x3f, 0);
                let mut utf8 = [0; 4];
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                standard.extend(character.encode_utf8(&mut utf8).as_bytes());
                after
            }
            [other, after @ ..] => {
                standard.push(*other);
                after
            }
        };
    }
}

fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is valid")
}

/// Compiles a pattern on bytes, spread over lines.
fn compiled_bytes(pattern: &str) -> ByteRegex {
    ByteRegex::new(&format!("(?x-u){pattern}")).expect("the pattern is valid")
}
