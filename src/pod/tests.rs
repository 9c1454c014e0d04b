use super::*;
use crate::model::spec::Keep;
use crate::model::{Error, ErrorCode};
use proptest::prelude::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

mod keys;
mod places;
mod schema;

/// A home with a pods directory.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("pods")).unwrap();
        Self(home)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn pods(&self) -> Pods {
        Pods::new(self.path().join("pods"), Some(self.path().join("user")))
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A pod `p` with this pod.json.
    fn with(json: impl AsRef<[u8]>) -> Self {
        let home = Self::new();
        home.write("pods/p/Dockerfile", "FROM scratch");
        home.write("pods/p/pod.json", json);
        home
    }

    fn load(&self) -> Pod {
        self.pods().load("p").unwrap()
    }

    /// What is wrong with `p`, without the directory.
    fn wrong(&self) -> Vec<String> {
        let prefix = format!("{}/pods/p/", self.path().display());
        let problems = self.pods().check("p");
        let text = |problem: &PodError| problem.to_string().replace(&prefix, "");
        problems.iter().map(text).collect()
    }
}

#[test]
fn a_dockerfile_is_enough() {
    let home = Home::new();
    home.write("pods/my-repo/Dockerfile", "FROM scratch");
    let pod = home.pods().load("my-repo").unwrap();
    assert_eq!(pod.spec.image, "cldpd-my-repo");
    assert!(pod.spec.dockerfile);
    assert!(pod.spec.env.is_empty() && pod.spec.mounts.is_empty());
    assert_eq!((pod.spec.workdir, pod.template), (None, None));
    assert_eq!(pod.spec.keep, Keep::Days(7));
}

#[test]
fn every_key_is_read() {
    let home = Home::with(
        r#"{
        "$schema": "x", "image": "reg.Example:5000/a/b:Tag", "env": {"A": "1", "MY_TOKEN": "s3cret"},
        "buildArgs": {"V": "2"}, "workdir": "/w", "inheritEnv": ["X", "Y", "X"],
        "mounts": [{"source": "data", "target": "/data//x/", "readOnly": true}],
        "agent": "claude", "model": "opus", "args": ["--max-turns", "3"],
        "entrypoint": ["a", "b"], "permissions": "default", "steer": true, "groupAdd": ["docker", 20],
        "extraHosts": ["h:::1"], "network": "none", "labels": {"team": "x"},
        "keep": 3, "maxParallel": 2, "runtime": "local"}"#,
    );
    home.write("pods/p/data/file", "");
    let pod = home.load();
    let spec = &pod.spec;
    assert_eq!(spec.image, "reg.Example:5000/a/b:Tag");
    assert_eq!(spec.env.keys().collect::<Vec<_>>(), ["A"]);
    assert_eq!(spec.secret_env, ["MY_TOKEN"]);
    assert_eq!(pod.secret_env["MY_TOKEN"], "s3cret");
    assert_eq!(spec.build_args["V"], "2");
    assert_eq!(spec.workdir.as_deref(), Some("/w"));
    assert_eq!(spec.inherit_env, ["X", "Y"]);
    assert_eq!(spec.mounts.len(), 1);
    assert_eq!(spec.mounts[0].source, spec.dir.join("data"));
    assert_eq!(spec.mounts[0].target, "/data/x");
    assert!(spec.mounts[0].read_only);
    assert_eq!(pod.agent, Some(AgentKind::Claude));
    assert_eq!(pod.model.as_deref(), Some("opus"));
    assert_eq!(spec.args, ["--max-turns", "3"]);
    assert_eq!(
        spec.entrypoint.as_deref(),
        Some(&["a".to_owned(), "b".to_owned()][..])
    );
    assert_eq!(pod.permissions, Permissions::Default);
    assert!(pod.steer);
    assert_eq!(spec.group_add, ["docker", "20"]);
    assert_eq!(spec.extra_hosts, ["h:::1"]);
    assert_eq!(spec.network.as_deref(), Some("none"));
    assert_eq!(spec.labels["team"], "x");
    assert_eq!(spec.keep, Keep::Days(3));
    assert_eq!(spec.max_parallel, Some(2));
    assert_eq!(pod.runtime, Some(RuntimeName::Local));
    assert!(!format!("{pod:?}").contains("s3cret"));
    let frozen = serde_json::to_string(&pod.spec).unwrap();
    assert!(!frozen.contains("s3cret"));
}

