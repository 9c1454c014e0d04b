//! Files that a container has from the start, and files that go in and out.

use crate::support::TestEnv;
use crate::support::engine;
use crate::support::events::of_kind;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// A root file system for the scripted agent, with a user of its own.
const WITH_USER: &str = "FROM scratch\nCOPY claude /bin/claude\nCOPY tmp /tmp\n\
    COPY passwd /etc/passwd\nCOPY group /etc/group\nENV PATH=/bin\nWORKDIR /tmp\n\
    USER agent:staff\nENTRYPOINT [\"/bin/claude\"]\n";

fn users(dir: &Path) {
    fs::create_dir_all(dir).expect("our own directory");
    let passwd = "root:x:0:0::/root:\nagent:x:4321:4321::/home/agent:\n";
    fs::write(dir.join("passwd"), passwd).expect("our own directory");
    fs::write(dir.join("group"), "staff:x:50:\n").expect("our own directory");
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
}

/// What the entries of an archive say: name, mode, owner.
fn listed(archive: &[u8]) -> Vec<(String, u32, u64, u64)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("an archive");
    entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let header = entry.header();
            let path = entry.path().expect("a path").display().to_string();
            let number = |id: std::io::Result<u64>| id.expect("a number");
            (
                path.trim_end_matches('/').to_owned(),
                header.mode().expect("a mode") & 0o7777,
                number(header.uid()),
                number(header.gid()),
            )
        })
        .collect()
}

#[test]
fn a036_files_are_there_before_the_agent_and_are_its_own() {
    let env = TestEnv::new();
    let home = env.user_home();
    fs::write(home.join(".claude.json"), "{\"theme\":\"dark\"}").expect("our own home");
    mode(&home.join(".claude.json"), 0o600);
    let kit = env.root().join("kit");
    fs::create_dir_all(kit.join("sub")).expect("our own directory");
    fs::write(kit.join("sub/tool"), "#!tool").expect("our own directory");
    mode(&kit.join("sub/tool"), 0o750);
    symlink("/no/such/place", kit.join("dangling")).expect("our own directory");
    let data = env.root().join("data");
    fs::create_dir(&data).expect("our own directory");
    let pod = env.docker_pod("copies").plain();
    users(&pod.dir());
    let pod = pod
        .dockerfile(WITH_USER)
        .json(json!({
            "mounts": [
                {"source": env.shared(), "target": env.shared()},
                {"source": data, "target": "/data"},
            ],
            "copy": [
                {"source": "~/.claude.json", "target": "~/.claude.json"},
                {"source": "~/.not-there", "target": "~/.not-there", "optional": true},
                {"source": kit, "target": "/opt/deep/kit"},
                {"source": "~/.claude.json", "target": "/data"},
                {"source": "~/.claude.json", "target": "/data/below/it"},
            ],
        }))
        .make();
    // Mode 0600 and read by the agent: it is the agent's.
    let prompt = "[[read /home/agent/.claude.json]][[read /opt/deep/kit/sub/tool]]\
                  [[write /home/agent/more written]][[read /home/agent/more]]";
    let id = env.start(&[&pod, "--prompt", prompt]);
    assert_eq!(env.wait(&id), 0, "{}", env.said(&id));
    let said = env.said(&id);
    assert!(
        said.contains("{\"theme\":\"dark\"}") && said.contains("#!tool"),
        "{said}"
    );

    let of = |path: &str| {
        listed(
            &env.cldpd(["cp", &format!("{id}:{path}"), "-"])
                .run()
                .code(0)
                .stdout,
        )
    };
    let own = |name: &str, mode| (name.to_owned(), mode, 4321, 50);
    assert_eq!(of("/home/agent/.claude.json"), [own(".claude.json", 0o600)]);
    let kit = of("/opt/deep/kit");
    assert!(kit.contains(&own("kit/sub/tool", 0o750)), "{kit:?}");
    assert!(kit.contains(&own("kit/dangling", 0o777)), "{kit:?}");
    let made = of("/opt/deep");
    assert_eq!(made[0], own("deep", 0o755), "the way to it is its own too");

    let events = env.events(&id);
    let notes: Vec<_> = of_kind(&events, "note");
    let skipped = |target: &str| {
        notes.iter().any(|note| {
            let message = note["message"].as_str().unwrap_or_default();
            note["code"] == "not_copied"
                && message.contains(&format!("to {target}: /data is a mount"))
        })
    };
    assert!(skipped("/data") && skipped("/data/below/it"), "{notes:?}");
    assert_eq!(fs::read_dir(&data).expect("our own directory").count(), 0);

    // A further run goes on with what became of them.
    let id2 = format!("{id}:/home/agent/more");
    env.cldpd(["resume", "-d", &id, "--prompt", "[[read /home/agent/more]]"])
        .run()
        .ok();
    assert_eq!(env.wait(&id), 0);
    assert!(env.said(&id).ends_with("written\n"), "{}", env.said(&id));
    env.cldpd(["cp", &id2, "-"]).run().code(0);
}

