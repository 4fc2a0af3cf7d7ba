use super::memory::Shared;
use super::model::{Layer, NativeModel};
use super::weights::Matrix;
use crate::kernels::{Activations, BLOCK_ROWS, Encoding, Form, GroupOf, TILE, padded_rows, prepared_bytes};
use crate::model::{FeedForwardSpec, LatentSpec, LayerSpec, MixerSpec};
use crate::runner::router::Choice;
use std::collections::BTreeSet;

/// Memory that a step writes between its stages, kept from step to step.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    hidden: Vec<f32>,
    x: Vec<f32>,
    y: Vec<f32>,
    qkv: Vec<f32>,
    queries: Vec<f32>,
    mixed: Vec<f32>,
    wide: Vec<f32>,
    scores: Vec<f32>,
    choices: Vec<Choice>,
    chosen_rows: Vec<u32>,
    pairs: Vec<u32>,
    active: Vec<u32>,
    pair_x: Vec<f32>,
    pair_wide: Vec<f32>,
    pair_out: Vec<f32>,
    tokens: PreparedBuffers,
    spread: PreparedBuffers,
    index_scores: Vec<f32>,
    chosen: Vec<u32>,
}

/// Prepared activations, a buffer for each way.
#[derive(Debug, Default)]
pub(super) struct PreparedBuffers {
    all: Vec<PreparedBuffer>,
    /// Those of the last step; kept for their room.
    shared: Vec<SharedPrepared>,
}

/// What the activations of a product are prepared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Preparation {
    /// Inputs per group of the weights.
    pub(super) group: usize,
    pub(super) encoding: Encoding,
}

/// Room for activations of any width that are prepared in one way.
#[derive(Debug)]
struct PreparedBuffer {
    of: Preparation,
    quads: Vec<u8>,
    groups: Vec<GroupOf>,
}

/// Elements per row of each buffer.
#[derive(Debug, Clone)]
pub(super) struct Widths {
    pub(super) hidden: usize,
    /// The widest input of any product of all tokens.
    pub(super) x: usize,
    /// What the first products of a layer give, each padded to whole tiles.
    pub(super) qkv: usize,
    /// Queries as attention reads them, and its results: heads of padded width.
    pub(super) mixed: usize,
    /// Gate and up, each padded to whole tiles; or the queries of latent attention, and those of its indexer behind; or what
    /// a recurrence reads.
    pub(super) wide: usize,
    pub(super) logits: usize,
    /// Scores of experts, and the shared MLP's gate, each padded to whole tiles, and room for the scores once more.
    pub(super) scores: usize,
    /// Experts of a layer.
    pub(super) experts: usize,
    /// Experts per token.
    pub(super) top_k: usize,
    /// Inputs of an expert's products, where some are not quantised.
    pub(super) pair_x: usize,
    /// Gate and up of an expert, each padded to whole tiles.
    pub(super) pair_wide: usize,
    /// Positions that an indexer chooses for a token; 0 without one.
    pub(super) chosen: usize,
    /// Widest input of an expert's products.
    pair_inputs: usize,
    /// Heads that have products of their own, and the widest input of these.
    heads: usize,
    head_inputs: usize,
    /// What products of all tokens need, and those of experts and heads.
    preparations: [Vec<Preparation>; 2],
}

