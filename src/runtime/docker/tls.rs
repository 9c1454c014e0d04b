//! TLS to an engine: who it has to be, and who we are.
//!
//! As docker does it: an authority that is named is the only one trusted, and
//! a certificate of our own is shown where there is one.

use super::unreachable::unavailable;
use crate::runtime::{Result, RuntimeError};
use bollard::{BollardRequest, ClientVersion, errors::Error as EngineError};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a connection with TLS is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tls {
    /// The file with the authorities that are trusted; the system's when absent.
    pub authority: Option<PathBuf>,
    /// Files with our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether the engine has to prove who it is.
    pub verify: bool,
}

impl Tls {
    /// What of `ca.pem`, `cert.pem` and `key.pem` there is in `dir`.
    pub(super) fn found_in(dir: &Path, verify: bool) -> Self {
        let there = |name: &str| Some(dir.join(name)).filter(|path| path.exists());
        Self {
            authority: there("ca.pem"),
            identity: there("cert.pem").zip(there("key.pem")),
            verify,
        }
    }
}

/// A client of the engine at `address`.
pub(super) fn open(
    address: &str,
    tls: &Tls,
    timeout: u64,
    version: &ClientVersion,
) -> Result<bollard::Docker> {
    let mut tcp = HttpConnector::new();
    // Or it would refuse what begins with https.
    tcp.enforce_http(false);
    let connector = HttpsConnector::from((tcp, config(tls)?));
    let client = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(connector);
    let transport = move |request: BollardRequest| {
        let answer = client.request(request);
        async move { answer.await.map_err(EngineError::from) }
    };
    let place = format!("https://{address}");
    bollard::Docker::connect_with_custom_transport(transport, Some(place), timeout, version)
        .map_err(|error| unavailable(error.to_string(), None))
}

/// What of it goes into every connection.
pub(super) fn config(tls: &Tls) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = |error: rustls::Error| unavailable(format!("TLS: {error}"), None);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match tls.verify {
        true => builder.with_root_certificates(authorities(tls.authority.as_deref())?),
        false => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider))),
    };
    match &tls.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unread(key, &error))?;
            builder
                .with_client_auth_cert(chain, secret)
                .map_err(|error| {
                    let cause = format!("{} is of no use: {error}", key.display());
                    unavailable(cause, None)
                })
        }
    }
}

fn authorities(file: Option<&Path>) -> Result<RootCertStore> {
    let trusted = match file {
        Some(file) => certificates(file)?,
        // What of the system's cannot be read is not trusted; that is all.
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted);
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all {
        Ok(all) if all.is_empty() => Err(unavailable(
            format!("there is no certificate in {}", file.display()),
            None,
        )),
        Ok(all) => Ok(all),
        Err(error) => Err(unread(file, &error)),
    }
}

fn unread(file: &Path, error: &rustls::pki_types::pem::Error) -> RuntimeError {
    use rustls::pki_types::pem::Error as Pem;
    let cause = match error {
        Pem::Io(error) => error.to_string(),
        Pem::NoItemsFound => "nothing of the kind is in it".to_owned(),
        other => format!("{other:?}"),
    };
    unavailable(
        format!("cannot read {}: {cause}", file.display()),
        Some("ca.pem, cert.pem and key.pem are looked for in DOCKER_CERT_PATH, else in ~/.docker, or where the docker context keeps them".to_owned()),
    )
}

/// Takes anybody for the engine, where the user said so (`SkipTLSVerify`).
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What went wrong with TLS, and what to do; nothing when it was not that.
pub(super) fn explain(error: &(dyn std::error::Error + 'static)) -> Option<(String, String)> {
    let error = of_rustls(error)?;
    let (cause, hint) = match error {
        rustls::Error::InvalidCertificate(problem) => match problem {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => (
                "its certificate is not signed by an authority that is trusted".to_owned(),
                "put the authority that signed it into ca.pem (DOCKER_CERT_PATH, or the docker context)",
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                "its certificate has expired".to_owned(),
                "give the engine a new certificate",
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
                "its certificate is not valid yet".to_owned(),
                "do the clocks agree?",
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                (
                    "its certificate is for another name".to_owned(),
                    "use the name that the certificate is for",
                )
            }
            other => (
                format!("its certificate is refused: {other}"),
                "give the engine another certificate",
            ),
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure => (
                format!("it does not accept us by our certificate ({alert:?})"),
                "put a certificate that it accepts into cert.pem and key.pem (DOCKER_CERT_PATH, or the docker context)",
            ),
            other => (
                format!("it broke TLS off: {other:?}"),
                "its own log says more",
            ),
        },
        rustls::Error::InvalidMessage(_) => (
            "it does not speak TLS".to_owned(),
            "for an engine without TLS, unset DOCKER_TLS_VERIFY and DOCKER_TLS",
        ),
        other => (format!("TLS failed: {other}"), "its own log says more"),
    };
    Some((cause, hint.to_owned()))
}

/// The TLS error in a chain of errors. An I/O error hides what it is made of
/// from the chain.
fn of_rustls<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| of_rustls(inner)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}
