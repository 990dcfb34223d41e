//! The pod of a rendered `StatefulSet`: volumes, the node's container, its probes, and its end.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    container::{Container, Surroundings},
    fields::Fields,
    render::{Objects, address},
    volumes::Machine,
};

/// How long a node of a test may take to start.
const PATIENCE: Duration = Duration::from_secs(120);

/// A probe as it was rendered, for the kubelet's address of the pod.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    addr: SocketAddr,
    path: String,
    timeout: Duration,
}

impl Probe {
    fn take(fields: &mut Fields, name: &str, ip: IpAddr) -> Self {
        Self {
            addr: address(ip, &fields.take(&[name, "httpGet", "port"])),
            path: fields.text(&[name, "httpGet", "path"]),
            timeout: Duration::from_secs(fields.number(&[name, "timeoutSeconds"])),
        }
    }

    /// The readiness probe of a `StatefulSet`'s pod that may not run yet.
    pub(crate) fn readiness(objects: &Objects, set: &str, ip: IpAddr) -> Self {
        let mut pod = Fields::of(&objects.get("StatefulSet", set)["spec"]["template"]["spec"]);
        let node = pod.list(&["initContainers"]).into_iter().chain(pod.list(&["containers"])).next();
        Self::take(&mut node.expect("a pod has a container"), "readinessProbe", ip)
    }

    /// Whether the kubelet would be content: an answer in time, of 200 to 399.
    pub(crate) fn holds(&self) -> bool {
        self.ask().is_some_and(|answer| answer.starts_with("HTTP/1.1 2") || answer.starts_with("HTTP/1.1 3"))
    }