#[test]
fn a039_paths_are_what_they_are() {
    let env = TestEnv::new();
    let odd = "a b'c\"d:e\nf $(x) \u{e9}";
    let home = env.root().join(odd);
    let source = env.root().join(format!("m {odd}"));
    fs::create_dir(&source).expect("our own directory");
    fs::write(source.join("file"), "found").expect("our own directory");
    let target = format!("/mnt/{odd}");
    let workdir = format!("/odd/{odd}");
    let pod = env
        .docker_pod("odd")
        .plain()
        .json(json!({
            "workdir": workdir,
            "mounts": [
                {"source": env.shared(), "target": env.shared()},
                {"source": source, "target": target},
            ],
        }))
        .make();
    fs::rename(env.home(), &home).expect("our own directory");
    let cldpd = |args: &[&str]| env.cldpd(args).env("CLDPD_HOME", &home).run();
    let prompt = format!("[[cwd]][[read {target}/file]]");
    let start = cldpd(&["start", &pod, "--prompt", &prompt]);
    let stopped = cldpd(&["daemon", "stop", "--stop-sessions"]);
    let start = start.code(0);
    assert_eq!(start.text(), format!("cwd: {workdir}\nfound\n"));
    stopped.code(0);
    fs::rename(&home, env.home()).expect("our own directory");
}

#[test]
fn cp_moves_files_in_and_out_of_a_container_that_runs_and_one_that_has_ended() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.docker_pod("cp").plain();
    users(&pod.dir());
    let pod = pod.dockerfile(WITH_USER).make();
    let prompt = format!("[[print ready]]{}[[read /tmp/in.txt]]", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&id, "ready");
    let here = |name: &str| env.root().join(name);
    let cp = |from: &str, to: &str| env.cldpd(["cp", from, to]).run();
    let at = |path: &str| format!("{id}:{path}");
    fs::write(here("in.txt"), "from here").expect("our own directory");
    mode(&here("in.txt"), 0o640);

    cp(here("in.txt").to_str().expect("text"), &at("in.txt")).code(0);
    let archive = env
        .cldpd(["cp", &at("/tmp/in.txt"), "-"])
        .run()
        .code(0)
        .stdout;
    assert_eq!(listed(&archive), [("in.txt".to_owned(), 0o640, 4321, 50)]);
    gate.open();
    assert_eq!(env.wait(&id), 0, "{}", env.said(&id));
    assert!(env.said(&id).ends_with("from here\n"), "{}", env.said(&id));

    // A tree, into what is not there and into what is.
    fs::create_dir_all(here("tree/sub")).expect("our own directory");
    fs::write(here("tree/sub/deep"), vec![b'x'; 3_000_000]).expect("our own directory");
    symlink("sub/deep", here("tree/link")).expect("our own directory");
    let tree = here("tree").display().to_string();
    cp(&tree, &at("/tmp/copy")).code(0);
    cp(&tree, &at("/tmp/copy")).code(0);
    cp(&format!("{tree}/."), &at("/tmp/copy/tree")).code(0);
    let back = here("back").display().to_string();
    cp(&at("/tmp/copy"), &back).code(0);
    for path in ["back/sub/deep", "back/tree/sub/deep"] {
        assert_eq!(fs::metadata(here(path)).expect("copied").len(), 3_000_000);
    }
    let link = fs::read_link(here("back/link")).expect("a link stays one");
    assert_eq!(link, Path::new("sub/deep"));
    // What the link leads to.
    env.cldpd(["cp", "-L", &at("/tmp/copy/link"), &back])
        .run()
        .code(0);
    assert_eq!(fs::read_link(here("back/link")).ok(), None);
    assert_eq!(
        fs::metadata(here("back/link")).expect("copied").len(),
        3_000_000
    );

    // An archive both ways; owners stay with -a only.
    let archive = env
        .cldpd(["cp", &at("/tmp/copy/sub"), "-"])
        .run()
        .code(0)
        .stdout;
    env.cldpd(["cp", "-", &at("/tmp")])
        .stdin(archive)
        .run()
        .code(0);
    let sub = env.cldpd(["cp", &at("/tmp/sub"), "-"]).run().code(0).stdout;
    assert_eq!(listed(&sub).len(), 2);
    env.cldpd(["cp", "-a", &tree, &at("/tmp/kept")])
        .run()
        .code(0);
    let kept = env
        .cldpd(["cp", &at("/tmp/kept"), "-"])
        .run()
        .code(0)
        .stdout;
    let uid = fs::metadata(here("tree")).expect("our own").uid();
    assert_eq!(listed(&kept)[0].2, u64::from(uid));

    // What cannot be.
    let missing = cp(&at("/no/such"), &back).code(3);
    assert!(missing.stderr.contains("/no/such"), "{}", missing.stderr);
    cp(&tree, &at("/no/such/dir")).code(3);
    cp(&tree, &at("/tmp/in.txt")).code(1);
    cp("in.txt", "out.txt").code(2);
    cp(&at("/a"), &at("/b")).code(2);
    cp(&at("/tmp/in.txt"), &format!("{back}/no/such/dir")).code(3);
    cp("nobody-00000000:/x", ".").code(3);
    env.cldpd(["rm", &id]).run().ok();
    let gone = cp(&at("/tmp/in.txt"), &back).code(3);
    assert!(
        gone.stderr.contains("removed") && gone.stderr.contains("cldpd logs"),
        "{}",
        gone.stderr
    );
}

