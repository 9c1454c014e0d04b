//! Pods that are made, linked and removed.

use super::*;

#[test]
fn a_new_pod_is_valid_and_never_written_over() {
    let home = Home::new();
    let pods = Pods::new(home.path().join("new/pods"), None);
    let user = Pods::new(home.path().join("new/pods"), Some(home.path().to_owned()));
    for (number, template) in Template::ALL.into_iter().enumerate() {
        let name = format!("pod{number}");
        let dir = pods.create(&name, template, None).unwrap();
        let pod = user.load(&name).unwrap();
        assert!(pod.template.is_some() && pod.agent.is_some() && pod.spec.dockerfile);
        assert_eq!(
            pod.agent == Some(AgentKind::Command),
            pod.spec.entrypoint.is_some()
        );
        fs::write(dir.join("Dockerfile"), "mine").unwrap();
        let error = pods.create(&name, template, None).unwrap_err();
        assert!(matches!(error, PodError::Exists { .. }));
        assert_eq!(error.code(), ErrorCode::Refused);
        assert_eq!(fs::read_to_string(dir.join("Dockerfile")).unwrap(), "mine");
    }
    // Where each pod.json says that the schema is, it is.
    let json = fs::read_to_string(home.path().join("new/pods/pod0/pod.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let named = json["$schema"].as_str().unwrap();
    let path = home.path().join("new/pods/pod0").join(named);
    assert_eq!(fs::read_to_string(&path).unwrap(), schema());
    fs::write(&path, "of another version").unwrap();
    pods.create("last", Template::Command, None).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), schema());
}

#[test]
fn a_new_pod_clones_the_repository_it_is_from() {
    let home = Home::new();
    home.write(
        "repo/.git/config",
        "[remote \"origin\"]\n\turl = https://u:pw@h/r.git\n",
    );
    home.write("tree/.git", "gitdir: ../repo/.git/worktrees/tree\n");
    home.write("repo/.git/worktrees/tree/commondir", "../..\n");
    home.write("bare/.git/config", "[core]\n");
    for (name, repo) in [("a", "repo"), ("b", "tree")] {
        let repo = home.path().join(repo);
        let dir = home
            .pods()
            .create(name, Template::Claude, Some(&repo))
            .unwrap();
        let text = fs::read_to_string(dir.join("Dockerfile")).unwrap();
        let line = "RUN [\"git\",\"clone\",\"--\",\"https://h/r.git\",\".\"]";
        assert!(text.contains(line), "{text}");
    }
    let bare = home.path().join("bare");
    let error = home
        .pods()
        .create("c", Template::Claude, Some(&bare))
        .unwrap_err();
    assert!(matches!(error, PodError::Repository { .. }), "{error}");
    assert!(!home.path().join("pods/c").exists());
}

#[test]
fn a_pod_is_named_after_its_repository() {
    let home = Home::new();
    home.write(
        "My Project!!/.git/config",
        "[remote \"origin\"]\n\turl = https://h/r\n",
    );
    let repo = home.path().join("My Project!!");
    for expected in ["my-project", "my-project-2", "my-project-3"] {
        let (name, dir) = home.pods().create_from(&repo, Template::Codex).unwrap();
        assert_eq!(name.as_str(), expected);
        assert_eq!(dir, home.path().join("pods").join(expected));
        home.pods().load(expected).unwrap();
    }
}

#[test]
fn a_directory_elsewhere_is_linked_once() {
    let home = Home::new();
    home.write("repo/Agent Pod/Dockerfile", "FROM scratch");
    home.write(
        "repo/Agent Pod/pod.json",
        r#"{"mounts": [{"source": "..", "target": "/r"}]}"#,
    );
    home.write("other/Dockerfile", "FROM scratch");
    home.write("broken/pod.json", r#"{"a": 1, "b": 2}"#);
    let (pods, dir) = (home.pods(), home.path().join("repo/Agent Pod"));
    let added = pods.add(&dir, None).unwrap();
    assert_eq!((added.name.as_str(), added.new), ("agent-pod", true));
    assert_eq!(pods.link("agent-pod"), Some(added.dir.clone()));
    assert_eq!(pods.load("agent-pod").unwrap().spec.dir, added.dir);
    assert!(!pods.add(&dir, None).unwrap().new);

    let error = pods
        .add(&home.path().join("other"), Some("agent-pod"))
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::Refused, "{error}");
    let error = pods.add(&home.path().join("broken"), None).unwrap_err();
    assert!(matches!(error, PodError::Several { .. }), "{error}");
    assert!(error.to_string().contains("broken/pod.json:1:2"), "{error}");
    let error = pods.add(&home.path().join("gone"), None).unwrap_err();
    assert!(matches!(error, PodError::Repository { .. }), "{error}");
    let error = pods
        .add(&home.path().join("other/Dockerfile"), None)
        .unwrap_err();
    assert!(matches!(error, PodError::NotADirectory { .. }), "{error}");
    let names: Vec<String> = pods.list().unwrap().into_iter().map(|(n, _)| n).collect();
    assert_eq!(names, ["agent-pod"]);
}

#[test]
fn of_a_link_only_the_link_is_removed() {
    let home = Home::new();
    home.write("repo/Dockerfile", "FROM scratch");
    home.write("pods/own/Dockerfile", "FROM scratch");
    home.write("pods/file", "");
    symlink("nowhere", home.path().join("pods/broken")).unwrap();
    let pods = home.pods();
    pods.add(&home.path().join("repo"), None).unwrap();
    assert!(matches!(pods.remove("repo").unwrap(), Place::Link(_)));
    assert!(home.path().join("repo/Dockerfile").exists());
    let broken = Place::Link("nowhere".into());
    assert_eq!(pods.remove("broken").unwrap(), broken);
    let own = pods.remove("own").unwrap();
    assert_eq!(own, Place::Directory(home.path().join("pods/own")));
    assert!(!home.path().join("pods/own").exists());
    assert!(matches!(
        pods.remove("file"),
        Err(PodError::NotADirectory { .. })
    ));
    assert!(matches!(pods.remove("own"), Err(PodError::NotFound { .. })));
    assert!(matches!(pods.remove("../repo"), Err(PodError::Name(_))));
}