#[test]
fn the_conditions_are_told_apart() {
    let home = Home::new();
    home.write("pods/myrepo/Dockerfile", "");
    home.write("pods/file", "");
    home.write("pods/empty/x", "");
    home.write("pods/json/Dockerfile", "");
    home.write("pods/json/pod.json", "{\n  \"env\": {\"A\": 1,}\n}");
    home.write("pods/template/Dockerfile", "");
    home.write("pods/template/template.md", b"ok \xff");
    home.write("pods/folder/Dockerfile/x", "");
    symlink("nowhere", home.path().join("pods/link")).unwrap();
    let load = |name: &str| home.pods().load(name).unwrap_err();

    let error = load("myrepp");
    assert!(matches!(error, PodError::NotFound { .. }), "{error}");
    assert_eq!(error.code(), ErrorCode::PodNotFound);
    assert_eq!(error.hint().as_deref(), Some("did you mean myrepo?"));
    assert!(
        load("other")
            .hint()
            .unwrap()
            .contains("cldpd pod new other")
    );
    assert!(matches!(load("file"), PodError::NotADirectory { .. }));
    assert!(matches!(load("link"), PodError::BrokenLink { .. }));
    assert!(matches!(load("empty"), PodError::NoDockerfile { .. }));
    let error = load("json");
    assert!(matches!(error, PodError::Syntax { .. }));
    assert!(
        error
            .to_string()
            .ends_with("pod.json:2:18: not valid JSON: trailing comma"),
        "{error}"
    );
    let error = load("template");
    assert!(matches!(error, PodError::Unreadable { .. }));
    assert!(
        error
            .to_string()
            .ends_with("template.md: it is not UTF-8 text (byte 4)"),
        "{error}"
    );
    let error = load("folder");
    assert!(
        error
            .to_string()
            .ends_with("Dockerfile: not a regular file"),
        "{error}"
    );
    assert_eq!(Error::from(error).code, ErrorCode::InvalidPod);
}

#[test]
fn names_are_checked_before_any_file() {
    let home = Home::new();
    home.write("evil/Dockerfile", "");
    for name in ["../evil", "a/b", ".", "..", "", "a\0b", "a\nb", "MyRepo"] {
        let error = home.pods().load(name).unwrap_err();
        assert!(matches!(error, PodError::Name(_)), "{name:?}: {error}");
        assert!(matches!(
            home.pods().create(name, Template::Claude, None),
            Err(PodError::Name(_))
        ));
    }
    let hint = home.pods().load("MyRepo").unwrap_err().hint();
    assert_eq!(hint.as_deref(), Some("write it in lower case: myrepo"));
}

#[test]
fn unknown_keys_are_named_with_their_place() {
    let home = Home::with(
        "{\n  \"mount\": [],\n  \"inherit_env\": [],\n  \"é\": 1, \"zzz\": 2,\n  \"repos\": []  ,\n  \
         \"mounts\": [{\"source\": \".\", \"target\": \"/x\", \"readonly\": true}],\n  \"env\": {}, \"env\": {}\n}",
    );
    assert_eq!(
        home.wrong(),
        [
            "pod.json:2:3: unknown key \"mount\"",
            "pod.json:3:3: unknown key \"inherit_env\"",
            "pod.json:4:3: unknown key \"é\"",
            "pod.json:4:11: unknown key \"zzz\"",
            "pod.json:5:3: key \"repos\" is not supported yet",
            "pod.json:6:46: unknown key \"mounts[0].readonly\"",
            "pod.json:7:14: key \"env\" is there twice",
        ]
    );
    let hints: Vec<_> = home.pods().check("p").iter().map(PodError::hint).collect();
    assert_eq!(hints[0].as_deref(), Some("did you mean \"mounts\"?"));
    assert_eq!(hints[1].as_deref(), Some("did you mean \"inheritEnv\"?"));
    assert!(
        hints[3]
            .as_deref()
            .unwrap()
            .starts_with("known here: image, env")
    );
    assert_eq!(hints[5].as_deref(), Some("did you mean \"readOnly\"?"));
    let error = Error::from(home.pods().load("p").unwrap_err());
    assert!(
        error.message.starts_with("pod p has 7 problems:\n  /"),
        "{error}"
    );
    // Each with its own way out, not the first one's for all.
    assert!(
        error.message.contains("(did you mean \"readOnly\"?)") && error.hint.is_none(),
        "{error}"
    );
}

