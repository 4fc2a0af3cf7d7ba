//! What is wrong with a checkpoint is found before anything is loaded, and said by name.

mod support;

use lmx_runtime::checkpoint::{Checkpoint, LoadError, Source};
use lmx_runtime::config::{ComputeConfig, ComputeMode, Executor};
use lmx_runtime::kernels::Form;
use lmx_runtime::model::{Blueprint, ModelFacts};
use lmx_runtime::runner::Backend;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use support::{compare, driver, fixture};
use tempfile::TempDir;

const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A copy of a fixture's model that a test may damage.
fn copy(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture::named(name).model).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

fn open(folder: &Path) -> Result<Checkpoint, LoadError> {
    Checkpoint::open(&Source::Folder(folder.to_owned()))
}

/// Opens and checks; the error's outcome and text.
fn fails(folder: &Path) -> (&'static str, String) {
    let error = open(folder).and_then(|checkpoint| Blueprint::read(&checkpoint).map(drop)).unwrap_err();
    (error.outcome(), error.to_string())
}

fn edit_json(path: PathBuf, edit: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut value);
    fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

/// Changes the header of a shard and leaves its data as it is.
fn edit_header(path: PathBuf, edit: impl FnOnce(&mut Value)) {
    let bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    edit(&mut header);
    let header = serde_json::to_vec(&header).unwrap();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    out.extend(&bytes[8 + length..]);
    fs::write(path, out).unwrap();
}

/// Writes all tensors again, under other names, as one shard.
fn rename_tensors(folder: &Path, rename: impl Fn(&str) -> String) {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let shards: Vec<_> = files.filter(|path| path.extension().is_some_and(|kind| kind == "safetensors")).collect();
    let bytes: Vec<_> = shards.iter().map(|path| fs::read(path).unwrap()).collect();
    let mut tensors: Vec<(String, TensorView<'_>)> = Vec::new();
    for shard in &bytes {
        for (name, tensor) in SafeTensors::deserialize(shard).unwrap().tensors() {
            tensors.push((
                rename(&name),
                TensorView::new(tensor.dtype(), tensor.shape().to_vec(), tensor.data()).unwrap(),
            ));
        }
    }
    let whole = safetensors::serialize(tensors, None).unwrap();
    for path in shards.into_iter().chain([folder.join(INDEX)]).filter(|path| path.exists()) {
        fs::remove_file(path).unwrap();
    }
    fs::write(folder.join("model.safetensors"), whole).unwrap();
}

#[test]
fn all_missing_shards_are_named_at_once() {
    let folder = copy("llama-f32");
    fs::remove_file(folder.path().join(FIRST)).unwrap();
    fs::remove_file(folder.path().join(SECOND)).unwrap();

    let (outcome, text) = fails(folder.path());

    assert_eq!(outcome, "model_incomplete");
    assert!(text.contains(FIRST) && text.contains(SECOND), "{text}");
}

#[test]
fn a_truncated_shard_is_named_with_its_sizes() {
    let folder = copy("llama-f32");
    let path = folder.path().join(SECOND);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1000]).unwrap();

    let (outcome, text) = fails(folder.path());

    assert_eq!(outcome, "model_incomplete");
    assert!(text.contains(&format!("{SECOND} has {} of {} bytes", bytes.len() - 1000, bytes.len())), "{text}");
}

#[test]
fn an_empty_shard_is_an_unfinished_one() {
    let folder = copy("llama-f32");
    fs::write(folder.path().join(SECOND), b"").unwrap();
    assert_eq!(fails(folder.path()).0, "model_incomplete");
}

#[test]
fn a_wrong_offset_is_reported_with_the_tensor() {
    let folder = copy("llama-f32");
    edit_header(folder.path().join(FIRST), |header| {
        let offsets = header["model.embed_tokens.weight"]["data_offsets"].as_array_mut().unwrap();
        for offset in offsets {
            *offset = json!(offset.as_u64().unwrap() + 4);
        }
    });

    let (outcome, text) = fails(folder.path());

    assert_eq!(outcome, "invalid_checkpoint");
    assert!(text.contains("its data starts at"), "{text}");
}

