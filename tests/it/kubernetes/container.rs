//! A rendered container as a process: the real binary with the container's arguments, environment, mounts, user and read-only
//! root, in a sandbox with a process namespace of its own, where it is process 1 as in a pod.
//!
//! Invariant: it is gone when the value drops. Does not know a registry: the binary of this build stands in for the image,
//! whose entry point and working directory are read from the Dockerfile.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{fields::Fields, render, volumes::Machine};
use crate::support::{binary, repository};

/// What a container finds around it.
pub(crate) struct Surroundings<'a> {
    pub(crate) machine: &'a Machine,
    /// The pod's volumes by name.
    pub(crate) volumes: &'a [(String, PathBuf)],
    /// Where names of Services lead.
    pub(crate) service_ip: IpAddr,
    pub(crate) services: &'a [&'a str],
}

/// A container that runs.
pub(crate) struct Container {
    child: Child,
    log: PathBuf,
}

impl Container {
    /// Starts it, and takes the fields that it exercises.
    pub(crate) fn start(fields: &mut Fields, around: &Surroundings<'_>) -> Self {
        let name = fields.text(&["name"]);
        let mut command = Command::new(render::tool("bwrap").expect("it was there a moment ago"));
        command.args(["--unshare-user", "--unshare-pid", "--as-pid-1", "--unshare-ipc", "--unshare-uts"]);
        command.args([
            "--die-with-parent",
            "--new-session",
            "--clearenv",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
        ]);
        confine(&mut command, fields);
        image(&mut command, around);
        for mut mount in fields.list(&["volumeMounts"]) {
            let (volume, path) = (mount.text(&["name"]), mount.text(&["mountPath"]));
            let found = around.volumes.iter().find(|(name, _)| *name == volume);
            let (_, host) = found.unwrap_or_else(|| panic!("{name}: there is no volume {volume}"));
            let how = if mount.take(&["readOnly"]) == true { "--ro-bind" } else { "--bind" };
            command.arg(how).args([host.as_path(), Path::new(&path)]);
            assert!(mount.left("mount").is_empty(), "{name}: {:?} of a mount", mount.left("mount"));
        }
        assert_eq!(fields.take(&["securityContext", "readOnlyRootFilesystem"]), true, "{name}");
        command.args(["--remount-ro", "/"]);
        for (name, value) in environment(fields, around.machine) {
            command.args(["--setenv", &name, &value]);
        }
        let dockerfile = fs::read_to_string(repository().join("Dockerfile")).unwrap();
        command.arg("--chdir").arg(instruction(&dockerfile, "WORKDIR"));
        let entry: Vec<String> = serde_json::from_str(&instruction(&dockerfile, "ENTRYPOINT")).unwrap();
        command.arg("--").args(entry);
        command.args(fields.list(&["args"]).iter().map(Fields::as_text));
        let log = around.machine.path().join(format!("{name}.log"));
        let file = fs::File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { child: command.spawn().unwrap(), log }
    }

    /// The process that is 1 in its namespace.
    pub(crate) fn pid(&self) -> String {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let found = fs::read_to_string(children).unwrap_or_default();
        found.split_whitespace().next().unwrap_or_else(|| panic!("it has ended: {}", self.log())).to_owned()
    }

    /// A line of the process's status, `CapEff` say.
    pub(crate) fn status(&self, field: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGTERM, and its end, which may take as long as the pod gives it.
    pub(crate) fn terminate(mut self, grace: Duration) {
        let told = Command::new("kill").args(["-TERM", &self.pid()]).status().unwrap();
        assert!(told.success());
        let status = self.wait(grace);
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, at_most: Duration) -> ExitStatus {
        let latest = Instant::now() + at_most;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < latest, "it has not ended within {at_most:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The user, and no capabilities.
fn confine(command: &mut Command, fields: &mut Fields) {
    let (user, group) =
        (fields.number(&["securityContext", "runAsUser"]), fields.number(&["securityContext", "runAsGroup"]));
    assert_eq!(fields.take(&["securityContext", "runAsNonRoot"]), true);
    assert_ne!(user, 0);
    assert_eq!(fields.take(&["securityContext", "capabilities", "drop"]), serde_json::json!(["ALL"]));
    // The sandbox never lets a process gain privileges.
    assert_eq!(fields.take(&["securityContext", "allowPrivilegeEscalation"]), false);
    command.args(["--uid", &user.to_string(), "--gid", &group.to_string(), "--cap-drop", "ALL"]);
}

/// The root of the container: the binary, what it links to, and the names of Services.
fn image(command: &mut Command, around: &Surroundings<'_>) {
    command.args(["--ro-bind", "/usr/lib", "/usr/lib"]);
    for path in ["/lib", "/lib64", "/usr/lib64"] {
        match fs::read_link(path) {
            Ok(target) => command.arg("--symlink").arg(target).arg(path),
            Err(_) => command.args(["--ro-bind-try", path, path]),
        };
    }
    command.args(["--ro-bind", binary(), "/usr/local/bin/outrigger", "--dir", "/var/lib/outrigger"]);
    let hosts = around.machine.path().join("hosts");
    let lines = around.services.iter().map(|name| format!("{} {name}\n", around.service_ip));
    fs::write(&hosts, lines.collect::<String>()).unwrap();
    command.arg("--ro-bind").arg(hosts).arg("/etc/hosts");
}

/// The container's environment; the image has none. A value may come from a Secret.
fn environment(fields: &mut Fields, machine: &Machine) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for mut variable in fields.list(&["env"]) {
        let name = variable.text(&["name"]);
        let value = if let Value::String(value) = variable.take(&["value"]) {
            value
        } else {
            let mut from = |field| variable.text(&["valueFrom", "secretKeyRef", field]);
            machine.secret(&from("name"), &from("key")).to_owned()
        };
        all.push((name, value));
    }
    all
}

/// What follows an instruction of the Dockerfile's last stage.
fn instruction(dockerfile: &str, name: &str) -> String {
    let found = dockerfile.lines().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {name} in the Dockerfile")).to_owned()
}