/// The buffers of one step, to be divided among threads.
pub(super) struct StepBuffers<'a> {
    /// The residual stream, `[tokens, hidden]`.
    pub(super) hidden: Shared<f32>,
    /// What the products of a stage read, `[tokens, x]`.
    pub(super) x: Shared<f32>,
    /// What goes to the residual stream next, `[tokens, hidden]`.
    pub(super) y: Shared<f32>,
    pub(super) qkv: Shared<f32>,
    /// Normed, turned and scaled queries, `[tokens, mixed]`.
    pub(super) queries: Shared<f32>,
    pub(super) mixed: Shared<f32>,
    pub(super) wide: Shared<f32>,
    /// `[tokens, scores]`.
    pub(super) scores: Shared<f32>,
    /// Experts of each token, `[tokens, top_k]`.
    pub(super) choices: Shared<Choice>,
    /// Which pair each choice is, `[tokens, top_k]`.
    pub(super) chosen_rows: Shared<u32>,
    /// Pairs of token and expert, by expert: the tokens, `[tokens * top_k]`.
    pub(super) pairs: Shared<u32>,
    /// How many experts have tokens, their numbers, the first pair of each and of none, and room to count: `[3 * experts + 2]`.
    pub(super) active: Shared<u32>,
    /// `[pairs, pair_x]`.
    pub(super) pair_x: Shared<f32>,
    /// `[pairs, pair_wide]`.
    pub(super) pair_wide: Shared<f32>,
    /// `[pairs, hidden]`.
    pub(super) pair_out: Shared<f32>,
    /// Scores of an indexer, for the tokens that it chooses for at a time: see [`IndexRoom`].
    pub(super) index_scores: Shared<f32>,
    pub(super) index_room: IndexRoom,
    /// Positions that each token attends to, ascending, `[tokens, widths.chosen]`; of tokens that see more than so many.
    pub(super) chosen: Shared<u32>,
    tokens: &'a [SharedPrepared],
    spread: &'a [SharedPrepared],
    pairs_room: usize,
}

/// A [`PreparedBuffer`], to be divided among threads.
#[derive(Debug)]
pub(super) struct SharedPrepared {
    of: Preparation,
    rows: usize,
    quads: Shared<u8>,
    groups: Shared<GroupOf>,
}

/// Room for the scores of an indexer, `[tokens, positions]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct IndexRoom {
    /// Tokens that positions are chosen for at a time; 0 if no token of the step sees more than are chosen.
    pub(super) tokens: usize,
    /// Positions of the longest sequence, whole strips.
    pub(super) positions: usize,
}

/// The most scores of an indexer that are kept at a time, unless one token has more: 16 MiB.
const MAX_INDEX_SCORES: usize = 1 << 22;

impl IndexRoom {
    /// For a step of so many tokens, the last of which sees `context` positions, of which `chosen` are chosen.
    fn of(tokens: usize, context: usize, chosen: usize) -> Self {
        let positions = context.next_multiple_of(TILE);
        match chosen > 0 && context > chosen {
            true => Self { tokens: (MAX_INDEX_SCORES / positions).clamp(1, tokens), positions },
            false => Self { tokens: 0, positions },
        }
    }
}