#[test]
fn cp_of_a_local_session_begins_in_its_directory() {
    let env = TestEnv::new();
    let work = env.root().join("work");
    fs::create_dir(&work).expect("our own directory");
    let gate = env.gate("hold");
    let pod = env
        .local_pod("here")
        .plain()
        .json(json!({"workdir": work}))
        .make();
    let prompt = format!("[[write out.txt made here]][[print ready]]{}", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&id, "ready");
    let cp = |from: &str, to: &str| env.cldpd(["cp", from, to]).run();
    let there = env.root().join("there").display().to_string();
    cp(&format!("{id}:out.txt"), &there).code(0);
    assert_eq!(fs::read_to_string(&there).expect("copied"), "made here");
    gate.open();
    assert_eq!(env.wait(&id), 0);
    cp(&there, &format!("{id}:sub")).code(0);
    assert_eq!(
        fs::read_to_string(work.join("sub")).expect("copied"),
        "made here"
    );
    cp(&format!("{id}:."), &format!("{there}.d")).code(0);
    assert!(env.root().join("there.d/out.txt").exists());
    cp(&format!("{id}:nothing"), ".").code(3);
    env.cldpd(["rm", &id]).run().ok();
    cp(&format!("{id}:out.txt"), &there).code(3);
}

#[test]
fn cp_out_of_a_container_stays_where_it_is_told() {
    let env = TestEnv::new();
    let pod = env.docker_pod("evil").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[print done]]"]);
    assert_eq!(env.wait(&id), 0);
    // A tree in which a link leads out, as an agent may leave it.
    let bait = env.root().join("bait");
    fs::create_dir_all(bait.join("t")).expect("our own directory");
    symlink(env.root().join("victim"), bait.join("t/door")).expect("our own directory");
    fs::create_dir(env.root().join("victim")).expect("our own directory");
    let cp = |from: &str, to: &str| env.cldpd(["cp", from, to]).run();
    cp(
        &bait.join("t").display().to_string(),
        &format!("{id}:/tmp/t"),
    )
    .code(0);
    let into = env.root().join("into");
    fs::create_dir(&into).expect("our own directory");
    let into = into.display().to_string();
    cp(&format!("{id}:/tmp/t"), &into).code(0);
    // The agent replaces the link by a directory: what comes now would go through it.
    fs::remove_file(bait.join("t/door")).expect("our own directory");
    fs::create_dir(bait.join("t/door")).expect("our own directory");
    fs::write(bait.join("t/door/planted"), "bad").expect("our own directory");
    cp(
        &bait.join("t").display().to_string(),
        &format!("{id}:/tmp/t2"),
    )
    .code(0);
    let refused = cp(&format!("{id}:/tmp/t2/."), &format!("{into}/t")).code(1);
    assert!(refused.stderr.contains("door"), "{}", refused.stderr);
    let victim = fs::read_dir(env.root().join("victim")).expect("our own directory");
    assert_eq!(victim.count(), 0, "nothing is written through a link");
    assert!(engine::container_exists(&format!("cldpd-{id}-r0")));

    // An archive that is sent to a session may not lead out of its directory either.
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o644);
    let name = b"../../planted";
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, &b"bad"[..]).expect("memory");
    let archive = builder.into_inner().expect("memory");
    let sent = env
        .cldpd(["cp", "-", &format!("{id}:/tmp")])
        .stdin(archive)
        .run()
        .code(1);
    assert!(sent.stderr.contains("outside"), "{}", sent.stderr);
}
