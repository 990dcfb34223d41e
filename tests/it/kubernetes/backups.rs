//! Commands of the chart in pods of their own: events loaded by a Job, a backup by the `CronJob`, and its restore by the pod of
//! `examples/kubernetes`, each run as it is rendered.

use std::fs;

use outrigger::api::proto::v1::{ReadOptions, query_client::QueryClient};
use serde_json::Value;
use tonic::service::interceptor::InterceptedService;

use super::{
    airport, board,
    fields::Fields,
    pod::{Pod, Probe, Readiness, run_command},
    render::{Charts, Objects, address, pod_ip},
    rollouts::{ADMIN, APP, Caller},
    volumes::Machine,
};
use crate::support::{connect, repository};

const EVENTS: usize = 300;

/// Events as `outrigger load` takes them.
fn history() -> String {
    let line = |number: usize| {
        let id = uuid::Uuid::from_u128(number as u128 + 1);
        format!(
            "{{\"id\":\"{id}\",\"type\":\"flight.departed\",\"stream\":\"flight-{number}\",\"data\":{{\"origin\":\"EWR\"}}}}\n"
        )
    };
    (0..EVENTS).map(line).collect()
}

/// What the projection says of the airport, once it shows all events.
async fn departures(objects: &Objects, ip: std::net::IpAddr) -> Value {
    let port = &objects.get("Service", "flights-outrigger")["spec"]["ports"][0]["targetPort"];
    let client = InterceptedService::new(connect(address(ip, port)).await, Caller::new(APP, None));
    let mut query = QueryClient::new(client);
    loop {
        let request =
            outrigger::api::proto::v1::GetRequest { options: Some(ReadOptions::default()), ..airport() };
        let Ok(answer) = query.get(request).await else { continue };
        let answer = answer.into_inner();
        if answer.context.is_some_and(|context| context.as_of >= EVENTS as u64) {
            return serde_json::from_slice(&answer.document.unwrap().value).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_loads_a_cron_job_backs_up_and_the_example_pod_restores() {
    let (Some(charts), Some(ip)) = (Charts::new(), pod_ip()) else { return };
    let (tokens, history) = (format!("app: {APP}\nadmin: {ADMIN}\n"), history());
    let machine = Machine::new(&[
        ("flights-tokens", &[("tokens.yaml", &tokens), ("app", APP), ("admin", ADMIN)]),
        ("flights-history", &[("flights.ndjson", &history)]),
        ("flights-backup", &[]),
    ]);
    let objects = charts.render("jobs", &charts.projection("board-v1.yaml", &board(1)));
    let readiness = Readiness::watch(Probe::readiness(&objects, "flights-outrigger", ip));
    readiness.wait_for(false);
    let pod = Pod::start(&machine, &objects, "flights-outrigger", ip);
    readiness.wait_for(true);

    let mut load = Fields::of(&objects.get("Job", "flights-outrigger-load")["spec"]["template"]["spec"]);
    run_command(&machine, &objects, ("load", &mut load, "containers"), ip);
    let before = departures(&objects, ip).await;
    assert_eq!(before["departures"], EVENTS);
    let job = &objects.get("CronJob", "flights-outrigger-backup")["spec"]["jobTemplate"]["spec"];
    for _ in ["the first", "the next"] {
        let mut backup = Fields::of(&job["template"]["spec"]);
        run_command(&machine, &objects, ("backup", &mut backup, "containers"), ip);
    }
    pod.terminate();
    readiness.wait_for(false);

    fs::remove_dir_all(machine.path().join("claims/flights-outrigger-data")).unwrap();
    let text = fs::read_to_string(repository().join("examples/kubernetes/restore.yaml")).unwrap();
    let restore: Value = serde_saphyr::from_str(&text).unwrap();
    run_command(&machine, &objects, ("restore", &mut Fields::of(&restore["spec"]), "containers"), ip);
    let pod = Pod::start(&machine, &objects, "flights-outrigger", ip);
    readiness.wait_for(true);
    assert_eq!(departures(&objects, ip).await, before);
    pod.terminate();
}
