//! The forest walk: prompts that share rows through causal blocks, each row computed once.
//!
//! All rows of a pass lie packed in one matrix `[R, d]`, so that the linear layers are single products however the
//! prompts branch. Attention goes group by group: nodes of equal length below equally many rows. A row attends to its
//! node up to itself and to all rows of the node's ancestors.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::{Device, Int, Tensor};

use super::fused;
use super::kinds::Seen;
use super::layout::{PromptLayout, Row};
use super::transformer::Block;
use crate::indices::indices;

/// From this many nodes below one parent on, the parent's rows are attended to in place instead of copied per node.
const MIN_SHARED_NODES: usize = 4;

/// Keys and values of rows that are already known, for each block: `[F, d]` each.
#[derive(Clone, Debug)]
pub(super) struct KnownRows {
    keys: Vec<Tensor<2>>,
    values: Vec<Tensor<2>>,
}

/// A walk over one set of nodes of a layout, planned once and run any number of times.
#[derive(Debug)]
pub(super) struct Pass {
    /// The packed rows with their positions.
    pub rows: Vec<(Row, usize)>,
    groups: Vec<Group>,
    /// Distinct chains of ancestors that groups attend to in place: indices into known + packed rows.
    chains: Vec<Tensor<1, Int>>,
    /// For every row read out, its place among the packed rows, in the order of the groups.
    read_rows: Tensor<1, Int>,
    /// Place of each node among the rows read out, or of its rows among known + packed rows.
    placement: BTreeMap<usize, Placement>,
}

#[derive(Clone, Debug)]
struct Placement {
    /// Indices into known + packed rows.
    rows: Range<usize>,
    /// Index among the rows read out, if the node is.
    read_out: Option<usize>,
}

/// Nodes that attend alike.
#[derive(Debug)]
struct Group {
    /// The group's part of the packed rows, `nodes · length` long.
    rows: Range<usize>,
    nodes: usize,
    length: usize,
    read_out: bool,
    ancestors: Ancestors,
    /// Which of the keys before it in its node, copied ones included, each row sees; a row that is read out sees all.
    seen: Seen,
}

#[derive(Debug)]
enum Ancestors {
    None,
    /// One chain above all nodes, an index into `Pass::chains`.
    Shared(usize),
    /// `count` rows above each node, copied for it: indices into known + packed rows, `[nodes · count]`.
    Copied {
        rows: Box<Tensor<1, Int>>,
        count: usize,
    },
}

impl Pass {
    /// Plans a walk over the nodes that `chosen` picks. `before` is the pass over their ancestors outside of the choice.
    pub fn new(
        layout: &PromptLayout,
        chosen: impl Fn(usize) -> bool,
        before: Option<&Pass>,
        device: &Device,
    ) -> Self {
        let known = before.map_or(0, |pass| pass.rows.len());
        let mut placement = before.map_or_else(BTreeMap::new, |pass| pass.placement.clone());
        let mut read = vec![false; layout.nodes().len()];
        for &node in layout.read_out() {
            read[node] = true;
        }

        // Group the nodes; a node's key decides how it attends.
        let mut by_parent: BTreeMap<(bool, usize, Option<usize>), Vec<usize>> = BTreeMap::new();
        for (index, node) in layout.nodes().iter().enumerate() {
            if chosen(index) {
                let key = (read[index], node.rows.len(), node.parent);
                by_parent.entry(key).or_default().push(index);
            }
        }
        let mut shared = Vec::new();
        let mut copied: BTreeMap<(bool, usize, usize), Vec<usize>> = BTreeMap::new();
        for ((read_out, length, parent), nodes) in by_parent {
            if parent.is_none() || nodes.len() >= MIN_SHARED_NODES {
                shared.push((read_out, length, parent, nodes));
            } else {
                let depth = layout.nodes()[nodes[0]].first_position;
                copied
                    .entry((read_out, length, depth))
                    .or_default()
                    .extend(nodes);
            }
        }

        // Pack the rows, group after group.
        let mut rows = Vec::new();
        let mut read_rows = Vec::new();
        let mut pack = |nodes: &[usize], read_out: bool| {
            let start = rows.len();
            for &index in nodes {
                let node = &layout.nodes()[index];
                let first = rows.len();
                rows.extend(
                    node.rows
                        .iter()
                        .enumerate()
                        .map(|(offset, &row)| (row, node.first_position + offset)),
                );
                let place = Placement {
                    rows: known + first..known + rows.len(),
                    read_out: read_out.then_some(read_rows.len()),
                };
                placement.insert(index, place);
                if read_out {
                    read_rows.push(rows.len() - 1);
                }
            }
            start..rows.len()
        };
        let shared: Vec<_> = shared
            .into_iter()
            .map(|(read_out, length, parent, nodes)| {
                (pack(&nodes, read_out), read_out, length, parent, nodes)
            })
            .collect();
        let copied: Vec<_> = copied
            .into_iter()
            .map(|((read_out, length, depth), nodes)| {
                (pack(&nodes, read_out), read_out, length, depth, nodes)
            })
            .collect();

        // Now that every row has its place, say where each group finds its ancestors.
        let ancestor_rows = |parent: usize| -> Vec<usize> {
            layout
                .chain(parent)
                .into_iter()
                .flat_map(|node| placement[&node].rows.clone())
                .collect()
        };
        let mut chains = Vec::new();
        let mut chain_of_parent: BTreeMap<usize, usize> = BTreeMap::new();
        let mut groups = Vec::new();
        for (rows, read_out, length, parent, nodes) in shared {
            let ancestors = match parent {
                None => Ancestors::None,
                Some(parent) => {
                    Ancestors::Shared(*chain_of_parent.entry(parent).or_insert_with(|| {
                        chains.push(indices(ancestor_rows(parent), device));
                        chains.len() - 1
                    }))
                }
            };
            groups.push(Group {
                rows,
                nodes: nodes.len(),
                length,
                read_out,
                ancestors,
                seen: seen(nodes.len(), 0, length),
            });
        }
        for (rows, read_out, length, count, nodes) in copied {
            let copies = nodes
                .iter()
                .filter_map(|&node| layout.nodes()[node].parent)
                .flat_map(ancestor_rows);
            groups.push(Group {
                rows,
                nodes: nodes.len(),
                length,
                read_out,
                ancestors: Ancestors::Copied {
                    rows: Box::new(indices(copies, device)),
                    count,
                },
                seen: seen(nodes.len(), count, length),
            });
        }
        Self {
            rows,
            groups,
            chains,
            read_rows: indices(read_rows, device),
            placement,
        }
    }

