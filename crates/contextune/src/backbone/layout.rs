//! How prompts share their rows: a forest of token runs.
//!
//! The text tower is causal, so the hidden states of a row depend on the rows before it alone. Prompts that begin alike
//! share those rows: they are one node of the forest, computed once, and what differs hangs below. Unified and
//! class-specific context, any position of the class name, and sets of hand-written templates are all such forests.

use std::ops::Range;

/// A shared beginning becomes a node of its own if that saves at least this many rows; below it, the extra group of
/// small attention products costs more than the rows.
const MIN_ROWS_SAVED: usize = 8;

/// One row of a prompt, before its position is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
    /// The frozen embedding of a token id.
    Token(u32),
    /// A row of the learned table.
    Learned(usize),
}

/// A run of rows that follow each other in every prompt that contains them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The run before this one; `None` at the beginning of a prompt. Always a smaller index.
    pub parent: Option<usize>,
    /// Position of the first row in its prompts, counted from zero.
    pub first_position: usize,
    /// The run itself, never empty.
    pub rows: Vec<Row>,
    /// Nothing learned in this node or above it: its hidden states are constants of the run.
    pub frozen: bool,
}

/// Prompts as a forest of token runs, each prompt read out at its last row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptLayout {
    nodes: Vec<Node>,
    read_out: Vec<usize>,
}

impl PromptLayout {
    /// Lays out `prompts`, each given row by row from start to end token. An empty prompt is not a prompt: it panics.
    pub fn new(prompts: &[Vec<Row>]) -> Self {
        assert!(
            prompts.iter().all(|prompt| !prompt.is_empty()),
            "a prompt has at least one row"
        );
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.sort_by(|&a, &b| prompts[a].cmp(&prompts[b]));
        let mut layout = Self {
            nodes: Vec::new(),
            read_out: vec![0; prompts.len()],
        };
        layout.grow(prompts, &order, 0, None);
        layout
    }

    /// The runs; a parent comes before its children.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// For each run whether it is computed once and for all: it is frozen, above something learned, and all above it are
    /// known too. None is where everything is frozen: one pass over all does then.
    pub fn known(&self) -> Vec<bool> {
        let mut known = vec![false; self.nodes.len()];
        if self.nodes.iter().all(|node| node.frozen) {
            return known;
        }
        let mut read = vec![false; self.nodes.len()];
        for &node in &self.read_out {
            read[node] = true;
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let known_above = node.parent.is_none_or(|parent| known[parent]);
            known[index] = node.frozen && !read[index] && known_above;
        }
        known
    }

    /// For each prompt, in the order given to [`PromptLayout::new`], the node whose last row is the prompt's last row.
    pub fn read_out(&self) -> &[usize] {
        &self.read_out
    }

    /// Nodes from the first row of the prompt down to `node`, `node` included.
    pub fn chain(&self, node: usize) -> Vec<usize> {
        let mut chain: Vec<usize> =
            std::iter::successors(Some(node), |&node| self.nodes[node].parent).collect();
        chain.reverse();
        chain
    }

    /// Places the sorted prompts `order`, which share their first `depth` rows, below `parent`.
    fn grow(&mut self, prompts: &[Vec<Row>], order: &[usize], depth: usize, parent: Option<usize>) {
        let ended = order
            .iter()
            .take_while(|&&prompt| prompts[prompt].len() == depth)
            .count();
        if let Some(parent) = parent {
            for &prompt in &order[..ended] {
                self.read_out[prompt] = parent;
            }
        }
        for siblings in order[ended..].chunk_by(|&a, &b| prompts[a][depth] == prompts[b][depth]) {
            let first = &prompts[siblings[0]];
            let last = &prompts[siblings[siblings.len() - 1]];
            let end = depth + shared_rows(&first[depth..], &last[depth..]);
            let all_equal = end == first.len() && end == last.len();
            let saved = (siblings.len() - 1) * (end - depth);
            if all_equal || saved >= MIN_ROWS_SAVED {
                let node = self.add_run(first, depth..end, parent);
                self.grow(prompts, siblings, end, Some(node));
            } else {
                for equal in siblings.chunk_by(|&a, &b| prompts[a] == prompts[b]) {
                    let prompt = &prompts[equal[0]];
                    let node = self.add_run(prompt, depth..prompt.len(), parent);
                    for &prompt in equal {
                        self.read_out[prompt] = node;
                    }
                }
            }
        }
    }

