//! `lmx config`: check, show and describe the configuration.

use super::args::Outcome;
use super::args_config::{CheckArgs, ConfigCommand, ShowArgs};
use super::terminal::{configuration, fail, presets, print};
use crate::config::{Effective, Loaded, schema, to_json_lines, to_table};

/// Runs the command.
pub fn run(command: &ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Check(args) => check(args),
        ConfigCommand::Show(args) => show(args),
        ConfigCommand::Schema => {
            print(&(serde_json::to_string_pretty(&schema()).expect("a schema is plain data") + "\n"));
            Outcome::Done
        }
    }
}

fn check(args: &CheckArgs) -> Outcome {
    let loaded = match configuration(&args.config, args.config.set.clone()) {
        Ok(loaded) => loaded,
        Err(outcome) => return outcome,
    };
    let presets = match presets() {
        Ok(presets) => presets,
        Err(outcome) => return outcome,
    };
    // A preset may be sound by itself and still not go with this configuration.
    let clashes: Vec<String> = presets
        .iter()
        .filter_map(|preset| presets.resolve("", Some(&preset.name), &loaded).err())
        .map(|error| error.to_string())
        .collect();
    if !clashes.is_empty() {
        return fail(
            Outcome::Usage,
            format_args!("presets that do not go with the configuration\n{}", clashes.join("\n")),
        );
    }
    let file =
        loaded.file.as_ref().map_or_else(|| "no file, the defaults hold".to_owned(), |path| path.display().to_string());
    print(&format!("{file}: no problems, {} presets\n", presets.iter().count()));
    Outcome::Done
}

fn show(args: &ShowArgs) -> Outcome {
    let loaded = match configuration(&args.config, args.config.set.clone()) {
        Ok(loaded) => loaded,
        Err(outcome) => return outcome,
    };
    let values = match (&args.model, &args.preset) {
        (None, None) => loaded.effective(),
        (model, preset) => match of_model(model.as_deref(), preset.as_deref(), &loaded) {
            Ok(values) => values,
            Err(outcome) => return outcome,
        },
    };
    print(&if args.json { to_json_lines(&values) } else { to_table(&values) });
    Outcome::Done
}

/// What holds for a model, with the preset that is named or fits best.
fn of_model(model: Option<&str>, preset: Option<&str>, loaded: &Loaded) -> Result<Vec<Effective>, Outcome> {
    let presets = presets()?;
    // A preset alone is shown as it holds for any model.
    let resolved = presets.resolve(model.unwrap_or_default(), preset, loaded);
    let effective = resolved.map_err(|error| fail(Outcome::Usage, error))?;
    match &effective.name {
        Some(name) => eprintln!("preset {name}"),
        None => eprintln!("no preset fits this model, the configuration holds"),
    }
    Ok(effective.values)
}

#[cfg(test)]
mod tests {
    use super::super::args::ConfigFlags;
    use super::*;

    fn flags(folder: &tempfile::TempDir, yaml: &str) -> ConfigFlags {
        let file = folder.path().join("lmx.yaml");
        std::fs::write(&file, yaml).unwrap();
        ConfigFlags { config: Some(file), set: Vec::new() }
    }

    #[test]
    fn a_configuration_without_problems_passes_and_another_is_bad_usage() {
        let folder = tempfile::tempdir().unwrap();
        let check = |yaml| run(&ConfigCommand::Check(CheckArgs { config: flags(&folder, yaml) }));

        assert_eq!(check("server: {port: 1}"), Outcome::Done);
        assert_eq!(check("server: {prot: 1}"), Outcome::Usage);
    }

    #[test]
    fn values_of_a_model_come_with_its_preset() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = configuration(&flags(&folder, ""), Vec::new()).unwrap();

        let values = of_model(Some("Qwen/Qwen3-4B"), None, &loaded).unwrap();

        let source = |key: &str| values.iter().find(|value| value.key == key).unwrap().source.to_string();
        assert_eq!(source("parameters.top_k"), "preset qwen3");
        assert_eq!(of_model(None, Some("nothing"), &loaded).unwrap_err(), Outcome::Usage);
    }
}
