//! Mounts that hand the engine itself to what runs in a container.
//!
//! Whoever can talk to the engine's socket can start a container that has the
//! whole machine in it. A pod may ask for that; it is only never silent.

use crate::model::PodName;
use crate::model::spec::Mount;
use std::fs;
use std::path::{Path, PathBuf};

/// Where engines listen; those of a user's own lie elsewhere and are known by their names.
const USUAL: [&str; 4] = [
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
];
const NAMES: [&str; 3] = ["docker.sock", "podman.sock", "containerd.sock"];

/// What is to be said of a pod's mounts.
pub(super) fn warnings(pod: &PodName, mounts: &[Mount]) -> Vec<String> {
    let usual: Vec<PathBuf> = USUAL
        .iter()
        .filter_map(|path| fs::canonicalize(path).ok())
        .collect();
    let mounts = mounts.iter();
    mounts
        .filter_map(|mount| {
            let what = handed_over(&mount.source, &usual)?;
            let source = mount.source.display();
            Some(format!(
                "pod {pod} mounts {what} {source}: what runs there controls this machine"
            ))
        })
        .collect()
}

/// How a mount of `source` gives the engine away, if it does. That it is
/// read-only helps nothing: a socket is talked to all the same.
fn handed_over(source: &Path, usual: &[PathBuf]) -> Option<&'static str> {
    let real = fs::canonicalize(source).unwrap_or_else(|_| source.to_owned());
    let named = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| NAMES.contains(&name))
    };
    if usual.contains(&real) || named(&real) || named(source) {
        return Some("the docker socket");
    }
    if usual.iter().any(|socket| socket.starts_with(&real)) {
        return Some("a directory with the docker socket in it,");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::handed_over;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    #[test]
    fn the_socket_is_known_however_it_is_named() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let root = fs::canonicalize(dir.path())?;
        fs::create_dir_all(root.join("run/user"))?;
        fs::create_dir(root.join("other"))?;
        fs::write(root.join("run/engine"), "")?;
        fs::write(root.join("other/file"), "")?;
        fs::write(root.join("run/user/docker.sock"), "")?;
        symlink(root.join("run/engine"), root.join("link"))?;
        symlink(root.join("run/user/docker.sock"), root.join("mine"))?;
        let usual = [root.join("run/engine")];
        let what = |path: &str| handed_over(&root.join(path), &usual);
        for path in ["run/engine", "link", "run/user/docker.sock", "mine"] {
            assert_eq!(what(path), Some("the docker socket"), "{path}");
        }
        assert!(what("run").is_some_and(|what| what.contains("directory")));
        assert!(what("").is_some());
        assert!(handed_over(Path::new("/"), &usual).is_some());
        for path in ["other", "other/file", "run/user", "gone"] {
            assert_eq!(what(path), None, "{path}");
        }
        Ok(())
    }
}
