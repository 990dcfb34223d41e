//! The settings that the chart renders are those of the program: every file of `ci/` passes `outrigger config check`, and a node
//! with keys, trust, exports and imports starts with what is mounted for it.

use std::{fs, process::Command};

use super::{
    pod::{Pod, Probe, Readiness},
    render::{Charts, pod_ip},
    volumes::Machine,
};
use crate::support::{binary, repository};

#[test]
fn the_program_takes_the_settings_of_every_example() {
    let Some(charts) = Charts::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut files = 0;
    for entry in fs::read_dir(repository().join("charts/outrigger/ci")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let objects = charts.render(name.strip_suffix("-values.yaml").unwrap(), &[]);
        let map = objects
            .find("ConfigMap", "flights-outrigger-config")
            .unwrap_or_else(|| panic!("{name} renders no settings"));
        let file = dir.path().join(&name);
        fs::write(&file, map["data"]["outrigger.yaml"].as_str().unwrap()).unwrap();
        let output =
            Command::new(binary()).args(["config", "check", "--config"]).arg(&file).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && err.is_empty(), "{name}: {err}");
        files += 1;
    }
    assert!(files >= 7, "{files}");
}

/// Runs `config check` of a service of `examples/compose` as its container would, with the directory that it mounts.
#[test]
fn the_program_takes_the_settings_of_the_compose_example() {
    let dir = repository().join("examples/compose");
    let text = fs::read_to_string(dir.join("compose.yaml")).unwrap();
    let compose: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    let mut nodes = 0;
    for (name, service) in compose["services"].as_object().unwrap() {
        let Some(words) = service["command"].as_array().filter(|words| words[0] == "serve") else { continue };
        let target = service["working_dir"].as_str().unwrap();
        assert_eq!(words[2], format!("{target}/outrigger.yaml"), "{name}");
        let mut mounts = service["volumes"].as_array().unwrap().iter().map(|mount| mount.as_str().unwrap());
        let source = mounts.find_map(|mount| mount.strip_suffix(&format!(":{target}:ro"))).unwrap();
        let mut command = Command::new(binary());
        command.env_clear().current_dir(dir.join(source)).args([
            "config",
            "check",
            "--config",
            "outrigger.yaml",
        ]);
        for (variable, value) in service["environment"].as_object().unwrap() {
            command.env(variable, value.as_str().unwrap());
        }
        let output = command.output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && err.is_empty(), "{name}: {err}");
        nodes += 1;
    }
    assert_eq!(nodes, 3);
}

#[test]
fn the_service_reaches_the_socket_that_its_pod_shares() {
    let (Some(charts), Some(ip)) = (Charts::new(), pod_ip()) else { return };
    let machine = Machine::new(&[]);
    let objects = charts.render("minimal", &["--set", "outrigger.grpc.socket=true"].map(str::to_owned));
    let pod = Pod::start(&machine, &objects, "flights", ip);
    // The service mounts the same volume.
    let service = &objects.get("StatefulSet", "flights")["spec"]["template"]["spec"]["containers"][0];
    let mount = serde_json::json!([{ "name": "outrigger-run", "mountPath": "/run/outrigger" }]);
    assert_eq!(service["volumeMounts"], mount);
    let addr = pod.service_env[0].1.as_str().unwrap();
    let socket = addr.strip_prefix("unix:/run/outrigger/").unwrap();
    let addr = format!("unix:{}", machine.path().join("pods/flights/outrigger-run").join(socket).display());
    let output = Command::new(binary()).args(["--addr", &addr, "projection", "list"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    pod.terminate();
}

#[test]
fn a_node_that_shares_starts_with_its_mounted_keys() {
    let (Some(charts), Some(ip)) = (Charts::new(), pod_ip()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("flights.nk");
    let mut keygen = Command::new(binary());
    keygen.args(["mesh", "keygen", "--node", "flights", "--output", "json", "--out"]).arg(&file);
    let made: serde_json::Value = serde_json::from_slice(&keygen.output().unwrap().stdout).unwrap();
    let trust = format!("flights: [{{key: {}}}]\n", made["public_key"].as_str().unwrap());
    let key = fs::read_to_string(file).unwrap();
    let machine = Machine::new(&[
        ("flights-mesh-key", &[("mesh.nk", &key)]),
        ("mesh-trust", &[("trust.yaml", &trust)]),
    ]);
    // No broker is there: that keeps no node from being ready.
    let broker =
        ["--set", "outrigger.mesh.nats.url=nats://127.0.0.1:1", "--set", "outrigger.mesh.nats.credsSecret="];
    let objects = charts.render("mesh", &broker.map(str::to_owned));
    let readiness = Readiness::watch(Probe::readiness(&objects, "flights", ip));
    readiness.wait_for(false);
    let pod = Pod::start(&machine, &objects, "flights", ip);
    readiness.wait_for(true);
    let addr = pod.service_env[0].1.as_str().unwrap().to_owned();
    let status = Command::new(binary()).args(["--addr", &addr, "mesh", "status"]).output().unwrap();
    let text = String::from_utf8(status.stdout).unwrap();
    for expected in ["departures", "weather"] {
        assert!(
            text.contains(expected),
            "{expected} is not in {text}{}",
            String::from_utf8_lossy(&status.stderr)
        );
    }
    pod.terminate();
    readiness.wait_for(false);
    assert_eq!(readiness.end(), [false, true, false]);
}