#[test]
fn wrong_values_are_all_told() {
    let home = Home::with(
        r#"{"image": "No Name",
"env": {"API_KEY": 5, "": "x", "B": true},
"workdir": "w",
"inheritEnv": ["A=hush"],
"mounts": {},
"agent": "copilot",
"model": "-x",
"args": "x",
"entrypoint": [],
"permissions": 1,
"groupAdd": [-1],
"extraHosts": ["x"],
"network": " ",
"labels": {"cldpd.home": "x"},
"keep": 0,
"maxParallel": 1.5,
"runtime": "podman"}"#,
    );
    assert_eq!(
        home.wrong(),
        [
            "pod.json:1:11: \"image\" is no image name: \"No Name\"",
            "pod.json:2:20: \"env.API_KEY\" has to be a string, but is a number",
            "pod.json:2:23: \"env.\" is no usable name: it has to be without = and NUL, and not empty",
            "pod.json:2:37: \"env.B\" has to be a string, but is a boolean",
            "pod.json:3:12: \"workdir\" has to be an absolute path, but is \"w\"",
            "pod.json:4:16: \"inheritEnv[0]\" is no variable's name",
            "pod.json:5:11: \"mounts\" has to be a list of objects, but is an object",
            "pod.json:6:10: \"agent\" has to be \"claude\", \"codex\", \"gemini\", \"opencode\" or \"command\", but is \"copilot\"",
            "pod.json:7:10: \"model\" is no model's name: \"-x\"",
            "pod.json:8:9: \"args\" has to be a list of strings, but is a string",
            "pod.json:9:15: \"entrypoint\" has to begin with a program",
            "pod.json:10:16: \"permissions\" has to be \"bypass\" or \"default\", but is a number",
            "pod.json:11:14: \"groupAdd[0]\" has to be a string, but is a number",
            "pod.json:12:16: \"extraHosts[0]\" has to be \"name:address\": \"x\"",
            "pod.json:13:12: \"network\" is empty",
            "pod.json:14:12: \"labels.cldpd.home\" is cldpd's own: labels that begin with \"cldpd.\" are not free",
            "pod.json:15:9: \"keep\" has to be \"never\", \"always\", a number of days from 1 or a duration like \"12h\"",
            "pod.json:16:16: \"maxParallel\" has to be a whole number from 1",
            "pod.json:17:12: \"runtime\" has to be \"docker\" or \"local\", but is \"podman\"",
        ]
    );
    for text in ["[]", "null", "\"x\""] {
        let wrong = Home::with(text).wrong();
        assert_eq!(wrong.len(), 1);
        assert!(
            wrong[0].starts_with("pod.json:1:1: \"pod.json\" has to be an object"),
            "{wrong:?}"
        );
    }
}

#[test]
fn capitals_in_an_image_are_explained() {
    for (image, good) in [
        ("alpine", true),
        ("alpine:3.20-X", true),
        ("ghcr.io/o/r@sha256:abcd", true),
        ("localhost:5000/x", true),
        ("MyOrg/x", false),
        ("-x", false),
        ("x:", false),
    ] {
        let home = Home::with(serde_json::json!({ "image": image }).to_string());
        assert_eq!(home.wrong().is_empty(), good, "{image}");
    }
}

