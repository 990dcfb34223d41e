//! An owner is lost with its disk and restored from a backup, over a real broker: its importer is told (`STALE_EPOCH`), goes on
//! after a resync, and loses nothing of what it holds.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Place, depart, expected, imported, numbers};
use crate::{
    nats_server::NatsServer,
    support::{Process, binary},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a command of the product says.
fn outrigger(node: Option<&Process>, words: &[&str]) -> String {
    let mut command = Command::new(binary());
    command.args(words);
    if let Some(node) = node {
        command.args(["--addr", &node.grpc_addr.to_string()]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The import, as soon as it is like this.
async fn import(node: &Process, is_so: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let text = outrigger(Some(node), &["mesh", "imports", "--output", "json"]);
        let import: Value = serde_json::from_str(text.lines().next().unwrap_or("null")).unwrap();
        if is_so(&import) {
            return import;
        }
        assert!(begun.elapsed() < PATIENCE, "{import}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_restored_from_a_backup_and_its_importer_go_on() {
    let Some(nats) = NatsServer::start() else { return };
    let place = Place::new(&nats);
    let (owner, importer) = (place.owner(), place.importer());
    let (backup, data) = (place.dir.path().join("backup"), place.dir.path().join("flights"));
    depart(&owner, 1..301).await;
    // The backup is one cut, and appends go on meanwhile.
    let under_load = depart(&owner, 301..601);
    let backing_up = async {
        let (to, addr) = (text(&backup).to_owned(), owner.grpc_addr.to_string());
        let words =
            ["backup".to_owned(), "--to".into(), to, "--addr".into(), addr, "--output".into(), "json".into()];
        let done =
            tokio::task::spawn_blocking(move || outrigger(None, &words.each_ref().map(String::as_str)));
        serde_json::from_str::<Value>(&done.await.unwrap()).unwrap()["head"].as_u64().unwrap()
    };
    let ((), head) = tokio::join!(under_load, backing_up);
    assert!((300..=601).contains(&head), "{head}");
    depart(&owner, 601..701).await;
    let before = imported(importer.channel().await, expected(701).len()).await;
    assert_eq!(numbers(&before), expected(701));

    owner.kill();
    fs::remove_dir_all(&data).unwrap();
    outrigger(None, &["restore", "--from", text(&backup), "--data-dir", text(&data)]);
    let owner = place.owner();
    depart(&owner, 2_001..2_101).await;
    import(&importer, |import| import.to_string().contains("STALE_EPOCH")).await;
    let said =
        outrigger(Some(&importer), &["mesh", "resync", "flights", "--reason", "the owner was restored"]);
    assert!(said.contains("goes on from the last event"), "{said}");

    let new: Vec<u64> = (2_001..2_101).filter(|n| n % 4 != 0).collect();
    let all = imported(importer.channel().await, expected(701).len() + new.len()).await;
    // What was imported of the lost past stays where it was, and the new past follows.
    assert_eq!(all[..before.len()], before[..]);
    assert_eq!(numbers(&all[before.len()..]), new);
    import(&importer, |import| import["state"] == "following").await;
}
