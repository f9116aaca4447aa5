//! Stands in for the daemon's program in tests that kill processes.
//!
//! `supervise` is the supervisor. `launch <hypervisor> <folder>` launches the tiny guest in the
//! folder, prints `ready` when it is, and waits to be killed.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use tallyman::hypervisor::{Kind, Observed, Origin, supervisor};
use tallyman_tests::machine;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, supervisor::SUBCOMMAND] => supervisor::supervise(),
        [_, "launch", name, dir] => {
            let kind =
                Kind::ALL.into_iter().find(|kind| kind.as_str() == name).expect("a hypervisor");
            launch(kind, Path::new(dir))
        }
        _ => panic!("stand-in supervise | launch <hypervisor> <folder>, not {args:?}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn launch(kind: Kind, dir: &Path) -> ExitCode {
    let hypervisor = machine::detect(kind, &std::env::current_exe().expect("our own path"))
        .await
        .expect("it works here");
    let mut launched =
        hypervisor.launch(&machine::spec(kind, dir), Origin::Boot).await.expect("launch");
    launched.vm.resume().await.expect("resume");
    while !matches!(launched.observed.recv().await.expect("ready"), Observed::AgentReady(_)) {}
    println!("ready");
    std::io::stdout().flush().expect("tell");
    std::future::pending().await
}
