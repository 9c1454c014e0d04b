//! The text of the units: systemd.unit(5), systemd.socket(5), systemd.service(5).

use crate::cli::error::usage;
use crate::client::{Home, Launcher};
use crate::model::Result;
use std::ffi::OsString;
use std::path::Path;

/// Begins a unit of ours, and says which home it is for.
const MARK: &str = "# Made by `cldpd daemon install` for ";
/// What an address of a Unix socket holds, with the byte that ends it.
const ADDRESS_MAX: usize = 108;

/// The names of a service's units.
#[derive(Debug)]
pub(super) struct Place(String);

impl Place {
    pub(super) fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    pub(super) fn service_name(&self) -> String {
        format!("{}.service", self.0)
    }

    pub(super) fn socket_name(&self) -> String {
        format!("{}.socket", self.0)
    }
}

/// A service and the socket that starts it.
#[derive(Debug)]
pub(super) struct Units {
    place: Place,
    exe: String,
    home: String,
    socket: String,
    docker_host: Option<String>,
    environment: Vec<(String, String)>,
}

impl Units {
    /// The units of a home's daemon, which uses the engine `docker_host`.
    ///
    /// # Errors
    /// `usage` for paths that a unit cannot name.
    pub(super) fn new(
        name: &str,
        exe: &Path,
        home: &Home,
        docker_host: Option<&str>,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self> {
        let socket = home.socket();
        if socket.as_os_str().len() >= ADDRESS_MAX {
            let message = format!("{} is too long for a socket's address", socket.display());
            return Err(usage(message).hint("choose a shorter home"));
        }
        let environment = Launcher::environment(variables)
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, value)| is_kept(name) && !value.contains('\n'))
            .collect();
        Ok(Self {
            place: Place::new(name),
            exe: text(exe)?,
            home: text(home.root())?,
            socket: text(&socket)?,
            docker_host: docker_host.map(|host| text(Path::new(host))).transpose()?,
            environment,
        })
    }

    pub(super) fn service_name(&self) -> String {
        self.place.service_name()
    }

    pub(super) fn socket_name(&self) -> String {
        self.place.socket_name()
    }

    /// The unit that listens.
    pub(super) fn socket(&self) -> String {
        format!(
            "{MARK}{home}\n\
             [Unit]\n\
             Description=Where commands reach cldpd\n\
             \n\
             [Socket]\n\
             ListenStream={socket}\n\
             SocketMode=0600\n\
             DirectoryMode=0700\n\
             RemoveOnStop=yes\n\
             \n\
             [Install]\n\
             WantedBy=sockets.target\n",
            home = self.home,
            socket = escaped(&self.socket),
        )
    }

    /// The unit of the daemon.
    pub(super) fn service(&self) -> String {
        let mut text = format!(
            "{MARK}{home}\n\
             [Unit]\n\
             Description=cldpd, which dispatches coding agents into containers\n\
             Requires={socket}\n\
             After={socket}\n\
             \n\
             [Service]\n\
             Type=notify\n\
             ExecStart={exe} --home {argument}{engine} daemon run\n\
             # A journal that has to be mended or brought up to date takes its time.\n\
             TimeoutStartSec=infinity\n\
             Restart=on-failure\n\
             RestartSec=1\n\
             # Local agents are in its group, and outlive it: its end is not theirs,\n\
             # nor theirs its own.\n\
             KillMode=process\n\
             OOMPolicy=continue\n\
             TasksMax=infinity\n",
            home = self.home,
            socket = self.socket_name(),
            exe = quoted(&self.exe, false),
            argument = quoted(&self.home, true),
            engine = self.docker_host.as_ref().map_or_else(String::new, |host| {
                format!(" --docker-host {}", quoted(host, true))
            }),
        );
        for (name, value) in &self.environment {
            let pair = format!("{name}={value}");
            text.push_str(&format!("Environment={}\n", quoted(&pair, false)));
        }
        text.push_str("\n[Install]\nWantedBy=default.target\n");
        text
    }

    /// The home that a unit of ours is for.
    pub(super) fn home_of(text: &str) -> Option<&str> {
        text.lines().next()?.strip_prefix(MARK)
    }
}

/// What a service needs of the environment in which it was installed: the rest
/// systemd gives, and settings of cldpd belong into its configuration.
fn is_kept(name: &str) -> bool {
    name == "PATH" || name.starts_with("DOCKER_")
}

fn text(path: &Path) -> Result<String> {
    let text = path
        .to_str()
        .filter(|text| !text.contains(char::is_control));
    text.map(str::to_owned).ok_or_else(|| {
        let message = format!("a unit cannot name {}", path.display());
        usage(message).hint("its path has characters that are no text")
    })
}

/// `%` begins a specifier.
fn escaped(text: &str) -> String {
    text.replace('%', "%%")
}

/// One word; in a command line `$` begins a variable.
fn quoted(text: &str, in_command: bool) -> String {
    let mut out = escaped(text).replace('\\', "\\\\").replace('"', "\\\"");
    if in_command {
        out = out.replace('$', "$$");
    }
    format!("\"{out}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(home: &str) -> Result<Units> {
        let variables = [
            ("PATH", "/bin"),
            ("DOCKER_HOST", "unix:///a b.sock"),
            ("ANTHROPIC_API_KEY", "k"),
            ("CLDPD_LOG", "debug"),
        ];
        let variables = variables.map(|(k, v)| (OsString::from(k), OsString::from(v)));
        let home = Home::new(home)?;
        Units::new(
            "x",
            Path::new("/opt/c l/cldpd"),
            &home,
            Some("unix:///e.sock"),
            variables.into_iter(),
        )
    }

    #[test]
    fn paths_are_quoted_and_no_secret_is_kept() -> Result<()> {
        let units = units("/home/a b/50%/$x\"y")?;
        let service = units.service();
        let command = r#"ExecStart="/opt/c l/cldpd" --home "/home/a b/50%%/$$x\"y" --docker-host "unix:///e.sock" daemon run"#;
        assert!(service.contains(command), "{service}");
        assert!(service.contains("Environment=\"DOCKER_HOST=unix:///a b.sock\"\n"));
        assert!(!service.contains("ANTHROPIC") && !service.contains("CLDPD_LOG"));
        let listen = "ListenStream=/home/a b/50%%/$x\"y/run/cldpd.sock\n";
        assert!(units.socket().contains(listen), "{}", units.socket());
        assert_eq!(Units::home_of(&service), Some("/home/a b/50%/$x\"y"));
        assert_eq!(Units::home_of("[Unit]\n"), None);
        Ok(())
    }

    #[test]
    fn a_home_that_is_too_deep_is_refused() {
        let deep = format!("/{}", "d".repeat(100));
        let error = units(&deep).err().map(|error| error.message);
        assert!(error.is_some_and(|text| text.contains("too long")));
    }
}
