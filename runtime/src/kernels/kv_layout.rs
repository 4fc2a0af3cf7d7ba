//! Where keys and values stand: in strips of sixteen positions, as floats or as codes.
//!
//! The memory of a block and key head is cut into strips. A strip of keys stands component by component,
//! `[head_dim][16]`, so that one vector holds a component of sixteen keys; a strip of values stands position by position,
//! `[16][head_dim]`. Latents, which are both, stand position by position, once; the keys of an indexer stand behind them,
//! component by component.
//!
//! Codes stand in the same order. Those of 4 bits go in pairs of vectors: the low halves of sixteen bytes are one, the
//! high halves the next one, so that every byte is one position's and positions can be written apart. Behind the codes
//! stand scales and biases as float16: of the keys, then of the values, `[groups][16]` each. A position is quantised on
//! its own when it is written, with the scale and the bias that are read later.

use super::TILE;
use super::float::Float;
use super::lanes::{Form, Kernel, Lanes};
use super::pack::columns;
use crate::config::{CodeBits, KvCodes};
use crate::kv::BlockSpans;

/// Bytes of sixteen scales or biases.
pub(super) const SCALES_BYTES: usize = 2 * TILE;
/// Most components of a group.
const MAX_GROUP: usize = 128;

/// What a strip holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvContent {
    /// Keys, component by component, and values, position by position.
    KeysAndValues,
    /// Latents, position by position: what is a key whole is a value in its first components.
    Latents {
        /// Components of an indexer's key, which each position has besides; 0 without one.
        index_key: usize,
    },
}

/// Where the keys and values of one layer stand.
#[derive(Debug, Clone, Copy)]
pub struct KvLayout {
    /// What they are.
    pub content: KvContent,
    /// Type of what is not quantised.
    pub kind: Float,
    /// How positions behind the first blocks, [`BlockSpans::head_end`], are quantised; `None`: nothing is.
    pub codes: Option<KvCodes>,
    /// Key heads.
    pub kv_heads: usize,
    /// Components of a head, a multiple of 16, and of a group where there are groups.
    pub head_dim: usize,
    /// Positions of each block, multiples of 16.
    pub spans: BlockSpans,
}

/// Where things stand in a strip of codes: in bytes from its start, keys first.
#[derive(Debug, Clone, Copy)]
pub(super) struct CodeStrip {
    pub(super) codes: [usize; 2],
    pub(super) scales: [usize; 2],
    pub(super) biases: [usize; 2],
    bytes: usize,
}

impl CodeStrip {
    #[inline(always)]
    pub(super) fn new(KvCodes { bits, group }: KvCodes, head_dim: usize) -> Self {
        let codes = match bits {
            CodeBits::Four => TILE * head_dim / 2,
            CodeBits::Eight => TILE * head_dim,
        };
        let scales = head_dim / group * SCALES_BYTES;
        let keys = 2 * codes;
        let values = keys + 2 * scales;
        Self {
            codes: [0, codes],
            scales: [keys, values],
            biases: [keys + scales, values + scales],
            bytes: values + 2 * scales,
        }
    }
}

impl KvLayout {
    /// Bytes of a strip of one key head that is not quantised: sixteen keys, then sixteen values; or sixteen latents, then
    /// the indexer's keys.
    pub fn float_strip_bytes(&self) -> usize {
        let components = match self.content {
            KvContent::KeysAndValues => 2 * self.head_dim,
            KvContent::Latents { index_key } => self.head_dim + index_key,
        };
        TILE * components * self.kind.bytes()
    }

    /// Bytes of a strip behind the first blocks.
    pub fn strip_bytes(&self) -> usize {
        self.codes.map_or(self.float_strip_bytes(), |codes| CodeStrip::new(codes, self.head_dim).bytes)
    }

    /// Bytes of a block, the same for all.
    pub fn block_bytes(&self) -> usize {
        let strips = |tokens| tokens / TILE * self.kv_heads;
        let head = if self.spans.head_end() > 0 { strips(self.spans.smallest()) * self.float_strip_bytes() } else { 0 };
        head.max(strips(self.spans.largest()) * self.strip_bytes())
    }

    /// Positions before this one are floats.
    #[inline(always)]
    pub(super) fn floats_end(&self) -> usize {
        if self.codes.is_some() { self.spans.head_end() } else { usize::MAX }
    }