#[test]
fn a_type_that_does_not_fit_the_bytes_is_reported_with_the_tensor() {
    let folder = copy("llama-f32");
    edit_header(folder.path().join(FIRST), |header| {
        header["model.layers.0.mlp.up_proj.weight"]["dtype"] = json!("BF16");
    });

    let (outcome, text) = fails(folder.path());

    assert_eq!(outcome, "invalid_checkpoint");
    assert!(text.contains("`model.layers.0.mlp.up_proj.weight`: BF16 [96, 64] takes 12288 bytes"), "{text}");
}

#[test]
fn a_tensor_that_the_index_names_and_no_shard_holds_is_reported() {
    let folder = copy("llama-f32");
    edit_json(folder.path().join(INDEX), |index| index["weight_map"]["model.extra.weight"] = json!(FIRST));

    let (outcome, text) = fails(folder.path());

    assert_eq!(outcome, "invalid_checkpoint");
    assert!(text.contains("`model.extra.weight`") && text.contains(FIRST), "{text}");
}

#[test]
fn a_tensor_that_the_model_needs_and_nobody_names_is_reported() {
    let folder = copy("llama-f32");
    rename_tensors(folder.path(), |name| name.replace("layers.1.self_attn.k_proj", "layers.1.self_attn.x_proj"));

    let (outcome, text) = fails(folder.path());

    assert_eq!(outcome, "invalid_checkpoint");
    assert!(text.contains("`model.layers.1.self_attn.k_proj.weight`"), "{text}");
}

#[test]
fn a_shape_that_the_configuration_does_not_expect_is_reported() {
    let folder = copy("llama-f32");
    edit_json(folder.path().join("config.json"), |config| config["intermediate_size"] = json!(100));

    let (outcome, text) = fails(folder.path());

    assert_eq!(outcome, "invalid_checkpoint");
    assert!(text.contains("[96, 64], expected [100, 64]"), "{text}");
}

#[test]
fn a_size_beyond_any_model_is_refused_before_anything_is_made_of_it() {
    for key in ["num_hidden_layers", "head_dim", "vocab_size", "num_attention_heads"] {
        let folder = copy("llama-f32");
        edit_json(folder.path().join("config.json"), |config| config[key] = json!(1_u64 << 60));

        let (outcome, text) = fails(folder.path());

        assert_eq!(outcome, "invalid_checkpoint");
        assert!(text.contains(key), "{text}");
    }
}

#[test]
fn broken_json_is_reported_with_the_file() {
    let folder = copy("llama-f32");
    fs::write(folder.path().join("config.json"), b"{\"model_type\": ").unwrap();

    let (outcome, text) = fails(folder.path());

    assert_eq!(outcome, "invalid_checkpoint");
    assert!(text.contains("`config.json`"), "{text}");
}

#[test]
fn a_broken_header_is_reported_with_the_shard() {
    let folder = copy("llama-f32");
    let path = folder.path().join(FIRST);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = b'?';
    fs::write(&path, bytes).unwrap();

    let (outcome, text) = fails(folder.path());

    assert_eq!(outcome, "invalid_checkpoint");
    assert!(text.contains(FIRST), "{text}");
}

#[test]
fn scales_of_another_shape_are_reported_with_the_module() {
    let folder = copy("llama-q4g64");
    edit_json(folder.path().join("config.json"), |config| {
        config["quantization"]["model.layers.0.self_attn.q_proj"] = json!({"bits": 8, "group_size": 64});
    });

    let (outcome, text) = fails(folder.path());

    assert_eq!(outcome, "invalid_checkpoint");
    assert!(text.contains("`model.layers.0.self_attn.q_proj`: config.json says 8-bit"), "{text}");
}

