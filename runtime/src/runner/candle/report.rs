/// What loading did that a reader of the configuration would not expect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Quantised modules that the device's block types cannot hold, kept as floats.
    pub kept_dense: Vec<String>,
    /// Tensors that no layer asks for and no rule explains.
    pub unexpected: Vec<String>,
}
