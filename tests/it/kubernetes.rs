//! The rendered pod runs: what Helm makes of the charts, started as a kubelet would start it, with the real binary.
//!
//! A pod is held against the fields that were rendered: each is exercised, or stands on the list of those that are not, with
//! its reason. Does not know a cluster: no controller, no scheduler, no image.

mod backups;
mod container;
mod fields;
mod pod;
mod render;
mod rollouts;
mod settings;
mod tls;
mod volumes;

use std::{collections::BTreeSet, net::TcpStream};

use outrigger::api::proto::v1::{self, event_log_client::EventLogClient, query_client::QueryClient};

use self::{
    fields::Fields,
    pod::{Pod, Probe, Readiness, run_command},
    render::{Charts, pod_ip},
    volumes::Machine,
};
use crate::support::{append, connect, event, text_key};

/// The rendered fields of the pod that no test here exercises, and why.
const NOT_EXERCISED: &[(&str, &str)] = &[
    ("node.image", "the binary of this build stands in"),
    ("node.imagePullPolicy", "the binary of this build stands in"),
    ("node.restartPolicy", "no kubelet restarts it; the order of start and end is kept by hand"),
    ("node.readinessProbe.periodSeconds", "the test asks more often"),
    ("node.readinessProbe.failureThreshold", "the test takes every answer as it is"),
    ("node.livenessProbe.periodSeconds", "no kubelet restarts it"),
    ("node.livenessProbe.failureThreshold", "no kubelet restarts it"),
    ("node.resources.limits.memory", "needs a control group"),
    ("node.resources.requests.cpu", "for the scheduler"),
    ("node.resources.requests.memory", "for the scheduler"),
    ("node.securityContext.seccompProfile.type", "the profile belongs to the container runtime"),
    ("pod.securityContext.fsGroup", "the kubelet changes groups of volumes; the sandbox has one user"),
    ("pod.securityContext.fsGroupChangePolicy", "the same"),
    ("pod.securityContext.seccompProfile.type", "the profile belongs to the container runtime"),
    ("service.name", "the test stands in for the service"),
    ("service.image", "the test stands in for the service"),
    ("service.imagePullPolicy", "the test stands in for the service"),
    ("service.securityContext.allowPrivilegeEscalation", "the test stands in for the service"),
    ("service.securityContext.capabilities.drop", "the test stands in for the service"),
    ("service.securityContext.runAsNonRoot", "the test stands in for the service"),
];

/// Version `number` of projection `board`, which becomes active by itself.
fn board(number: u32) -> String {
    format!(
        "projection: board\nversion: {number}\nauto_promote: when_ready\ncollections: {{ airports: {{}} }}\nevents:\n  \
         flight.departed:\n    - add: airports\n      key: data.origin\n      value: {{ departures: 1, v{number}: 1 }}\n"
    )
}

fn departure(number: usize) -> v1::NewEvent {
    event("flight.departed", &format!("flight-{number}"), r#"{"origin":"EWR","delay_minutes":7}"#)
}

/// A read of the one document that names no version.
fn airport() -> v1::GetRequest {
    v1::GetRequest {
        projection: "board".into(),
        collection: "airports".into(),
        key: Some(text_key("EWR")),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rendered_sidecar_runs_and_every_field_is_exercised_or_listed() {
    let (Some(charts), Some(ip)) = (Charts::new(), pod_ip()) else { return };
    let machine = Machine::new(&[]);
    let definition = charts.projection("board-v1.yaml", &board(1));
    let objects = charts.render("minimal", &definition);
    let readiness = Readiness::watch(Probe::readiness(&objects, "flights", ip));
    readiness.wait_for(false);
    let pod = Pod::start(&machine, &objects, "flights", ip);
    readiness.wait_for(true);
    assert!(pod.liveness.holds());
    let listed: BTreeSet<String> = NOT_EXERCISED.iter().map(|(field, _)| (*field).to_owned()).collect();
    assert_eq!(pod.left, listed, "rendered fields that are not exercised, and the list of them");

    // `helm test` agrees.
    let mut test = Fields::of(&objects.get("Pod", "flights-outrigger-test")["spec"]);
    run_command(&machine, &objects, ("test", &mut test, "containers"), ip);

    // Confined as the pod asks for, process 1 of its own namespace.
    assert_eq!(pod.node.status("CapEff"), "0000000000000000");
    assert_eq!(pod.node.status("NoNewPrivs"), "1");
    assert!(pod.node.status("NSpid").ends_with("\t1"), "{}", pod.node.status("NSpid"));

    // The service finds the node where its environment says; nobody else does.
    let [(name, addr)] = pod.service_env.as_slice() else { panic!("{:?}", pod.service_env) };
    assert_eq!(name, "OUTRIGGER_ADDR");
    let addr: std::net::SocketAddr = addr.as_str().unwrap().parse().unwrap();
    assert!(TcpStream::connect((ip, addr.port())).is_err(), "gRPC of a sidecar is for its pod alone");
    let channel = connect(addr).await;
    let appended =
        EventLogClient::new(channel.clone()).append(append((0..100).map(departure).collect())).await;
    let token = appended.unwrap().into_inner().token;
    let options = Some(v1::ReadOptions { at_least: token, ..Default::default() });
    let request = v1::GetRequest { options, ..airport() };
    let answer = QueryClient::new(channel).get(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.document.unwrap().value, r#"{"departures":100,"v1":100}"#);

    // Another setting is another pod on the same volume.
    let objects =
        charts.render("minimal", &[&definition[..], &set("outrigger.limits.memory=128MiB")].concat());
    pod.terminate();
    readiness.wait_for(false);
    let pod = Pod::start(&machine, &objects, "flights", ip);
    readiness.wait_for(true);
    let answer = QueryClient::new(connect(addr).await).get(request).await.unwrap().into_inner();
    assert_eq!(answer.context.unwrap().version, 1);
    pod.terminate();
    readiness.wait_for(false);
    assert_eq!(readiness.end(), [false, true, false, true, false]);
}

fn set(value: &str) -> [String; 2] {
    ["--set".into(), value.into()]
}
