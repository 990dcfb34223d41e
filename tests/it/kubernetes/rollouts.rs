//! Rollouts on one volume, as Helm renders them: a new version of a projection without a restart, back by `helm rollback`, and
//! a release of a service beside the one before. A reader goes on all the while: no read fails, none goes back.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use outrigger::api::proto::v1::{self, event_log_client::EventLogClient, query_client::QueryClient};
use tokio::task::JoinHandle;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use super::{
    airport, board, departure,
    fields::Fields,
    pod::{Pod, Probe, Readiness, run_command},
    render::{Charts, Objects, pod_ip},
    volumes::Machine,
};
use crate::support::{append, connect};

pub(super) const APP: &str = "token-of-the-application";
pub(super) const ADMIN: &str = "token-of-the-administrators";

/// A token and a release, with every call.
#[derive(Clone, Default)]
pub(super) struct Caller {
    token: Option<MetadataValue<Ascii>>,
    release: Option<MetadataValue<Ascii>>,
}

impl Caller {
    pub(super) fn new(token: &str, release: Option<&str>) -> Self {
        let token = Some(format!("Bearer {token}").parse().unwrap());
        Self { token, release: release.map(|release| release.parse().unwrap()) }
    }
}

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, tonic::Status> {
        for (name, value) in [("authorization", &self.token), ("outrigger-release", &self.release)] {
            if let Some(value) = value {
                request.metadata_mut().insert(name, value.clone());
            }
        }
        Ok(request)
    }
}

type Client = InterceptedService<Channel, Caller>;

/// What a reader saw, one read after the other without a pause. A read that fails ends it with a panic.
struct Reader {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<u32>>,
}

impl Reader {
    fn start(client: Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut query = QueryClient::new(client);
            let (mut versions, mut as_of) = (Vec::new(), 0);
            while !stopped.load(Ordering::Relaxed) {
                let mut request = Request::new(airport());
                request.set_timeout(Duration::from_secs(20));
                let context = query.get(request).await.expect("no read fails").into_inner().context.unwrap();
                assert!(
                    context.as_of >= as_of,
                    "the as-of position went back from {as_of} to {}",
                    context.as_of
                );
                as_of = context.as_of;
                if versions.last() != Some(&context.version) {
                    versions.push(context.version);
                }
            }
            versions
        });
        Self { stop, task }
    }

    /// The versions that answered, one after the other.
    async fn end(self) -> Vec<u32> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the reader saw nothing wrong")
    }
}