    /// Index among the rows read out of the row that `node` reads out, if this pass computes it.
    pub fn read_out(&self, node: usize) -> Option<usize> {
        self.placement.get(&node).and_then(|place| place.read_out)
    }

    /// Runs `blocks` over the packed rows `x` `[R, d]`; returns the rows read out `[P, d]`.
    pub fn walk(&self, blocks: &[Block], x: Tensor<2>, known: Option<&KnownRows>) -> Tensor<2> {
        let Some((last, inner)) = blocks.split_last() else {
            return x.select(0, self.read_rows.clone());
        };
        let mut x = x;
        for (layer, block) in inner.iter().enumerate() {
            x = self
                .block(block, x, known.map(|known| known.layer(layer)))
                .0;
        }

        let normed = last.attention_norm.forward(x.clone());
        let key = last.key.forward(normed.clone()); // [R, d]
        let value = last.value.forward(normed.clone());
        let normed = normed.select(0, self.read_rows.clone());
        let query = last.query.forward(normed); // [P, d]
        let known = known.map(|known| known.layer(inner.len()));
        let attended = self.attend(query, key, value, known, last.heads(), Rows::ReadOut);
        last.finish(x.select(0, self.read_rows.clone()), attended)
    }

    /// The keys and values of all packed rows in all `blocks`, to hand to a later pass.
    pub fn known_rows(&self, blocks: &[Block], x: Tensor<2>) -> KnownRows {
        let mut x = x;
        let mut known = KnownRows {
            keys: Vec::new(),
            values: Vec::new(),
        };
        for block in blocks {
            let (next, key, value) = self.block(block, x, None);
            known.keys.push(key);
            known.values.push(value);
            x = next;
        }
        known
    }

