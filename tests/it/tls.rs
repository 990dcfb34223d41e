//! Connections: TLS with files that change, certificates of clients, and Unix sockets.

use std::{
    fs,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use outrigger::{
    app,
    config::{Config, Listen, Tls},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::{
    probes::get,
    support::{Process, append, binary, config, event},
};

/// Somebody who vouches for certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for this machine's own address that ends with this year, and its key.
    fn issue(&self, year: i32) -> (String, String) {
        self.issue_for(vec!["localhost".into(), "127.0.0.1".into()], year)
    }

    /// The same for these names and addresses.
    pub(crate) fn issue_for(&self, names: Vec<String>, year: i32) -> (String, String) {
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn write(dir: &Path, (cert, key): &(String, String)) {
    fs::write(dir.join("key.pem"), key).unwrap();
    fs::write(dir.join("cert.pem"), cert).unwrap();
}

fn with_tls(dir: &Path, client_ca: Option<&Authority>) -> Config {
    let mut config = config(dir, &[]);
    if let Some(authority) = client_ca {
        fs::write(dir.join("clients.pem"), &authority.pem).unwrap();
    }
    config.grpc.tls = Some(Tls {
        cert_file: dir.join("cert.pem"),
        key_file: dir.join("key.pem"),
        client_ca_file: client_ca.map(|_| dir.join("clients.pem")),
    });
    config
}

/// Whether a new connection comes about and answers, with this trust.
async fn answers(addr: SocketAddr, ca: &Authority, identity: Option<&(String, String)>) -> bool {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&ca.pem));
    if let Some((cert, key)) = identity {
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{addr}")).unwrap().tls_config(tls).unwrap();
    match endpoint.connect().await {
        Ok(channel) => head(channel).await,
        Err(_) => false,
    }
}

async fn head(channel: Channel) -> bool {
    let mut log = outrigger::api::proto::v1::event_log_client::EventLogClient::new(channel);
    log.get_head(outrigger::api::proto::v1::GetHeadRequest {}).await.is_ok()
}

fn expiry(http: SocketAddr) -> String {
    let page = get(http, "/metrics");
    let name = "outrigger_tls_certificate_expiry_timestamp_seconds ";
    page.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn new_files_are_in_force_for_new_connections_and_broken_ones_are_not() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &first.issue(2041));
    let running = app::start(with_tls(dir.path(), None)).await.unwrap();
    let (addr, http) = (running.grpc_addr.tcp().unwrap(), running.http_addr);
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&first.pem));
    let endpoint = Endpoint::from_shared(format!("https://{addr}")).unwrap().tls_config(tls).unwrap();
    let open = endpoint.connect().await.unwrap();
    assert!(head(open.clone()).await);
    assert!(!answers(addr, &second, None).await, "the node's certificate is checked");
    let plain = Channel::from_shared(format!("http://{addr}")).unwrap().connect_lazy();
    assert!(!head(plain).await, "nothing is said to who does not encrypt");
    assert_eq!(expiry(http), "2240611200");

    fs::write(dir.path().join("cert.pem"), "no certificate").unwrap();
    fs::write(dir.path().join("key.pem"), "no key").unwrap();
    assert!(answers(addr, &first, None).await);
    write(dir.path(), &second.issue(2042));
    while !answers(addr, &second, None).await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!answers(addr, &first, None).await, "the old certificate is shown no more");
    assert!(head(open).await, "connections that are open go on");
    assert_eq!(expiry(http), "2272147200");

    // A pair that does not go together changes nothing.
    fs::write(dir.path().join("key.pem"), second.issue(2043).1).unwrap();
    assert!(answers(addr, &second, None).await);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_need_a_certificate_where_one_is_asked_for() {
    let (nodes, clients) = (Authority::new("nodes"), Authority::new("clients"));
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &nodes.issue(2041));
    let running = app::start(with_tls(dir.path(), Some(&clients))).await.unwrap();
    let addr = running.grpc_addr.tcp().unwrap();
    assert!(!answers(addr, &nodes, None).await);
    assert!(!answers(addr, &nodes, Some(&nodes.issue(2041))).await, "of another authority");
    let mine = clients.issue(2041);
    assert!(answers(addr, &nodes, Some(&mine)).await);

    // The command line over the same connection.
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (ca, cert, key) = (file("ca.pem", &nodes.pem), file("mine.pem", &mine.0), file("mine.key", &mine.1));
    let addr = addr.to_string();
    let run = |words: &[&str], variables: &[(&str, &str)]| -> Output {
        let mut command = Command::new(binary());
        command.env_clear().envs(variables.iter().copied()).args(words);
        command
            .args(["append", "--type", "t", "--stream", "s", "--data", "1", "--addr", &addr])
            .output()
            .unwrap()
    };
    let flags = ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
    let output = run(&flags, &[]);
    assert!(output.status.success(), "{output:?}");
    let variables =
        [("OUTRIGGER_TLS_CA", ca.as_str()), ("OUTRIGGER_TLS_CERT", &cert), ("OUTRIGGER_TLS_KEY", &key)];
    assert!(run(&[], &variables).status.success());
    assert!(!run(&flags[..2], &[]).status.success());
    assert_eq!(run(&flags[..4], &[]).status.code(), Some(2), "a certificate has a key");
    assert_eq!(run(&flags[2..], &[]).status.code(), Some(2), "and somebody vouches for the node");
    let missing = run(&["--tls-ca", "none.pem"], &[]);
    assert!(
        String::from_utf8_lossy(&missing.stderr).contains("--tls-ca: cannot read none.pem"),
        "{missing:?}"
    );
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_start_with_files_that_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("nodes");
    let refused = async |expected: &str| {
        let error = app::start(with_tls(dir.path(), None)).await.map(drop).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    };
    refused("cert.pem: No such file").await;
    write(dir.path(), &(authority.issue(2041).0, authority.issue(2041).1));
    refused("do not go together").await;
    write(dir.path(), &(String::new(), authority.issue(2041).1));
    refused("expected certificates in PEM form, found none").await;
}

