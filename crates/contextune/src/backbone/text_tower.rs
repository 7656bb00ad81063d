//! CLIP's text tower: a causal transformer read out at the end-of-text row.

use burn::tensor::{Int, Tensor};

use super::forest::{KnownRows, Pass};
use super::layout::{PromptLayout, Row};
use super::plain::{self, Inserts, Mask};
use super::transformer::{Block, BlockConfig, CLIP_EPSILON, LayerNorm};
use super::{Activation, BackboneError, TextTowerConfig};
use crate::indices::indices;
use crate::parameters::ParameterSource;

/// Token ids to text features; also runs prompts in which some rows are learned.
#[derive(Clone, Debug)]
pub struct TextTower {
    token_embedding: Tensor<2>,
    positional_embedding: Tensor<2>,
    blocks: Vec<Block>,
    final_norm: LayerNorm,
    projection: Tensor<2>,
    config: TextTowerConfig,
}

/// A layout made ready for one tower: what is frozen has been computed, what is learned is planned.
#[derive(Debug)]
pub struct PreparedPrompts {
    pass: Pass,
    known: Option<KnownRows>,
    /// Embeddings of the frozen rows in the pass, `[F, d]`, before positions.
    frozen_rows: Tensor<2>,
    /// For each packed row its place in frozen rows + learned table.
    row_index: Tensor<1, Int>,
    /// `[R, d]`.
    positions: Tensor<2>,
    /// Rows that the learned table must have at least.
    learned_rows: usize,
    /// For each prompt its place among the rows read out.
    order: Tensor<1, Int>,
}