    /// Whether keys and values can be written and read.
    pub(super) fn holds_keys_and_values(&self) -> bool {
        self.content == KvContent::KeysAndValues && self.is_whole()
    }

    /// Whether latents can be written and read.
    pub(super) fn holds_latents(&self) -> bool {
        let latents = matches!(self.content, KvContent::Latents { .. });
        latents && self.codes.is_none() && self.kv_heads == 1 && self.is_whole()
    }

    /// Components of an indexer's key; 0 if none are held.
    pub(super) fn index_key(&self) -> usize {
        match self.content {
            KvContent::Latents { index_key } if self.holds_latents() => index_key,
            KvContent::Latents { .. } | KvContent::KeysAndValues => 0,
        }
    }

    /// Whether all sizes are such that the kernels can read them.
    pub(super) fn is_whole(&self) -> bool {
        // Codes of 4 bits go in pairs of vectors.
        let groups_fit = |KvCodes { group, .. }: KvCodes| {
            group.is_multiple_of(2 * TILE) && group <= MAX_GROUP && self.head_dim.is_multiple_of(group)
        };
        let spans = [self.spans.smallest(), self.spans.largest()];
        self.head_dim.is_multiple_of(TILE)
            && self.codes.is_none_or(groups_fit)
            && spans.iter().all(|tokens| tokens.is_multiple_of(TILE))
    }
}

/// Keys and values of a layer, and the blocks of one sequence in it.
#[derive(Debug, Clone, Copy)]
pub struct KvView<'a> {
    /// Where things stand in a block.
    pub layout: KvLayout,
    /// The first block of the layer.
    pub memory: *mut u8,
    /// The blocks, in the order of their positions.
    pub table: &'a [u32],
}

// SAFETY: the memory is shared as the callers of the unsafe functions vouch for.
unsafe impl Send for KvView<'_> {}
// SAFETY: as above.
unsafe impl Sync for KvView<'_> {}

