use super::buffers::{Buffers, Widths};
use super::groups::divide;
use super::model::NativeEncoder;
use super::step::{Lists, Step};
use crate::checkpoint::LoadError;
use crate::kernels::{Float, Form, KvContent, KvLayout, TILE};
use crate::model::encoder::Pooling;
use crate::runner::encode::{EncoderLimits, check_rows};
use crate::runner::give_way::ChatWatch;
use crate::runner::native::memory::{HugeBytes, Shared};
use crate::runner::native::rope_table::RopeTable;
use crate::runner::team::{Team, Threads};
use crate::runner::{Encode, EncodeRow, ForwardError};
use std::ops::Range;
use std::sync::Arc;

/// Tokens that all threads compute together at most, unless one text has more: with more of them the rows between the
/// stages would leave the caches.
const STEP_TOKENS: usize = 1024;

/// Encodes on a CPU. Owns its threads.
#[derive(Debug)]
pub struct NativeEncode {
    model: Arc<NativeEncoder>,
    form: Form,
    team: Team,
    ropes: Vec<RopeTable>,
    widths: Widths,
    /// One for each group of texts.
    lists: Vec<Lists>,
    layout: KvLayout,
    /// One for each thread; all threads together use the first.
    desks: Vec<Desk>,
    chats: ChatWatch,
}

/// What a step writes, kept from step to step.
#[derive(Debug)]
struct Desk {
    buffers: Buffers,
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
        let desk = |_| {
            let kv = HugeBytes::new(0, model.huge_pages).map_err(|error| device("memory", error.to_string()))?;
            Ok(Desk { buffers: Buffers::default(), kv })
        };
        let desks = (0..threads.count().get()).map(desk).collect::<Result<_, LoadError>>()?;
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
        Ok(Self { model, form, team, ropes, widths, lists: Vec::new(), layout, desks, chats: ChatWatch::default() })
    }

    /// Encodes groups of rows and appends their vectors: one group by all threads together, several of them each by one
    /// thread.
    fn step(
        &mut self,
        rows: &[EncodeRow<'_>],
        groups: &[Range<usize>],
        vectors: &mut Vec<f32>,
    ) -> Result<(), ForwardError> {
        let longest = rows.iter().map(|row| row.tokens.len()).max().unwrap_or(0);
        self.ropes.iter_mut().for_each(|rope| rope.reach(longest));
        self.lists.resize_with(groups.len().max(self.lists.len()), Lists::default);
        let lists = &mut self.lists[..groups.len()];
        for (lists, group) in lists.iter_mut().zip(groups) {
            lists.fill(&rows[group.clone()], self.model.head.pooling);
        }
        let lists = &*lists;
        let alone = groups.len() > 1;
        let desks = if alone { &mut self.desks[..] } else { &mut self.desks[..1] };
        let needed = lists.iter().map(Lists::blocks).max().unwrap_or(0) * self.layout.block_bytes();
        for desk in desks.iter_mut().filter(|desk| desk.kv.as_slice().len() < needed) {
            desk.kv = HugeBytes::new(needed.next_power_of_two(), self.model.huge_pages).map_err(|error| {
                ForwardError::OutOfMemory { tokens: lists.iter().map(Lists::tokens).sum(), message: error.to_string() }
            })?;
        }

        let (first, width) = (vectors.len(), self.model.head.width);
        let ends = lists.iter().scan(0, |end, lists| {
            *end += lists.results() * width;
            Some(*end)
        });
        let ends: Vec<usize> = ends.collect();
        vectors.resize(first + ends.last().copied().unwrap_or(0), 0.0);
        let plan = Plan {
            model: &self.model,
            form: self.form,
            ropes: &self.ropes,
            lists,
            ends: &ends,
            widths: &self.widths,
            layout: self.layout,
            vectors: Shared::new(&mut vectors[first..]),
        };
        if alone {
            let desks = Shared::new(desks);
            self.team.run(&|worker| {
                let index = worker.index();
                // SAFETY: a desk is one thread's.
                let [desk] = (unsafe { desks.part(index..index + 1) }) else { return };
                worker.share(groups.len(), 1).flatten().for_each(|group| plan.step(group, desk).run(&worker.alone()));
            });
        } else {
            let step = plan.step(0, &mut desks[0]);
            self.team.run(&|worker| step.run(worker));
        }
        Ok(())
    }
}

/// What the steps of a batch share.
struct Plan<'a> {
    model: &'a NativeEncoder,
    form: Form,
    ropes: &'a [RopeTable],
    /// By group.
    lists: &'a [Lists],
    /// Where the vectors of each group end.
    ends: &'a [usize],
    widths: &'a Widths,
    layout: KvLayout,
    vectors: Shared<f32>,
}

impl Plan<'_> {
    fn step<'s>(&'s self, group: usize, desk: &'s mut Desk) -> Step<'s> {
        let Self { model, form, ropes, widths, layout, .. } = *self;
        let (lists, end) = (&self.lists[group], self.ends[group]);
        let buffers = desk.buffers.of_step(widths, lists.tokens(), lists.results());
        let kv = Shared::new(desk.kv.as_mut_slice());
        let vectors = self.vectors.some(end - lists.results() * model.head.width..end);
        Step { model, form, ropes, lists, widths, buffers, layout, kv, vectors }
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
        // Beside a chat all threads compute together: those that wait for each other leave the processors to it, those that
        // never wait hold up its steps by more than their share.
        if !self.chats.is_disturbed()
            && let Some(groups) = divide(rows, self.desks.len())
        {
            return self.step(rows, &groups, vectors);
        }
        let mut rest = rows;
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = |row: &&EncodeRow<'_>| {
                tokens += row.tokens.len();
                tokens <= STEP_TOKENS
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (now, later) = rest.split_at(count);
            self.step(now, &[Range { start: 0, end: count }], vectors)?;
            rest = later;
        }
        Ok(())
    }
}
