//! The book in `docs`: its pages do what they say, lead where they say, and name what there is.
//!
//! A block tagged `sh` is run by bash, the blocks of a page in order and in one folder, which holds the demo's pictures as
//! `contextune demo` leaves them, unless the page itself runs the demo. A `text` block behind it is what it prints, standard
//! output and errors as a terminal shows them, line by line:
//! - any number stands for any number: accuracies and seconds are other ones on other machines (those that are shown were
//!   measured on one);
//! - neither the length of a bar of `█` nor the number of blanks counts;
//! - `…` stands for anything within a line, and a line of `…` alone for any lines;
//! - lines about a training that goes on (`epoch 1/200  loss …`) are left out: a terminal has a bar instead.
//!
//! A block tagged `sh,ignore` is shown and not run, and the page says why: it needs a network, a large file, or a server that
//! goes on. Pages run side by side, so only `serving.md` may start a server, which takes a port.
#![cfg(unix)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Seek};
use std::iter;
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use common::{answer, demo_data, text};
use tempfile::TempDir;

/// Pages whose commands go through an image tower in every step: those that take longest.
const IMAGE_SIDE: [&str; 6] = [
    "methods/finetune.md",
    "methods/image-encoder.md",
    "methods/pixel.md",
    "methods/pretrain.md",
    "methods/reprogram.md",
    "methods/vpt.md",
];

#[test]
fn the_tutorial_does_what_it_says() {
    run_pages(|page| page == "tutorial.md");
}

#[test]
fn methods_that_learn_from_features_do_what_their_pages_say() {
    run_pages(|page| page.starts_with("methods/") && !IMAGE_SIDE.contains(&page));
}

#[test]
fn methods_of_the_image_side_do_what_their_pages_say() {
    run_pages(|page| IMAGE_SIDE.contains(&page));
}

#[test]
fn all_other_pages_do_what_they_say() {
    run_pages(|page| page != "tutorial.md" && !page.starts_with("methods/"));
}