#[test]
fn an_unknown_architecture_is_an_error_that_names_the_key() {
    let folder = copy("llama-f32");
    edit_json(folder.path().join("config.json"), |config| config["model_type"] = json!("mamba2"));
    let (outcome, text) = fails(folder.path());
    assert_eq!((outcome, &*text), ("unsupported_arch", "unsupported architecture: `model_type` is `mamba2`"));

    edit_json(folder.path().join("config.json"), |config| {
        config["model_type"] = Value::Null;
        config["architectures"] = json!(["OtherForCausalLM"]);
    });
    assert_eq!(fails(folder.path()).1, "unsupported architecture: `architectures` is `OtherForCausalLM`");
}

#[test]
fn an_unknown_quantisation_is_an_error_that_names_the_key() {
    let folder = copy("llama-f32");
    edit_json(folder.path().join("config.json"), |config| {
        config["quantization_config"] = json!({"quant_method": "gptq", "bits": 4});
    });
    let (outcome, text) = fails(folder.path());
    assert_eq!(outcome, "unsupported_quantization");
    assert!(text.contains("`quantization_config.quant_method` is `gptq`"), "{text}");
}

#[test]
fn every_key_prefix_loads_the_same_model() {
    for fixture in fixture::all() {
        let (name, prompt) = (&fixture.name, &fixture.prompts["p1"]);
        let own = Blueprint::read(&fixture.checkpoint()).unwrap();
        let mut logits = None;
        for (prefix, head) in [
            ("", "lm_head"),
            ("model.", "lm_head"),
            ("language_model.", "lm_head"),
            ("language_model.model.", "language_model.lm_head"),
            ("model.language_model.", "lm_head"),
        ] {
            let folder = copy(name);
            let renamed = |key: &str| match key.strip_prefix(own.key_prefix()) {
                Some(rest) if !rest.starts_with("lm_head") => format!("{prefix}{rest}"),
                _ => key.find("lm_head").map_or(key.to_owned(), |at| format!("{head}{}", &key[at + "lm_head".len()..])),
            };
            rename_tensors(folder.path(), renamed);
            // Overrides are named by full path.
            edit_json(folder.path().join("config.json"), |config| {
                for key in ["quantization", "quantization_config"] {
                    if let Some(quantization) = config[key].as_object_mut() {
                        let entries = std::mem::take(quantization);
                        quantization.extend(entries.into_iter().map(|(key, value)| (renamed(&key), value)));
                    }
                }
            });

            let checkpoint = open(folder.path()).unwrap();
            let blueprint = Blueprint::read(&checkpoint).unwrap();
            assert_eq!(blueprint.key_prefix(), prefix);
            assert_eq!(blueprint.unexpected, own.unexpected, "{name} {prefix}");
            let mut driver = driver::native(&checkpoint, ComputeMode::F32, Form::best(), 1);
            let (_, got) = driver.prompt(&prompt.ids, usize::MAX);
            let distance = compare::logits(&prompt.logits, &got, driver.vocab(), compare::F32);
            assert!(distance.within(compare::F32), "{name} {prefix}: {distance:?}");
            assert!(*logits.get_or_insert_with(|| got.clone()) == got, "{name} {prefix}");
        }
    }
}

#[test]
fn files_inside_the_program_load_like_a_folder() {
    let folder = copy("qwen3-q3g64");
    let files: Vec<(&'static str, &'static [u8])> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name: &'static str = entry.file_name().into_string().unwrap().leak();
            let bytes: &'static [u8] = fs::read(entry.path()).unwrap().leak();
            (name, bytes)
        })
        .collect();

    let embedded = Checkpoint::open(&Source::Embedded { id: "built-in".into(), files: files.leak() }).unwrap();
    let on_disk = open(folder.path()).unwrap();

    assert_eq!(embedded.fingerprint(), on_disk.fingerprint());
    assert_eq!(embedded.path(), None);
    assert!(embedded.file("tokenizer.json").unwrap().is_some());
    assert!(embedded.file("chat_template.jinja").unwrap().is_none());
    let facts = |checkpoint| ModelFacts::of(&Blueprint::read(checkpoint).unwrap());
    assert_eq!(facts(&embedded), facts(&on_disk));
}

