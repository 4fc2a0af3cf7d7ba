//! AMX: products of tiles of bytes, sixteen rows by sixteen columns at a time.
//!
//! The compiler knows no tile registers, so a whole sum stands in one block of assembly.

use crate::kernels::TILE;
use crate::kernels::prepare::GroupPlaces;
use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;
use std::sync::OnceLock;

/// Bytes of a tile: sixteen rows of 64.
pub(in crate::kernels) const TILE_BYTES: usize = 16 * 64;

/// Whether the processor has AMX for bytes, and the system lets this process use it; asked for once.
pub(super) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        // Leaf 7: bits 24 and 25 of edx.
        const TILES_OF_BYTES: u32 = 3 << 24;
        __cpuid_count(0, 0).eax >= 7 && __cpuid_count(7, 0).edx & TILES_OF_BYTES == TILES_OF_BYTES && permitted()
    })
}

/// Asks Linux for the tile registers. It refuses where a thread's stack for signals could not hold them.
///
/// Source: Linux, Documentation/arch/x86/xstate.rst.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: the call takes two numbers and touches no memory of this process.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// The shapes of the tile registers: all of sixteen rows of 64 bytes.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    const WHOLE: Self = {
        let mut shapes = Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        let mut register = 0;
        while register < 8 {
            shapes.row_bytes[register] = 64;
            shapes.rows[register] = 16;
            register += 1;
        }
        shapes
    };
}

/// The tile registers of this thread, until it is dropped: the system saves them at every switch while they are in use.
pub(in crate::kernels) struct Tiles(());

impl Tiles {
    /// # Safety
    /// [`is_available`].
    pub(in crate::kernels) unsafe fn new() -> Self {
        // SAFETY: the processor has the instruction, and reads the 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &Shapes::WHOLE, options(nostack, readonly, preserves_flags)) };
        Self(())
    }

