use super::error::ParityError;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What to compute, as `inputs.json` of a fixture says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParityInputs {
    /// Token ids of each prompt, by its name; at least one prompt, none of them empty.
    pub prompts: BTreeMap<String, Vec<u32>>,
    /// Tokens to generate after each prompt.
    pub n_greedy: usize,
}

#[derive(Deserialize)]
struct File {
    prompts: BTreeMap<String, Vec<u32>>,
    #[serde(default)]
    n_greedy: usize,
}

impl ParityInputs {
    /// Reads `inputs.json`.
    ///
    /// # Errors
    /// [`ParityError::Inputs`] for anything but prompts of token ids.
    pub fn from_json(json: &[u8]) -> Result<Self, ParityError> {
        let invalid = |error: serde_json::Error| ParityError::Inputs(error.to_string());
        let File { prompts, n_greedy } = serde_json::from_slice(json).map_err(invalid)?;
        if prompts.is_empty() {
            return Err(ParityError::Inputs("`prompts` is empty".to_owned()));
        }
        if let Some((name, _)) = prompts.iter().find(|(_, ids)| ids.is_empty()) {
            return Err(ParityError::Inputs(format!("prompt `{name}` has no tokens")));
        }
        Ok(Self { prompts, n_greedy })
    }

    /// Tokens to generate in fact: the last prompt token's logits come with the first of them.
    pub(super) fn max_tokens(&self) -> usize {
        self.n_greedy.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        ParityInputs::from_json(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn prompts_are_read_by_name() {
        let inputs = ParityInputs::from_json(br#"{"prompts": {"p0": [1, 2]}, "n_greedy": 3, "other": 1}"#).unwrap();

        assert_eq!((&inputs.prompts["p0"][..], inputs.n_greedy), (&[1, 2][..], 3));
    }

    #[test]
    fn what_cannot_be_computed_is_refused_with_its_name() {
        assert!(refused(r#"{"texts": ["a"]}"#).contains("missing field `prompts`"));
        assert!(refused(r#"{"prompts": {}}"#).contains("`prompts` is empty"));
        assert!(refused(r#"{"prompts": {"p7": []}}"#).contains("`p7` has no tokens"));
        assert!(refused(r#"{"prompts": {"p7": [-1]}}"#).contains("-1"));
        assert!(refused("{").contains("EOF"));
    }
}