impl KvView<'_> {
    #[inline(always)]
    pub(super) fn strip(&self, position: usize, kv_head: usize) -> *mut u8 {
        let layout = &self.layout;
        let (number, at) = layout.spans.place(position);
        let strip_bytes =
            if position < layout.floats_end() { layout.float_strip_bytes() } else { layout.strip_bytes() };
        let strip = kv_head * (layout.spans.of(number) / TILE) + at / TILE;
        let block = self.table[number] as usize;
        self.memory.wrapping_add(block * layout.block_bytes() + strip * strip_bytes)
    }

    /// Writes key and value of one position and key head, at most `[head_dim]` each; components beyond are left as they
    /// are.
    ///
    /// # Panics
    /// If a slice is longer, or has parts of groups, the table does not hold the position, or the layout has no such key
    /// head or sizes that the kernels cannot read.
    ///
    /// # Safety
    /// The block's memory is writable, and nobody reads or writes this position meanwhile.
    pub unsafe fn write(&self, position: usize, kv_head: usize, key: &[f32], value: &[f32]) {
        assert!(
            self.layout.holds_keys_and_values() && kv_head < self.layout.kv_heads,
            "key head {kv_head} of {:?}",
            self.layout
        );
        assert!(key.len() <= self.layout.head_dim && value.len() == key.len(), "keys of another length");
        let (strip, lane) = (self.strip(position, kv_head), position % TILE);
        match self.layout.codes {
            Some(codes) if position >= self.layout.floats_end() => self.write_codes(codes, strip, lane, key, value),
            _ => self.write_floats(strip, lane, key, value),
        }
    }

    /// Writes keys and values of the positions from `first` on, which begins a strip, as float32: as many as `keys` and
    /// `values` have rows, sixteen at most. What the strip has behind them is undefined.
    ///
    /// # Panics
    /// If the layout holds no float32 keys and values, or not these positions and components, or there is no such key head.
    ///
    /// # Safety
    /// The rows are readable; the block's memory is writable, and nobody reads or writes the strip meanwhile.
    pub unsafe fn write_strip(&self, form: Form, first: usize, kv_head: usize, rows: &StripRows) {
        let layout = &self.layout;
        let plain = layout.holds_keys_and_values() && layout.kind == Float::F32 && layout.codes.is_none();
        assert!(plain && kv_head < layout.kv_heads, "float32 for key head {kv_head} of {layout:?}");
        assert!(first.is_multiple_of(TILE) && rows.count <= TILE && rows.dim <= layout.head_dim, "rows beyond a strip");
        form.run(WriteStrip { strip: self.strip(first, kv_head), head_dim: layout.head_dim, rows });
    }

    /// Writes components of the latent of a position from `first` on; the others are left as they are.
    ///
    /// # Panics
    /// If the strips hold something else, the latent has fewer components, or the table does not hold the position.
    ///
    /// # Safety
    /// The block's memory is writable, and nobody reads or writes this position meanwhile.
    pub unsafe fn write_latent(&self, position: usize, first: usize, latent: &[f32]) {
        let (dim, kind) = (self.layout.head_dim, self.layout.kind);
        assert!(self.layout.holds_latents() && first + latent.len() <= dim, "no place for this latent");
        let row = self.strip(position, 0).wrapping_add((position % TILE * dim + first) * kind.bytes());
        let mut rounded = [0; TILE * size_of::<f32>()];
        for (number, part) in latent.chunks(TILE).enumerate() {
            let bytes = part.len() * kind.bytes();
            kind.write_all(&mut rounded[..bytes], part);
            // SAFETY: inside of the strip, and nobody else's meanwhile.
            unsafe { row.add(number * TILE * kind.bytes()).copy_from(rounded.as_ptr(), bytes) };
        }
    }

    /// Writes the indexer's key of a position.
    ///
    /// # Panics
    /// If the strips hold none or one of another width, or the table does not hold the position.
    ///
    /// # Safety
    /// As [`Self::write_latent`].
    pub unsafe fn write_index_key(&self, position: usize, key: &[f32]) {
        let (dim, kind) = (self.layout.head_dim, self.layout.kind);
        assert!(!key.is_empty() && key.len() == self.layout.index_key(), "no place for this key");
        let keys = self.strip(position, 0).wrapping_add(TILE * dim * kind.bytes());
        let mut rounded = [0; TILE * size_of::<f32>()];
        for (number, part) in key.chunks(TILE).enumerate() {
            let bytes = part.len() * kind.bytes();
            kind.write_all(&mut rounded[..bytes], part);
            for (i, element) in rounded[..bytes].chunks_exact(kind.bytes()).enumerate() {
                let at = ((number * TILE + i) * TILE + position % TILE) * kind.bytes();
                // SAFETY: inside of the strip, and nobody else's meanwhile; only the element's bytes are written, because
                // other positions of the strip may be another thread's.
                unsafe { keys.add(at).copy_from(element.as_ptr(), kind.bytes()) };
            }
        }
    }

    unsafe fn write_floats(&self, strip: *mut u8, lane: usize, key: &[f32], value: &[f32]) {
        let (dim, kind) = (self.layout.head_dim, self.layout.kind);
        // Whole chunks are rounded together: one at a time, rounding takes longer than writing.
        let mut rounded = [[0; TILE * size_of::<f32>()]; 2];
        for (number, (key, value)) in key.chunks(TILE).zip(value.chunks(TILE)).enumerate() {
            let bytes = key.len() * kind.bytes();
            kind.write_all(&mut rounded[0][..bytes], key);
            kind.write_all(&mut rounded[1][..bytes], value);
            let first = number * TILE;
            // SAFETY: the elements stand inside of the strip and are nobody else's meanwhile; only their bytes are
            // written, because other positions of the strip may be another thread's.
            unsafe {
                strip.add(((TILE + lane) * dim + first) * kind.bytes()).copy_from(rounded[1].as_ptr(), bytes);
                for (i, element) in rounded[0][..bytes].chunks_exact(kind.bytes()).enumerate() {
                    let to = strip.add(((first + i) * TILE + lane) * kind.bytes());
                    to.copy_from(element.as_ptr(), kind.bytes());
                }
            }
        }
    }

    unsafe fn write_codes(&self, format: KvCodes, strip: *mut u8, lane: usize, key: &[f32], value: &[f32]) {
        let at = CodeStrip::new(format, self.layout.head_dim);
        for (side, x) in [key, value].into_iter().enumerate() {
            assert!(x.len().is_multiple_of(format.group), "{} components in groups of {}", x.len(), format.group);
            for (number, x) in x.chunks_exact(format.group).enumerate() {
                let group = Group::of(format.bits, x);
                let place = (number * TILE + lane) * 2;
                strip.add(at.scales[side] + place).cast::<[u8; 2]>().write(group.scale.to_le_bytes());
                strip.add(at.biases[side] + place).cast::<[u8; 2]>().write(group.bias.to_le_bytes());
                let (to, codes, first) = (strip.add(at.codes[side]), &group.codes[..x.len()], number * format.group);
                match (side, format.bits) {
                    (0, CodeBits::Eight) => {
                        for (i, code) in codes.iter().enumerate() {
                            to.add((first + i) * TILE + lane).write(*code);
                        }
                    }
                    (0, CodeBits::Four) => {
                        for (i, pair) in codes.as_chunks::<2>().0.iter().enumerate() {
                            to.add((first / 2 + i) * TILE + lane).write(pair[0] | pair[1] << 4);
                        }
                    }
                    (_, CodeBits::Eight) => {
                        to.add(lane * self.layout.head_dim + first).copy_from(codes.as_ptr(), codes.len());
                    }
                    (_, CodeBits::Four) => {
                        let to = to.add((lane * self.layout.head_dim + first) / 2);
                        for (i, pair) in codes.as_chunks::<{ 2 * TILE }>().0.iter().enumerate() {
                            for j in 0..TILE {
                                to.add(i * TILE + j).write(pair[j] | pair[TILE + j] << 4);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Keys and values of some positions, in rows of the same buffer.
#[derive(Debug, Clone, Copy)]
pub struct StripRows {
    /// `[count, dim]`.
    pub keys: *const f32,
    /// `[count, dim]`.
    pub values: *const f32,
    /// Elements from row to row.
    pub stride: usize,
    /// Rows.
    pub count: usize,
    /// Components.
    pub dim: usize,
}

/// Components of the rows of a strip that are gathered at a time where there are fewer than sixteen.
const GATHERED: usize = 32;

struct WriteStrip<'a> {
    strip: *mut u8,
    head_dim: usize,
    rows: &'a StripRows,
}

impl Kernel for WriteStrip<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let StripRows { keys, values, stride, count, dim } = *self.rows;
        let (strip, step) = (self.strip.cast::<f32>(), TILE * size_of::<f32>());
        let at_values = strip.add(TILE * self.head_dim);
        for row in 0..count {
            at_values.add(row * self.head_dim).copy_from(values.add(row * stride), dim);
        }
        if count == TILE {
            columns::<L, { size_of::<f32>() }>(dim, keys.cast(), stride * size_of::<f32>(), strip.cast(), step);
            return;
        }
        // A transposition reads sixteen rows.
        let mut gathered = [[0.0_f32; GATHERED]; TILE];
        for first in (0..dim).step_by(GATHERED) {
            let n = GATHERED.min(dim - first);
            for row in 0..count {
                gathered[row].as_mut_ptr().copy_from(keys.add(row * stride + first), n);
            }
            let to = strip.add(first * TILE).cast();
            columns::<L, { size_of::<f32>() }>(n, gathered.as_ptr().cast(), GATHERED * size_of::<f32>(), to, step);
        }
    }
}

/// A quantised group.
struct Group {
    scale: half::f16,
    bias: half::f16,
    codes: [u8; MAX_GROUP],
}

impl Group {
    /// The codes are chosen for the scale and the bias as they are stored, so that their rounding adds little error.
    /// What is not finite gives a scale that is NaN: scores and results show it.
    fn of(bits: CodeBits, x: &[f32]) -> Self {
        let levels: u8 = match bits {
            CodeBits::Four => 15,
            CodeBits::Eight => 255,
        };
        let mut codes = [0; MAX_GROUP];
        if !x.iter().all(|x| x.is_finite()) {
            return Self { scale: half::f16::NAN, bias: half::f16::NAN, codes };
        }
        let (mut smallest, mut largest) = (f32::INFINITY, f32::NEG_INFINITY);
        for &x in x {
            smallest = if x < smallest { x } else { smallest };
            largest = if x > largest { x } else { largest };
        }
        let stored = |x: f32| half::f16::from_f32(x.clamp(half::f16::MIN.to_f32(), half::f16::MAX.to_f32()));
        let bias = stored(smallest);
        let scale = stored((largest - bias.to_f32()) / f32::from(levels));
        let factor = if scale.to_f32() > 0.0 { 1.0 / scale.to_f32() } else { 0.0 };
        for (code, x) in codes.iter_mut().zip(x) {
            // The conversion cuts off what is below zero, and rounds down: ties go up.
            *code = (((x - bias.to_f32()) * factor + 0.5) as u8).min(levels);
        }
        Self { scale, bias, codes }
    }
}

#[cfg(test)]
impl KvView<'_> {
    /// Key and value of a position as they are stored, `[head_dim]` each.
    pub(super) fn read(&self, position: usize, kv_head: usize) -> [Vec<f32>; 2] {
        let dim = self.layout.head_dim;
        let (strip, lane) = (self.strip(position, kv_head), position % TILE);
        // SAFETY: tests read what they have written.
        let byte = |at: usize| unsafe { strip.add(at).read() };
        [0, 1].map(|side| {
            (0..dim)
                .map(|i| {
                    // Which component of sixteen vectors, or of a row, this is: the order of elements in the strip.
                    let element = if side == 0 { i * TILE + lane } else { lane * dim + i };
                    let Some(codes) = self.layout.codes.filter(|_| position >= self.layout.floats_end()) else {
                        let (kind, at) = (self.layout.kind, side * TILE * dim + element);
                        let bytes: Vec<u8> = (0..kind.bytes()).map(|n| byte(at * kind.bytes() + n)).collect();
                        return kind.read(&bytes, 0);
                    };
                    let at = CodeStrip::new(codes, dim);
                    let (vector, l) = (element / TILE, element % TILE);
                    let code = match codes.bits {
                        CodeBits::Eight => byte(at.codes[side] + element),
                        CodeBits::Four => byte(at.codes[side] + vector / 2 * TILE + l) >> (vector % 2 * 4) & 15,
                    };
                    let place = (i / codes.group * TILE + lane) * 2;
                    let half = |at: usize| half::f16::from_le_bytes([byte(at + place), byte(at + place + 1)]).to_f32();
                    half(at.scales[side]).mul_add(f32::from(code), half(at.biases[side]))
                })
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BITS: [CodeBits; 2] = [CodeBits::Four, CodeBits::Eight];

    fn layout(bits: CodeBits, group: usize, spans: BlockSpans) -> KvLayout {
        let content = KvContent::KeysAndValues;
        KvLayout { content, kind: Float::F16, codes: Some(KvCodes { bits, group }), kv_heads: 2, head_dim: 128, spans }
    }

    fn numbers(seed: usize, offset: f32) -> Vec<f32> {
        (0..128).map(|i| ((i * 7919 + seed * 31) % 1000) as f32 / 500.0 - 1.0 + offset).collect()
    }

    #[test]
    fn a_strip_that_is_written_whole_is_that_of_its_positions_one_by_one() {
        for dim in [32, 40, 48, 128] {
            let head_dim = 128;
            let content = KvContent::KeysAndValues;
            let layout = KvLayout { content, kind: Float::F32, codes: None, kv_heads: 2, head_dim, spans: 32.into() };
            let [mut alone, mut whole] = [vec![0_u8; 2 * layout.block_bytes()], vec![0_u8; 2 * layout.block_bytes()]];
            let view = |memory: &mut Vec<u8>| KvView { layout, memory: memory.as_mut_ptr(), table: &[1, 0] };
            // Rows of keys and values side by side, as products leave them.
            let rows: Vec<f32> = (0..64 * 300).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect();
            for (first, count) in [(0, TILE), (16, 7), (32, TILE), (48, 1)] {
                let [keys, values] = [150, 3].map(|column| rows[first * 300 + column..].as_ptr());
                for form in Form::available() {
                    let strip = StripRows { keys, values, stride: 300, count, dim };
                    // SAFETY: rows and memory are the test's own.
                    unsafe { view(&mut whole).write_strip(form, first, 1, &strip) };
                }
                for position in first..first + count {
                    let part = |column: usize| &rows[position * 300 + column..][..dim];
                    // SAFETY: as above.
                    unsafe { view(&mut alone).write(position, 1, part(150), part(3)) };
                }
            }
            assert!(alone == whole, "{dim}");
        }
    }

    #[test]
    fn what_is_read_lies_half_a_step_from_what_was_written() {
        for (bits, levels) in [(CodeBits::Four, 15.0), (CodeBits::Eight, 255.0)] {
            for group in [32, 64, 128] {
                for offset in [0.0, 30.0] {
                    let layout = layout(bits, group, 32.into());
                    let mut memory = vec![0xff; 2 * layout.block_bytes()];
                    let view = KvView { layout, memory: memory.as_mut_ptr(), table: &[1, 0] };
                    let rows = |position: usize, head: usize| {
                        let seed = position * 2 + head;
                        [numbers(seed, offset), numbers(1000 + seed, -offset)]
                    };
                    let all = || (0..64).flat_map(|position| [(position, 0), (position, 1)]);
                    for (position, head) in all() {
                        let [key, value] = rows(position, head);
                        // SAFETY: the memory is the test's own.
                        unsafe { view.write(position, head, &key, &value) };
                    }
                    // Read after all were written: nobody has touched another one's bytes.
                    for (position, head) in all() {
                        for (written, read) in rows(position, head).iter().zip(view.read(position, head)) {
                            for (written, read) in written.chunks(group).zip(read.chunks(group)) {
                                let range = written.iter().copied().fold(f32::MIN, f32::max)
                                    - written.iter().copied().fold(f32::MAX, f32::min);
                                // Half a step; the stored scale may be an eleventh bit off.
                                let most = range / levels * 0.51 + levels * range / levels / 2048.0 + offset / 2048.0;
                                for (a, b) in written.iter().zip(read) {
                                    assert!((a - b).abs() <= most, "{bits:?} {group} {offset}: {a} {b} {most}");
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn equal_components_are_kept_and_what_is_not_finite_shows() {
        for bits in BITS {
            let layout = layout(bits, 64, 16.into());
            let mut memory = vec![0; layout.block_bytes()];
            let view = KvView { layout, memory: memory.as_mut_ptr(), table: &[0] };
            let mut broken = vec![1.0; 128];
            broken[70] = f32::INFINITY;
            // SAFETY: the memory is the test's own.
            unsafe { view.write(3, 1, &[0.5; 128], &broken) };

            let [key, value] = view.read(3, 1);

            assert_eq!(key, [0.5; 128]);
            assert!(value[..64].iter().all(|x| *x == 1.0) && value[64..].iter().all(|x| x.is_nan()));
        }
    }

    #[test]
    #[should_panic(expected = "key head 2 of KvLayout { content: KeysAndValues, kind: F16")]
    fn a_key_head_that_is_not_there_is_not_written() {
        let layout = layout(CodeBits::Eight, 64, 16.into());
        let mut memory = vec![0; 2 * layout.block_bytes()];
        let view = KvView { layout, memory: memory.as_mut_ptr(), table: &[0] };
        // SAFETY: the memory is the test's own.
        unsafe { view.write(0, 2, &[0.5; 128], &[0.5; 128]) };
    }

    #[test]
    fn groups_are_whole_pairs_of_vectors_that_divide_the_head() {
        let whole = |group, head_dim| KvLayout { head_dim, ..layout(CodeBits::Four, group, 16.into()) }.is_whole();
        for group in [32, 64, 128] {
            assert!(whole(group, 128) && !whole(group, 16), "{group}");
        }
        // What is no whole pair of vectors would not be written.
        assert!(!whole(16, 128) && !whole(48, 144) && !whole(0, 128) && !whole(256, 256));
        let floats = KvLayout { codes: None, ..layout(CodeBits::Four, 64, 16.into()) };
        assert!(KvLayout { head_dim: 16, ..floats }.is_whole() && !KvLayout { head_dim: 24, ..floats }.is_whole());
        assert!(!KvLayout { spans: 24.into(), ..floats }.is_whole());
    }

    #[test]
    fn blocks_behind_the_floats_take_no_more_bytes() {
        for (bits, times) in [(CodeBits::Eight, 2), (CodeBits::Four, 4)] {
            let layout = layout(bits, 64, BlockSpans::new(3, 16, 16 * times));
            assert_eq!(layout.float_strip_bytes().div_ceil(layout.strip_bytes()), times);
            assert_eq!(layout.block_bytes(), times * 2 * layout.strip_bytes());
        }
    }
}