/// Waits until a version answers.
async fn until_answers(client: &Client, version: u32) {
    let mut query = QueryClient::new(client.clone());
    while query.get(airport()).await.unwrap().into_inner().context.unwrap().version != version {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Appends, and reads what was appended.
async fn append_departures(client: &Client) {
    let request = append((0..200).map(departure).collect());
    let at_least = EventLogClient::new(client.clone()).append(request).await.unwrap().into_inner().token;
    let options = Some(v1::ReadOptions { at_least, ..Default::default() });
    let request = v1::GetRequest { options, ..airport() };
    QueryClient::new(client.clone()).get(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_in_the_config_map_answers_without_a_restart_and_helm_rollback_takes_it_back() {
    let (Some(charts), Some(ip)) = (Charts::new(), pod_ip()) else { return };
    let machine = Machine::new(&[]);
    let first = charts.projection("board-v1.yaml", &board(1));
    let second = charts.projection("board-v2.yaml", &board(2));
    let objects = charts.render("minimal", &first);
    let readiness = Readiness::watch(Probe::readiness(&objects, "flights", ip));
    readiness.wait_for(false);
    let pod = Pod::start(&machine, &objects, "flights", ip);
    readiness.wait_for(true);
    let addr: SocketAddr = pod.service_env[0].1.as_str().unwrap().parse().unwrap();
    let client = InterceptedService::new(connect(addr).await, Caller::default());
    append_departures(&client).await;
    until_answers(&client, 1).await;
    let (reader, process) = (Reader::start(client.clone()), pod.node.pid());

    let upgrade = charts.render("minimal", &[&first[..], &second].concat());
    let pods = |objects: &Objects| objects.get("StatefulSet", "flights").clone();
    assert_eq!(pods(&upgrade), pods(&objects), "the controller has nothing to restart");
    let map = "flights-outrigger-projections";
    machine.update("flights", "outrigger-projections", upgrade.get("ConfigMap", map));
    until_answers(&client, 2).await;
    append_departures(&client).await;

    // What `helm rollback` applies: the render of the revision before.
    let rollback = charts.render("minimal", &first);
    assert_eq!(rollback.get("ConfigMap", map), objects.get("ConfigMap", map));
    machine.update("flights", "outrigger-projections", rollback.get("ConfigMap", map));
    until_answers(&client, 1).await;
    append_departures(&client).await;

    assert_eq!(reader.end().await, [1, 2, 1], "the versions that answered");
    assert_eq!(pod.node.pid(), process, "the process is the one that was started");
    pod.terminate();
    readiness.wait_for(false);
    assert_eq!(readiness.end(), [false, true, false], "ready from its start to its end");
}

/// The init container of a Deployment of the service, run to its end as its pod does before the service starts.
fn run_init_container(machine: &Machine, objects: &Objects, deployment: &str, ip: IpAddr) {
    let mut pod = Fields::of(&objects.get("Deployment", deployment)["spec"]["template"]["spec"]);
    run_command(machine, objects, (deployment, &mut pod, "initContainers"), ip);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_green_release_comes_beside_blue_on_a_companion() {
    let (Some(charts), Some(ip)) = (Charts::new(), pod_ip()) else { return };
    let tokens = format!("app: {APP}\nadmin: {ADMIN}\n");
    let machine =
        Machine::new(&[("flights-tokens", &[("tokens.yaml", &tokens), ("app", APP), ("admin", ADMIN)])]);
    let objects = charts.render("blue-green", &[]);
    let readiness = Readiness::watch(Probe::readiness(&objects, "flights-outrigger", ip));
    readiness.wait_for(false);
    let pod = Pod::start(&machine, &objects, "flights-outrigger", ip);
    readiness.wait_for(true);
    let port = objects.get("Service", "flights-outrigger")["spec"]["ports"][0]["targetPort"].clone();
    let channel = connect(super::render::address(ip, &port)).await;
    let client = |token, release| InterceptedService::new(channel.clone(), Caller::new(token, release));
    let anonymous = InterceptedService::new(channel.clone(), Caller::default());
    let refused = QueryClient::new(anonymous).get(airport()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);

    run_init_container(&machine, &objects, "flights-blue", ip);
    append_departures(&client(APP, None)).await;
    let blue = client(APP, Some("blue"));
    until_answers(&blue, 1).await;
    let (blue_reader, everybody) = (Reader::start(blue), Reader::start(client(APP, None)));

    run_init_container(&machine, &objects, "flights-green", ip);
    let green = client(APP, Some("green"));
    let green_reader = Reader::start(green.clone());
    append_departures(&client(APP, None)).await;
    let request = v1::PromoteReleaseRequest { release: "green".into(), ..Default::default() };
    let mut releases = v1::releases_client::ReleasesClient::new(client(ADMIN, None));
    releases.promote_release(request).await.unwrap();
    until_answers(&client(APP, None), 2).await;
    append_departures(&client(APP, None)).await;
    // A pod of green that starts later applies what is there: nothing changes.
    run_init_container(&machine, &objects, "flights-green", ip);

    assert_eq!(blue_reader.end().await, [1], "blue reads blue all the time");
    assert_eq!(green_reader.end().await, [2], "green reads green from its first read on");
    assert_eq!(everybody.end().await, [1, 2], "who names nothing reads what is promoted");
    pod.terminate();
    readiness.wait_for(false);
    assert_eq!(readiness.end(), [false, true, false], "ready from its start to its end");
}
