//! Arithmetic of the native executor: products, norms, attention, over vectors of sixteen lanes.
//!
//! A kernel is written once, over `Lanes`, and compiled for each set of instructions ([`Form`]). Every operation of
//! `Lanes` rounds once and the same way in all forms, so all forms give the same bits; the portable one is the reference
//! that the others are tested against.
//!
//! Inside a kernel no closure may call an operation of `Lanes`: closures do not inherit the instructions of the
//! function around them, and each operation would become a call.

#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "all operations of `Lanes` are unsafe for one reason, for which `Form::run` vouches"
)]
#![allow(clippy::needless_range_loop, reason = "registers go by number, and several arrays of them side by side")]

mod affine;
mod attention;
mod blocks;
mod coded;
mod delta;
mod dense;
mod float;
mod index;
mod kv_layout;
mod lanes;
mod latent;
pub mod limits;
mod math;
mod pack;
mod prepare;
mod rows;
mod words;

pub use affine::{AffineLayout, AffineTiles, Product};
pub use attention::{Attention, QUERIES, Query, Seen};
pub use coded::MAX_KV_GROUPS;
pub use delta::{DeltaRule, MAX_TAPS, convolve};
pub use dense::{DenseProduct, dense_tile_bytes, unpack_dense_row};
pub use float::Float;
pub use index::IndexScores;
pub use kv_layout::{KvContent, KvLayout, KvView, StripRows};
pub use lanes::Form;
pub use latent::LatentAttention;
pub use pack::{AffineRows, pack_dense_rows};
pub use prepare::{Activations, BLOCK_ROWS, Encoding, GroupOf, padded_rows, prepared_bytes};
pub use rows::{
    add, add_scaled, bias_gelu, gate_by_sigmoid, gelu, gelu_tanh, gelu_tanh_gated, layer_norm, relu, rms_norm,
    rotate_halves, rotate_neighbours, swiglu,
};
pub use words::{WordLayout, WordProduct, pack_word_rows, unpack_word_row, word_tile_bytes};

/// Rows of a matrix that are computed together, one in each lane.
pub const TILE: usize = 16;