/// Links lead to files and headings that are there, and the contents list every page once.
#[test]
fn the_book_hangs_together() {
    let pages = pages();
    let mut listed = Vec::new();
    for (page, text) in &pages {
        for target in links(text) {
            if target.starts_with("https://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
            let file = match file {
                "" => page.clone(),
                file => beside(page, file),
            };
            // What the book does not hold is not turned into a page: a link to a Markdown file would lead nowhere.
            match pages.get(&file) {
                None => assert!(
                    !file.ends_with(".md") && source().join(&file).is_file(),
                    "{page}: {target}"
                ),
                Some(text) => assert!(
                    heading.is_empty() || headings(text).contains(heading),
                    "{page}: {target}"
                ),
            }
            if page == "SUMMARY.md" {
                listed.push(file);
            }
        }
    }
    listed.sort();
    let all: Vec<&String> = pages.keys().filter(|page| *page != "SUMMARY.md").collect();
    assert_eq!(listed.iter().collect::<Vec<_>>(), all);
}

/// Every command and method has a place in the book, and every command and option that the book writes down is there, run or
/// not.
#[test]
fn the_book_names_what_there_is() {
    let pages = pages();
    let overview = &pages["commands.md"];
    for command in subcommands(&[]) {
        // What a command is divided into stands for it; the methods of `train` have a table of their own.
        let parts: Vec<String> = match command.as_str() {
            "train" | "help" => Vec::new(),
            command => subcommands(&[command]),
        };
        let entries = match parts.is_empty() {
            true => vec![command.clone()],
            false => parts
                .iter()
                .filter(|part| *part != "help")
                .map(|part| format!("{command} {part}"))
                .collect(),
        };
        for entry in entries {
            assert!(overview.contains(&format!("\n| `{entry}` |")), "{entry}");
        }
    }
    for method in subcommands(&["train"]) {
        let entry = format!("\n| [`{method}`](");
        assert!(
            method == "help" || pages["methods/overview.md"].contains(&entry),
            "{method}"
        );
    }

    let mut helps = Helps::new();
    let mut unknown = Vec::new();
    for (page, text) in &pages {
        let shells = blocks(text).into_iter().filter(Block::is_shell);
        let mut code: Vec<String> = shells
            .flat_map(|block| {
                let whole_lines = block.body.replace("\\\n", " ");
                whole_lines.lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        code.extend(inline_code(text));
        for line in code {
            if let Some(words) = line.strip_prefix("contextune ")
                && let Some(word) = unknown_word(words, &mut helps)
            {
                unknown.push(format!("{page}: {line}: {word}"));
            }
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

/// The first command or option among these words that the program does not have. Words in capitals stand for others.
fn unknown_word<'a>(words: &'a str, helps: &mut Helps) -> Option<&'a str> {
    // What bash does with a command is no part of it.
    let words = words
        .split_whitespace()
        .take_while(|word| !word.starts_with(['|', '>', '#', '&', '<']));
    let mut path = Vec::new();
    for word in words {
        let help = help_of(helps, &path);
        let is_name = word.starts_with(|c: char| c.is_ascii_lowercase());
        if word.starts_with("--") {
            let option = word.split('=').next().unwrap_or_default();
            if !help.options.contains(option) {
                return Some(word);
            }
        } else if help.commands.contains(word) && word != "help" {
            path.push(word);
        } else if !help.commands.is_empty() && is_name {
            return Some(word).filter(|word| *word != "help");
        }
    }
    None
}

/// Runs the blocks of the chosen pages.
#[track_caller]
fn run_pages(chosen: impl Fn(&str) -> bool) {
    let mut run = 0;
    for (page, text) in pages() {
        if chosen(&page) {
            run += run_page(&page, &text);
        }
    }
    assert!(run > 0, "no page was chosen");
}

/// Runs the blocks of a page, and says how many there are.
#[track_caller]
fn run_page(page: &str, text: &str) -> usize {
    let blocks = blocks(text);
    let folder = TempDir::new().unwrap();
    if !blocks
        .iter()
        .any(|block| block.is_run() && block.body == "contextune demo")
    {
        for task in ["animal-silhouettes", "icon-demo"] {
            let to = folder.path().join("contextune-demo/data").join(task);
            copy_folder(&demo_data(task), &to);
        }
    }
    for (place, block) in blocks
        .iter()
        .enumerate()
        .filter(|(_, block)| block.is_run())
    {
        let (status, printed) = run_block(&block.body, folder.path());
        let commands = &block.body;
        assert!(
            status.success(),
            "{page}: {status}\n{commands}\n\n{printed}"
        );
        let Some(expected) = blocks.get(place + 1).filter(|next| next.is_printed) else {
            continue;
        };
        let expected = &expected.body;
        assert!(
            agree(&shapes(expected), &shapes(&in_a_terminal(&printed))),
            "{page}:\n{commands}\n\nprints, as the book says,\n{expected}\n\nin truth\n{printed}"
        );
    }
    blocks.iter().filter(|block| block.is_run()).count()
}

/// How bash ended, and what was printed.
fn run_block(commands: &str, folder: &Path) -> (ExitStatus, String) {
    let own = Path::new(env!("CARGO_BIN_EXE_contextune"));
    let others = env::var_os("PATH").unwrap_or_default();
    let folders = iter::once(own.parent().unwrap().to_owned()).chain(env::split_paths(&others));
    let path: OsString = env::join_paths(folders).unwrap();
    // Into a file, not a pipe: a pipe stays open as long as anything that a block has left running.
    let mut printed = tempfile::tempfile().unwrap();
    let mut bash = Command::new("bash")
        .args(["-euo", "pipefail", "-c", commands])
        .current_dir(folder)
        .env("PATH", path)
        .env("CONTEXTUNE_CACHE", env!("CARGO_TARGET_TMPDIR"))
        .env("HF_HUB_OFFLINE", "1")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(printed.try_clone().unwrap())
        .stderr(printed.try_clone().unwrap())
        .process_group(0)
        .spawn()
        .unwrap();
    let status = bash.wait().unwrap();
    let rest = format!("kill -KILL -- -{} 2> /dev/null", bash.id());
    Command::new("bash").args(["-c", &rest]).status().unwrap();
    let mut text = String::new();
    printed.rewind().unwrap();
    printed.read_to_string(&mut text).unwrap();
    (status, text)
}

/// Without the lines that stand for a bar where there is no terminal: how many there are depends on the time it takes.
fn in_a_terminal(printed: &str) -> String {
    let stands_for_a_bar = |line: &str| line.starts_with("epoch ") && line.contains("  loss ");
    let shown: Vec<&str> = printed
        .lines()
        .filter(|line| !stands_for_a_bar(line))
        .collect();
    shown.join("\n")
}

/// Lines without what may differ.
fn shapes(text: &str) -> Vec<String> {
    text.trim_end().lines().map(shape).collect()
}

fn shape(line: &str) -> String {
    let digits = |text: &str| {
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len())
    };
    let (mut shape, mut rest) = (String::new(), line);
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        shape += &rest[..start];
        shape.push('0');
        rest = &rest[start..];
        rest = &rest[digits(rest)..];
        if let Some(fraction) = rest.strip_prefix('.')
            && digits(fraction) > 0
        {
            rest = &fraction[digits(fraction)..];
        }
    }
    shape += rest;
    let words: Vec<&str> = shape
        .split_whitespace()
        .filter(|word| !word.trim_matches('█').is_empty())
        .collect();
    words.join(" ")
}

/// Whether the lines that were printed are those that the book has, which may leave some out.
fn agree(book: &[String], printed: &[String]) -> bool {
    match (book.split_first(), printed.split_first()) {
        (None, None) => true,
        (Some((line, rest)), _) if line == "…" => {
            (0..=printed.len()).any(|skipped| agree(rest, &printed[skipped..]))
        }
        (Some((line, rest)), Some((other, others))) => {
            line_agrees(line, other) && agree(rest, others)
        }
        _ => false,
    }
}

fn line_agrees(book: &str, printed: &str) -> bool {
    let mut parts = book.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// A fenced block.
struct Block {
    tag: String,
    body: String,
    /// Whether it is what the block in front of it prints.
    is_printed: bool,
}

impl Block {
    fn is_run(&self) -> bool {
        self.tag == "sh"
    }

    fn is_shell(&self) -> bool {
        self.tag == "sh" || self.tag == "sh,ignore"
    }
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut follows = false;
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(tag) = line.strip_prefix("```") else {
            follows &= line.is_empty();
            continue;
        };
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push(Block {
            tag: tag.to_owned(),
            body: body.join("\n"),
            is_printed: follows && tag == "text",
        });
        follows = tag == "sh";
    }
    blocks
}

/// The lines of a page outside its blocks.
fn prose(page: &str) -> Vec<&str> {
    let mut inside = false;
    page.lines()
        .filter(|line| {
            let fence = line.starts_with("```");
            inside ^= fence;
            !inside && !fence
        })
        .collect()
}

fn inline_code(page: &str) -> Vec<String> {
    let text = prose(page).join("\n");
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(|code| code.replace('\n', " "))
        .collect()
}

fn links(page: &str) -> Vec<String> {
    let text = prose(page).join("\n");
    let outside: String = text.split('`').step_by(2).collect();
    let targets = outside.split("](").skip(1);
    targets
        .filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()))
        .collect()
}

