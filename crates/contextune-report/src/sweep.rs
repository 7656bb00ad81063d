//! The page of a sweep: its tables, and accuracy by shots.

use askama::Template;

use crate::charts::{self, Axes, Line};

/// A table of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepTable {
    /// Heads it.
    pub title: String,
    /// The data set.
    pub data: String,
    /// Names of the columns; the first column names the methods.
    pub columns: Vec<String>,
    /// The cells of each method.
    pub rows: Vec<Vec<String>>,
    /// Accuracy of each method by shots; drawn where there are several numbers of shots.
    pub curves: Vec<Line>,
}

#[derive(Template)]
#[template(path = "sweep.html")]
struct SweepPage<'a> {
    title: &'a str,
    tables: Vec<TableView<'a>>,
    plan: &'a str,
    version: &'static str,
}

struct TableView<'a> {
    title: &'a str,
    data: &'a str,
    columns: &'a [String],
    rows: &'a [Vec<String>],
    chart: Option<String>,
}

/// The page: HTML that needs no other file and no network. `plan` is the plan's text.
pub fn sweep(title: &str, tables: &[SweepTable], plan: &str) -> String {
    let page = SweepPage {
        title,
        tables: tables.iter().map(view).collect(),
        plan,
        version: env!("CARGO_PKG_VERSION"),
    };
    page.render()
        .expect("a page is written into a text, which always takes it")
}

fn view(table: &SweepTable) -> TableView<'_> {
    let axes = Axes {
        x: "pictures of each class",
        y: "accuracy in %",
        doubling: true,
    };
    let drawn = table.curves.iter().any(|line| line.points.len() > 1);
    TableView {
        title: &table.title,
        data: &table.data,
        columns: &table.columns,
        rows: &table.rows,
        chart: drawn.then(|| charts::lines(&table.curves, axes)),
    }
}
