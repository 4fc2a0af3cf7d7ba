//! Which keys there are, and which one a wrong key was meant to be.

use serde_json::Value;

/// How alike two keys must be for one to be a suggestion for the other.
const ALIKE: f64 = 0.7;

/// Takes a path apart, if it leads to a setting of `schema`.
///
/// # Errors
/// What is wrong with the path, with the nearest known key where one is near.
pub(super) fn parts<'a>(schema: &Value, path: &'a str) -> Result<Vec<&'a str>, String> {
    let mut here = resolve(schema, schema);
    let parts: Vec<&str> = path.split('.').collect();
    let mut start = 0;
    for (depth, part) in parts.iter().enumerate() {
        let properties = here["properties"].as_object();
        if let Some(child) = properties.and_then(|properties| properties.get(*part)) {
            here = resolve(schema, child);
        } else if here["additionalProperties"].is_object() {
            // The rest of the path is a name of the user's, which may hold dots itself.
            return Ok(parts[..depth].iter().copied().chain([&path[start..]]).collect());
        } else if here["additionalProperties"] == true {
            // Below it anything goes, nested too.
            return Ok(parts);
        } else if properties.is_none() {
            return Err(format!("`{}` holds one value, no keys", parts[..depth].join(".")));
        } else {
            return Err(match nearest(schema, &parts[..depth], path) {
                Some(near) => format!("unknown key, did you mean `{near}`?"),
                None => {
                    let known: Vec<_> = properties.into_iter().flat_map(|map| map.keys().map(String::as_str)).collect();
                    format!("unknown key, known here are {}", known.join(", "))
                }
            });
        }
        start += part.len() + 1;
    }
    Ok(parts)
}

/// Whether `path` leads to a section rather than to a value.
pub(super) fn is_section(schema: &Value, path: &str) -> bool {
    let mut here = resolve(schema, schema);
    for part in path.split('.') {
        here = resolve(schema, &here["properties"][part]);
    }
    here["properties"].is_object()
}

/// The known key most like `wrong`: among the siblings first, then anywhere.
fn nearest(schema: &Value, parent: &[&str], wrong: &str) -> Option<String> {
    let mut all = Vec::new();
    collect(schema, resolve(schema, schema), "", &mut all);
    let prefix = if parent.is_empty() { String::new() } else { format!("{}.", parent.join(".")) };
    let last = &wrong[prefix.len()..];
    let first = last.split('.').next().unwrap_or(last);
    let siblings = all.iter().filter_map(|key| {
        let rest = key.strip_prefix(&prefix).filter(|rest| !rest.contains('.'))?;
        Some((strsim::jaro_winkler(rest, first), key))
    });
    let best = |scored: &mut dyn Iterator<Item = (f64, &String)>| {
        scored.filter(|(score, _)| *score >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, key)| key.clone())
    };
    let leaf = wrong.rsplit('.').next().unwrap_or(wrong);
    let elsewhere = all.iter().filter(|key| key.rsplit('.').next() == Some(leaf)).map(|key| (1.0, key));
    best(&mut elsewhere.into_iter()).or_else(|| best(&mut siblings.into_iter()))
}

fn collect(schema: &Value, here: &Value, path: &str, keys: &mut Vec<String>) {
    for (key, child) in here["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        collect(schema, resolve(schema, child), &path, keys);
        keys.push(path);
    }
}

/// Follows references into the definitions of the schema.
fn resolve<'a>(schema: &'a Value, here: &'a Value) -> &'a Value {
    let reference = here["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/"));
    reference.map_or(here, |name| resolve(schema, &schema["$defs"][name]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str) -> Result<Vec<&str>, String> {
        parts(&crate::config::schema(), path)
    }

    #[test]
    fn known_keys_and_names_of_aliases_pass() {
        for path in ["server.port", "kv", "actors.mailbox.engine", "telemetry.log.level"] {
            assert_eq!(check(path), Ok(path.split('.').collect()));
        }
        assert_eq!(check("routing.aliases.qwen2.5"), Ok(vec!["routing", "aliases", "qwen2.5"]));
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let cases = [
            ("server.prot", "unknown key, did you mean `server.port`?"),
            ("sever.port", "unknown key, did you mean `server.port`?"),
            ("schedular", "unknown key, did you mean `scheduler`?"),
            ("server.max_sequences", "unknown key, did you mean `scheduler.max_sequences`?"),
            ("actors.mailbox.engin", "unknown key, did you mean `actors.mailbox.engine`?"),
            ("telemetry.log.zzz", "unknown key, known here are level, format"),
            ("server.port.number", "`server.port` holds one value, no keys"),
        ];

        for (path, message) in cases {
            assert_eq!(check(path).unwrap_err(), message);
        }
    }

    #[test]
    fn sections_are_told_from_values() {
        let schema = crate::config::schema();

        assert!(is_section(&schema, "server") && is_section(&schema, "actors.mailbox"));
        assert!(!is_section(&schema, "server.port") && !is_section(&schema, "nothing"));
    }
}
