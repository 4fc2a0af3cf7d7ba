//! Broken models: each ends in its outcome, with the name of what is wrong, on the command line and for clients; and the
//! server goes on serving another one.

mod support;

use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use support::{cut_short, damaged, fixture, free_port, lmx, terminate, text, until_ready};
use tempfile::TempDir;

const MODEL: &str = "llama-q4g64";
const FIRST: &str = "model-00001-of-00002.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const DOWN: &str = "model.layers.0.mlp.down_proj";

/// A damaged model: what it ends in, and what has to be named.
struct Broken {
    what: &'static str,
    folder: TempDir,
    outcome: &'static str,
    status: u16,
    culprit: String,
    /// Whether that stands in the headers: what looks at nothing else does not see it otherwise.
    in_headers: bool,
}

fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// Changes what the header of the shard with this tensor says of it, and its bytes.
fn edit_tensor(folder: &Path, name: &str, edit: impl FnOnce(&mut Value, &mut [u8])) {
    let index: Value = serde_json::from_slice(&fs::read(folder.join(INDEX)).unwrap()).unwrap();
    let shard = folder.join(index["weight_map"][name].as_str().unwrap());
    let bytes = fs::read(&shard).unwrap();
    let (length, rest) = bytes.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let (mut header, mut data): (Value, Vec<u8>) = (serde_json::from_slice(header).unwrap(), data.to_vec());
    let tensor = &mut header[name];
    let offset = |i: usize| tensor["data_offsets"][i].as_u64().unwrap() as usize;
    let range = offset(0)..offset(1);
    edit(tensor, &mut data[range]);
    let header = header.to_string().into_bytes();
    fs::write(shard, [&(header.len() as u64).to_le_bytes(), &header[..], &data].concat()).unwrap();
}

fn all() -> Vec<Broken> {
    let broken = |what, status, outcome, culprit: &str, damage: &dyn Fn(&Path)| Broken {
        what,
        folder: damaged(MODEL, damage),
        outcome,
        status,
        culprit: culprit.to_owned(),
        in_headers: true,
    };
    let incomplete =
        |what, culprit: &str, damage: &dyn Fn(&Path)| broken(what, 409, "model_incomplete", culprit, damage);
    let invalid =
        |what, culprit: &str, damage: &dyn Fn(&Path)| broken(what, 422, "invalid_checkpoint", culprit, damage);
    let (weight, scales) = (format!("{DOWN}.weight"), format!("{DOWN}.scales"));
    vec![
        incomplete("a missing shard", FIRST, &|folder| fs::remove_file(folder.join(FIRST)).unwrap()),
        incomplete("a truncated file", "bytes", &cut_short),
        incomplete("a file that is not there", "model-00003-of-00002.safetensors", &|folder| {
            edit_json(&folder.join(INDEX), |index| {
                index["weight_map"][&weight] = json!("model-00003-of-00002.safetensors")
            });
        }),
        invalid("a wrong shape", &weight, &|folder| {
            edit_tensor(folder, &weight, |tensor, _| tensor["shape"].as_array_mut().unwrap().reverse());
        }),
        invalid("an unknown type", &weight, &|folder| {
            edit_tensor(folder, &weight, |tensor, _| tensor["dtype"] = json!("Q7_K"));
        }),
        invalid("a configuration without a key", "`hidden_size`", &|folder| {
            edit_json(&folder.join("config.json"), |config| {
                drop(config.as_object_mut().unwrap().remove("hidden_size"))
            });
        }),
        broken("an unknown family", 422, "unsupported_arch", "`model_type` is `mamba9`", &|folder| {
            edit_json(&folder.join("config.json"), |config| config["model_type"] = json!("mamba9"));
        }),
        broken("an unknown quantisation", 422, "unsupported_quantization", "7", &|folder| {
            edit_json(&folder.join("config.json"), |config| config["quantization"]["bits"] = json!(7));
        }),
        Broken {
            in_headers: false,
            ..invalid("a scale that is no number", &scales, &|folder| {
                // All bits of the exponent: no number in bfloat16 and in float32.
                edit_tensor(folder, &scales, |_, bytes| bytes[..4].copy_from_slice(&[0xff, 0x7f, 0xff, 0x7f]));
            })
        },
    ]
}

/// Sends a body and gives the status and the answer's JSON.
fn post(port: u16, path: &str, body: &Value) -> (u16, Value) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let body = body.to_string();
    let head = "host: test\r\nconnection: close\r\ncontent-type: application/json";
    write!(stream, "POST {path} HTTP/1.1\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let status = reply.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let (_, answer) = reply.split_once("\r\n\r\n").expect("a body");
    (status, serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

#[test]
fn every_broken_model_ends_in_its_outcome_with_the_name_of_what_is_wrong() {
    for Broken { what, folder, outcome, culprit, in_headers, .. } in all() {
        let said = if in_headers {
            lmx().arg("inspect").arg(folder.path()).output().unwrap()
        } else {
            lmx().args(["serve", "--port", "0", "--model"]).arg(folder.path()).output().unwrap()
        };
        let text = text(&said);
        assert_eq!(said.status.code(), Some(1), "{what}: {text}");
        assert!(text.contains(outcome) && text.contains(&culprit), "{what}: {text}");
        assert!(!text.contains("panicked"), "{what}: {text}");
    }
}

#[test]
fn clients_are_told_why_a_model_is_not_there_and_another_one_serves() {
    let all = all();
    let port = free_port();
    let mut command = lmx();
    command.args(["serve", "--port", &port.to_string()]);
    for broken in &all {
        command.arg("--model").arg(broken.folder.path());
    }
    let good = fixture("llama-f32");
    let mut server = command.arg("--model").arg(&good).spawn().unwrap();
    until_ready(port, &mut server);

    let ask = |model: &Path| {
        let model = model.to_str().unwrap();
        post(port, "/v1/completions", &json!({ "model": model, "prompt": "one", "max_tokens": 2 }))
    };
    let answers: Vec<_> = all.iter().map(|broken| ask(broken.folder.path())).collect();
    let (status, answer) = ask(&good);
    terminate(&server);
    let output = server.wait_with_output().unwrap();

    for (Broken { what, outcome, status, culprit, .. }, (got, answer)) in all.iter().zip(&answers) {
        let error = &answer["error"];
        assert_eq!((*got, error["code"].as_str()), (*status, Some(*outcome)), "{what}: {answer}");
        assert!(error["message"].as_str().unwrap().contains(culprit), "{what}: {answer}");
    }
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["usage"]["completion_tokens"], 2, "{answer}");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
}
