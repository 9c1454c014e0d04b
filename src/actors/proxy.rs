//! The caller's proxies, as a container can use them.
//!
//! A proxy at a loopback address is the caller's machine's; from a container
//! of a bridged network that is `host.docker.internal`.

use crate::model::RuntimeName;
use crate::model::api::PROXY_VARIABLES;
use crate::model::spec::{PodSpec, Spec};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The name of the engine's machine, in a container that is told of it.
const HOST: &str = "host.docker.internal";

/// Proxy variables, ready to be given.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Proxies {
    /// The variables.
    pub(super) env: BTreeMap<String, String>,
    /// One of them needs [`HOST`].
    pub(super) host: bool,
}

/// For a run: what the pod (or `values`) sets itself is left alone, in whatever
/// case it is written.
pub(super) fn for_run(
    spec: &Spec,
    values: &BTreeMap<String, String>,
    given: &BTreeMap<String, String>,
) -> Proxies {
    let network = spec.pod.network.as_deref().unwrap_or("default");
    if spec.runtime == RuntimeName::Docker && network == "none" {
        return Proxies::default();
    }
    let set = |name: &str| {
        let mut own = spec.pod.env.keys().chain(values.keys());
        own.any(|own| own.eq_ignore_ascii_case(name))
    };
    // Who shares the host's network (or has it) reaches its loopback addresses,
    // and one container's names are not to be added to another's network.
    let bridged = spec.runtime == RuntimeName::Docker
        && network != "host"
        && !network.starts_with("container:");
    proxies(given, set, bridged)
}

/// For the build of a pod's image.
pub(super) fn for_build(pod: &PodSpec, given: &BTreeMap<String, String>) -> Proxies {
    let set = |name: &str| {
        pod.build_args
            .keys()
            .any(|own| own.eq_ignore_ascii_case(name))
    };
    proxies(given, set, true)
}

/// `host.docker.internal:host-gateway` among a container's extra hosts, once.
pub(super) fn add_host(extra_hosts: &mut Vec<String>) {
    let known = |entry: &String| entry.split([':', '=']).next() == Some(HOST);
    if !extra_hosts.iter().any(known) {
        extra_hosts.push(format!("{HOST}:host-gateway"));
    }
}

/// Name and password in a proxy's address, and the password alone.
pub(super) fn credentials(value: &str) -> Vec<&str> {
    let Some((user, _)) = authority(value).1.rsplit_once('@') else {
        return Vec::new();
    };
    let password = user.split_once(':').map(|(_, password)| password);
    std::iter::once(user).chain(password).collect()
}

fn proxies(given: &BTreeMap<String, String>, set: impl Fn(&str) -> bool, bridged: bool) -> Proxies {
    let wanted = |name: &str| PROXY_VARIABLES.contains(&name) && !set(name);
    let mut env: BTreeMap<String, String> = given
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !bridged {
        return Proxies { env, host: false };
    }
    let mut host = false;
    for (name, value) in &mut env {
        if let (false, Some(moved)) = (is_exception(name), away_from_loopback(value)) {
            *value = moved;
            host = true;
        }
    }
    if host {
        // Programs differ in which of the two they read; where one is given, it is that.
        let exceptions = ["NO_PROXY", "no_proxy"].map(str::to_owned);
        if !env.keys().any(|name| is_exception(name)) && wanted("NO_PROXY") {
            env.extend(exceptions.map(|name| (name, String::new())));
        }
        for (_, value) in env.iter_mut().filter(|(name, _)| is_exception(name)) {
            add_exception(value);
        }
    }
    Proxies { env, host }
}

fn is_exception(name: &str) -> bool {
    name.eq_ignore_ascii_case("NO_PROXY")
}

/// What stands before the authority of an address, the authority, and the rest.
fn authority(value: &str) -> (&str, &str, &str) {
    let begin = value.find("://").map_or(0, |at| at + "://".len());
    let (scheme, rest) = value.split_at(begin);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    (scheme, authority, rest)
}

