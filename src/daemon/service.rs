//! What a service manager gives to a service and wants to hear from it.
//!
//! Its protocols are those of systemd: `sd_listen_fds(3)` for a socket that was
//! opened before the service started, `sd_notify(3)` for how it stands. Where
//! nothing of it is in the environment, nothing of it happens.

use super::socket::{self, Made};
use crate::client::Home;
use crate::model::{Error, ErrorCode, Result};
use listenfd::ListenFd;
use sd_notify::NotifyState;
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use tokio::net::UnixListener;

/// So many connections wait to be taken; what systemd has, too.
const BACKLOG: i32 = 4096;

/// Where clients come in.
pub(super) enum Door {
    /// The socket is made when we listen, and removed when we no longer do.
    Own,
    /// The service manager's: it listens while we do not, and starts us again.
    Given(StdListener),
}

impl Door {
    /// The socket that the service manager opened for us, else one of our own.
    /// What says so leaves the environment, so this is called before there are threads.
    ///
    /// # Errors
    /// `daemon_unavailable` when what was given is not this home's socket.
    pub(super) fn find(home: &Home) -> Result<Self> {
        let mut given = ListenFd::from_env();
        if given.len() == 0 {
            return Ok(Self::Own);
        }
        let failed = |why: String| {
            let message = format!("the service manager's socket cannot be used: {why}");
            Error::new(ErrorCode::DaemonUnavailable, message)
                .hint("`cldpd daemon install` writes units that fit; `cldpd daemon run` needs none")
        };
        if given.len() > 1 {
            return Err(failed(format!("it gave {} instead of one", given.len())));
        }
        let listener = given
            .take_unix_listener(0)
            .map_err(|error| failed(error.to_string()))?
            .ok_or_else(|| failed("it is gone".to_owned()))?;
        let address = listener.local_addr();
        let address = address.map_err(|error| failed(error.to_string()))?;
        if address.as_pathname() != Some(home.socket().as_path()) {
            let place = address.as_pathname().map_or_else(
                || "a socket without a path".to_owned(),
                |path| path.display().to_string(),
            );
            let wanted = home.socket().display().to_string();
            return Err(failed(format!(
                "it is {place}, and this home's is {wanted}"
            )));
        }
        Ok(Self::Given(listener))
    }

    /// Listens; only the lock's holder calls this.
    pub(super) fn listen(&self, home: &Home) -> Result<Listening> {
        let given = match self {
            Self::Own => {
                let (listener, made) = socket::listen(home)?;
                return Ok(Listening {
                    listener,
                    made: Some(made),
                });
            }
            Self::Given(listener) => listener,
        };
        let listener = || -> io::Result<UnixListener> {
            let listener = given.try_clone()?;
            listener.set_nonblocking(true)?;
            // From now on who connects is told our process as the one that listens,
            // and not the service manager's: clients wait for its end.
            rustix::net::listen(&listener, BACKLOG)?;
            UnixListener::from_std(listener)
        };
        match listener() {
            // Who comes when we no longer listen waits in it for the next daemon.
            Ok(listener) => Ok(Listening {
                listener,
                made: None,
            }),
            Err(error) => {
                let message = format!("cannot listen at {}: {error}", home.socket().display());
                Err(Error::new(ErrorCode::DaemonUnavailable, message))
            }
        }
    }
}

/// A socket that clients come in by.
pub(super) struct Listening {
    pub(super) listener: UnixListener,
    /// What was made for it, and is to be removed afterwards.
    pub(super) made: Option<Made>,
}

/// Tells the service manager that clients are served.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Tells the service manager that the daemon is about to end.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager was not told");
    }
}
