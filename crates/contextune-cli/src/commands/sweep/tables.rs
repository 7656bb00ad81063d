//! The results of a plan as tables: text to read, CSV for other programs, JSON with everything.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use contextune::evaluate::{Spread, harmonic_mean};
use contextune::run::RunResult;
use contextune_report::{Line, SweepTable};
use serde::Serialize;

use super::grid::Choice;
use super::measure::Results;
use super::plan::{Experiment, Plan, Protocol};
use super::{Cell, data_name};

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
    /// Learned numbers.
    parameters: Option<usize>,
    /// Bytes of the file that keeps what was learned.
    prompt_bytes: Option<u64>,
    /// The rates that were chosen on validation pictures.
    chosen: Option<Choice>,
}

/// The tables of a plan.
pub fn tables(plan: &Plan, measured: &Results, chosen: &BTreeMap<Cell, Choice>) -> Vec<Table> {
    let mut tables = Vec::new();
    for (e, experiment) in plan.experiments.iter().enumerate() {
        for (d, data) in experiment.data.iter().enumerate() {
            let rows = experiment.methods.iter().enumerate().map(|(m, method)| {
                let entries = experiment.all_shots().into_iter().enumerate();
                Row {
                    method: method.clone(),
                    entries: entries
                        .flat_map(|(s, shots)| {
                            let cell = (e, d, m, s);
                            let chosen = chosen.get(&cell).copied();
                            entries_of(experiment, measured, cell, shots, chosen)
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
    measured: &Results,
    cell: Cell,
    shots: Option<usize>,
    chosen: Option<Choice>,
) -> Vec<Entry> {
    let results = measured.results.get(&cell).map_or(&[][..], Vec::as_slice);
    let spread = |value: fn(&RunResult) -> Option<f64>| {
        let values: Vec<f64> = results.iter().filter_map(value).collect();
        Spread::of(&values)
    };
    let accuracy = spread(|result| Some(100.0 * f64::from(result.accuracy?)));
    let own = |what: &str| Entry {
        shots,
        what: what.into(),
        accuracy,
        seconds: spread(|result| Some(result.train_seconds)),
        parameters: results.first().map(|result| result.parameters),
        prompt_bytes: results.first().and_then(|result| result.prompt_bytes),
        chosen,
    };
    let other = |what: &str, accuracy| Entry {
        shots,
        what: what.into(),
        accuracy,
        seconds: None,
        parameters: None,
        prompt_bytes: None,
        chosen: None,
    };
    let elsewhere = |place| {
        let values = measured.others.get(&(cell, place));
        values.and_then(|values| Spread::of(values))
    };
    match experiment.protocol {
        Protocol::FewShot | Protocol::Fgvc | Protocol::Vtab => vec![own("test")],
        Protocol::BaseToNew => {
            let new = elsewhere(0);
            // As published: of the two means, not the mean over seeds.
            let both = accuracy.zip(new).map(|(base, new)| Spread {
                mean: harmonic_mean(base.mean, new.mean),
                deviation: 0.0,
                count: base.count,
            });
            vec![own("base"), other("new", new), other("H", both)]
        }
        Protocol::Transfer => {
            let mut entries = vec![own("test")];
            for (place, data) in experiment.to.iter().enumerate() {
                entries.push(other(&data_name(data), elsewhere(place)));
            }
            entries
        }
    }
}

impl Table {
    /// Names of the columns, then the cells of each row.
    fn cells(&self) -> Vec<Vec<String>> {
        let mut lines = Vec::new();
        if let Some(row) = self.rows.first() {
            let name = std::iter::once(String::new());
            let columns = row.entries.iter().map(Entry::column);
            lines.push(
                name.chain(columns)
                    .chain(costs_columns(self.protocol))
                    .collect(),
            );
        }
        for row in &self.rows {
            let name = std::iter::once(row.method.clone());
            let entries = row.entries.iter().map(Entry::text);
            lines.push(
                name.chain(entries)
                    .chain(row.costs(self.protocol))
                    .collect(),
            );
        }
        lines
    }

    /// The table as the page shows it.
    fn view(&self) -> SweepTable {
        let mut cells = self.cells().into_iter();
        SweepTable {
            title: self.title.clone(),
            data: self.data.clone(),
            columns: cells.next().unwrap_or_default(),
            rows: cells.collect(),
            curves: self.rows.iter().map(Row::curve).collect(),
        }
    }
}

/// What learning costs: names of columns.
fn costs_columns(protocol: Protocol) -> Vec<String> {
    let mut columns = vec!["learned", "kB", "s"];
    if protocol.chooses() {
        columns.extend(["rate", "decay"]);
    }
    columns.into_iter().map(str::to_owned).collect()
}

impl Row {
    /// Accuracy on what was learned, by shots.
    fn curve(&self) -> Line {
        let own = self.entries.iter().filter(|entry| entry.seconds.is_some());
        let points = own.filter_map(|entry| {
            let (shots, accuracy) = (entry.shots?, entry.accuracy?);
            Some((shots as f64, accuracy.mean, accuracy.deviation))
        });
        let mut points: Vec<(f64, f64, f64)> = points.collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Line {
            name: self.method.clone(),
            points,
        }
    }

    /// The values of [`costs_columns`], with the most shots.
    fn costs(&self, protocol: Protocol) -> Vec<String> {
        let own = self.entries.iter().filter(|entry| entry.seconds.is_some());
        let dearest = own.max_by_key(|entry| entry.shots.unwrap_or(usize::MAX));
        let Some(entry) = dearest else {
            return vec!["–".to_owned(); costs_columns(protocol).len()];
        };
        let rates = entry.chosen.map(|choice| choice.rates);
        let mut costs = vec![
            entry.parameters.map(|count| count.to_string()),
            entry
                .prompt_bytes
                .map(|bytes| bytes.div_ceil(1000).to_string()),
            entry.seconds.map(|seconds| format!("{:.1}", seconds.mean)),
        ];
        if protocol.chooses() {
            costs.push(rates.map(|rates| rates.learning_rate.to_string()));
            costs.push(rates.and_then(|rates| Some(rates.weight_decay?.to_string())));
        }
        let dash = || "–".to_owned();
        costs
            .into_iter()
            .map(|cost| cost.unwrap_or_else(dash))
            .collect()
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
            "\n{}: {} (accuracy in %, mean ± deviation over seeds; numbers learned, kB kept, seconds of training)",
            table.title, table.data
        );
        let lines = table.cells();
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

/// Writes summary.txt, summary.csv, summary.json and report.html.
pub fn write(plan: &Plan, tables: &[Table]) -> Result<()> {
    let mut csv = String::from(
        "title,data,method,shots,what,mean,deviation,seeds,train_seconds,parameters,prompt_bytes,learning_rate,weight_decay\n",
    );
    for table in tables {
        for row in &table.rows {
            for entry in &row.entries {
                let rates = entry.chosen.map(|choice| choice.rates);
                let fields = [
                    quoted(&table.title),
                    quoted(&table.data),
                    quoted(&row.method),
                    cell(entry.shots),
                    quoted(&entry.what),
                    cell(entry.accuracy.map(|spread| spread.mean)),
                    cell(entry.accuracy.map(|spread| spread.deviation)),
                    cell(entry.accuracy.map(|spread| spread.count)),
                    cell(entry.seconds.map(|spread| spread.mean)),
                    cell(entry.parameters),
                    cell(entry.prompt_bytes),
                    cell(rates.map(|rates| rates.learning_rate)),
                    cell(rates.and_then(|rates| rates.weight_decay)),
                ];
                csv.push_str(&fields.join(","));
                csv.push('\n');
            }
        }
    }
    let views: Vec<SweepTable> = tables.iter().map(Table::view).collect();
    let files = [
        ("summary.txt", text(tables)),
        ("summary.csv", csv),
        ("summary.json", serde_json::to_string_pretty(tables)?),
        (
            "report.html",
            contextune_report::sweep(&data_name(&plan.out), &views, &plan.text),
        ),
    ];
    for (name, text) in files {
        let path = plan.out.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// A number in a CSV file, if there is one.
fn cell(value: Option<impl ToString>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}

/// A field of a CSV file (RFC 4180).
fn quoted(field: &str) -> String {
    match field.contains(['"', ',', '\n']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}