/// What links to headings are called, as mdBook does it.
fn headings(page: &str) -> BTreeSet<String> {
    prose(page)
        .into_iter()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| {
                    if c == ' ' {
                        '-'
                    } else {
                        c.to_ascii_lowercase()
                    }
                })
                .collect()
        })
        .collect()
}

/// Commands below a command, with `help`.
fn subcommands(path: &[&str]) -> Vec<String> {
    let help = answer(&[path, &["--help"]].concat());
    let Some((_, commands)) = help.split_once("\nCommands:\n") else {
        return Vec::new();
    };
    commands
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| Some(line.strip_prefix("  ")?.split(' ').next()?.to_owned()))
        .filter(|name| !name.is_empty())
        .collect()
}

/// What `--help` says of commands that were asked about already.
type Helps = BTreeMap<String, Help>;

struct Help {
    /// Commands below the command.
    commands: BTreeSet<String>,
    options: BTreeSet<String>,
}

fn help_of<'a>(helps: &'a mut Helps, path: &[&str]) -> &'a Help {
    helps.entry(path.join(" ")).or_insert_with(|| {
        let help = answer(&[path, &["--help"]].concat());
        let words = help.split(|c: char| c.is_whitespace() || c == ',');
        Help {
            commands: subcommands(path).into_iter().collect(),
            options: words
                .filter(|word| word.starts_with("--"))
                .map(str::to_owned)
                .collect(),
        }
    })
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src")
}

/// Every page by its path below the source folder.
fn pages() -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(source().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(path),
                false if text(&path).ends_with(".md") => {
                    pages.insert(
                        text(&path).to_owned(),
                        fs::read_to_string(entry.path()).unwrap(),
                    );
                }
                false => {}
            }
        }
    }
    pages
}

/// A relative path from a page, as one from the source folder.
fn beside(page: &str, file: &str) -> String {
    let mut path = PathBuf::new();
    for part in Path::new(page).parent().unwrap().join(file).components() {
        match part {
            Component::ParentDir if path.file_name().is_some() => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    text(&path).to_owned()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &to),
            false => {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }
}
