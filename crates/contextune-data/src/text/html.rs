//! HTML character references, as Python's `html.unescape` and as ftfy read them.

use std::borrow::Cow;

/// What the C1 controls 0x80 to 0x9F mean on the web: their characters in Windows-1252.
pub(super) const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Replaces every character reference as Python's `html.unescape`: by HTML 5's rules, so also without the semicolon
/// where HTML allows that, except that references to control characters and noncharacters vanish.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    replace_references(text, |reference| {
        numeric(reference).or_else(|| named(reference))
    })
}

/// Replaces what ftfy takes for a reference in any text: those with a semicolon (`&amp;`, `&#233;`), and names wholly
/// in capitals (`&EACUTE;` is É).
pub(super) fn unescape_unambiguous(text: &str) -> Cow<'_, str> {
    replace_references(text, |reference| {
        let body = reference.strip_prefix("&#").unwrap_or(&reference[1..]);
        let length = body.bytes().take_while(u8::is_ascii_alphanumeric).count();
        if !(1..=24).contains(&length) || body.as_bytes().get(length) != Some(&b';') {
            return None;
        }
        let reference = &reference[..reference.len() - body.len() + length + 1];
        if reference.starts_with("&#") {
            return numeric(reference)
                .filter(|(character, consumed)| *consumed == reference.len() && character != ";");
        }
        let character = match htmlize::ENTITIES.get(reference.as_bytes()) {
            Some(character) => utf8(character),
            None => in_capitals(reference)?,
        };
        Some((character, reference.len()))
    })
}

/// Offers every `&…` to `read`, which answers with its replacement and the bytes that this stands for, or leaves it.
fn replace_references(text: &str, read: impl Fn(&str) -> Option<(String, usize)>) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        replaced.push_str(&rest[..start]);
        rest = &rest[start..];
        let consumed = match read(rest) {
            Some((character, consumed)) => {
                replaced.push_str(&character);
                consumed
            }
            None => {
                replaced.push('&');
                1
            }
        };
        rest = &rest[consumed..];
    }
    replaced.push_str(rest);
    Cow::Owned(replaced)
}

/// Reads `&#233;` or `&#xE9;`, the semicolon optional.
fn numeric(reference: &str) -> Option<(String, usize)> {
    let body = reference.strip_prefix("&#")?;
    let (digits, radix) = match body.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16),
        None => (body, 10),
    };
    let length = digits
        .bytes()
        .take_while(|digit| char::from(*digit).is_digit(radix))
        .count();
    if length == 0 {
        return None;
    }
    let mut consumed = reference.len() - digits.len() + length;
    if digits.as_bytes().get(length) == Some(&b';') {
        consumed += 1;
    }
    // A number too large for u32 is too large for Unicode as well.
    let code = u32::from_str_radix(&digits[..length], radix).unwrap_or(u32::MAX);
    let character = match code {
        0x00 => Some('\u{fffd}'),
        0x80..=0x9f => Some(WINDOWS_1252[code as usize - 0x80]),
        0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => None,
        _ if code <= 0x10_ffff && code & 0xfffe == 0xfffe => None,
        _ => Some(char::from_u32(code).unwrap_or('\u{fffd}')),
    };
    Some((character.map(String::from).unwrap_or_default(), consumed))
}

/// Finds the longest name that HTML 5 knows, of at most 32 characters and a semicolon.
fn named(reference: &str) -> Option<(String, usize)> {
    let mut end = 1;
    for character in reference[1..].chars().take(32) {
        if "\t\n\u{c} <&#;".contains(character) {
            break;
        }
        end += character.len_utf8();
    }
    if reference.as_bytes().get(end) == Some(&b';') {
        end += 1;
    }
    // All names are ASCII and have at least two characters.
    (3..=end)
        .rev()
        .find_map(|end| Some((htmlize::ENTITIES.get(&reference.as_bytes()[..end])?, end)))
        .map(|(character, end)| (utf8(character), end))
}

/// Finds the meaning of a name in capitals that is unknown as it stands, such as `&EACUTE;`.
fn in_capitals(reference: &str) -> Option<String> {
    if reference.bytes().any(|byte| byte.is_ascii_lowercase()) || named(reference).is_some() {
        return None;
    }
    let lower = reference.to_ascii_lowercase();
    let character = htmlize::ENTITIES.get(lower.as_bytes())?;
    Some(utf8(character).to_uppercase())
}

/// Decodes a value of the table, which is UTF-8.
fn utf8(character: &[u8]) -> String {
    String::from_utf8_lossy(character).into_owned()
}
