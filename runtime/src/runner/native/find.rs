use super::stored::StoredMatrix;
use super::weights::{Linear, Matrix};
use crate::checkpoint::{Checkpoint, LoadError};
use crate::config::ComputeMode;
use crate::model::{Modules, Weight};
use crate::runner::LoadProgress;

/// Finds the weights of modules in a checkpoint.
pub(super) struct Finder<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) modules: &'a Modules,
    pub(super) mode: ComputeMode,
    pub(super) progress: &'a mut dyn FnMut(LoadProgress),
    pub(super) reached: LoadProgress,
}

impl Finder<'_> {
    pub(super) fn linear(&mut self, path: &str) -> Result<Linear, LoadError> {
        Ok(Linear { bias: self.bias(path)?, matrix: self.matrix(path, 0)? })
    }

    pub(super) fn bias(&mut self, path: &str) -> Result<Option<Vec<f32>>, LoadError> {
        let there = self.modules.get(path)?.bias;
        there.then(|| self.vector(&format!("{path}.bias"))).transpose()
    }

    pub(super) fn matrix(&mut self, path: &str, part: usize) -> Result<Matrix, LoadError> {
        let module = self.modules.get(path)?;
        Ok(Matrix::new(module.outputs, module.inputs, self.stored(path, part)?))
    }

    /// One of the matrices that stand at `path`, in the file.
    pub(super) fn stored(&mut self, path: &str, part: usize) -> Result<StoredMatrix, LoadError> {
        let module = self.modules.get(path)?;
        let weight = module.weight(self.checkpoint, path, part)?;
        weight.check()?;
        if let Weight::Float8(matrix) = weight {
            // They have been read now.
            self.advance(matrix.scales.data.len());
        }
        StoredMatrix::find(self.checkpoint, module, path, part, self.mode)
    }

    pub(super) fn floats(&mut self, path: &str) -> Result<Vec<f32>, LoadError> {
        let offset = self.modules.norm_offset(path);
        let mut floats = self.vector(&format!("{path}.weight"))?;
        floats.iter_mut().for_each(|factor| *factor += offset);
        Ok(floats)
    }

    pub(super) fn vector(&mut self, name: &str) -> Result<Vec<f32>, LoadError> {
        let tensor = self.checkpoint.tensor(name)?;
        tensor.check_finite("element")?;
        self.advance(tensor.data.len());
        tensor.to_f32()
    }

    /// All rows of the matrix at `path`, as floats.
    pub(super) fn rows(&mut self, path: &str) -> Result<Vec<f32>, LoadError> {
        let module = self.modules.get(path)?;
        let mut rows = vec![0.0; module.outputs * module.inputs];
        let weight = module.weight(self.checkpoint, path, 0)?;
        weight.check()?;
        weight.dequantize_rows(0, &mut rows)?;
        self.advance(module.weight_bytes(self.checkpoint, path) as usize);
        Ok(rows)
    }

    fn advance(&mut self, bytes: usize) {
        self.reached.done_bytes += bytes as u64;
        (self.progress)(self.reached);
    }
}
