//! The real engine behind TLS, with authorities and certificates made for one test.

use super::support::engine_socket;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto::ring};

/// What a Go server says to who does not speak TLS.
const NOT_TLS: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// Somebody who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub struct Signed {
    pub certificate: String,
    pub key: KeyPair,
    der: Vec<u8>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A certificate for `names`, good until that year's beginning.
    pub fn sign(&self, names: &[&str], until: i32) -> Signed {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.0).unwrap();
        Signed {
            certificate: signed.pem(),
            der: signed.der().to_vec(),
            key,
        }
    }

    /// Writes `ca.pem`, and `identity` as `cert.pem` and `key.pem`.
    pub fn write(&self, dir: &Path, identity: Option<&Signed>) {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("ca.pem"), self.0.pem()).unwrap();
        if let Some(identity) = identity {
            std::fs::write(dir.join("cert.pem"), &identity.certificate).unwrap();
            std::fs::write(dir.join("key.pem"), identity.key.serialize_pem()).unwrap();
        }
    }
}

/// A port in front of the engine's socket, for those whose certificate an
/// authority has signed.
pub struct TlsDoor {
    pub address: SocketAddr,
    tasks: JoinHandle<()>,
}

impl TlsDoor {
    pub async fn open(guests: &Authority, own: &Signed) -> Self {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(guests.0.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![own.der.clone().into()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = tokio::spawn(async move {
            let mut guests = JoinSet::new();
            loop {
                let (guest, _) = listener.accept().await.unwrap();
                guests.spawn(serve(acceptor.clone(), guest));
            }
        });
        Self { address, tasks }
    }

    pub async fn close(self) {
        self.tasks.abort();
        let _ = self.tasks.await;
    }
}

async fn serve(acceptor: TlsAcceptor, mut guest: TcpStream) {
    let mut first = [0];
    if guest.peek(&mut first).await.is_err() {
        return;
    }
    // A TLS record of a handshake.
    if first != [0x16] {
        let _ = guest.read(&mut [0; 4096]).await;
        let _ = guest.write_all(NOT_TLS).await;
        return;
    }
    let Ok(mut guest) = acceptor.accept(guest).await else {
        return;
    };
    let mut engine = UnixStream::connect(engine_socket()).await.unwrap();
    let _ = copy_bidirectional(&mut guest, &mut engine).await;
}
