//! A rendered companion that speaks TLS: `helm test` and the service get in with certificates, and nobody else; the pod's end
//! under load loses nothing that was acknowledged.

use outrigger::api::proto::v1::{self, event_log_client::EventLogClient};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::{
    board,
    fields::Fields,
    pod::{Pod, Probe, Readiness, run_command},
    render::{Charts, address, pod_ip},
    volumes::Machine,
};
use crate::{
    lifecycle::{check_nothing_lost, end_under_load},
    tls::Authority,
};

const WRITERS: usize = 8;
const TLS: &str = r#"outrigger.grpc={"tokens":{"existingSecret":""},"tls":{"existingSecret":"flights-tls","clientCaKey":"ca.crt","clientSecret":"flights-client-tls"}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_companion_with_certificates_ends_under_load_and_loses_nothing() {
    let (Some(charts), Some(ip)) = (Charts::new(), pod_ip()) else { return };
    let authority = Authority::new("air");
    let (cert, key) = authority.issue_for(vec!["flights-outrigger".into(), ip.to_string()], 2040);
    let (client_cert, client_key) = authority.issue_for(vec!["service".into()], 2040);
    let machine = Machine::new(&[
        ("flights-tls", &[("tls.crt", &cert), ("tls.key", &key), ("ca.crt", &authority.pem)]),
        (
            "flights-client-tls",
            &[("ca.crt", &authority.pem), ("tls.crt", &client_cert), ("tls.key", &client_key)],
        ),
        ("flights-projections", &[("board-v1.yaml", &board(1))]),
    ]);
    let objects = charts.render("companion", &["--set-json".into(), TLS.into()]);
    let readiness = Readiness::watch(Probe::readiness(&objects, "flights-outrigger", ip));
    readiness.wait_for(false);
    let pod = Pod::start(&machine, &objects, "flights-outrigger", ip);
    readiness.wait_for(true);
    let mut test = Fields::of(&objects.get("Pod", "flights-outrigger-test")["spec"]);
    run_command(&machine, &objects, ("test", &mut test, "containers"), ip);

    let port = &objects.get("Service", "flights-outrigger")["spec"]["ports"][0]["targetPort"];
    let trust = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&authority.pem));
    let endpoint = |tls: ClientTlsConfig| {
        Endpoint::from_shared(format!("https://{}", address(ip, port))).unwrap().tls_config(tls).unwrap()
    };
    let anonymous = endpoint(trust.clone()).connect_lazy();
    let refused = EventLogClient::new(anonymous).get_head(v1::GetHeadRequest {}).await;
    assert!(refused.is_err(), "who shows no certificate does not get in");
    let service = endpoint(trust.identity(Identity::from_pem(&client_cert, &client_key)));
    let mut channels: Vec<Channel> = Vec::new();
    for _ in 0..WRITERS {
        channels.push(service.connect().await.unwrap());
    }
    let acknowledged = end_under_load(channels, move || pod.terminate()).await;
    readiness.wait_for(false);
    assert_eq!(readiness.end(), [false, true, false], "ready from its start to its end");

    let pod = Pod::start(&machine, &objects, "flights-outrigger", ip);
    check_nothing_lost(service.connect().await.unwrap(), &acknowledged).await;
    pod.terminate();
}