#[test]
fn a_fingerprint_changes_with_one_weight_and_with_the_configuration() {
    let folder = copy("qwen2-bf16-window");
    let before = open(folder.path()).unwrap().fingerprint();

    edit_json(folder.path().join("config.json"), |config| config["rope_theta"] = json!(10000.0));
    let other_config = open(folder.path()).unwrap().fingerprint();
    assert_ne!(before, other_config);

    let path = folder.path().join(FIRST);
    let mut bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + length] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_ne!(open(folder.path()).unwrap().fingerprint(), other_config);
}

#[test]
fn facts_tell_what_the_checkpoint_holds() {
    let checkpoint = fixture::named("llama-mixed").checkpoint();
    let facts = ModelFacts::of(&Blueprint::read(&checkpoint).unwrap());

    assert_eq!((facts.family, facts.layers, facts.vocab, &*facts.key_prefix), ("llama", 2, 512, "model."));
    assert_eq!(facts.kv_elements_per_token, 2 * 2 * 2 * 16);
    assert_eq!(facts.eos_ids, [443, 447, 448]);
    let storage: Vec<&str> = facts.weights.storage.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(storage.len(), 4, "{storage:?}");
    assert!(storage.contains(&"6-bit, group 32") && storage.contains(&"bf16"), "{storage:?}");
}

#[test]
fn tensors_that_nobody_asks_for_are_listed_and_known_ones_are_skipped() {
    let folder = copy("llama-f32");
    rename_tensors(folder.path(), str::to_owned);
    let whole = fs::read(folder.path().join("model.safetensors")).unwrap();
    let mut tensors = SafeTensors::deserialize(&whole).unwrap().tensors();
    let extra = [0_u8; 4];
    for name in ["model.layers.0.self_attn.rotary_emb.inv_freq", "vision_tower.a", "model.layers.0.mystery"] {
        tensors.push((name.into(), TensorView::new(safetensors::Dtype::F32, vec![1], &extra).unwrap()));
    }
    fs::write(folder.path().join("model.safetensors"), safetensors::serialize(tensors, None).unwrap()).unwrap();

    let blueprint = Blueprint::read(&open(folder.path()).unwrap()).unwrap();

    assert_eq!(blueprint.unexpected, ["model.layers.0.mystery"]);
    assert_eq!(blueprint.skipped, 2);
}

/// A tensor to be written: type, shape, bytes.
type Written = (Dtype, Vec<usize>, Vec<u8>);

