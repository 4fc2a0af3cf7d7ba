use super::Source;
use serde::Serialize;
use serde_json::Value;

/// A value in force and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effective {
    /// Path of the key.
    pub key: String,
    /// The value.
    pub value: Value,
    /// Where it comes from.
    pub source: Source,
}

/// One line per value: key, value, source, in columns.
pub fn to_table(values: &[Effective]) -> String {
    let rows: Vec<_> = values.iter().map(|e| (&e.key, e.value.to_string(), e.source.to_string())).collect();
    let width = |of: &dyn Fn(&(&String, String, String)) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let (key, value) = (width(&|row| row.0.chars().count()), width(&|row| row.1.chars().count()).min(40));
    rows.iter().map(|(k, v, source)| format!("{k:key$}  {v:value$}  {source}\n")).collect()
}

/// One JSON object per line.
pub fn to_json_lines(values: &[Effective]) -> String {
    let line = |value| serde_json::to_string(value).expect("values are plain data");
    values.iter().map(|value| line(value) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_listed_for_people_and_for_programs() {
        let values = [
            Effective { key: "server.port".into(), value: json!(80), source: Source::Flag },
            Effective { key: "kv.block_tokens".into(), value: json!(16), source: Source::Default },
        ];

        assert_eq!(to_table(&values), "server.port      80  flag\nkv.block_tokens  16  default\n");
        assert_eq!(to_json_lines(&values[..1]), "{\"key\":\"server.port\",\"value\":80,\"source\":\"flag\"}\n");
    }
}
