//! The order in which a product passes over tiles and rows, so that what is read again is still in a cache.
//!
//! Rows of x and tiles of W are cut at the same inputs. Some rows and some tiles have their sums in registers, while the
//! inputs of a piece pass; the sums of further pieces are added to the output.

use super::TILE;
use super::lanes::Lanes;
use std::hint::black_box;
use std::ops::Range;

/// Rows of x that are worked on at a time, so that a block of their inputs stays in the second-level cache while the
/// tiles pass.
pub(super) const ROWS: usize = 96;
/// Tiles that all rows pass before the next ones.
const TILES: usize = 4;

/// Bytes of a line of the caches.
const LINE: usize = 64;
/// Rows of a smaller group where groups have twelve.
const EIGHT: usize = 8;

/// How many of `rows` go in groups of `M`, so that of those left over eight go together where they can: sixteen rows are
/// twice eight, not twelve and four.
fn whole_groups<const M: usize>(rows: usize) -> usize {
    let (groups, rest) = (rows / M, rows % M);
    let fewer = M > EIGHT && groups > 0 && (2 * EIGHT - M..EIGHT).contains(&rest);
    (groups - usize::from(fewer)) * M
}

/// How weights and activations are multiplied, some inputs of both at a time: a step.
pub(super) trait Arithmetic: Copy {
    /// The weights of a tile in a step.
    type Weights<L: Lanes>: Copy;
    /// The activations of a row in a step.
    type X<L: Lanes>: Copy;
    /// A tile's sums with a row.
    type Sum<L: Lanes>: Copy;
    /// Bytes of [`Self::Weights`].
    const WEIGHTS_BYTES: usize;
    /// Bytes of [`Self::X`].
    const X_BYTES: usize;
    /// Steps in a turn of the loop.
    const TURN: usize;
    /// Parts of a piece, before each of which some of the next weights are asked for: many lines at once wait for each other.
    const PARTS: usize;

    unsafe fn weights<L: Lanes>(from: *const u8) -> Self::Weights<L>;
    unsafe fn x<L: Lanes>(from: *const u8) -> Self::X<L>;
    /// What a piece's sum begins with; `before` is what the pieces before it gave.
    unsafe fn begin<L: Lanes>(before: Option<L::F>) -> Self::Sum<L>;
    unsafe fn add<L: Lanes>(sum: Self::Sum<L>, weights: Self::Weights<L>, x: Self::X<L>) -> Self::Sum<L>;
    /// The output after a piece: `tile` is its weights' end.
    unsafe fn end<L: Lanes>(&self, sum: Self::Sum<L>, before: Option<L::F>, tile: *const u8, row: usize) -> L::F;
}

/// A product: its operands and its places.
#[derive(Clone)]
pub(super) struct Blocks<A> {
    pub(super) arithmetic: A,
    /// Steps from the first input to the last one.
    pub(super) steps: usize,
    /// Steps of a piece, for few rows and for many.
    pub(super) piece: [usize; 2],
    pub(super) weights: *const u8,
    /// Bytes from tile to tile.
    pub(super) tile_bytes: usize,
    pub(super) tiles: Range<usize>,
    pub(super) x: *const u8,
    /// Bytes from row to row of `x`.
    pub(super) row_bytes: usize,
    pub(super) rows: Range<usize>,
    pub(super) out: *mut f32,
    /// Elements from row to row of `out`.
    pub(super) stride: usize,
    /// What is added to each row of `out` behind the products, `[16 tiles]` from the first tile of `weights` on.
    pub(super) bias: Option<*const f32>,
}

impl<A: Arithmetic> Blocks<A> {
    /// Computes the product, as many sums in the registers as fit beside the operands: of 32 registers of sixteen lanes 24,
    /// of 16 that hold eight lanes 12.
    #[inline(always)]
    pub(super) unsafe fn run<L: Lanes>(&self) {
        if L::ROWS >= 8 {
            self.blocks::<L, 12, 2>();
        } else if L::ROWS >= 4 {
            self.blocks::<L, 6, 1>();
        } else {
            self.blocks::<L, 4, 1>();
        }
    }

