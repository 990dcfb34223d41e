//! A node in a network namespace of its own, cut off from the broker for a while: its own work goes on, and afterwards it
//! takes over what it missed. Needs the right to make namespaces (root), and `ip`.

use std::{
    process::{Command, Output},
    time::{Duration, Instant},
};

use super::{Place, depart, expected};
use crate::{
    nats_server::NatsServer,
    support::{Process, binary},
};

/// How long anything may take; a lost connection is noticed after two pings.
const PATIENCE: Duration = Duration::from_secs(120);

/// A namespace and a pair of interfaces between it and the host; gone with this value.
struct Namespace {
    name: String,
    outside: String,
    net: String,
}

impl Namespace {
    /// None where this machine does not allow it.
    #[expect(clippy::print_stdout, reason = "a skipped test says so")]
    fn create() -> Option<Self> {
        let number = std::process::id();
        let space = Self {
            name: format!("outrigger-{number}"),
            outside: format!("or{number}"),
            net: format!("10.213.{}", number % 250 + 1),
        };
        let made = ip(&["netns", "add", &space.name]);
        if !made.as_ref().is_some_and(|output| output.status.success()) {
            println!("SKIPPED: no network namespace can be made here: {made:?}");
            return None;
        }
        let (name, outside, inside) = (space.name.as_str(), space.outside.as_str(), format!("in{number}"));
        let (here, there) = (format!("{}.1/24", space.net), format!("{}.2/24", space.net));
        for arguments in [
            vec!["link", "add", outside, "type", "veth", "peer", "name", &inside, "netns", name],
            vec!["addr", "add", &here, "dev", outside],
            vec!["link", "set", outside, "up"],
            vec!["-n", name, "addr", "add", &there, "dev", &inside],
            vec!["-n", name, "link", "set", &inside, "up"],
            vec!["-n", name, "link", "set", "lo", "up"],
        ] {
            let done = ip(&arguments).expect("it ran just now");
            assert!(done.status.success(), "{arguments:?}: {done:?}");
        }
        Some(space)
    }

    /// Takes the cable out, or puts it in again.
    fn set_connected(&self, connected: bool) {
        let state = if connected { "up" } else { "down" };
        assert!(ip(&["link", "set", &self.outside, state]).unwrap().status.success());
    }

    /// A command that runs inside.
    fn command(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, binary()]);
        command
    }

    /// What a command of the product says inside, as JSON lines.
    fn ask(&self, node: &Process, arguments: &[&str]) -> Vec<serde_json::Value> {
        let mut command = self.command();
        command.args(["--output", "json", "--addr", &node.grpc_addr.to_string()]).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(ip(&["link", "del", &self.outside]));
        drop(ip(&["netns", "del", &self.name]));
    }
}

fn ip(arguments: &[&str]) -> Option<Output> {
    Command::new("ip").args(arguments).output().ok()
}

/// Asks until the answer is as it should be.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a network namespace and lost connections: run by tests/run --long"]
async fn a_node_that_is_cut_off_goes_on_and_catches_up() {
    let Some(space) = Namespace::create() else { return };
    let everywhere = ["-a".to_owned(), "0.0.0.0".to_owned()];
    let Some(nats) = NatsServer::start_command("", &everywhere) else { return };
    let mut place = Place::new(&nats);
    let owner = place.owner();
    place.url = place.url.replace("127.0.0.1", &format!("{}.1", space.net));
    let mut command = space.command();
    for (name, value) in place.command("operations").get_envs() {
        command.env(name, value.unwrap());
    }
    command.env("OUTRIGGER_IMPORTS__DIR", place.dir.path().join("imports"));
    let importer = Process::start_command(command, &place.dir.path().join("operations"), &[]);
    let taken = |count: usize| {
        let imports = space.ask(&importer, &["mesh", "imports"]);
        imports[0].to_string().contains(&format!("\"seq\":\"{count}\""))
            || imports[0].to_string().contains(&format!("\"seq\":{count}"))
    };
    depart(&owner, 1..401).await;
    until("the import before", || taken(expected(401).len()));

    space.set_connected(false);
    depart(&owner, 401..801).await;
    let local = ["append", "--type", "board.shown", "--stream", "board", "--data", "{}"];
    space.ask(&importer, &local);
    until("the loss of the connection", || {
        space.ask(&importer, &["mesh", "status"])[0].to_string().contains("\"is_connected\":false")
    });
    space.ask(&importer, &local);
    assert!(taken(expected(401).len()), "nothing can have come");

    space.set_connected(true);
    until("the import afterwards", || taken(expected(801).len()));
    let numbers: Vec<u64> = space
        .ask(&importer, &["read", "--type", "flight.departed", "--limit", "1000"])
        .iter()
        .map(|event| event["data"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, expected(801));
    assert_eq!(space.ask(&importer, &["read", "--type", "board.shown"]).len(), 2);
}