    fn ask(&self) -> Option<String> {
        let mut stream = TcpStream::connect_timeout(&self.addr, self.timeout).ok()?;
        stream.set_read_timeout(Some(self.timeout)).ok()?;
        write!(stream, "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.path, self.addr)
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

/// A pod that runs.
pub(crate) struct Pod {
    pub(crate) node: Container,
    pub(crate) liveness: Probe,
    grace: Duration,
    /// The rendered fields that nothing here exercised.
    pub(crate) left: BTreeSet<String>,
    /// The environment of the service beside a sidecar.
    pub(crate) service_env: Vec<(String, Value)>,
}

impl Pod {
    /// Starts the pod of a `StatefulSet`, and waits until the startup probe lets the service's containers start.
    pub(crate) fn start(machine: &Machine, objects: &Objects, set: &str, ip: IpAddr) -> Self {
        let mut pod = Fields::of(&objects.get("StatefulSet", set)["spec"]["template"]["spec"]);
        let volumes = lay_out(machine, objects, set, &mut pod);
        let around = Surroundings { machine, volumes: &volumes, service_ip: ip, services: &[] };
        let (mut sidecars, mut containers) = (pod.list(&["initContainers"]), pod.list(&["containers"]));
        let is_sidecar = !sidecars.is_empty();
        let mut fields = if is_sidecar { sidecars.remove(0) } else { containers.remove(0) };
        assert!(sidecars.is_empty(), "one init container, the sidecar");
        let startup = Probe::take(&mut fields, "startupProbe", ip);
        Probe::take(&mut fields, "readinessProbe", ip);
        let liveness = Probe::take(&mut fields, "livenessProbe", ip);
        let budget = Duration::from_secs(
            fields.number(&["startupProbe", "periodSeconds"])
                * fields.number(&["startupProbe", "failureThreshold"]),
        );
        let ports = fields.list(&["ports"]);
        let mut node = Container::start(&mut fields, &around);
        let latest = Instant::now() + budget.min(PATIENCE);
        while !startup.holds() {
            assert!(!node.has_ended() && Instant::now() < latest, "the startup probe fails: {}", node.log());
            thread::sleep(Duration::from_millis(10));
        }
        for mut port in ports {
            let addr = address(ip, &port.take(&["containerPort"]));
            assert!(TcpStream::connect(addr).is_ok(), "nothing listens on {addr}, a port of the container");
        }
        let service_env = if is_sidecar { environment(&mut containers) } else { Vec::new() };
        // Nothing gives the process links to services or a token, which is what the pod asks for.
        assert_eq!(pod.take(&["enableServiceLinks"]), false);
        assert_eq!(pod.take(&["automountServiceAccountToken"]), false);
        let grace = Duration::from_secs(pod.number(&["terminationGracePeriodSeconds"]));
        let mut left = pod.left("pod");
        left.extend(fields.left("node"));
        left.extend(containers.iter().flat_map(|container| container.left("service")));
        Self { node, liveness, grace, left, service_env }
    }

    pub(crate) fn terminate(self) {
        self.node.terminate(self.grace);
    }
}

/// The environment of the service's container, which the test stands in for.
fn environment(containers: &mut [Fields]) -> Vec<(String, Value)> {
    let variables = containers.first_mut().expect("a service stands beside a sidecar").list(&["env"]);
    variables.into_iter().map(|mut variable| (variable.text(&["name"]), variable.take(&["value"]))).collect()
}

/// The directories of a pod's volumes.
pub(crate) fn lay_out(
    machine: &Machine,
    objects: &Objects,
    pod: &str,
    fields: &mut Fields,
) -> Vec<(String, PathBuf)> {
    let lay = |mut volume: Fields| {
        let laid = machine.volume(pod, &mut volume, objects);
        assert!(volume.left("volume").is_empty(), "{:?} of volume {}", volume.left("volume"), laid.0);
        laid
    };
    fields.list(&["volumes"]).into_iter().map(lay).collect()
}

/// Runs the one container of a list of a pod to its end: a command of outrigger, which must succeed.
pub(crate) fn run_command(machine: &Machine, objects: &Objects, of: (&str, &mut Fields, &str), ip: IpAddr) {
    let (name, pod, list) = of;
    let volumes = lay_out(machine, objects, name, pod);
    let services = ["flights-outrigger"];
    objects.get("Service", services[0]);
    let around = Surroundings { machine, volumes: &volumes, service_ip: ip, services: &services };
    let mut containers = pod.list(&[list]);
    let mut container = Container::start(&mut containers[0], &around);
    let status = container.wait(PATIENCE);
    assert!(status.success(), "{name}: {status}: {}", container.log());
    let listed = [
        "command.image",
        "command.imagePullPolicy",
        "command.resources.limits.memory",
        "command.resources.requests.cpu",
        "command.resources.requests.memory",
        "command.securityContext.seccompProfile.type",
    ];
    let listed = BTreeSet::from(listed.map(str::to_owned));
    let left = containers[0].left("command");
    assert!(left.is_subset(&listed), "fields of {name} that are not exercised: {left:?}");
}

/// Readiness as the kubelet sees it, sampled every 100 ms; only changes are kept.
pub(crate) struct Readiness {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    states: Mutex<(Vec<bool>, bool)>,
    changed: Condvar,
}

impl Readiness {
    /// Watches from before the pod is there.
    pub(crate) fn watch(probe: Probe) -> Self {
        assert!(!probe.holds(), "something answers at {probe:?} already");
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let thread = thread::spawn(move || {
            loop {
                let ready = probe.holds();
                let mut states = shared.states.lock().unwrap();
                if states.1 {
                    return;
                }
                if states.0.last() != Some(&ready) {
                    states.0.push(ready);
                    shared.changed.notify_all();
                }
                drop(states);
                thread::sleep(Duration::from_millis(100));
            }
        });
        Self { seen, thread: Some(thread) }
    }

    /// Waits until the last sample was this.
    pub(crate) fn wait_for(&self, ready: bool) {
        let states = self.seen.states.lock().unwrap();
        let is_other = |states: &mut (Vec<bool>, bool)| states.0.last() != Some(&ready);
        let (states, timeout) = self.seen.changed.wait_timeout_while(states, PATIENCE, is_other).unwrap();
        assert!(!timeout.timed_out(), "readiness is not {ready}: {:?}", states.0);
    }

    /// All states one after the other.
    pub(crate) fn end(mut self) -> Vec<bool> {
        self.stop()
    }

    fn stop(&mut self) -> Vec<bool> {
        self.seen.states.lock().unwrap().1 = true;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        self.seen.states.lock().unwrap().0.clone()
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        self.stop();
    }
}
