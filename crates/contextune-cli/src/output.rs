//! Standard output, which may be a pipe that nobody reads any longer or a file on a full disk.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serializer;

/// Why standard output could first not be written. From then on nothing is written: half an answer more helps nobody.
static FAILURE: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints a line. What cannot be printed is told when the program ends, so that nothing else is lost by it.
macro_rules! out {
    ($($text:tt)*) => {
        $crate::output::print(format_args!("{}\n", format_args!($($text)*)))
    };
}

/// Prints a line on standard error; where that is closed nobody wants to read it.
macro_rules! note {
    ($($text:tt)*) => {
        $crate::output::remark(format_args!($($text)*))
    };
}

pub(crate) use {note, out};

/// Standard output cannot be written.
#[derive(Debug)]
pub struct Unwritable(io::Error);

impl fmt::Display for Unwritable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot write to standard output: {}", self.0)
    }
}

impl Error for Unwritable {}

impl Unwritable {
    /// Whether the reader has gone away on purpose, as `head` does.
    pub fn is_closed_pipe(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Prints text.
pub fn print(text: fmt::Arguments<'_>) {
    let mut failure = FAILURE.lock().unwrap_or_else(PoisonError::into_inner);
    if failure.is_none() {
        let mut stdout = anstream::stdout().lock();
        let printed = stdout.write_fmt(text).and_then(|()| stdout.flush());
        *failure = printed.err();
    }
}

/// Prints a line on standard error.
pub fn remark(text: fmt::Arguments<'_>) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Prints a question on standard error; the answer is typed behind it.
pub fn ask(text: fmt::Arguments<'_>) {
    let mut stderr = anstream::stderr().lock();
    let _ = stderr.write_fmt(text).and_then(|()| stderr.flush());
}

/// Ends work that only prints, once it cannot.
pub fn check() -> Result<(), Unwritable> {
    let mut failure = FAILURE.lock().unwrap_or_else(PoisonError::into_inner);
    match failure.take() {
        Some(error) => {
            *failure = Some(error.kind().into());
            Err(Unwritable(error))
        }
        None => Ok(()),
    }
}

/// A path in one line without loss: as it is, or quoted as bash and zsh read it (`$'…'`) if it is not UTF-8 or has characters
/// that a terminal would act upon.
pub fn path(path: &Path) -> Cow<'_, str> {
    if let Some(text) = path.to_str()
        && !text.chars().any(char::is_control)
    {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::from("$'");
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\'' | '\\' => quoted.extend(['\\', character]),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                character if character.is_control() => {
                    let mut bytes = [0; 4];
                    for byte in character.encode_utf8(&mut bytes).bytes() {
                        quoted.push_str(&format!("\\x{byte:02x}"));
                    }
                }
                character => quoted.push(character),
            }
        }
        for byte in chunk.invalid() {
            quoted.push_str(&format!("\\x{byte:02x}"));
        }
    }
    quoted.push('\'');
    Cow::Owned(quoted)
}

/// Writes a path into JSON, which cannot hold one that is not UTF-8: what is no character is marked.
pub fn serialize_path<S: Serializer>(
    path: &impl AsRef<Path>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.as_ref().to_string_lossy())
}

/// See [`serialize_path`].
pub fn serialize_some_path<S: Serializer>(
    path: &Option<PathBuf>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => serialize_path(path, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_path_stays_as_it_is() {
        assert_eq!(path(Path::new("a b/ñ'.png")), "a b/ñ'.png");
    }

    #[cfg(unix)]
    #[test]
    fn other_paths_are_quoted_for_a_shell() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;

        let odd = Path::new(OsStr::from_bytes(b"it's\n\\\xe9\x1b\xc2\x85.png"));
        assert_eq!(path(odd), r"$'it\'s\n\\\xe9\x1b\xc2\x85.png'");
    }
}
