use super::buffers::{Buffers, Widths};
use super::model::NativeEncoder;
use super::step::{Lists, Step};
use crate::checkpoint::LoadError;
use crate::kernels::{Float, Form, KvContent, KvLayout, TILE};
use crate::model::encoder::Pooling;
use crate::runner::encode::{EncoderLimits, check_rows};
use crate::runner::native::memory::{HugeBytes, Shared};
use crate::runner::native::rope_table::RopeTable;
use crate::runner::team::{Team, Threads};
use crate::runner::{Encode, EncodeRow, ForwardError};
use std::sync::Arc;

/// Tokens that are computed together at most, unless one text has more: with more of them the rows between the stages
/// would leave the caches.
const STEP_TOKENS: usize = 1024;

/// Encodes on a CPU. Owns its threads.
#[derive(Debug)]
pub struct NativeEncode {
    model: Arc<NativeEncoder>,
    form: Form,
    team: Team,
    ropes: Vec<RopeTable>,
    widths: Widths,
    buffers: Buffers,
    lists: Lists,
    layout: KvLayout,
    /// Keys and values of one layer, of the texts of a step.
    kv: HugeBytes,
}

impl NativeEncode {
    /// Starts all threads but the caller's.
    ///
    /// # Errors
    /// [`LoadError::Device`] if the system has no such threads.
    pub fn new(model: Arc<NativeEncoder>, form: Form, threads: &Threads) -> Result<Self, LoadError> {
        let device = |what: &str, message: String| LoadError::Device { what: what.to_owned(), message };
        let team = Team::new(threads.clone()).map_err(|error| device("threads", error.to_string()))?;
        let kv = HugeBytes::new(0, model.huge_pages).map_err(|error| device("memory", error.to_string()))?;
        let of = &model.spec.attention;
        let layout = KvLayout {
            content: KvContent::KeysAndValues,
            kind: Float::F32,
            codes: None,
            kv_heads: of.kv_heads,
            head_dim: of.head_dim.next_multiple_of(TILE),
            spans: TILE.into(),
        };
        let ropes = model.spec.ropes.iter().map(RopeTable::new).collect();
        let widths = Widths::of(&model, form);
        let (buffers, lists) = (Buffers::default(), Lists::default());
        Ok(Self { model, form, team, ropes, widths, buffers, lists, layout, kv })
    }

    /// Encodes as many rows as go into a step, and appends their vectors.
    fn step(&mut self, rows: &[EncodeRow<'_>], vectors: &mut Vec<f32>) -> Result<(), ForwardError> {
        let pooling = self.model.head.pooling;
        self.lists.fill(rows, pooling);
        let (tokens, results) = (self.lists.tokens(), self.lists.results());
        let longest = rows.iter().map(|row| row.tokens.len()).max().unwrap_or(0);
        self.ropes.iter_mut().for_each(|rope| rope.reach(longest));
        let needed = self.lists.blocks() * self.layout.block_bytes();
        if self.kv.as_slice().len() < needed {
            self.kv = HugeBytes::new(needed.next_power_of_two(), self.model.huge_pages)
                .map_err(|error| ForwardError::OutOfMemory { tokens, message: error.to_string() })?;
        }
        let (first, width) = (vectors.len(), self.model.head.width);
        vectors.resize(first + results * width, 0.0);
        let buffers = self.buffers.of_step(&self.widths, tokens, results);
        let step = Step {
            model: &self.model,
            form: self.form,
            ropes: &self.ropes,
            lists: &self.lists,
            widths: &self.widths,
            buffers,
            layout: self.layout,
            kv: Shared::new(self.kv.as_mut_slice()),
            vectors: Shared::new(&mut vectors[first..]),
        };
        self.team.run(&|worker| step.run(worker));
        Ok(())
    }
}

impl Encode for NativeEncode {
    fn width(&self) -> usize {
        self.model.head.width
    }

    fn encode(&mut self, rows: &[EncodeRow<'_>], vectors: &mut Vec<f32>) -> Result<(), ForwardError> {
        vectors.clear();
        let spec = &self.model.spec;
        // A decoder's positions have no end but that of its training; memory ends somewhere.
        let positions = spec.max_tokens;
        let marks = self.model.head.pooling == Pooling::Marks;
        check_rows(rows, &EncoderLimits { vocab: spec.vocab, positions, marks })?;
        let mut rest = rows;
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = |row: &&EncodeRow<'_>| {
                tokens += row.tokens.len();
                tokens <= STEP_TOKENS
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (now, later) = rest.split_at(count);
            self.step(now, vectors)?;
            rest = later;
        }
        Ok(())
    }
}