impl TextTower {
    /// Reads all parameters of the text side; `embedding_width` is D of the joint space.
    pub fn build<S: ParameterSource>(
        source: &mut S,
        config: &TextTowerConfig,
        embedding_width: usize,
        activation: Activation,
    ) -> Result<Self, S::Error> {
        let TextTowerConfig {
            context_length,
            vocabulary_size,
            width,
            layers,
            heads,
        } = *config;
        let block = BlockConfig {
            width,
            mlp_width: 4 * width,
            heads,
            activation,
            epsilon: CLIP_EPSILON,
            layer_scale: false,
        };
        let blocks = (0..layers)
            .map(|i| Block::build(source, &format!("transformer.resblocks.{i}"), &block))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            token_embedding: source
                .parameter("token_embedding.weight", [vocabulary_size, width])?,
            positional_embedding: source
                .parameter("positional_embedding", [context_length, width])?,
            blocks,
            final_norm: LayerNorm::build(source, "ln_final", width, CLIP_EPSILON)?,
            projection: source.parameter("text_projection", [width, embedding_width])?,
            config: config.clone(),
        })
    }

    /// The architecture of this tower.
    pub fn config(&self) -> &TextTowerConfig {
        &self.config
    }

    /// The token embedding table, `[vocabulary, d]`.
    pub fn token_embedding(&self) -> Tensor<2> {
        self.token_embedding.clone()
    }

    /// Embeddings of `ids`, `[ids, d]`, without positions. Every id must be below the vocabulary size.
    pub fn embed(&self, ids: &[u32]) -> Tensor<2> {
        let rows = ids.iter().map(|&id| id as usize);
        let rows = indices(rows, &self.token_embedding.device());
        self.token_embedding.clone().select(0, rows)
    }

    /// The plain walk over whole sequences: `rows` `[B, T, d]` without positions, read out at row `end[b]`; `[B, D]`.
    ///
    /// T may be shorter than the context length: rows behind the one read out cannot reach it.
    pub fn encode_rows(&self, rows: Tensor<3>, end: &[usize]) -> Tensor<2> {
        let length = rows.dims()[1];
        let positions = self.positional_embedding.clone().narrow(0, 0, length);
        let x = rows + positions.unsqueeze(); // [B, T, d]
        self.project(plain::walk(
            &self.blocks,
            x,
            Mask::Causal,
            &Inserts::new(),
            end,
        ))
    }

    /// The plain walk over token ids, each from start to end token; padded to the longest; `[B, D]`.
    pub fn encode_tokens(&self, prompts: &[Vec<u32>]) -> Result<Tensor<2>, BackboneError> {
        for prompt in prompts {
            self.check_length(prompt.len())?;
            self.check_tokens(prompt.iter().copied())?;
        }
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let padded: Vec<u32> = prompts
            .iter()
            .flat_map(|prompt| {
                let padding = std::iter::repeat_n(0, longest - prompt.len());
                prompt.iter().copied().chain(padding)
            })
            .collect();
        let end: Vec<usize> = prompts.iter().map(|prompt| prompt.len() - 1).collect();
        let rows = self
            .embed(&padded)
            .reshape([prompts.len(), longest, self.config.width]);
        Ok(self.encode_rows(rows, &end))
    }

    /// Plans a layout for this tower and computes what in it can never change.
    ///
    /// # Errors
    /// A prompt longer than the context length, a token id beyond the vocabulary.
    pub fn prepare(&self, layout: &PromptLayout) -> Result<PreparedPrompts, BackboneError> {
        for node in layout.nodes() {
            self.check_length(node.first_position + node.rows.len())?;
            self.check_tokens(node.rows.iter().filter_map(|row| match row {
                Row::Token(id) => Some(*id),
                Row::Learned(_) => None,
            }))?;
        }
        let device = self.token_embedding.device();
        let known_nodes = layout.known();
        let (before, known) = if known_nodes.contains(&true) {
            let pass = Pass::new(layout, |node| known_nodes[node], None, &device);
            let x = self.frozen_rows(&pass) + self.positions(&pass);
            let known = pass.known_rows(&self.blocks, x);
            (Some(pass), Some(known))
        } else {
            (None, None)
        };
        let pass = Pass::new(layout, |node| !known_nodes[node], before.as_ref(), &device);

        let frozen_rows = pass
            .rows
            .iter()
            .filter(|(row, _)| matches!(row, Row::Token(_)))
            .count();
        let mut next_frozen = 0;
        let mut learned_rows = 0;
        let row_index: Vec<usize> = pass
            .rows
            .iter()
            .map(|(row, _)| match *row {
                Row::Token(_) => {
                    next_frozen += 1;
                    next_frozen - 1
                }
                Row::Learned(row) => {
                    learned_rows = learned_rows.max(row + 1);
                    frozen_rows + row
                }
            })
            .collect();
        let order = layout
            .read_out()
            .iter()
            .filter_map(|&node| pass.read_out(node));
        Ok(PreparedPrompts {
            frozen_rows: self.frozen_rows(&pass),
            row_index: indices(row_index, &device),
            positions: self.positions(&pass),
            learned_rows,
            order: indices(order, &device),
            pass,
            known,
        })
    }

    /// The forest walk: text features of all prompts, `[P, D]`, in the order in which the layout was given them.
    ///
    /// `learned` `[L, d]` is the table that [`Row::Learned`] refers to; gradients flow to it alone.
    ///
    /// # Panics
    /// If the layout refers to a row that `learned` does not have.
    pub fn encode(&self, prompts: &PreparedPrompts, learned: Option<Tensor<2>>) -> Tensor<2> {
        let available = learned.as_ref().map_or(0, |table| table.dims()[0]);
        assert!(
            prompts.learned_rows <= available,
            "the layout needs {} learned rows, the table has {available}",
            prompts.learned_rows
        );
        let table = match learned {
            Some(learned) if prompts.learned_rows > 0 => {
                Tensor::cat(vec![prompts.frozen_rows.clone(), learned], 0)
            }
            _ => prompts.frozen_rows.clone(),
        };
        let x = table.select(0, prompts.row_index.clone()) + prompts.positions.clone(); // [R, d]
        let read_out = prompts
            .pass
            .walk(&self.blocks, x, prompts.known.as_ref()) // [rows read out, d]
            .select(0, prompts.order.clone()); // [P, d]
        self.project(read_out)
    }

    /// Text features of frozen prompts, `[P, D]`: token ids from start to end token, in bounded memory.
    ///
    /// # Errors
    /// A prompt longer than the context length, a token id beyond the vocabulary.
    pub fn encode_frozen(&self, prompts: &[Vec<u32>]) -> Result<Tensor<2>, BackboneError> {
        /// Bounds the rows that are in memory at once: 1,024 prompts of 77 rows at the very most.
        const CHUNK: usize = 1024;
        // Sorted, prompts that begin alike fall into one chunk.
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.sort_by(|&a, &b| prompts[a].cmp(&prompts[b]));
        let mut place = vec![0; prompts.len()];
        for (sorted, &prompt) in order.iter().enumerate() {
            place[prompt] = sorted;
        }
        let mut features = Vec::new();
        for chunk in order.chunks(CHUNK) {
            let rows: Vec<Vec<Row>> = chunk
                .iter()
                .map(|&prompt| prompts[prompt].iter().map(|&id| Row::Token(id)).collect())
                .collect();
            let prepared = self.prepare(&PromptLayout::new(&rows))?;
            features.push(self.encode(&prepared, None));
        }
        let place = indices(place, &self.token_embedding.device());
        Ok(Tensor::cat(features, 0).select(0, place))
    }

    /// Rows after the last block -> text features, `[.., d]` -> `[.., D]`.
    fn project(&self, rows: Tensor<2>) -> Tensor<2> {
        self.final_norm
            .forward(rows)
            .matmul(self.projection.clone())
    }

    /// Embeddings of the frozen rows of a pass, in packed order, `[F, d]`.
    fn frozen_rows(&self, pass: &Pass) -> Tensor<2> {
        let ids: Vec<u32> = pass
            .rows
            .iter()
            .filter_map(|(row, _)| match row {
                Row::Token(id) => Some(*id),
                Row::Learned(_) => None,
            })
            .collect();
        self.embed(&ids)
    }

    /// Positional embeddings of all rows of a pass, `[R, d]`.
    fn positions(&self, pass: &Pass) -> Tensor<2> {
        let rows = pass.rows.iter().map(|&(_, position)| position);
        let rows = indices(rows, &self.positional_embedding.device());
        self.positional_embedding.clone().select(0, rows)
    }

    /// Whether a prompt of so many rows fits.
    pub(crate) fn check_length(&self, rows: usize) -> Result<(), BackboneError> {
        match rows <= self.config.context_length {
            true => Ok(()),
            false => Err(BackboneError::PromptTooLong {
                rows,
                limit: self.config.context_length,
            }),
        }
    }

    /// Whether the embedding table has these tokens.
    pub(crate) fn check_tokens(
        &self,
        ids: impl IntoIterator<Item = u32>,
    ) -> Result<(), BackboneError> {
        let vocabulary = self.config.vocabulary_size;
        match ids.into_iter().find(|&id| id as usize >= vocabulary) {
            Some(id) => Err(BackboneError::UnknownToken { id, vocabulary }),
            None => Ok(()),
        }
    }
}
