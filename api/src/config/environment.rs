//! Variables of the environment as a source of values.

use super::Problem;
use super::layer::{Layer, Source};

/// What the names of all our variables begin with.
const PREFIX: &str = "LMX_";
/// Our variables that are no keys of the configuration.
const NOT_SETTINGS: [&str; 1] = ["LMX_CONFIG"];

/// Reads `LMX_SECTION__KEY` variables; their values are YAML.
///
/// # Errors
/// A [`Problem`] for each variable whose value is no YAML.
pub(super) fn layer<'a>(vars: impl Iterator<Item = (&'a String, &'a String)>) -> Result<Layer, Vec<Problem>> {
    let (mut layer, mut problems) = (Layer::default(), Vec::new());
    for (name, value) in vars {
        let Some(rest) = name.strip_prefix(PREFIX).filter(|_| !NOT_SETTINGS.contains(&name.as_str())) else { continue };
        let key = rest.to_ascii_lowercase().replace("__", ".");
        problems.extend(layer.insert_yaml(&key, value, Source::Env(name.clone())).err());
    }
    if problems.is_empty() { Ok(layer) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn read(vars: &[(&str, &str)]) -> Result<Layer, Vec<Problem>> {
        let vars: BTreeMap<_, _> = vars.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        layer(vars.iter())
    }

    #[test]
    fn two_underscores_separate_the_parts_of_a_key_and_values_are_yaml() {
        let layer = read(&[
            ("LMX_KV__PREFIX_CACHE", "false"),
            ("LMX_MODELS__AUTO_LOAD", "[a/b, c]"),
            ("LMX_CONFIG", "/etc/lmx.yaml"),
            ("HOME", "/root"),
        ])
        .unwrap();

        let lines: Vec<_> =
            layer.values.iter().map(|(key, (value, source))| format!("{key} {value} {source}")).collect();
        assert_eq!(
            lines,
            [
                "kv.prefix_cache false env LMX_KV__PREFIX_CACHE",
                r#"models.auto_load ["a/b","c"] env LMX_MODELS__AUTO_LOAD"#
            ]
        );
    }

    #[test]
    fn a_value_that_is_no_yaml_is_named() {
        let problems = read(&[("LMX_SERVER__PORT", "[1")]).unwrap_err();

        assert_eq!(problems[0].to_string(), "env LMX_SERVER__PORT: `server.port`: `[1` is not valid YAML");
    }
}