#[test]
fn an_image_needs_no_dockerfile() {
    let home = Home::new();
    home.write("pods/p/pod.json", r#"{"image": "alpine"}"#);
    assert!(!home.load().spec.dockerfile);
    // What is wrong with the file is said, not what follows from it.
    home.write("pods/p/pod.json", r#"{"imagee": "alpine"}"#);
    assert_eq!(home.wrong(), ["pod.json:1:2: unknown key \"imagee\""]);
    home.write("pods/p/pod.json", " \n");
    assert!(home.wrong()[0].starts_with("invalid pod: no Dockerfile in "));
}

#[test]
fn a_plain_process_needs_no_image() {
    let home = Home::new();
    home.write("pods/p/pod.json", r#"{"runtime": "local"}"#);
    assert!(!home.load().spec.dockerfile);
    home.write("pods/p/pod.json", r#"{"runtime": "docker"}"#);
    assert!(home.wrong()[0].starts_with("invalid pod: no Dockerfile in "));
}

#[test]
fn mounts_are_expanded_and_checked() {
    let home = Home::new();
    home.write("user/k/x", "");
    home.write("real/Dockerfile", "");
    home.write("beside/x", "");
    // Relative paths start at the directory itself, not at a link to it.
    symlink(home.path().join("real"), home.path().join("pods/p")).unwrap();
    let mounts = |list: &str| home.write("real/pod.json", format!("{{\"mounts\": [{list}]}}"));
    mounts(
        r#"{"source": "~", "target": "/a"}, {"source": "~/k", "target": "/b"},
           {"source": "../beside", "target": "/c"}, {"source": "./", "target": "/d"},
           {"source": "gone", "target": "/e", "optional": true}"#,
    );
    let pod = home.load();
    let user = home.path().join("user");
    let sources: Vec<_> = pod.spec.mounts.iter().map(|m| m.source.clone()).collect();
    let dir = &pod.spec.dir;
    assert_eq!(
        sources,
        [
            user.clone(),
            user.join("k"),
            dir.join("../beside"),
            dir.clone()
        ]
    );
    assert_eq!(pod.missing_mounts, [dir.join("gone")]);

    mounts(
        r#"{"source": "~bob/x", "target": "/a"},
{"source": "/no/such/thing", "target": "/b"},
{"source": ".", "target": "rel"},
{"source": ".", "target": "/x/../y"},
{"source": ".", "target": "//"},
{"source": ".", "target": "/.cldpd/run"},
{"source": ".", "target": "/.cldpdx"},
{"source": ".", "target": "/.cldpdx/"},
{"source": ""}, 7"#,
    );
    let wrong = home.wrong();
    assert_eq!(
        wrong,
        [
            "pod.json:1:24: \"mounts[0].source\" is \"~bob/x\": the form ~bob/ is not supported",
            "pod.json:2:12: mount source /no/such/thing does not exist",
            "pod.json:3:27: \"mounts[2].target\" has to be an absolute path in the container: \"rel\"",
            "pod.json:4:27: \"mounts[3].target\" must not have .. in it: \"/x/../y\"",
            "pod.json:5:27: \"mounts[4].target\" must not be the whole file system: \"//\"",
            "pod.json:6:27: \"mounts[5].target\" must not be at or below /.cldpd, which is cldpd's own: \"/.cldpd/run\"",
            "pod.json:8:27: \"mounts[7].target\" is taken by an earlier one: \"/.cldpdx/\"",
            "pod.json:9:1: mounts[8] has no \"target\"",
            "pod.json:9:12: \"mounts[8].source\" is empty",
            "pod.json:9:17: \"mounts[9]\" has to be an object, but is a number",
        ]
    );
    assert!(!Path::new("/no/such/thing").exists());
}

#[test]
fn a_list_shows_broken_pods_too() {
    let home = Home::new();
    home.write("pods/b/Dockerfile", "");
    home.write("elsewhere/Dockerfile", "");
    home.write("pods/c/pod.json", "{");
    home.write("pods/README", "");
    home.write("pods/.git/x", "");
    home.write("pods/Upper/Dockerfile", "");
    symlink(home.path().join("elsewhere"), home.path().join("pods/a")).unwrap();
    symlink("nowhere", home.path().join("pods/d")).unwrap();
    let list = home.pods().list().unwrap();
    let rows: Vec<_> = list.iter().map(|(n, p)| (n.as_str(), p.is_ok())).collect();
    let expected = [
        ("Upper", false),
        ("a", true),
        ("b", true),
        ("c", false),
        ("d", false),
    ];
    assert_eq!(rows, expected);
    let nowhere = Pods::new(home.path().join("none"), None);
    assert!(nowhere.list().unwrap().is_empty());
}

#[test]
fn reading_is_bounded() {
    let home = Home::with(vec![b' '; (FILE_MAX + 1) as usize]);
    assert_eq!(
        home.wrong(),
        ["cannot read pod.json: it has more than 1048576 bytes"]
    );
    // A pipe would block whoever opens it.
    let pipe = home.path().join("pods/p/pod.json");
    fs::remove_file(&pipe).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    assert_eq!(home.wrong(), ["cannot read pod.json: not a regular file"]);
}

#[test]
fn the_template_comes_before_the_task() {
    let home = Home::with("");
    let issue = Task::Issue("U".to_owned());
    let prompt = |template: &str, task: &Task| {
        home.write("pods/p/template.md", template);
        home.load().prompt(task).lossy()
    };
    let work = "Work on this GitHub issue: U";
    assert_eq!(prompt("T", &issue), format!("T\n\n{work}"));
    assert_eq!(prompt("T\n", &issue), format!("T\n\n{work}"));
    assert_eq!(prompt(" T\r\n\r\n", &issue), format!(" T\r\n\r\n{work}"));
    assert_eq!(prompt("T\n\n\n", &issue), format!("T\n\n\n{work}"));
    assert_eq!(prompt("", &issue), work);
    assert_eq!(prompt(" \n", &issue), work);
    let bytes = Task::Prompt(Blob(b"-x \xff\0".to_vec()));
    assert_eq!(home.load().prompt(&bytes).0, b"-x \xff\0");
}

#[test]
fn secrets_are_known_by_their_names() {
    for name in ["API_KEY", "GithubToken", "db_password", "CLIENT_SECRET"] {
        assert!(is_secret_name(name));
    }
    for name in ["PATH", "USER", "LANG"] {
        assert!(!is_secret_name(name));
    }
}

fn read_text(text: &[u8]) -> Vec<PodError> {
    let places = Places {
        pod: Path::new("/pod"),
        home: None,
    };
    file::read(Path::new("pod.json"), text, &places).1
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_text(&bytes);
    }

    #[test]
    fn damaged_files_are_read_or_refused(at: prop::sample::Index, with in "\\PC{0,3}") {
        let good = r#"{"image":"a/b:c","env":{"A":"b"},"mounts":[{"source":"~/x","target":"/y"}],"keep":3}"#;
        let at = at.index(good.len());
        let text = format!("{}{with}{}", &good[..at], &good[at + 1..]);
        for problem in read_text(text.as_bytes()) {
            prop_assert!(problem.to_string().starts_with("pod.json:1:"), "{}", problem);
        }
    }

    #[test]
    fn no_value_of_env_is_ever_told(value in "hush[a-z]{8}", raw: bool) {
        let json = if raw {
            format!("{{\"env\": {{\"A\": \"{value}\", \"B\": 1}}, \"x\": 1, \"inheritEnv\": [\"A={value}\"]}}")
        } else {
            format!("{{\"env\": {{\"A\": \"{value}\"")
        };
        for problem in read_text(json.as_bytes()) {
            prop_assert!(!problem.to_string().contains(&value));
            let debug = format!("{problem:?}");
            prop_assert!(!debug.contains(&value));
        }
    }

    #[test]
    fn a_prompt_ends_with_the_task(template in "\\PC{1,20}\n{0,3}", task: Vec<u8>) {
        let home = Home::with("");
        home.write("pods/p/template.md", &template);
        let prompt = home.load().prompt(&Task::Prompt(Blob(task.clone()))).0;
        prop_assert!(prompt.ends_with(&task));
        if !template.trim().is_empty() {
            prop_assert!(prompt.starts_with(template.as_bytes()));
            let before = &prompt[..prompt.len() - task.len()];
            prop_assert!(before.ends_with(b"\n\n"));
        }
    }
}
