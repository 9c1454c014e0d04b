//! A registry of images on loopback, as small as the engine lets it be. To the
//! engine every address of 127.0.0.0/8 may speak without TLS.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// A registry that serves as long as the test process runs.
pub struct Registry {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// What has to be in `Authorization`.
    login: Option<String>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By path, with their media types.
    content: HashMap<String, (&'static str, Vec<u8>)>,
    requests: Vec<String>,
    held: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with it")
    }
}

impl Registry {
    /// One that everybody may read.
    pub fn new() -> Self {
        Self::serving(None)
    }

    /// One that wants a name and a password.
    pub fn with_login(name: &str, password: &str) -> Self {
        let basic = STANDARD.encode(format!("{name}:{password}"));
        Self::serving(Some(format!("Basic {basic}")))
    }

    fn serving(login: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            login,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { address, shared }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Puts an image with the scripted agent there; the reference to pull it by.
    pub fn push_agent(&self, name: &str, created: &str) -> String {
        let layer = agent_layer(name);
        let engine = super::engine::architecture();
        let config = serde_json::json!({
            "architecture": engine,
            "os": "linux",
            "created": created,
            "config": {
                "Env": ["PATH=/bin"],
                "WorkingDir": "/tmp",
                "Entrypoint": ["/bin/claude"],
            },
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
            "history": [{"created": created, "created_by": "test"}],
        })
        .to_string()
        .into_bytes();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "size": config.len(), "digest": digest(&config)},
            "layers": [{"mediaType": LAYER, "size": layer.len(), "digest": digest(&layer)}],
        })
        .to_string()
        .into_bytes();
        let mut state = self.shared.state();
        let mut put = |path: String, kind, bytes| state.content.insert(path, (kind, bytes));
        put(format!("/v2/{name}/blobs/{}", digest(&layer)), LAYER, layer);
        put(
            format!("/v2/{name}/blobs/{}", digest(&config)),
            CONFIG,
            config,
        );
        let by_digest = format!("/v2/{name}/manifests/{}", digest(&manifest));
        put(by_digest, MANIFEST, manifest.clone());
        put(format!("/v2/{name}/manifests/latest"), MANIFEST, manifest);
        format!("{}/{name}:latest", self.host())
    }

    /// Answers nothing until [`Registry::release`].
    pub fn hold(&self) {
        self.shared.state().held = true;
    }

    /// Answers again.
    pub fn release(&self) {
        self.shared.state().held = false;
        self.shared.changed.notify_all();
    }

    /// Whose requests were answered with what they asked for, as `GET /path`.
    pub fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// A layer of no other image: what is there already is not pulled.
fn agent_layer(name: &str) -> Vec<u8> {
    let agent = std::fs::read(super::scripted_agent()).expect("the scripted agent is built");
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind, mode, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        archive
            .append_data(&mut header, path, bytes)
            .expect("memory can be written");
    };
    add("bin/", tar::EntryType::Directory, 0o755, &[]);
    add("bin/claude", tar::EntryType::Regular, 0o755, &agent);
    add("tmp/", tar::EntryType::Directory, 0o777, &[]);
    add("tmp/name", tar::EntryType::Regular, 0o644, name.as_bytes());
    archive.into_inner().expect("memory can be written")
}

/// One request, and the end of the connection.
fn serve(mut stream: &TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
        head.push(line.trim_end().to_owned());
        line.clear();
    }
    let Some(request) = head.first() else {
        return;
    };
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or("GET"), words.next().unwrap_or("/"));
    let mut state = shared.state();
    while state.held {
        state = shared.changed.wait(state).expect("no test panics with it");
    }
    let given = head.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then_some(value)
    });
    let wanted = shared.login.as_deref();
    let (status, kind, body) = if wanted.is_some() && given != wanted {
        let body = refusal("UNAUTHORIZED", "authentication required");
        ("401 Unauthorized", "application/json", body)
    } else if path == "/v2/" {
        ("200 OK", "application/json", b"{}".to_vec())
    } else if let Some((kind, bytes)) = state.content.get(path).cloned() {
        state.requests.push(format!("{method} {path}"));
        ("200 OK", kind, bytes)
    } else {
        let body = refusal("MANIFEST_UNKNOWN", "manifest unknown");
        ("404 Not Found", "application/json", body)
    };
    drop(state);
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Docker-Distribution-Api-Version: registry/2.0\r\nDocker-Content-Digest: {}\r\n\
         WWW-Authenticate: Basic realm=\"test\"\r\nConnection: close\r\n\r\n",
        body.len(),
        digest(&body),
    )
    .into_bytes();
    if method != "HEAD" {
        answer.extend(body);
    }
    // A client that does not wait for the answer is its own affair.
    let _ = stream.write_all(&answer);
}

fn refusal(code: &str, message: &str) -> Vec<u8> {
    let errors = serde_json::json!({"errors": [{"code": code, "message": message}]});
    errors.to_string().into_bytes()
}
