//! What tests of the program share: its processes, its models, requests to it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name).join("model")
}

pub(crate) fn lmx() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lmx"));
    // Spinning workers of two servers on few cores would wait for each other.
    command.env("CANDLE_NUM_THREADS", "1").env_remove("LMX_CONFIG").current_dir(std::env::temp_dir());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Copies a model and lets `damage` have its files.
pub(crate) fn damaged(name: &str, damage: impl FnOnce(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    damage(folder.path());
    folder
}

pub(crate) fn cut_short(folder: &Path) {
    let shard = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let shard = shard.filter(|path| path.extension().is_some_and(|kind| kind == "safetensors")).max().unwrap();
    let whole = std::fs::metadata(&shard).unwrap().len();
    std::fs::File::options().write(true).open(shard).unwrap().set_len(whole - 100).unwrap();
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

pub(crate) fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    Some(reply)
}

pub(crate) fn until_ready(port: u16, server: &mut Child) {
    let begun = Instant::now();
    while !get(port, "/readyz").is_some_and(|reply| reply.starts_with("HTTP/1.1 200")) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the server is not ready");
        assert!(server.try_wait().unwrap().is_none(), "the server ended");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn terminate(server: &Child) {
    let killed = Command::new("kill").args(["-TERM", &server.id().to_string()]).status().unwrap();
    assert!(killed.success());
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
