//! TLS of the gRPC listener: certificate, key and, for mutual TLS, the authority of clients, as they are in force.
//!
//! Invariants: what is in force was checked as a whole (the key fits the certificate); a handshake uses what is in force when it
//! begins, and connections that are open go on. Does not know files or when they change.

use std::{
    io,
    sync::{Arc, PoisonError, RwLock},
};

use der::{
    Decode as _, Reader as _, SliceReader, Tag,
    asn1::{AnyRef, GeneralizedTime, UtcTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
    },
    server::TlsStream,
};

/// What a listener shows and asks for: PEM texts, each with the name of where it comes from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Material {
    /// The node's certificate, and those between it and its authority.
    pub(crate) cert: (String, Vec<u8>),
    /// Its private key.
    pub(crate) key: (String, Vec<u8>),
    /// Who vouches for clients. None: clients need no certificate.
    pub(crate) client_ca: Option<(String, Vec<u8>)>,
}

/// Material that can be put into force.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    config: Arc<ServerConfig>,
    /// When the first of the node's certificates ends, in seconds since 1970.
    pub(crate) not_after_unix_seconds: i64,
}

/// TLS as it is in force. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Tls(Arc<RwLock<Arc<ServerConfig>>>);

impl Material {
    /// Reads the texts and sees that they belong together.
    pub(crate) fn check(&self) -> Result<Checked, String> {
        let chain = certificates(&self.cert)?;
        let (key_name, key) = &self.key;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| format!("{key_name}: expected a private key in PEM form: {error}"))?;
        let mut not_after_unix_seconds = i64::MAX;
        for certificate in &chain {
            let ends = not_after(certificate)
                .map_err(|error| format!("{}: a certificate has no end of validity: {error}", self.cert.0))?;
            not_after_unix_seconds = not_after_unix_seconds.min(ends);
        }
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(authority)? {
                    roots.add(certificate).map_err(|error| format!("{}: {error}", authority.0))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(
                    verifier.build().map_err(|error| format!("{}: {error}", authority.0))?,
                )
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| format!("{} and {key_name} do not go together: {error}", self.cert.0))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Checked { config: Arc::new(config), not_after_unix_seconds })
    }
}

impl Tls {
    /// Puts this into force.
    pub(crate) fn new(checked: &Checked) -> Self {
        Self(Arc::new(RwLock::new(Arc::clone(&checked.config))))
    }

    /// From now on handshakes use this.
    pub(crate) fn set(&self, checked: &Checked) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&checked.config);
    }

    /// The handshake of a new connection.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        TlsAcceptor::from(config).accept(stream).await
    }
}

fn certificates((name, text): &(String, Vec<u8>)) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("{name}: expected certificates in PEM form, found none")),
        Err(error) => Err(format!("{name}: expected certificates in PEM form: {error}")),
    }
}

/// When a certificate ends, in seconds since 1970.
fn not_after(certificate: &[u8]) -> der::Result<i64> {
    let certificate = AnyRef::from_der(certificate)?;
    let content = AnyRef::decode(&mut SliceReader::new(certificate.value())?)?;
    let mut fields = SliceReader::new(content.value())?;
    if fields.peek_tag()?.is_context_specific() {
        // The version, which the oldest form leaves out.
        AnyRef::decode(&mut fields)?;
    }
    for _serial_algorithm_issuer in 0..3 {
        AnyRef::decode(&mut fields)?;
    }
    let validity = AnyRef::decode(&mut fields)?;
    let mut times = SliceReader::new(validity.value())?;
    AnyRef::decode(&mut times)?;
    let end = AnyRef::decode(&mut times)?;
    let since_1970 = match der::Tagged::tag(&end) {
        Tag::UtcTime => end.decode_as::<UtcTime>()?.to_unix_duration(),
        _ => end.decode_as::<GeneralizedTime>()?.to_unix_duration(),
    };
    Ok(since_1970.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn material(key: &KeyPair) -> Material {
        let mut params = CertificateParams::new(vec!["node".to_owned()]).unwrap();
        params.not_after = date_time_ymd(2061, 2, 3);
        let cert = params.self_signed(key).unwrap();
        Material {
            cert: ("c.pem".into(), cert.pem().into_bytes()),
            key: ("k.pem".into(), key.serialize_pem().into_bytes()),
            client_ca: None,
        }
    }

    fn check_refused(material: &Material, expected: &[&str]) {
        let error = material.check().unwrap_err();
        for text in expected {
            assert!(error.contains(text), "expected {text:?} in {error}");
        }
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        let key = KeyPair::generate().unwrap();
        // 2061 is beyond the two digits of the older form of times.
        assert_eq!(material(&key).check().unwrap().not_after_unix_seconds, 2_874_614_400);
        let mut params = CertificateParams::new(vec!["node".to_owned()]).unwrap();
        params.not_after = date_time_ymd(2031, 1, 1);
        let cert = params.self_signed(&key).unwrap();
        assert_eq!(not_after(cert.der()).unwrap(), 1_924_992_000);
        for bytes in 0..cert.der().len() {
            assert!(not_after(&cert.der()[..bytes]).is_err(), "cut to {bytes} silently");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_its_file() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let good = material(&key);
        assert!(good.check().is_ok());
        let (cert, authority) = (good.cert.clone(), Some(good.cert.clone()));
        assert!(Material { client_ca: authority, ..good.clone() }.check().is_ok());
        check_refused(&Material { key: material(&other).key, cert, ..good.clone() }, &["c.pem and k.pem"]);
        let empty = ("c.pem".to_owned(), Vec::new());
        check_refused(&Material { cert: empty.clone(), ..good.clone() }, &["c.pem: expected certificates"]);
        check_refused(&Material { client_ca: Some(empty), ..good.clone() }, &["c.pem", "found none"]);
        let text = ("k.pem".to_owned(), b"no key".to_vec());
        check_refused(&Material { key: text, ..good }, &["k.pem: expected a private key"]);
    }
}
