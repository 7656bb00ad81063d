//! The results of a plan as tables: text to read, CSV for other programs, JSON with everything.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use contextune::evaluate::{Spread, harmonic_mean};
use serde::Serialize;

use super::plan::{Experiment, Plan, Protocol};
use super::{Measured, data_name};

/// One table for each experiment and data set.
#[derive(Debug, Serialize)]
pub struct Table {
    title: String,
    protocol: Protocol,
    data: String,
    rows: Vec<Row>,
}

/// One method.
#[derive(Debug, Serialize)]
struct Row {
    method: String,
    entries: Vec<Entry>,
}

/// One number of a method.
#[derive(Debug, Serialize)]
struct Entry {
    /// Pictures of each class; absent: all.
    shots: Option<usize>,
    /// What was measured: the test split, "base", "new", "H", or another data set.
    what: String,
    /// Accuracy in per cent over seeds; absent where the method says nothing about other classes.
    accuracy: Option<Spread>,
    /// Training seconds over seeds.
    seconds: Option<Spread>,
}

/// The tables of a plan.
pub fn tables(plan: &Plan, measured: &Measured) -> Vec<Table> {
    let mut tables = Vec::new();
    for (e, experiment) in plan.experiments.iter().enumerate() {
        for (d, data) in experiment.data.iter().enumerate() {
            let rows = experiment.methods.iter().enumerate().map(|(m, method)| {
                let entries = experiment.all_shots().into_iter().enumerate();
                Row {
                    method: method.clone(),
                    entries: entries
                        .flat_map(|(s, shots)| {
                            entries_of(experiment, measured, (e, d, m, s), shots)
                        })
                        .collect(),
                }
            });
            tables.push(Table {
                title: experiment.title.clone(),
                protocol: experiment.protocol,
                data: data_name(data),
                rows: rows.collect(),
            });
        }
    }
    tables
}

fn entries_of(
    experiment: &Experiment,
    measured: &Measured,
    cell: (usize, usize, usize, usize),
    shots: Option<usize>,
) -> Vec<Entry> {
    let spread = |values: Option<&Vec<f64>>| values.and_then(|values| Spread::of(values));
    let own = spread(measured.own.get(&cell));
    let entry = |what: &str, accuracy, seconds| Entry {
        shots,
        what: what.into(),
        accuracy,
        seconds,
    };
    let seconds = spread(measured.seconds.get(&cell));
    let other = |place| spread(measured.others.get(&(cell, place)));
    match experiment.protocol {
        Protocol::FewShot => vec![entry("test", own, seconds)],
        Protocol::BaseToNew => {
            let new = other(0);
            // As published: of the two means, not the mean over seeds.
            let both = own.zip(new).map(|(base, new)| Spread {
                mean: harmonic_mean(base.mean, new.mean),
                deviation: 0.0,
                count: base.count,
            });
            vec![
                entry("base", own, seconds),
                entry("new", new, None),
                entry("H", both, None),
            ]
        }
        Protocol::Transfer => {
            let mut entries = vec![entry("test", own, seconds)];
            for (place, data) in experiment.to.iter().enumerate() {
                entries.push(entry(&data_name(data), other(place), None));
            }
            entries
        }
    }
}

impl Entry {
    /// What the column is called.
    fn column(&self) -> String {
        match (self.shots, self.what.as_str()) {
            (Some(1), "test") => "1 shot".into(),
            (Some(shots), "test") => format!("{shots} shots"),
            (Some(shots), what) => format!("{what} ({shots})"),
            (None, what) => what.into(),
        }
    }

    fn text(&self) -> String {
        match self.accuracy {
            None => "–".into(),
            Some(spread) if spread.count == 1 || self.what == "H" => format!("{:.1}", spread.mean),
            Some(spread) => format!("{:.1} ± {:.1}", spread.mean, spread.deviation),
        }
    }
}

/// The tables to read.
pub fn text(tables: &[Table]) -> String {
    let mut text = String::new();
    for table in tables {
        let _ = writeln!(
            text,
            "\n{}: {} (accuracy in %, mean ± deviation over seeds)",
            table.title, table.data
        );
        let mut lines: Vec<Vec<String>> = Vec::new();
        if let Some(row) = table.rows.first() {
            let columns = row.entries.iter().map(Entry::column);
            lines.push(std::iter::once(String::new()).chain(columns).collect());
        }
        for row in &table.rows {
            let entries = row.entries.iter().map(Entry::text);
            lines.push(std::iter::once(row.method.clone()).chain(entries).collect());
        }
        let widths: Vec<usize> = (0..lines.first().map_or(0, Vec::len))
            .map(|column| {
                lines
                    .iter()
                    .map(|line| line[column].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for line in lines {
            for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
                let _ = match column {
                    0 => write!(text, "  {cell:<width$}"),
                    _ => write!(text, "  {cell:>width$}"),
                };
            }
            text.push('\n');
        }
    }
    text
}

/// Writes summary.txt, summary.csv and summary.json.
pub fn write(out: &Path, tables: &[Table]) -> Result<()> {
    let mut csv = String::from("title,data,method,shots,what,mean,deviation,seeds,train_seconds\n");
    for table in tables {
        for row in &table.rows {
            for entry in &row.entries {
                let number =
                    |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
                let fields = [
                    quoted(&table.title),
                    quoted(&table.data),
                    quoted(&row.method),
                    entry.shots.map_or(String::new(), |shots| shots.to_string()),
                    quoted(&entry.what),
                    number(entry.accuracy.map(|spread| spread.mean)),
                    number(entry.accuracy.map(|spread| spread.deviation)),
                    entry
                        .accuracy
                        .map_or(String::new(), |spread| spread.count.to_string()),
                    number(entry.seconds.map(|spread| spread.mean)),
                ];
                csv.push_str(&fields.join(","));
                csv.push('\n');
            }
        }
    }
    let files = [
        ("summary.txt", text(tables)),
        ("summary.csv", csv),
        ("summary.json", serde_json::to_string_pretty(tables)?),
    ];
    for (name, text) in files {
        let path = out.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// A field of a CSV file (RFC 4180).
fn quoted(field: &str) -> String {
    match field.contains(['"', ',', '\n']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}