fn on_socket(dir: &Path) -> (Config, PathBuf) {
    let path = dir.join("outrigger.sock");
    let mut config = config(dir, &[]);
    config.grpc.listen = Listen::Unix(path.clone());
    (config, path)
}

async fn append_over(path: &Path) {
    let endpoint = Endpoint::from_shared(format!("unix:{}", path.display())).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let mut log = outrigger::api::proto::v1::event_log_client::EventLogClient::new(channel);
    log.append(append(vec![event("t", "s", "1")])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_served_to_owner_and_group_and_replaced_when_nobody_answers_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let (config, path) = on_socket(dir.path());
    // What a process that was killed leaves.
    drop(UnixListener::bind(&path).unwrap());
    drop(UnixListener::bind(dir.path().join("outrigger.sock.new")).unwrap());
    let running = app::start(config.clone()).await.unwrap();
    assert_eq!(running.grpc_addr.to_string(), format!("unix:{}", path.display()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    append_over(&path).await;

    let other = Config { data_dir: dir.path().join("other"), ..config.clone() };
    let error = app::start(other.clone()).await.map(drop).unwrap_err().to_string();
    assert!(
        error.contains("grpc.listen cannot listen on unix:") && error.contains("somebody answers"),
        "{error}"
    );
    append_over(&path).await;
    running.stop().await.unwrap();
    assert!(!path.exists(), "a node that stops leaves no socket");

    fs::write(&path, "precious").unwrap();
    let error = app::start(config).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("a file that is no socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn the_command_line_talks_over_a_socket_that_outlives_a_killed_node() {
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", dir.path().join("o.sock").display());
    for _ in 0..2 {
        let mut command = Command::new(binary());
        command
            .args(["serve", "--grpc", &socket, "--http", "127.0.0.1:0", "--data-dir"])
            .arg(dir.path().join("data"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        assert!(line.contains(&format!("grpc {socket} ")), "{line}");
        let mut append = Command::new(binary());
        append.args(["append", "--type", "t", "--stream", "s", "--data", "1"]).env("OUTRIGGER_ADDR", &socket);
        let output = append.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    drop(Process::start(&dir.path().join("data"), &[]));
}
