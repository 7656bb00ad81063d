//! Colours of the screen. What `output` prints loses them where it is not a terminal or NO_COLOR is set.

use anstyle::{AnsiColor, Style};

/// A heading in an answer for people.
pub const HEADING: Style = Style::new().bold();
/// Something is as it should be.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Something should be looked after.
pub const WARNING: Style = AnsiColor::Yellow.on_default();
/// Something is wrong.
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