/// The same address at [`HOST`], if it is a loopback one.
fn away_from_loopback(value: &str) -> Option<String> {
    let (scheme, authority, rest) = authority(value);
    let begin = authority.rfind('@').map_or(0, |at| at + 1);
    let (user, place) = authority.split_at(begin);
    let (host, port) = match place.find(']') {
        Some(end) if place.starts_with('[') => place.split_at(end + 1),
        _ => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    is_loopback(host).then(|| format!("{scheme}{user}{HOST}{port}{rest}"))
}

fn is_loopback(host: &str) -> bool {
    let v6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if let Some(address) = v6.and_then(|v6| v6.parse::<Ipv6Addr>().ok()) {
        let v4 = address.to_ipv4_mapped();
        return address.is_loopback() || v4.is_some_and(|v4| v4.is_loopback());
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    name.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|v4| v4.is_loopback())
}

/// Puts [`HOST`] among the exceptions, unless it is there or everything is one.
fn add_exception(list: &mut String) {
    let mut elements = list.split(',').map(str::trim);
    if elements.any(|element| element == "*" || element.eq_ignore_ascii_case(HOST)) {
        return;
    }
    if !list.trim().is_empty() && !list.trim_end().ends_with(',') {
        list.push(',');
    }
    list.push_str(HOST);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AgentKind, PodName};
    use proptest::prelude::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn spec(runtime: RuntimeName, network: Option<&str>, env: &[(&str, &str)]) -> Spec {
        let mut pod = PodSpec::bare(PodName::new("p").expect("a name"), "/p".into());
        pod.network = network.map(str::to_owned);
        pod.env = map(env);
        Spec::bare(pod, runtime, AgentKind::Claude)
    }

    #[test]
    fn loopback_addresses_become_the_host() {
        for (given, expected) in [
            ("http://localhost:3128", "http://host.docker.internal:3128"),
            ("localhost:3128", "host.docker.internal:3128"),
            ("LOCALHOST", "host.docker.internal"),
            ("localhost.:1", "host.docker.internal:1"),
            (
                "http://u:p@127.0.0.1:3128/",
                "http://u:p@host.docker.internal:3128/",
            ),
            (
                "http://u:p@ss@127.0.0.1:3128",
                "http://u:p@ss@host.docker.internal:3128",
            ),
            ("127.9.8.7", "host.docker.internal"),
            ("http://[::1]:3128", "http://host.docker.internal:3128"),
            ("[::1]", "host.docker.internal"),
            ("[::ffff:127.0.0.1]:8", "host.docker.internal:8"),
            (
                "socks5h://localhost:1080/a/b?c#d",
                "socks5h://host.docker.internal:1080/a/b?c#d",
            ),
        ] {
            assert_eq!(
                away_from_loopback(given).as_deref(),
                Some(expected),
                "{given}"
            );
        }
        for other in [
            "",
            "http://proxy.example:3128",
            "http://localhost.example:3128",
            "http://mylocalhost:1",
            "http://127.example.com",
            "http://128.0.0.1:1",
            "http://localhost@proxy:1",
            "http://proxy/localhost",
            "[::2]:1",
            "127.0.0.1.example",
        ] {
            assert_eq!(away_from_loopback(other), None, "{other}");
        }
    }

    #[test]
    fn the_host_is_an_exception_once() {
        for (given, expected) in [
            ("", "host.docker.internal"),
            ("a,b", "a,b,host.docker.internal"),
            ("a,", "a,host.docker.internal"),
            (
                "a,xhost.docker.internalx",
                "a,xhost.docker.internalx,host.docker.internal",
            ),
            ("host.docker.internal", "host.docker.internal"),
            ("a, Host.Docker.Internal ,b", "a, Host.Docker.Internal ,b"),
            ("*", "*"),
        ] {
            let mut list = given.to_owned();
            add_exception(&mut list);
            assert_eq!(list, expected);
        }
    }

    #[test]
    fn where_proxies_go() {
        let given = map(&[
            ("HTTP_PROXY", "localhost:1"),
            ("NO_PROXY", "x"),
            ("PATH", "/"),
        ]);
        let docker = |network, env: &[(&str, &str)]| {
            for_run(
                &spec(RuntimeName::Docker, network, env),
                &BTreeMap::new(),
                &given,
            )
        };
        let moved = map(&[
            ("HTTP_PROXY", "host.docker.internal:1"),
            ("NO_PROXY", "x,host.docker.internal"),
        ]);
        let as_given = map(&[("HTTP_PROXY", "localhost:1"), ("NO_PROXY", "x")]);
        let bridged = docker(None, &[]);
        assert!(bridged.host && bridged.env == moved);
        assert!(docker(Some("bridge"), &[]) == bridged);
        assert!(docker(Some("none"), &[]) == Proxies::default());
        for network in ["host", "container:x"] {
            let shared = docker(Some(network), &[]);
            assert!(!shared.host && shared.env == as_given, "{network}");
        }
        for runtime in [RuntimeName::Local, RuntimeName::Fake] {
            let local = for_run(&spec(runtime, None, &[]), &BTreeMap::new(), &given);
            assert!(!local.host && local.env == as_given);
        }
        // The pod's own word, even if it is the empty one, and in other letters.
        let own = docker(None, &[("http_proxy", "")]);
        assert!(!own.host && own.env == map(&[("NO_PROXY", "x")]));
        let own = docker(None, &[("no_proxy", "y")]);
        assert!(own.host && own.env == map(&[("HTTP_PROXY", "host.docker.internal:1")]));
        let flag = map(&[("HTTP_PROXY", "other")]);
        let flagged = for_run(&spec(RuntimeName::Docker, None, &[]), &flag, &given);
        assert!(!flagged.host && flagged.env == map(&[("NO_PROXY", "x")]));
        // Without a list of exceptions there is one now.
        let alone = map(&[("https_proxy", "http://localhost:1")]);
        let alone = for_build(&spec(RuntimeName::Docker, None, &[]).pod, &alone);
        assert_eq!(alone.env["NO_PROXY"], "host.docker.internal");
        assert_eq!(alone.env["no_proxy"], "host.docker.internal");
    }

    #[test]
    fn the_host_is_added_once() {
        let mut hosts = vec!["db:10.0.0.1".to_owned()];
        add_host(&mut hosts);
        add_host(&mut hosts);
        assert_eq!(hosts, ["db:10.0.0.1", "host.docker.internal:host-gateway"]);
        let mut own = vec!["host.docker.internal:10.0.0.9".to_owned()];
        add_host(&mut own);
        assert_eq!(own.len(), 1);
    }

    #[test]
    fn credentials_of_an_address() {
        assert_eq!(credentials("http://user:pass@h:1/x"), ["user:pass", "pass"]);
        assert_eq!(credentials("user@h"), ["user"]);
        assert!(credentials("http://h:1/a@b").is_empty());
    }

    proptest! {
        #[test]
        fn anything_is_taken_and_settles(
            value in "(https?://)?([a-z:@]{0,6}@)?(localhost|127\\.0\\.0\\.[0-9]|\\[::1\\]|[a-z.]{1,9})(:[0-9]{1,4})?(/[a-z@:]{0,5})?",
            list in "[a-z.,* ]{0,30}",
        ) {
            let given = map(&[("HTTP_PROXY", &value), ("no_proxy", &list)]);
            let once = proxies(&given, |_| false, true);
            prop_assert_eq!(once.host, away_from_loopback(&value).is_some());
            // What was moved is moved no more, and the exceptions do not grow.
            let twice = proxies(&once.env, |_| false, true);
            prop_assert!(twice.env == once.env && !twice.host);
            let elements = once.env["no_proxy"].split(',').map(str::trim);
            let count = elements.clone().filter(|element| *element == HOST).count();
            let all = elements.clone().any(|element| element == "*");
            prop_assert!(!once.host || all || count == 1);
            // What was there is still there, in its order.
            prop_assert!(once.env["no_proxy"].starts_with(&list));
        }

        #[test]
        fn arbitrary_text_is_no_trouble(value in "\\PC{0,40}") {
            let _ = (away_from_loopback(&value), credentials(&value));
        }
    }
}
