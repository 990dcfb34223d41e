//! The index behind the real log: both on one simulated disk, both after one power loss.

use super::*;
use crate::log::{self, LogConfig, Opened};

fn open_log(disk: &SimDisk, seed: u64) -> Result<Opened, log::LogError> {
    let config = LogConfig {
        dir: PathBuf::from("/data/log"),
        node: "flights".into(),
        segment_bytes: 64 * 1024,
        low_water_bytes: 0,
    };
    log::open(Arc::new(disk.clone()), &SimClock::new(seed), config)
}

/// Appends a log of the model group by group, as the committer does.
fn run_node(disk: &SimDisk, model: &Log) -> Result<(), Box<dyn std::error::Error>> {
    let Opened { mut writer, reader, .. } = open_log(disk, 1)?;
    let log = LogView { log_id: reader.log_id(), ..Log::default().view() };
    let config = IndexConfig { run_events: 4, background: false, ..IndexConfig::default() };
    let index = Index::open_with(Arc::new(disk.clone()), &dir(), log, config)?;
    for group in model.events().chunks(5) {
        let payloads: Vec<Bytes> = group.iter().map(|event| event.encode().into()).collect();
        writer.append(&payloads)?;
        index.apply(group)?;
        while index.step()? {}
    }
    Ok(())
}

fn check_after_crash(disk: &SimDisk, model: &Log) {
    let opened = open_log(disk, 2).unwrap();
    let recovered = Log(Arc::new(Mutex::new(model.events())));
    recovered.0.lock().unwrap().truncate(opened.reader.head().get() as usize);
    let index = Index::open(Arc::new(disk.clone()), &dir(), &opened.reader).unwrap();
    check_all(&index, &recovered);
}

#[test]
fn log_and_index_agree_after_power_loss() {
    let model = Log::default();
    for number in 0..60 {
        model.append(&Recipe { stream: number % 5, event_type: number % 4, tags: vec![number % 3, 3] });
    }
    let disk = SimDisk::new(1);
    run_node(&disk, &model).unwrap();
    check_after_crash(&disk.kill(1), &model);
    for operation in (0..disk.operations()).step_by(3) {
        let disk = SimDisk::new(operation);
        disk.crash_at(operation);
        run_node(&disk, &model).unwrap_err();
        check_after_crash(&disk.crash(operation), &model);
    }
}
