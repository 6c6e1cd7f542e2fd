//! Runs the binary, and reads what it says.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use serde_json::Value as Json;

/// What a finished command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

fn command(store: Option<&Path>, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tarn"));
    command.args(args).env_remove("TARN_STORE").env_remove("TARN_LOG");
    if let Some(store) = store {
        command.arg("--store").arg(store);
    }
    command
}

/// Runs a command to its end.
pub(crate) fn run(store: Option<&Path>, args: &[&str]) -> Said {
    let output = command(store, args).output().unwrap();
    Said {
        status: output.status,
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a command to its end, with `input` on a standard input that stays open as long as the first of what it returns.
pub(crate) fn run_with_open_input(store: &Path, args: &[&str], input: &str) -> (ChildStdin, Said) {
    let mut command = command(Some(store), args);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    stdin.flush().unwrap();
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    (stdin, Said { status: child.wait().unwrap(), stdout, stderr })
}

/// Runs a command that must succeed; its text.
pub(crate) fn text(store: &Path, args: &[&str]) -> String {
    let said = run(Some(store), args);
    assert!(said.status.success(), "tarn {args:?} failed: {said:?}");
    assert_eq!(said.stderr, "", "tarn {args:?}: a command that succeeds says nothing on standard error");
    assert!(!said.stdout.contains('\u{1b}'), "no colours where there is no terminal: {said:?}");
    said.stdout
}

/// Runs a command with `--json` that must succeed; its document.
pub(crate) fn json(store: &Path, args: &[&str]) -> Json {
    let said = run(Some(store), &[args, &["--json"]].concat());
    assert!(said.status.success(), "tarn {args:?} failed: {said:?}");
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("tarn {args:?}: {error}: {said:?}"))
}

/// Runs a command that must fail; what it says on standard error.
pub(crate) fn error(store: Option<&Path>, args: &[&str]) -> String {
    let said = run(store, args);
    assert_eq!(said.status.code(), Some(1), "tarn {args:?} must fail: {said:?}");
    assert_eq!(said.stdout, "", "tarn {args:?}: a command that fails says nothing on standard output");
    assert!(said.stderr.starts_with("error: "), "{said:?}");
    said.stderr
}

/// A server under test; killed when dropped.
#[derive(Debug)]
pub(crate) struct Serving {
    child: Child,
    pub(crate) url: String,
    // Closing it would make the server's farewell fail.
    _stdout: BufReader<ChildStdout>,
}

impl Serving {
    /// Starts `tarn serve` on a free port and waits for its address.
    pub(crate) fn start(store: &Path, args: &[&str]) -> Self {
        let args = [&["serve", "--listen", "127.0.0.1:0"], args].concat();
        let mut child = command(Some(store), &args).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let url = loop {
            line.clear();
            assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "the server ended before it said its address");
            if let Some(url) = line.trim().strip_prefix("listening on") {
                break url.trim().to_owned();
            }
        };
        Self { child, url, _stdout: stdout }
    }

    /// SIGTERM, and the status with which the server ends.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has usually ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Defines the data source and the index that most tests use: 2-d, `id`, `lang` and `year`.
pub(crate) fn define(store: &Path) {
    json(
        store,
        &[
            "source",
            "create",
            "docs/1.0",
            "--dimension",
            "2",
            "--attribute",
            "id:string",
            "--attribute",
            "lang:string",
            "--attribute",
            "year:int64",
            "--permanent",
            "id,lang",
        ],
    );
    json(
        store,
        &["index", "create", "docs/1.0", "--source", "docs/1.0", "--metric", "l2", "--id", "id", "--split", "lang"],
    );
}

/// The `id` of every hit of the first query, nearest first.
pub(crate) fn ids(found: &Json) -> Vec<String> {
    let hits = found["results"][0].as_array().unwrap();
    hits.iter().map(|hit| hit["attributes"]["id"].as_str().unwrap().to_owned()).collect()
}
