//! The build before policies measured only, as a program that answers questions.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// The last commit of that build.
const COMMIT: &str = "7c27ca1";
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/corners/before.rs");
const HOW: &str = "sources of an earlier commit in target/before, compiled once";

/// Variable that names the program, where it is built already.
const BUILT: &str = "BENCH_BEFORE";

/// The program, running.
pub(crate) struct Before {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Before {
    /// Builds and starts it; none if it can't be built here, which is said.
    pub(crate) fn start() -> Option<Self> {
        let built = std::env::var_os(BUILT).map(PathBuf::from);
        let program = match built.map_or_else(build, Ok) {
            Ok(program) => program,
            Err(why) => {
                println!("NOT MEASURED: the build of {COMMIT} ({HOW}): {why}");
                return None;
            }
        };
        let mut child =
            Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, input, output })
    }

    /// Asks one question.
    pub(crate) fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.input, "{question}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|why| panic!("{question}: {line:?}: {why}"))
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn build() -> Result<PathBuf, String> {
    let folder = Path::new(ROOT).join("target/before");
    let tree = folder.join("tree");
    if !tree.join("Cargo.toml").is_file() {
        std::fs::create_dir_all(&tree).map_err(|why| why.to_string())?;
        let unpack = format!("git archive {COMMIT} | tar -x -C '{}'", tree.display());
        run(Command::new("sh").args(["-c", &unpack]).current_dir(ROOT))?;
    }
    let examples = tree.join("host/examples");
    std::fs::create_dir_all(&examples).map_err(|why| why.to_string())?;
    let source = std::fs::read(SOURCE).map_err(|why| why.to_string())?;
    let copy = examples.join("before.rs");
    // Only if it differs: its time says whether it has to be compiled again.
    if std::fs::read(&copy).ok().as_ref() != Some(&source) {
        std::fs::write(&copy, source).map_err(|why| why.to_string())?;
    }
    println!("building {COMMIT}, for the comparison: minutes, once");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--release", "--locked", "-p", "tallyman", "--example", "before"])
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .current_dir(&tree);
    run(&mut cargo)?;
    Ok(folder.join("target/release/examples/before"))
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} ended with {status}")),
        Err(why) => Err(format!("{command:?} can't be run: {why}")),
    }
}
