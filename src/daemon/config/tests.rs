use super::*;
use crate::model::Error;

fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Config> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.toml"), text).unwrap();
    let home = Home::new(dir.path()).unwrap();
    Source::of(&home)?.read(&|key: &Key| {
        let set = variables.iter().find(|(name, _)| *name == key.variable);
        set.map(|(_, value)| (*value).to_owned())
    })
}

fn read(text: &str) -> Result<Config> {
    read_with(text, &[])
}

fn told(error: &Error) -> String {
    let (_, message) = error.message.split_once("config.toml:").unwrap();
    message.to_owned()
}

#[test]
fn defaults_and_values() {
    let config = read("").unwrap();
    assert!(config.max_parallel >= PARALLEL_MIN);
    assert_eq!(config.idle_exit, Some(IDLE_EXIT));
    let text = "[limits]\nmemory = \"12g\"\nmax_queued = 5\nsession_memory = 0\nsession_pids = 9\n";
    let limits = read(text).unwrap();
    assert_eq!((limits.memory, limits.max_queued), (12 << 30, 5));
    assert_eq!((limits.session_memory, limits.session_pids), (0, 9));
    let text = "[limits]\nmax_parallel = 3\n[daemon]\nidle_exit = \"90s\"\n";
    let config = read(text).unwrap();
    assert_eq!(
        (config.max_parallel, config.idle_exit),
        (3, Some(Duration::from_secs(90)))
    );
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (text, expected) in [
        (
            "[limits]\nmax_paralel = 3\n",
            "2:1: unknown key \"limits.max_paralel\"",
        ),
        ("\n  nothing = 1\n", "2:3: unknown key \"nothing\""),
        (
            "[docker]\nhost = []",
            "2:8: docker.host = an array is no value",
        ),
        (
            "[daemon]\nidle_exit = \"soon\"\n",
            "2:13: daemon.idle_exit = \"soon\" is no duration such as \"15m\", nor \"never\"",
        ),
        (
            "[limits]\nmax_parallel = 0\n",
            "2:16: limits.max_parallel = \"0\" would let nothing run",
        ),
        (
            "[limits]\n\nmemory = \"much\"\n",
            "3:10: limits.memory = \"much\" is no size such as \"512m\" or \"12g\"",
        ),
        (
            "[limits]\nmax_queued = 0\n",
            "2:14: limits.max_queued = \"0\" would let nothing wait",
        ),
    ] {
        assert_eq!(told(&read(text).unwrap_err()), expected);
    }
    let error = read("[limits]\nmax_paralel = 3\n").unwrap_err();
    assert!(error.hint.unwrap().contains("limits.max_parallel"));
    assert!(told(&read("runtime = ").unwrap_err()).starts_with("1:"));
}

#[test]
fn a_variable_goes_over_the_file_and_a_flag_over_both() {
    let text = "[limits]\nmax_parallel = 3\n\n[docker]\nhost = \"unix:///f\"\n";
    let set = [("CLDPD_MAX_PARALLEL", "4"), ("CLDPD_RUNTIME", "")];
    let config = read_with(text, &set).unwrap();
    let config = config.with_docker_host(Some("unix:///flag".to_owned()));
    let shown: Vec<String> = config
        .effective()
        .into_iter()
        .filter(|s| !s.key.starts_with("limits.") || s.key == "limits.max_parallel")
        .filter(|s| !s.key.starts_with("retention."))
        .map(|s| format!("{}={} {}", s.key, s.value, s.origin))
        .collect();
    assert_eq!(
        shown,
        [
            "runtime=\"docker\" default",
            "limits.max_parallel=4 CLDPD_MAX_PARALLEL",
            "agents.silent_after=\"15m\" default",
            "agents.linger_after=\"15m\" default",
            "agents.on_silence=\"note\" default",
            "agents.retry_after=\"10s\" default",
            "daemon.idle_exit=\"15m\" default",
            "daemon.log_format=\"logfmt\" default",
            "journal.min_free=null default",
            "docker.host=\"unix:///flag\" --docker-host",
            "docker.session_dir=null default",
            "cli.detach_on_interrupt=false default",
        ]
    );
    let config = read(text).unwrap();
    assert!(
        config.effective()[1]
            .origin
            .to_string()
            .ends_with("config.toml:2")
    );
    let error = read_with("", &[("CLDPD_MAX_PARALLEL", "many")]).unwrap_err();
    assert_eq!(
        error.message,
        "CLDPD_MAX_PARALLEL = \"many\" is no whole number"
    );
}

#[test]
fn names_are_unlike_and_variables_say_whose_they_are() {
    for (index, key) in KEYS.iter().enumerate() {
        assert!(key.variable.starts_with("CLDPD_"), "{}", key.name);
        let others = &KEYS[index + 1..];
        assert!(
            others
                .iter()
                .all(|o| o.name != key.name && o.variable != key.variable)
        );
    }
}

#[test]
fn durations_are_said_as_they_are_read() {
    for text in ["15m", "90s", "2h", "1d", "0s", "20ms"] {
        assert_eq!(in_words(duration(text).unwrap()), text);
    }
}

#[test]
fn sizes_are_said_as_they_are_read() {
    for text in ["0", "1000", "1k", "512m", "12g", "3t"] {
        assert_eq!(size_in_words(size(text).unwrap()), text);
    }
    assert_eq!(size("2GiB").unwrap(), 2 << 30);
    for wrong in ["", "g", "1.5g", "-1", "99999999999t"] {
        assert!(size(wrong).is_err(), "{wrong}");
    }
}
