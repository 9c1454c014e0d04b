//! BuildKit's session: what a build asks of whoever ordered it.
//!
//! The engine's end of an upgraded connection asks, we answer: credentials of
//! registries, and the values of build secrets, which so reach the one step
//! that mounts them and are neither in the image nor in a builder's cache.
//!
//! bollard has a session of its own; it knows no secrets, and its task never
//! ends (seen with 0.21: a descriptor for each build).

use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::engine::{Engine, Failure, QUICK};
use super::tls::{self, Tls};
use crate::model::Ulid;
use bollard::errors::Error as EngineError;
use bollard::health::health_check_response::ServingStatus;
use bollard::health::health_server::{Health, HealthServer};
use bollard::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use bollard::moby::buildkit::secrets::v1::secrets_server::{Secrets, SecretsServer};
use bollard::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard::moby::filesync::v1::auth_server::{Auth, AuthServer};
use bollard::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse,
    GetTokenAuthorityRequest, GetTokenAuthorityResponse, VerifyTokenAuthorityRequest,
    VerifyTokenAuthorityResponse,
};
use futures::stream;
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, copy_bidirectional, duplex,
};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tonic::{Request, Response, Status};

/// What the engine may call.
const METHODS: [&str; 2] = [
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
    "/moby.filesync.v1.Auth/Credentials",
];
/// The most that an answer's head may take.
const HEAD_MAX: usize = 16 * 1024;
/// How much may be on its way between the connection and what serves it.
const PIPE: usize = 64 * 1024;

type Answer<T> = Result<Response<T>, Status>;

/// A session that is open as long as this lives.
pub(super) struct Session {
    id: String,
    /// Dropping them closes the connection.
    _tasks: JoinSet<()>,
}

impl Session {
    /// Opens a session that serves these secrets and credentials.
    pub(super) async fn open(
        engine: &Engine,
        secrets: BTreeMap<String, Vec<u8>>,
        credentials: Credentials,
    ) -> Result<Self, Failure> {
        let id = format!("cldpd-{}", Ulid::generate());
        let mut connection = engine.call(QUICK, upgrade(engine, &id)).await?;
        let (mut theirs, ours) = duplex(PIPE);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // An end of either side is the end of the session.
            let _ = copy_bidirectional(&mut connection, &mut theirs).await;
        });
        tasks.spawn(async move {
            let served = tonic::transport::Server::builder()
                .add_service(HealthServer::new(Healthy))
                .add_service(SecretsServer::new(Values(secrets)))
                .add_service(AuthServer::new(Registries(credentials)))
                .serve_with_incoming(stream::iter([Ok::<_, io::Error>(ours)]))
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a build's session broke");
            }
        });
        Ok(Self { id, _tasks: tasks })
    }

    /// What the build is told to ask.
    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A connection on which the engine speaks HTTP/2, as its client.
async fn upgrade(engine: &Engine, id: &str) -> Result<impl Connection + use<>, EngineError> {
    let stream: Box<dyn Connection> = match &engine.endpoint {
        Endpoint::Unix(path) => Box::new(UnixStream::connect(path).await?),
        Endpoint::Tcp(address, None) => Box::new(TcpStream::connect(address).await?),
        Endpoint::Tcp(address, Some(tls)) => Box::new(encrypted(address, tls).await?),
    };
    let version = engine.client.client_version();
    let mut request = format!(
        "POST /v{version}/session HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n\
         Connection: Upgrade\r\nUpgrade: h2c\r\nX-Docker-Expose-Session-Uuid: {id}\r\n"
    );
    for method in METHODS {
        request.push_str(&format!(
            "X-Docker-Expose-Session-Grpc-Method: {method}\r\n"
        ));
    }
    request.push_str("\r\n");
    let mut stream = BufReader::new(stream);
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_MAX {
            return Err(io::Error::other("the answer to /session has no end").into());
        }
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    match status {
        Some(101) => Ok(stream),
        status => Err(EngineError::DockerResponseServerError {
            status_code: status.unwrap_or_default(),
            message: format!(
                "it opens no session for the build: {}",
                head.lines().next().unwrap_or_default()
            ),
        }),
    }
}

async fn encrypted(address: &str, tls: &Tls) -> io::Result<impl Connection + use<>> {
    let config = tls::config(tls).map_err(io::Error::other)?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let stream = TcpStream::connect(address).await?;
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await
}

struct Healthy;

#[tonic::async_trait]
impl Health for Healthy {
    type WatchStream = stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Answer<HealthCheckResponse> {
        Ok(Response::new(HealthCheckResponse {
            status: ServingStatus::Serving.into(),
        }))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Answer<HealthListResponse> {
        Err(Status::unimplemented("nothing to list"))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Answer<Self::WatchStream> {
        Err(Status::unimplemented("nothing to watch"))
    }
}

struct Values(BTreeMap<String, Vec<u8>>);

#[tonic::async_trait]
impl Secrets for Values {
    async fn get_secret(&self, request: Request<GetSecretRequest>) -> Answer<GetSecretResponse> {
        let id = &request.get_ref().id;
        match self.0.get(id) {
            Some(value) => Ok(Response::new(GetSecretResponse {
                data: value.clone(),
            })),
            None => Err(Status::not_found(format!(
                "there is no build secret {id}: name it in \"secrets\" of pod.json, with \"as\": \"build\""
            ))),
        }
    }
}

struct Registries(Credentials);

#[tonic::async_trait]
impl Auth for Registries {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Answer<CredentialsResponse> {
        // Without them a public image can still be had, and a private one says so.
        let found = self.0.of(&request.get_ref().host).await;
        let found = found.ok().flatten().unwrap_or_default();
        Ok(Response::new(match found.identitytoken {
            Some(token) => CredentialsResponse {
                username: String::new(),
                secret: token,
            },
            None => CredentialsResponse {
                username: found.username.unwrap_or_default(),
                secret: found.password.unwrap_or_default(),
            },
        }))
    }

    async fn fetch_token(&self, _: Request<FetchTokenRequest>) -> Answer<FetchTokenResponse> {
        Err(Status::unimplemented("the builder fetches its tokens"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Answer<GetTokenAuthorityResponse> {
        Err(Status::unavailable("the builder fetches its tokens"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Answer<VerifyTokenAuthorityResponse> {
        Err(Status::unavailable("the builder fetches its tokens"))
    }
}