    #[inline(always)]
    unsafe fn blocks<L: Lanes, const M: usize, const AT: usize>(&self) {
        let piece = self.piece[usize::from(self.rows.len() >= M)];
        let mut row = self.rows.start;
        while row < self.rows.end {
            let end = self.rows.end.min(row + ROWS);
            let mut step = 0;
            loop {
                let stop = self.steps.min(step + piece);
                let block = Block { product: self, rows: (row, end), steps: (step, stop) };
                let mut tile = self.tiles.start;
                while tile < self.tiles.end {
                    let last = self.tiles.end.min(tile + TILES);
                    block.all_rows::<L, M, AT>(tile, last);
                    tile = last;
                }
                step = stop;
                if step == self.steps {
                    break;
                }
            }
            row = end;
        }
    }
}

/// A part of a product: some rows and inputs.
struct Block<'a, A> {
    product: &'a Blocks<A>,
    rows: (usize, usize),
    steps: (usize, usize),
}

impl<A> Clone for Block<'_, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Block<'_, A> {}

impl<A: Arithmetic> Block<'_, A> {
    #[inline(always)]
    unsafe fn all_rows<L: Lanes, const M: usize, const AT: usize>(self, first: usize, last: usize) {
        let (start, end) = self.rows;
        let whole = start + whole_groups::<M>(end - start);
        let mut tile = first;
        while last - tile >= AT {
            self.whole_rows::<L, M, AT>(tile, whole);
            tile += AT;
        }
        while tile < last {
            self.whole_rows::<L, M, 1>(tile, whole);
            tile += 1;
        }
        // With fewer rows more tiles are in flight instead: a sum alone waits for itself.
        let mut row = whole;
        while M > EIGHT && end - row >= EIGHT {
            self.tiles::<L, EIGHT, AT>(first, last, row);
            row += EIGHT;
        }
        while end - row >= 4 {
            if AT == 1 {
                self.tiles::<L, 4, 1>(first, last, row);
            } else {
                self.tiles::<L, 4, 4>(first, last, row);
            }
            row += 4;
        }
        if end - row >= 2 {
            if AT == 1 {
                self.tiles::<L, 2, 2>(first, last, row);
            } else {
                self.tiles::<L, 2, 4>(first, last, row);
            }
            row += 2;
        }
        if end > row {
            self.tiles::<L, 1, 4>(first, last, row);
        }
    }

    #[inline(always)]
    unsafe fn whole_rows<L: Lanes, const M: usize, const AT: usize>(self, tile: usize, end: usize) {
        let mut row = self.rows.0;
        // The weights that come next may be far away: a part of them is asked for beside each group of rows.
        let Blocks { weights, tile_bytes, ref tiles, .. } = *self.product;
        let from = weights.wrapping_add((tile + AT) * tile_bytes + self.steps.0 * A::WEIGHTS_BYTES);
        let bytes = if tile + AT < tiles.end { (self.steps.1 - self.steps.0) * A::WEIGHTS_BYTES } else { 0 };
        let share = (bytes / LINE).div_ceil((end - row).div_ceil(M).max(1)) * LINE;
        let mut ahead = Ahead { from, at: 0, end: 0 };
        while row < end {
            ahead.end = bytes.min(ahead.at + share);
            self.multiply::<L, M, AT>(tile, row, &mut ahead);
            row += M;
        }
    }

    #[inline(always)]
    unsafe fn tiles<L: Lanes, const M: usize, const AT: usize>(self, first: usize, last: usize, row: usize) {
        let mut tile = first;
        while last - tile >= AT {
            self.multiply::<L, M, AT>(tile, row, &mut Ahead::nothing());
            tile += AT;
        }
        while tile < last {
            self.multiply::<L, M, 1>(tile, row, &mut Ahead::nothing());
            tile += 1;
        }
    }

    #[inline(always)]
    unsafe fn multiply<L: Lanes, const M: usize, const AT: usize>(self, tile: usize, row: usize, ahead: &mut Ahead) {
        let Blocks { ref arithmetic, steps, weights, tile_bytes, x, row_bytes, out, stride, bias, .. } = *self.product;
        let ((start, end), out) = (self.steps, out.add(row * stride + tile * TILE));
        let mut operands = Operands { weights: weights.add(tile * tile_bytes), apart: tile_bytes, rows: [x; M] };
        for m in 0..M {
            // The compiler must not know that the rows are evenly apart: it would add up their addresses in the loop.
            operands.rows[m] = black_box(x.add((row + m) * row_bytes));
        }
        let mut sums = [[A::begin::<L>(None); AT]; M];
        if start > 0 {
            for m in 0..M {
                for a in 0..AT {
                    sums[m][a] = A::begin::<L>(Some(L::load(out.add(m * stride + a * TILE))));
                }
            }
        }
        let part = ((end - start) / A::TURN).div_ceil(A::PARTS) * A::TURN;
        let lines = (ahead.end - ahead.at).div_ceil(A::PARTS * LINE);
        let mut step = start;
        while end - step >= A::TURN {
            ahead.ask::<L, AT>(lines, tile_bytes);
            let stop = if end - step < part { end } else { step + part };
            while stop - step >= A::TURN {
                for next in 0..A::TURN {
                    operands.add::<L, A, AT>(step + next, &mut sums);
                }
                step += A::TURN;
            }
        }
        while step < end {
            operands.add::<L, A, AT>(step, &mut sums);
            step += 1;
        }
        let bias = bias.filter(|_| end == steps);
        for a in 0..AT {
            let behind = operands.weights.add(a * tile_bytes + steps * A::WEIGHTS_BYTES);
            let added = match bias {
                Some(bias) => L::load(bias.add((tile + a) * TILE)),
                None => L::splat(0.0),
            };
            for m in 0..M {
                let to = out.add(m * stride + a * TILE);
                let before = if start > 0 { Some(L::load(to)) } else { None };
                let mut y = arithmetic.end::<L>(sums[m][a], before, behind, row + m);
                if bias.is_some() {
                    y = L::add(y, added);
                }
                L::store(to, y);
            }
        }
    }
}

