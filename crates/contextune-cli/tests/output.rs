//! Standard output that cannot be written, and paths that are no plain text: in every command.

mod common;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};

use common::{answer, class_folders, command, json, text};
use tempfile::TempDir;

/// Every command that prints an answer, on small data below `folder`; `sweep` and `demo` are too long for here, `serve` prints
/// nothing, nor does `resume` where there is nothing to do.
fn commands(folder: &Path) -> Vec<Vec<String>> {
    let data = class_folders(folder);
    let run = folder.join("run");
    answer(&[
        "train",
        "coop",
        "--data",
        text(&data),
        "--out",
        text(&run),
        "--epochs",
        "1",
    ]);
    let picture = data.join("noise/noise.png");
    let (data, run, picture) = (text(&data), text(&run), text(&picture));
    let to = |name: &str| text(&folder.join(name)).to_owned();
    let lines: Vec<Vec<&str>> = vec![
        vec!["classify", "--classes", "red,blue", picture],
        vec!["classify", "--classes", "red,blue", picture, "--json"],
        vec!["predict", run, picture],
        vec!["predict", run, picture, "--json"],
        vec!["eval", run],
        vec!["eval", run, "--json"],
        vec!["explain", run],
        vec!["explain", run, "--json"],
        vec!["report", run],
        vec!["data", "inspect", data],
        vec!["data", "inspect", data, "--json"],
        vec!["data", "sample", data, "--shots", "1"],
        vec!["cache", "ls"],
        vec!["cache", "ls", "--json"],
        vec!["models"],
        vec!["models", "--json"],
        vec!["doctor"],
        vec!["doctor", "--json"],
        vec!["tokenize", "a dog", "a cat"],
        vec!["tokenize", "a dog", "--json"],
        vec!["completions", "bash"],
        vec!["--help"],
        vec!["train", "coop", "--help"],
        vec!["--version"],
    ];
    let mut commands: Vec<Vec<String>> = lines
        .into_iter()
        .map(|line| line.into_iter().map(str::to_owned).collect())
        .collect();
    for (i, words) in [
        vec!["train", "coop", "--data", data, "--epochs", "1"],
        vec!["encode", "--data", data],
        vec!["export", run, "--format", "safetensors"],
    ]
    .into_iter()
    .enumerate()
    {
        let words = words.into_iter().map(str::to_owned);
        let out = ["--out".to_owned(), to(&format!("out{i}.safetensors"))];
        commands.push(words.chain(out).collect());
    }
    commands
}

/// Runs a command and returns its exit status and what it says on standard error.
fn outcome(line: &[String], stdout: Stdio, cache: &Path) -> (Option<i32>, String) {
    let child = command()
        .args(line)
        .env("CONTEXTUNE_CACHE", cache)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn();
    let mut child: Child = child.unwrap();
    drop(child.stdout.take()); // the reader of a pipe goes away
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn no_command_panics_where_nobody_reads() {
    let folder = TempDir::new().unwrap();
    let cache = folder.path().join("cache");
    for line in commands(folder.path()) {
        let (code, said) = outcome(&line, Stdio::piped(), &cache);
        assert_eq!(code, Some(0), "{line:?}: {said}");
        assert!(!said.contains("panicked"), "{line:?}: {said}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_of_every_command() {
    let folder = TempDir::new().unwrap();
    let cache = folder.path().join("cache");
    for line in commands(folder.path()) {
        if line
            .iter()
            .any(|word| word.starts_with("--help") || word == "--version")
        {
            continue; // clap prints these
        }
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (code, said) = outcome(&line, full.into(), &cache);
        assert_eq!(code, Some(1), "{line:?}: {said}");
        assert!(
            said.contains("cannot write to standard output"),
            "{line:?}: {said}"
        );
        assert!(!said.contains("panicked"), "{line:?}: {said}");
    }
}

#[cfg(unix)]
#[test]
fn odd_paths_come_out_without_loss() {
    use std::ffi::OsStr;
    use std::io::Write as _;
    use std::os::unix::ffi::OsStrExt as _;

    let folder = TempDir::new().unwrap();
    let data = class_folders(folder.path());
    let picture = data.join("noise/noise.png");
    let odd = folder.path().join("odd");
    fs::create_dir(&odd).unwrap();
    for name in [&b"caf\xe9.png"[..], b"plain.png", b"two\nlines.png"] {
        fs::copy(&picture, odd.join(OsStr::from_bytes(name))).unwrap();
    }
    let classify = ["classify", "--classes", "red,blue"];
    let lines = answer(&[&classify[..], &[text(&odd)]].concat());
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let prefix = odd.display();
    assert!(
        lines[0].starts_with(&format!(r"$'{prefix}/caf\xe9.png': ")),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with(&format!("{prefix}/plain.png: ")),
        "{lines:?}"
    );
    assert!(
        lines[2].starts_with(&format!(r"$'{prefix}/two\nlines.png': ")),
        "{lines:?}"
    );

    let objects = answer(&[&classify[..], &[text(&odd), "--json"]].concat());
    let objects: Vec<_> = objects.lines().map(json).collect();
    let bytes = odd.join(OsStr::from_bytes(b"caf\xe9.png"));
    let bytes: Vec<u64> = bytes
        .as_os_str()
        .as_bytes()
        .iter()
        .map(|byte| (*byte).into())
        .collect();
    assert_eq!(objects[0]["path_bytes"], serde_json::json!(bytes));
    assert!(objects[1].get("path_bytes").is_none());
    assert_eq!(objects[2]["path"], format!("{prefix}/two\nlines.png"));

    // The same list on standard input, as `find -print0` writes it.
    let mut child = command()
        .args(classify)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut list = Vec::new();
    for name in [&b"caf\xe9.png"[..], b"two\nlines.png"] {
        list.extend(odd.join(OsStr::from_bytes(name)).as_os_str().as_bytes());
        list.push(0);
    }
    child.stdin.take().unwrap().write_all(&list).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
}
