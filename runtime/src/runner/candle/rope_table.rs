use crate::model::RopeSpec;
use candle_core::{Device, Result, Tensor};

/// Cosine and sine by position, made as far as any sequence has come.
#[derive(Debug)]
pub(super) struct RopeTable {
    frequencies: Vec<f32>,
    factor: f32,
    positions: usize,
    /// f32 `[positions, dim / 2]`.
    cos: Tensor,
    sin: Tensor,
}

/// Positions that the table begins with; it doubles from there.
const FIRST_POSITIONS: usize = 1024;

impl RopeTable {
    pub(super) fn new(spec: &RopeSpec, device: &Device) -> Result<Self> {
        let (frequencies, factor) = spec.frequencies();
        let (cos, sin) = tables(&frequencies, factor, FIRST_POSITIONS, device)?;
        Ok(Self { frequencies, factor, positions: FIRST_POSITIONS, cos, sin })
    }

    /// The rows of `positions`, u32 `[tokens]` on the device, all below `end`: cosine and sine, f32 `[tokens, dim / 2]`.
    pub(super) fn rows(&mut self, positions: &Tensor, end: usize) -> Result<(Tensor, Tensor)> {
        if end > self.positions {
            let enough = end.next_power_of_two();
            (self.cos, self.sin) = tables(&self.frequencies, self.factor, enough, positions.device())?;
            self.positions = enough;
        }
        Ok((self.cos.index_select(positions, 0)?, self.sin.index_select(positions, 0)?))
    }
}

fn tables(frequencies: &[f32], factor: f32, positions: usize, device: &Device) -> Result<(Tensor, Tensor)> {
    let angles = || (0..positions).flat_map(|p| frequencies.iter().map(move |f| p as f32 * f));
    let shape = (positions, frequencies.len());
    let cos: Vec<f32> = angles().map(|angle| angle.cos() * factor).collect();
    let sin: Vec<f32> = angles().map(|angle| angle.sin() * factor).collect();
    Ok((Tensor::from_vec(cos, shape, device)?, Tensor::from_vec(sin, shape, device)?))
}