    /// One block over all rows: the next `x`, and this block's keys and values, each `[R, d]`.
    fn block(
        &self,
        block: &Block,
        x: Tensor<2>,
        known: Option<(Tensor<2>, Tensor<2>)>,
    ) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
        let normed = block.attention_norm.forward(x.clone());
        let query = block.query.forward(normed.clone()); // [R, d]
        let key = block.key.forward(normed.clone());
        let value = block.value.forward(normed);
        let attended = self.attend(
            query,
            key.clone(),
            value.clone(),
            known,
            block.heads(),
            Rows::All,
        );
        (block.finish(x, attended), key, value)
    }

    /// Attention of all queries `[R or P, d]` over the packed keys and values `[R, d]` and the known ones `[F, d]`.
    fn attend(
        &self,
        query: Tensor<2>,
        key: Tensor<2>,
        value: Tensor<2>,
        known: Option<(Tensor<2>, Tensor<2>)>,
        heads: usize,
        which: Rows,
    ) -> Tensor<2> {
        let (all_keys, all_values) = match known {
            Some((keys, values)) => (
                Tensor::cat(vec![keys, key.clone()], 0),
                Tensor::cat(vec![values, value.clone()], 0),
            ),
            None => (key.clone(), value.clone()),
        };
        let chains: Vec<_> = self
            .chains
            .iter()
            .map(|rows| {
                let keys = all_keys.clone().select(0, rows.clone()); // [A, d]
                let values = all_values.clone().select(0, rows.clone());
                (keys, values)
            })
            .collect();

        let mut first_query = 0;
        let mut outputs = Vec::new();
        for group in &self.groups {
            let asking = match which {
                Rows::All => group.length,
                Rows::ReadOut if group.read_out => 1,
                Rows::ReadOut => continue,
            };
            let queries = group.nodes * asking;
            let own = Own {
                query: take_rows(&query, first_query..first_query + queries),
                key: take_rows(&key, group.rows.clone()),
                value: take_rows(&value, group.rows.clone()),
            };
            first_query += queries;
            let seen = match asking == group.length {
                true => group.seen.clone(),
                false => None,
            };
            outputs.push(match &group.ancestors {
                Ancestors::None => own.attend(group.nodes, heads, seen),
                Ancestors::Shared(chain) => {
                    own.attend_below(&chains[*chain], group.nodes, heads, seen)
                }
                Ancestors::Copied { rows, count } => {
                    let rows = rows.as_ref();
                    let keys = all_keys.clone().select(0, rows.clone());
                    let values = all_values.clone().select(0, rows.clone());
                    own.behind(keys, values, group.nodes, *count)
                        .attend(group.nodes, heads, seen)
                }
            });
        }
        Tensor::cat(outputs, 0)
    }
}

impl KnownRows {
    fn layer(&self, layer: usize) -> (Tensor<2>, Tensor<2>) {
        (self.keys[layer].clone(), self.values[layer].clone())
    }
}

/// Which rows of a pass ask: all, or in the last block those read out.
#[derive(Clone, Copy)]
enum Rows {
    All,
    ReadOut,
}

/// The queries, keys and values of one group, `[nodes · rows, d]` each.
struct Own {
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
}

impl Own {
    /// Each node attends within itself.
    fn attend(self, nodes: usize, heads: usize, seen: Seen) -> Tensor<2> {
        let [rows, width] = self.query.dims();
        let [query, key, value] = [self.query, self.key, self.value].map(|x| by_node(x, nodes));
        fused::attention(query, key, value, heads, seen).reshape([rows, width])
    }

    /// Each node attends within itself and to one chain of ancestors, `[A, d]`, that all nodes have in common.
    fn attend_below(
        self,
        (chain_keys, chain_values): &(Tensor<2>, Tensor<2>),
        nodes: usize,
        heads: usize,
        seen: Seen,
    ) -> Tensor<2> {
        let [rows, width] = self.query.dims();
        let own = [self.query, self.key, self.value].map(|x| by_node(x, nodes));
        let chain = [chain_keys.clone(), chain_values.clone()];
        fused::attention_below(own, chain, heads, seen).reshape([rows, width])
    }

    /// Puts `count` copied rows before each node's own keys and values.
    fn behind(self, keys: Tensor<2>, values: Tensor<2>, nodes: usize, count: usize) -> Self {
        let width = keys.dims()[1];
        let join = |copied: Tensor<2>, own: Tensor<2>| {
            let length = own.dims()[0] / nodes;
            Tensor::cat(
                vec![
                    copied.reshape([nodes, count, width]),
                    own.reshape([nodes, length, width]),
                ],
                1,
            )
            .reshape([nodes * (count + length), width])
        };
        Self {
            query: self.query,
            key: join(keys, self.key),
            value: join(values, self.value),
        }
    }
}

/// Each row of a node sees the `above` rows above it, those before it in the node, and itself.
fn seen(nodes: usize, above: usize, length: usize) -> Seen {
    let of_node = above + 1..=above + length;
    Some((0..nodes).flat_map(|_| of_node.clone()).collect())
}

/// `[N·T, d]` -> `[N, T, d]`.
fn by_node(x: Tensor<2>, nodes: usize) -> Tensor<3> {
    let [rows, width] = x.dims();
    x.reshape([nodes, rows / nodes, width])
}

/// `x[range]`, without a copy where that is all of it.
fn take_rows(x: &Tensor<2>, range: Range<usize>) -> Tensor<2> {
    match range.len() == x.dims()[0] {
        true => x.clone(),
        false => x.clone().narrow(0, range.start, range.len()),
    }
}