fn floats(shape: &[usize], values: &[f32]) -> Written {
    (Dtype::F32, shape.to_vec(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// Writes all tensors again as one shard, as `edit` leaves them.
fn edit_tensors(folder: &Path, edit: impl FnOnce(&mut BTreeMap<String, Written>)) {
    let mut tensors = BTreeMap::new();
    for shard in [FIRST, SECOND].map(|name| fs::read(folder.join(name)).unwrap()) {
        for (name, tensor) in SafeTensors::deserialize(&shard).unwrap().tensors() {
            tensors.insert(name, (tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec()));
        }
    }
    edit(&mut tensors);
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    let whole = safetensors::serialize(views, None).unwrap();
    for name in [FIRST, SECOND, INDEX] {
        fs::remove_file(folder.join(name)).unwrap();
    }
    fs::write(folder.join("model.safetensors"), whole).unwrap();
}

/// Logits of a prompt in float32, by both executors.
fn logits(folder: &Path) -> [Vec<f32>; 2] {
    let checkpoint = open(folder).unwrap();
    let ids = [3, 1, 4, 1, 5];
    let mut native = driver::native(&checkpoint, ComputeMode::F32, Form::best(), 1);
    let mut candle = driver::load(&checkpoint, ComputeMode::F32);
    [native.prompt(&ids, usize::MAX).1, candle.prompt(&ids, usize::MAX).1]
}

/// What both executors say when they load it.
fn load_fails(folder: &Path) -> [(&'static str, String); 2] {
    let checkpoint = open(folder).unwrap();
    [Executor::Native, Executor::Candle].map(|executor| {
        let compute = ComputeConfig { executor, mode: ComputeMode::F32, ..ComputeConfig::default() };
        let backend = Backend::choose(&compute).unwrap();
        let error = backend.load(&checkpoint, &mut |_| {}).map(drop).unwrap_err();
        (error.outcome(), error.to_string())
    })
}

const FP8: &str = "minimax-m2-fp8";
const QUERY: &str = "model.layers.0.self_attn.q_proj";

#[test]
fn a_float8_scale_that_is_no_number_is_found_when_the_model_is_loaded() {
    let folder = copy(FP8);
    let name = format!("{QUERY}.weight_scale_inv");
    edit_tensors(folder.path(), |tensors| {
        tensors.get_mut(&name).unwrap().2[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    });

    for (outcome, text) in load_fails(folder.path()) {
        assert_eq!(outcome, "invalid_checkpoint");
        assert_eq!(text, format!("`{name}`: scale 1 is not a finite number"));
    }
}

#[test]
fn float8_scales_have_the_shape_that_the_blocks_ask_for() {
    let folder = copy(FP8);
    edit_json(folder.path().join("config.json"), |config| {
        config["quantization_config"]["weight_block_size"] = json!([16, 24]);
    });
    let (outcome, text) = fails(folder.path());
    assert_eq!(outcome, "invalid_checkpoint");
    assert!(text.contains("weight_scale_inv`: shape") && text.contains("expected"), "{text}");

    edit_json(folder.path().join("config.json"), |config| {
        config["quantization_config"]["weight_block_size"] = Value::Null;
    });
    assert!(fails(folder.path()).1.contains("config.json names no `weight_block_size`"));
}

/// Mistral's form: one scale for a whole matrix, and scales of activations that nobody needs.
#[test]
fn a_float8_matrix_may_have_one_scale() {
    let (small, plain) = (copy("llama-f32"), copy("llama-f32"));
    // 1.75, -0.5, 0 and the smallest number.
    let (codes, values) = ([0x3e_u8, 0xb0, 0x00, 0x01], [1.75_f32, -0.5, 0.0, 1.0 / 512.0]);
    let scale = 0.037_f32;
    let projections = |tensors: &BTreeMap<String, Written>| -> Vec<(String, usize)> {
        let all = tensors.iter().filter(|(name, _)| name.ends_with("_proj.weight"));
        all.map(|(name, (_, shape, _))| (name.clone(), shape.iter().product())).collect()
    };
    // Not a multiple of any row, so that rows differ.
    let pick = |i: usize| (i * 7 + i / 5) % 4;
    edit_tensors(small.path(), |tensors| {
        for (name, elements) in projections(tensors) {
            let tensor = tensors.get_mut(&name).unwrap();
            (tensor.0, tensor.2) = (Dtype::F8_E4M3, (0..elements).map(|i| codes[pick(i)]).collect());
            tensors.insert(format!("{name}_scale_inv"), floats(&[], &[scale]));
            tensors.insert(name.replace(".weight", ".activation_scale"), floats(&[], &[2.0]));
        }
    });
    edit_json(small.path().join("config.json"), |config| {
        config["quantization_config"] =
            json!({"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": null});
    });
    edit_tensors(plain.path(), |tensors| {
        for (name, elements) in projections(tensors) {
            let all: Vec<f32> = (0..elements).map(|i| values[pick(i)] * scale).collect();
            tensors.get_mut(&name).unwrap().2 = floats(&[], &all).2;
        }
    });

    assert_eq!(logits(small.path()), logits(plain.path()));
    let blueprint = Blueprint::read(&open(small.path()).unwrap()).unwrap();
    assert!(blueprint.unexpected.is_empty() && blueprint.skipped > 0);
    assert!(ModelFacts::of(&blueprint).weights.storage.iter().any(|(name, _)| name == "fp8"));
}

#[test]
fn packed_codes_are_those_of_their_shape_and_of_the_configuration() {
    let config = |folder: &TempDir| folder.path().join("config.json");
    let group = "/text_config/quantization_config/config_groups/group_0/weights/group_size";
    let expert = "language_model.model.layers.0.mlp.experts.0.up_proj";

    let folder = copy("kimi-k25-int4");
    edit_json(config(&folder), |config| *config.pointer_mut(group).unwrap() = json!(64));
    let (outcome, text) = fails(folder.path());
    assert_eq!(outcome, "invalid_checkpoint");
    assert!(text.contains("weight_packed`: the shapes say 4-bit, group 32"), "{text}");

    let folder = copy("kimi-k25-int4");
    edit_tensors(folder.path(), |tensors| tensors.get_mut(&format!("{expert}.weight_shape")).unwrap().2[0] += 1);
    assert!(fails(folder.path()).1.contains("weight_shape`: not the shape"));

    // An offset that would change every weight.
    let folder = copy("kimi-k25-int4");
    let name = format!("{expert}.weight_zero_point");
    edit_tensors(folder.path(), |tensors| drop(tensors.insert(name.clone(), floats(&[1], &[0.0]))));
    let (outcome, text) = fails(folder.path());
    assert_eq!(outcome, "unsupported_quantization");
    assert!(text.contains(&name), "{text}");
}

#[test]
fn a_tensor_beside_codes_that_nobody_asks_for_is_refused() {
    for (fixture, last) in [("llama-q4g64", "zeros"), ("llama-mxfp4", "global_scale"), (FP8, "input_scale")] {
        let folder = copy(fixture);
        let name = format!("{QUERY}.{last}");
        edit_tensors(folder.path(), |tensors| drop(tensors.insert(name.clone(), floats(&[1], &[1.0]))));
        let (outcome, text) = fails(folder.path());
        assert_eq!(outcome, "unsupported_quantization", "{fixture}");
        assert!(text.contains(&name), "{text}");
    }
}

#[test]
fn a_global_scale_multiplies_the_scales_of_nvfp4() {
    // The largest code times the largest scale: with it as global scale nothing is multiplied.
    const NEUTRAL: f32 = 6.0 * 448.0;
    let plain = copy("qwen3-nvfp4");
    let with = |values: &[f32]| {
        let folder = copy("qwen3-nvfp4");
        let value = floats(&[values.len()], values);
        edit_tensors(folder.path(), |tensors| {
            for name in ["q_proj", "k_proj"] {
                tensors.insert(format!("model.layers.0.self_attn.{name}.global_scale"), value.clone());
            }
        });
        folder
    };
    let reference = logits(plain.path());
    assert_eq!(logits(with(&[NEUTRAL]).path()), reference);
    // Norms follow these projections: twice the numbers are the same numbers, but for the epsilon.
    let twice = logits(with(&[2.0 * NEUTRAL]).path());
    assert_ne!(twice, reference);
    for (twice, reference) in twice.iter().flatten().zip(reference.iter().flatten()) {
        assert!((twice - reference).abs() < 1e-2, "{twice} {reference}");
    }

    assert!(fails(with(&[1.0, 1.0]).path()).1.contains("global_scale`: F32 [2], expected 1 or 1 of F32"));
    for (outcome, text) in load_fails(with(&[f32::NAN]).path()) {
        assert_eq!(outcome, "invalid_checkpoint");
        assert!(text.contains("global_scale`: a scale is not a finite number"), "{text}");
    }
}