/// Weights to ask for.
struct Ahead {
    /// Of the first of some tiles.
    from: *const u8,
    /// The bytes of each tile that are left.
    at: usize,
    end: usize,
}

impl Ahead {
    fn nothing() -> Self {
        Self { from: std::ptr::null(), at: 0, end: 0 }
    }

    /// Asks for some lines of each of the tiles, which are `apart` bytes apart.
    #[inline(always)]
    unsafe fn ask<L: Lanes, const AT: usize>(&mut self, lines: usize, apart: usize) {
        let stop = if self.end - self.at < lines * LINE { self.end } else { self.at + lines * LINE };
        while self.at < stop {
            for a in 0..AT {
                L::prefetch_later(self.from.wrapping_add(a * apart + self.at));
            }
            self.at += LINE;
        }
    }
}

/// Where some tiles and some rows of x begin.
struct Operands<const M: usize> {
    weights: *const u8,
    /// Bytes from tile to tile.
    apart: usize,
    rows: [*const u8; M],
}

impl<const M: usize> Operands<M> {
    /// Adds the products of a step.
    #[inline(always)]
    unsafe fn add<L: Lanes, A: Arithmetic, const AT: usize>(&self, step: usize, sums: &mut [[A::Sum<L>; AT]; M]) {
        let mut weights = [A::weights::<L>(self.weights.add(step * A::WEIGHTS_BYTES)); AT];
        for a in 1..AT {
            weights[a] = A::weights::<L>(self.weights.add(a * self.apart + step * A::WEIGHTS_BYTES));
        }
        for m in 0..M {
            let x = A::x::<L>(self.rows[m].add(step * A::X_BYTES));
            for a in 0..AT {
                sums[m][a] = A::add::<L>(sums[m][a], weights[a], x);
            }
        }
    }
}
