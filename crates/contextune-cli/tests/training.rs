//! What a person sees of training, and how it is stopped.
#![cfg(unix)]

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{answer, command, demo_data, text};
use nix::pty::{Winsize, openpty};
use tempfile::TempDir;

fn train<'a>(data: &'a Path, run: &'a Path, epochs: &'a str) -> Vec<&'a str> {
    let words = ["train", "coop", "--shots", "4", "--batch-size", "16"];
    let places = ["--data", text(data), "--out", text(run), "--epochs", epochs];
    [&words[..], &places].concat()
}

fn interrupt(process: &Child, signal: &str) {
    let arguments = [signal.to_owned(), process.id().to_string()];
    assert!(
        Command::new("kill")
            .args(arguments)
            .status()
            .unwrap()
            .success()
    );
}

/// Lines of standard error up to one that has `part`.
fn until(part: &str, lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Vec<String> {
    let mut seen = Vec::new();
    for line in lines {
        seen.push(line.unwrap());
        if seen.last().is_some_and(|line| line.contains(part)) {
            return seen;
        }
    }
    panic!("no {part:?} in {seen:#?}");
}

#[test]
fn without_a_terminal_the_first_and_the_last_epoch_have_a_line() {
    let folder = TempDir::new().unwrap();
    let (data, run) = (demo_data("icon-demo"), folder.path().join("run"));
    let output = command().args(train(&data, &run, "3")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("epoch "))
        .collect();
    assert!(lines[0].starts_with("epoch 1/3  loss "), "{said}");
    assert!(
        lines[lines.len() - 1].starts_with("epoch 3/3  loss "),
        "{said}"
    );
    assert!(lines.iter().all(|line| line.ends_with(" left")), "{said}");

    let quiet = folder.path().join("quiet");
    let arguments = [train(&data, &quiet, "3"), vec!["--quiet"]].concat();
    let output = command().args(arguments).output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn the_first_signal_ends_the_epoch_and_the_second_everything() {
    let folder = TempDir::new().unwrap();
    let data = demo_data("icon-demo");
    for (signal, name) in [("-INT", "gentle"), ("-TERM", "supervised")] {
        let run = folder.path().join(name);
        let mut process = command()
            .args(train(&data, &run, "100000"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        until("epoch 1/", &mut lines);
        interrupt(&process, signal);
        until("stopping after this epoch", &mut lines);
        until(&format!("contextune resume {}", run.display()), &mut lines);
        assert_eq!(process.wait().unwrap().code(), Some(130));
        assert!(run.join("resume/state.safetensors").exists());
    }

    // One step an epoch, and that step takes longer than the two signals.
    let run = folder.path().join("at-once");
    let long = [
        "train",
        "vpt",
        "--data",
        text(&data),
        "--batch-size",
        "full",
        "--epochs",
        "50",
    ];
    let mut process = command()
        .args(long)
        .args(["--out", text(&run)])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    until("epoch 1/", &mut lines);
    interrupt(&process, "-INT");
    until("stopping after this epoch", &mut lines);
    interrupt(&process, "-INT");
    assert_eq!(process.wait().unwrap().code(), Some(130));
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(
        rest.iter()
            .all(|line| !line.contains("stopped after epoch")),
        "{rest:?}"
    );
}

/// What nohup promises.
#[test]
fn a_run_that_ignores_its_terminal_goes_on_when_that_closes() {
    let folder = TempDir::new().unwrap();
    let (data, run) = (demo_data("icon-demo"), folder.path().join("run"));
    let program = command();
    let mut process = Command::new("sh")
        .args(["-c", "trap '' HUP; exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(train(&data, &run, "100000"))
        .envs(
            program
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    until("epoch 1/", &mut lines);
    interrupt(&process, "-HUP");
    until("  loss ", &mut lines);
    interrupt(&process, "-TERM");
    until("contextune resume", &mut lines);
    assert_eq!(process.wait().unwrap().code(), Some(130));
}

#[test]
fn in_a_terminal_there_are_two_lines_of_bar_and_figures() {
    let folder = TempDir::new().unwrap();
    let (data, run) = (demo_data("icon-demo"), folder.path().join("run"));
    let size = Winsize {
        ws_row: 24,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = openpty(&size, None).unwrap();
    let mut process = command()
        .args(train(&data, &run, "100000"))
        .env("TERM", "xterm")
        .stderr(terminal.slave) // which this process then no longer holds: reading ends with the command
        .spawn()
        .unwrap();
    let reader = std::thread::spawn(move || {
        let mut screen = Vec::new();
        let mut master = File::from(terminal.master);
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = master.read(&mut piece) {
            screen.extend_from_slice(&piece[..read]);
        }
        String::from_utf8_lossy(&screen).into_owned()
    });
    let started = Instant::now();
    while !run.join("resume/state.safetensors").exists() {
        assert!(
            started.elapsed() < Duration::from_secs(300),
            "nothing was saved"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    interrupt(&process, "-INT");
    assert_eq!(process.wait().unwrap().code(), Some(130));
    let screen = reader.join().unwrap();
    for part in [
        "       train ",
        "epoch 1/100000, ",
        " left ",
        "             loss ",
        "▁  accuracy ",
        " %  rate ",
        " MB ",
    ] {
        assert!(screen.contains(part), "no {part:?} in {screen:?}");
    }
    assert!(
        screen.contains("stopping after this epoch; Ctrl-C again"),
        "{screen:?}"
    );
    fs::remove_dir_all(&run).unwrap();
    // Nothing of it where nobody looks.
    let answer = answer(&train(&data, &run, "1"));
    assert!(answer.starts_with("coop: "), "{answer}");
}
