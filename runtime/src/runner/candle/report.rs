/// How far loading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of the checkpoint that stand in their final form.
    pub done_bytes: u64,
    /// Bytes that the model takes from the checkpoint.
    pub total_bytes: u64,
}

/// What loading did that a reader of the configuration would not expect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Quantised modules that the device's block types cannot hold, kept as floats.
    pub kept_dense: Vec<String>,
    /// Tensors that no layer asks for and no rule explains.
    pub unexpected: Vec<String>,
}