    /// Adds `prompt[range]` below `parent`, split where the first learned row ends a frozen chain; returns the last node.
    fn add_run(&mut self, prompt: &[Row], range: Range<usize>, parent: Option<usize>) -> usize {
        let frozen_before = parent.is_none_or(|parent| self.nodes[parent].frozen);
        let run = &prompt[range.clone()];
        let frozen_rows = match frozen_before {
            true => run
                .iter()
                .take_while(|row| matches!(row, Row::Token(_)))
                .count(),
            false => 0,
        };
        let mut parent = parent;
        if frozen_rows > 0 {
            parent = Some(self.add_node(&run[..frozen_rows], range.start, parent, true));
        }
        if frozen_rows < run.len() {
            let position = range.start + frozen_rows;
            parent = Some(self.add_node(&run[frozen_rows..], position, parent, false));
        }
        parent.expect("a run is never empty")
    }

    fn add_node(
        &mut self,
        rows: &[Row],
        first_position: usize,
        parent: Option<usize>,
        frozen: bool,
    ) -> usize {
        self.nodes.push(Node {
            parent,
            first_position,
            rows: rows.to_vec(),
            frozen,
        });
        self.nodes.len() - 1
    }
}

/// Length of the common beginning.
fn shared_rows(a: &[Row], b: &[Row]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(text: &str) -> Vec<Row> {
        text.chars()
            .map(|c| match c.to_digit(10) {
                Some(digit) => Row::Learned(digit as usize),
                None => Row::Token(c as u32),
            })
            .collect()
    }

    fn layout(prompts: &[&str]) -> PromptLayout {
        PromptLayout::new(&prompts.iter().map(|p| prompt(p)).collect::<Vec<_>>())
    }

    fn read_back(layout: &PromptLayout, prompt: usize) -> Vec<Row> {
        layout
            .chain(layout.read_out()[prompt])
            .iter()
            .flat_map(|&node| layout.nodes()[node].rows.clone())
            .collect()
    }

    #[test]
    fn shared_context_is_one_node_below_the_frozen_start() {
        let layout = layout(&["s0123cat.", "s0123dog.", "s0123fox."]);
        let runs: Vec<_> = layout
            .nodes()
            .iter()
            .map(|node| {
                (
                    node.parent,
                    node.first_position,
                    node.rows.len(),
                    node.frozen,
                )
            })
            .collect();
        assert_eq!(
            runs,
            [
                (None, 0, 1, true),
                (Some(0), 1, 4, false),
                (Some(1), 5, 4, false),
                (Some(1), 5, 4, false),
                (Some(1), 5, 4, false)
            ]
        );
        assert_eq!(layout.read_out(), [2, 3, 4]);
    }

    #[test]
    fn prompts_read_back_in_the_order_given() {
        let prompts = [
            "sxyz",
            "sx",
            "sx12",
            "sxyz",
            "s",
            "sxyw",
            "sabcdefghij",
            "sabcdefghik",
            "t1",
            "sx12q",
        ];
        let layout = layout(&prompts);
        for (index, text) in prompts.iter().enumerate() {
            assert_eq!(read_back(&layout, index), prompt(text), "{text}");
        }
        for node in layout.nodes() {
            let learned = node.rows.iter().any(|row| matches!(row, Row::Learned(_)));
            assert!(!(node.frozen && learned));
            let before: usize = node.parent.map_or(0, |parent| {
                layout.nodes()[parent].first_position + layout.nodes()[parent].rows.len()
            });
            assert_eq!(node.first_position, before);
        }
    }
}