impl Widths {
    pub(super) fn of(model: &NativeModel, form: Form) -> Self {
        let tiles = |n: usize| n.next_multiple_of(TILE);
        let spec = &model.spec;
        let most = |width: &dyn Fn(&LayerSpec) -> usize| spec.layers.iter().map(width).max().unwrap_or(0);
        let expert = most(&|layer| layer.routed().map_or(0, |of| of.inner));
        let experts = most(&|layer| layer.routed().map_or(0, |of| of.router.experts));
        let latent = |layer: &LayerSpec, of: &dyn Fn(&LatentSpec) -> usize| match &layer.mixer {
            MixerSpec::Latent(latent) => of(latent),
            MixerSpec::Attention(_) | MixerSpec::Delta(_) => 0,
        };
        // The MLP that all tokens pass: the only one, or the shared one.
        let inner = most(&|layer| match &layer.mlp {
            FeedForwardSpec::Dense(mlp) => mlp.inner,
            FeedForwardSpec::Routed(of) => of.shared.map_or(0, |shared| shared.inner),
        });
        let needed = |layers: &dyn Fn(&Layer) -> Vec<&Matrix>, ends: bool| {
            let ends = if ends { vec![&model.embedding.matrix, &model.head().matrix] } else { Vec::new() };
            let matrices = model.layers.iter().flat_map(layers).chain(ends);
            let all = matrices.filter_map(|matrix| matrix.preparation(form, model.mode));
            all.collect::<BTreeSet<Preparation>>().into_iter().collect()
        };
        let plain = |layer: &Layer| layer.spread_matrices().iter().any(|of| of.preparation(form, model.mode).is_none());
        let pair_inputs = if experts > 0 { spec.hidden.max(expert) } else { 0 };
        Self {
            hidden: tiles(spec.hidden),
            x: tiles(
                most(&|layer| match &layer.mixer {
                    MixerSpec::Attention(of) => of.heads * of.head_dim,
                    MixerSpec::Latent(of) => (of.heads * of.value).max(of.query_rank.unwrap_or(0)),
                    MixerSpec::Delta(of) => of.values(),
                })
                .max(spec.hidden)
                .max(inner),
            ),
            qkv: most(&|layer| match &layer.mixer {
                MixerSpec::Attention(of) => tiles(of.heads * of.query_width()) + 2 * tiles(of.kv_width()),
                MixerSpec::Latent(of) => {
                    let indexer = of.indexer().map_or(0, |indexer| tiles(indexer.head_dim) + tiles(indexer.heads));
                    tiles(of.query_rank.unwrap_or(of.heads * of.query())) + tiles(of.cached()) + indexer
                }
                MixerSpec::Delta(of) => tiles(2 * of.keys() + 2 * of.values()) + tiles(2 * of.value_heads),
            }),
            mixed: most(&|layer| match &layer.mixer {
                MixerSpec::Attention(of) => of.heads * tiles(of.head_dim),
                MixerSpec::Latent(of) => of.heads * of.stride(),
                MixerSpec::Delta(of) => of.value_heads * tiles(of.value_dim),
            }),
            wide: most(&|layer| match &layer.mixer {
                MixerSpec::Attention(_) => 0,
                MixerSpec::Latent(of) => {
                    let indexer = of.indexer().map_or(0, |indexer| tiles(indexer.heads * indexer.head_dim));
                    (tiles(of.heads * of.query()) + indexer).max(of.heads * tiles(of.value))
                }
                MixerSpec::Delta(of) => of.mixed().end,
            })
            .max(2 * tiles(inner)),
            logits: tiles(spec.vocab),
            scores: if experts > 0 { tiles(experts) + TILE + experts } else { 0 },
            experts,
            top_k: most(&|layer| layer.routed().map_or(0, |of| of.router.top_k)),
            pair_x: if model.layers.iter().any(plain) { tiles(pair_inputs) } else { 0 },
            pair_wide: 2 * tiles(expert),
            chosen: most(&|layer| latent(layer, &|of| of.sparse.as_ref().map_or(0, |sparse| sparse.top_k))),
            pair_inputs,
            heads: most(&|layer| latent(layer, &|of| of.heads)),
            head_inputs: most(&|layer| latent(layer, &|of| of.plain.max(of.rank))),
            preparations: [needed(&Layer::token_matrices, true), needed(&Layer::spread_matrices, false)],
        }
    }
}

pub(super) fn room<T: Clone + Default>(buffer: &mut Vec<T>, elements: usize) -> Shared<T> {
    if buffer.len() < elements {
        buffer.resize(elements, T::default());
    }
    Shared::new(buffer)
}

impl PreparedBuffers {
    /// Room for activations in each of some ways: `size` gives the bytes and the groups.
    pub(super) fn of_step(
        &mut self,
        preparations: &[Preparation],
        rows: usize,
        size: impl Fn(&Preparation) -> (usize, usize),
    ) -> &[SharedPrepared] {
        if self.all.len() != preparations.len() {
            let empty = |&of| PreparedBuffer { of, quads: Vec::new(), groups: Vec::new() };
            self.all = preparations.iter().map(empty).collect();
        }
        self.shared.clear();
        self.shared.extend(self.all.iter_mut().map(|buffer| {
            let (quads, groups) = size(&buffer.of);
            let (quads, groups) = (room(&mut buffer.quads, quads), room(&mut buffer.groups, groups));
            SharedPrepared { of: buffer.of, rows, quads, groups }
        }));
        &self.shared
    }
}