    /// Sums of products of words that stand as bytes, `x = 256 upper + lower`: of sixteen rows of x and sixteen columns, over
    /// `steps` times 64 inputs. The sums of upper with upper bytes, upper with lower, lower with upper and lower with lower
    /// ones go to `sums`, `[4][16][16]`. Upper bytes are signed, lower ones are not. Sums wrap.
    ///
    /// # Safety
    /// `x` and `weights` are readable: for each step two tiles, of the upper bytes and of the lower ones.
    #[inline(always)]
    pub(in crate::kernels) unsafe fn multiply_words(
        &self,
        steps: usize,
        x: *const u8,
        weights: *const u8,
        sums: &mut Sums,
    ) {
        if steps == 0 {
            sums.0 = [[0; TILE * TILE]; 4];
            return;
        }
        // SAFETY: the tile registers are configured, and in use by nobody else; memory is as the caller vouches.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{x} + {row}]",
                "tileloadd tmm6, [{w} + {row}]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{w} + {row} + {tile}]",
                "tdpbsud tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{x} + {row} + {tile}]",
                "tdpbusd tmm2, tmm5, tmm6",
                "tdpbuud tmm3, tmm5, tmm7",
                "add {x}, 2 * {tile}",
                "add {w}, 2 * {tile}",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{sums} + {row}], tmm0",
                "tilestored [{sums} + {row} + {tile}], tmm1",
                "tilestored [{sums} + {row} + 2 * {tile}], tmm2",
                "tilestored [{sums} + {row} + 3 * {tile}], tmm3",
                x = inout(reg) x => _,
                w = inout(reg) weights => _,
                steps = inout(reg) steps => _,
                sums = in(reg) sums.0.as_mut_ptr(),
                row = in(reg) 64_usize,
                tile = const TILE_BYTES,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the processor has the instruction.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

/// Places of four tiles of sums.
#[repr(C, align(64))]
pub(in crate::kernels) struct Sums(pub(in crate::kernels) [[i32; TILE * TILE]; 4]);

impl Sums {
    pub(in crate::kernels) fn new() -> Self {
        Self([[0; TILE * TILE]; 4])
    }
}

/// Bytes of a line of the caches.
const LINE: usize = 64;
/// Blocks of sixteen rows whose inputs stay in the second-level cache while the tiles pass.
const BLOCKS: usize = 16;

/// A product of words that stand as bytes.
pub(in crate::kernels) struct WordTiles {
    /// Inputs, a multiple of 64.
    pub(in crate::kernels) k: usize,
    /// Inputs that are added up in 32 bits, a multiple of 64.
    pub(in crate::kernels) piece: usize,
    pub(in crate::kernels) weights: *const u8,
    /// Bytes from tile to tile.
    pub(in crate::kernels) tile_bytes: usize,
    pub(in crate::kernels) tiles: Range<usize>,
    pub(in crate::kernels) x: *const u8,
    pub(in crate::kernels) scales: GroupPlaces,
    pub(in crate::kernels) rows: Range<usize>,
    pub(in crate::kernels) out: *mut f32,
    pub(in crate::kernels) stride: usize,
    pub(in crate::kernels) bias: Option<*const f32>,
}

/// Sixteen rows, a tile of weights and a piece of the inputs.
#[derive(Clone, Copy)]
struct Part {
    block: usize,
    tile: usize,
    start: usize,
    end: usize,
}

impl WordTiles {
    /// # Safety
    /// [`is_available`]; all operands are there, and nobody else uses the rows of `out`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
    pub(in crate::kernels) unsafe fn multiply(&self) {
        let registers = Tiles::new();
        let mut sums = [Sums::new(), Sums::new()];
        // Sums are joined while the registers are at those of the next part.
        let (mut last, mut turn) = (None, 0);
        let all = self.rows.start / TILE..self.rows.end.div_ceil(TILE);
        for first in all.clone().step_by(BLOCKS) {
            let blocks = first..all.end.min(first + BLOCKS);
            for start in (0..self.k).step_by(self.piece) {
                let end = self.k.min(start + self.piece);
                for tile in self.tiles.clone() {
                    let weights = self.weights.add(tile * self.tile_bytes + start * 2 * TILE);
                    // The weights that come next, a part of them beside each block.
                    let ahead = weights.wrapping_add(self.tile_bytes);
                    let bytes = if tile + 1 < self.tiles.end { (end - start) * 2 * TILE } else { 0 };
                    let share = (bytes / LINE).div_ceil(blocks.len()) * LINE;
                    let mut asked = 0;
                    for block in blocks.clone() {
                        let stop = bytes.min(asked + share);
                        while asked < stop {
                            _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(asked).cast());
                            asked += LINE;
                        }
                        let x = self.x.add((block * self.k + start) * 2 * TILE);
                        registers.multiply_words((end - start) / 64, x, weights, &mut sums[turn]);
                        turn = 1 - turn;
                        if let Some(last) = last.replace(Part { block, tile, start, end }) {
                            self.join(last, &sums[turn]);
                        }
                    }
                }
            }
        }
        if let Some(last) = last {
            self.join(last, &sums[1 - turn]);
        }
    }

    /// Joins the sums of bytes to those of words and adds them to the output.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
    unsafe fn join(&self, Part { block, tile, start, end }: Part, sums: &Sums) {
        let behind = self.weights.add(tile * self.tile_bytes + self.k * 2 * TILE);
        let scales = _mm512_loadu_ps(behind.cast());
        let bias = match self.bias {
            Some(bias) if end == self.k => Some(_mm512_loadu_ps(bias.add(tile * TILE))),
            _ => None,
        };
        let rows = (block * TILE).max(self.rows.start)..self.rows.end.min((block + 1) * TILE);
        for row in rows {
            // Not by a closure: it would not have the instructions of this function.
            let at = row % TILE * TILE;
            let upper = _mm512_load_si512(sums.0[0].as_ptr().add(at).cast());
            let cross = _mm512_load_si512(sums.0[1].as_ptr().add(at).cast());
            let crossed = _mm512_load_si512(sums.0[2].as_ptr().add(at).cast());
            let lower = _mm512_load_si512(sums.0[3].as_ptr().add(at).cast());
            let cross = _mm512_slli_epi32::<8>(_mm512_add_epi32(cross, crossed));
            let sum = _mm512_add_epi32(_mm512_add_epi32(_mm512_slli_epi32::<16>(upper), lower), cross);
            let scale = _mm512_mul_ps(scales, _mm512_set1_ps(self.scales.whole_row_scale(row)));
            let to = self.out.add(row * self.stride + tile * TILE);
            let mut y = if start > 0 {
                _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(sum), _mm512_loadu_ps(to))
            } else {
                _mm512_mul_ps(scale, _mm512_cvtepi32_ps(sum))
            };
            if let Some(bias) = bias {
                y = _mm512_add_ps(y, bias);
            }
            _mm512_storeu_ps(to, y);
        }
    }
}