impl Buffers {
    /// Room for a step, in which no sequence is longer than `context`. Grows only.
    pub(super) fn of_step(&mut self, widths: &Widths, tokens: usize, wanted: usize, context: usize) -> StepBuffers<'_> {
        let index_room = IndexRoom::of(tokens, context, widths.chosen);
        let (rows, pairs) = (tokens.max(wanted), tokens * widths.top_k);
        let [of_tokens, of_spread] = &widths.preparations;
        // Narrower rows stand in larger blocks.
        let sized = |of: &Preparation, rows: usize, width: usize| {
            (rows * prepared_bytes(of.encoding, width), rows * width.div_ceil(of.group))
        };
        let token_size = |of: &Preparation| sized(of, rows + BLOCK_ROWS, widths.x);
        let spread_size = |of: &Preparation| {
            let of_pairs = sized(of, pairs + BLOCK_ROWS, widths.pair_inputs);
            let of_heads = sized(of, widths.heads * (tokens + BLOCK_ROWS), widths.head_inputs);
            (of_pairs.0.max(of_heads.0), of_pairs.1.max(of_heads.1))
        };
        StepBuffers {
            tokens: self.tokens.of_step(of_tokens, rows, token_size),
            spread: self.spread.of_step(of_spread, pairs, spread_size),
            pairs_room: pairs,
            hidden: room(&mut self.hidden, tokens * widths.hidden),
            x: room(&mut self.x, rows * widths.x),
            y: room(&mut self.y, tokens * widths.hidden),
            qkv: room(&mut self.qkv, tokens * widths.qkv),
            queries: room(&mut self.queries, tokens * widths.mixed),
            mixed: room(&mut self.mixed, tokens * widths.mixed),
            wide: room(&mut self.wide, tokens * widths.wide),
            scores: room(&mut self.scores, tokens * widths.scores),
            choices: room(&mut self.choices, pairs),
            chosen_rows: room(&mut self.chosen_rows, pairs),
            pairs: room(&mut self.pairs, pairs),
            active: room(&mut self.active, 3 * widths.experts + 2),
            pair_x: room(&mut self.pair_x, pairs * widths.pair_x),
            pair_wide: room(&mut self.pair_wide, pairs * widths.pair_wide),
            pair_out: room(&mut self.pair_out, if pairs > 0 { pairs * widths.hidden } else { 0 }),
            index_scores: room(&mut self.index_scores, index_room.tokens * index_room.positions),
            chosen: room(&mut self.chosen, if index_room.tokens > 0 { tokens * widths.chosen } else { 0 }),
            index_room,
        }
    }
}

impl StepBuffers<'_> {
    /// Places for rows of `k` activations, one for each token.
    pub(super) fn prepared(&self, k: usize, of: Preparation) -> Activations {
        find(self.tokens, of).activations(k)
    }

    /// Places for rows of `k` activations, one for each pair of token and expert.
    pub(super) fn prepared_pairs(&self, k: usize, of: Preparation) -> Activations {
        activations(find(self.spread, of), k, self.pairs_room, 0)
    }

    /// Places for rows of `k` activations of one head, one for each of `tokens`.
    pub(super) fn prepared_head(&self, k: usize, of: Preparation, tokens: usize, head: usize) -> Activations {
        activations(find(self.spread, of), k, tokens, head * padded_rows(of.encoding, k, tokens))
    }
}

pub(super) fn find(buffers: &[SharedPrepared], of: Preparation) -> &SharedPrepared {
    buffers.iter().find(|buffer| buffer.of == of).expect("every preparation has a buffer")
}

impl SharedPrepared {
    /// Places for all its rows, of `k` activations each.
    pub(super) fn activations(&self, k: usize) -> Activations {
        activations(self, k, self.rows, 0)
    }
}

/// Rows from `first` on, of which so many stand before the first block.
fn activations(buffer: &SharedPrepared, k: usize, rows: usize, first: usize) -> Activations {
    let Preparation { group, encoding } = buffer.of;
    let padded = padded_rows(encoding, k, rows);
    let bytes = prepared_bytes(encoding, k);
    Activations {
        encoding,
        k,
        group,
        rows,
        quads: buffer.quads.at(first * bytes, padded * bytes),
        groups: buffer.groups.at(first * (k / group), padded * (k / group)),
    }
}
