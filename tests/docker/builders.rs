//! The same cases for both builders: what reaches them, and what they leave.

use super::building::builder;
use super::support::{Home, program};
use bollard::models::{ContainerConfig, ContainerCreateBody};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptions, ListImagesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
};
use cldpd::model::spec::{BuildOptions, PodSpec};
use cldpd::runtime::docker::{Docker, DockerConfig};
use cldpd::runtime::{BuildRequest, Runtime};
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::{PermissionsExt, symlink};

const UNFORCED: BuildOptions = BuildOptions {
    force: false,
    no_cache: false,
    pull: false,
};

/// What steps printed, without the builder's own marks.
fn printed(lines: &str) -> Vec<&str> {
    let shown = lines.lines().map(|line| match line.split_once(' ') {
        Some((step, rest)) if step.starts_with('#') => rest,
        _ => line,
    });
    shown.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_builders_see_arguments_and_what_is_not_ignored() {
    for classic in [false, true] {
        let home = builder(classic).await;
        let mut pod = home.pod(
            "context",
            "FROM scratch\nARG WHO\nCOPY . /ctx\n\
             RUN [\"/ctx/program\", \"list\", \"/ctx\", \"var\", \"WHO\"]\n",
        );
        pod.build_args.insert("WHO".to_owned(), "me".to_owned());
        let dir = pod.dir.clone();
        for sub in ["docs/deep", "node_modules/big", "bin"] {
            std::fs::create_dir_all(dir.join(sub)).unwrap();
        }
        for (name, mode) in [
            ("docs/a.md", 0o640),
            ("docs/deep/b.md", 0o644),
            ("docs/deep/c.txt", 0o644),
            ("node_modules/big/file", 0o644),
            ("bin/tool", 0o750),
            ("secret.env", 0o600),
        ] {
            std::fs::write(dir.join(name), name).unwrap();
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(dir.join(name), mode).unwrap();
        }
        symlink("docs/a.md", dir.join("bin/link")).unwrap();
        let directory = std::fs::Permissions::from_mode(0o750);
        std::fs::set_permissions(dir.join("docs"), directory).unwrap();
        let patterns = "**\n!program\n!bin\n!docs/**/*.md\nbin/x*\n";
        std::fs::write(dir.join(".dockerignore"), patterns).unwrap();

        let (built, lines) = home.build(&pod, UNFORCED).await;
        built.unwrap();
        let said = printed(&lines);
        assert!(said.contains(&"WHO=me"), "{lines}");
        let listed: Vec<_> = said
            .iter()
            .filter(|line| line.contains("|/ctx/"))
            // Which of the two the builder itself needs may be copied is its affair.
            .filter(|line| !line.contains("/ctx/Dockerfile|") && !line.contains(".dockerignore|"))
            .copied()
            .collect();
        assert_eq!(
            listed,
            [
                "755|/ctx/bin|",
                "777|/ctx/bin/link|docs/a.md",
                "750|/ctx/bin/tool|",
                "750|/ctx/docs|",
                "640|/ctx/docs/a.md|",
                "755|/ctx/docs/deep|",
                "644|/ctx/docs/deep/b.md|",
                "755|/ctx/program|",
            ],
            "classic: {classic}"
        );

        // What is ignored builds nothing again.
        std::fs::write(dir.join("secret.env"), "other").unwrap();
        let (again, _) = home.build(&pod, UNFORCED).await;
        assert!(again.unwrap().cached);
        std::fs::write(dir.join("docs/a.md"), "other").unwrap();
        let (again, _) = home.build(&pod, UNFORCED).await;
        assert!(!again.unwrap().cached);
        home.clean().await;
    }
}

async fn everything_of(home: &Home, pod: &PodSpec) -> String {
    let image = home.client.inspect_image(&pod.image).await.unwrap();
    let history = home.client.image_history(&pod.image).await.unwrap();
    format!("{image:?} {history:?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_known_to_the_build_and_to_nothing_else() {
    for classic in [false, true] {
        let home = builder(classic).await;
        let pod = home.pod(
            "proxied",
            "FROM scratch\nCOPY program /program\nRUN [\"/program\", \"var\", \"HTTP_PROXY\"]\n",
        );
        let mut request = BuildRequest::new(home.id, pod.clone(), UNFORCED);
        let proxy = |url: &str| BTreeMap::from([("HTTP_PROXY".to_owned(), url.to_owned())]);
        request.proxy = proxy("http://me:opensesame@proxy.test:3128");
        let (built, lines) = home.build_of(&request).await;
        built.unwrap();
        let expected = "HTTP_PROXY=http://me:[redacted:HTTP_PROXY]@proxy.test:3128";
        assert!(printed(&lines).contains(&expected), "{lines}");
        assert!(!everything_of(&home, &pod).await.contains("proxy.test"));
        request.proxy = proxy("http://other.test:3128");
        assert!(home.build_of(&request).await.0.unwrap().cached);
        home.clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_secret_is_known_to_its_step_and_to_nothing_else() {
    let home = builder(false).await;
    let pod = home.pod(
        "secret",
        "FROM scratch\nCOPY program /program\n\
         RUN --mount=type=secret,id=NPM,required=true [\"/program\", \"show\", \"/run/secrets/NPM\", \"say\", \"built\"]\n",
    );
    let mut request = BuildRequest::new(home.id, pod.clone(), UNFORCED);
    request.secrets = BTreeMap::from([("NPM".to_owned(), b"hunter2-hunter2\n".to_vec())]);
    let (built, lines) = home.build_of(&request).await;
    let first = built.unwrap();
    assert!(lines.contains("[redacted:NPM]"), "{lines}");
    assert!(printed(&lines).contains(&"built"), "{lines}");
    assert!(!lines.contains("hunter2"), "{lines}");
    assert!(!everything_of(&home, &pod).await.contains("hunter2"));

    // Its value is no part of what the image is known by.
    request.secrets = BTreeMap::from([("NPM".to_owned(), b"another-value".to_vec())]);
    let second = home.build_of(&request).await.0.unwrap();
    assert!(second.cached);
    assert_eq!(second.id, first.id);

    request.secrets.clear();
    request.options.no_cache = true;
    let (missing, _) = home.build_of(&request).await;
    let text = missing.unwrap_err().to_string();
    assert!(text.contains("NPM"), "{text}");
    home.clean().await;

    let home = builder(true).await;
    let pod = home.pod("secret", "FROM scratch\nCOPY program /program\n");
    let mut request = BuildRequest::new(home.id, pod, UNFORCED);
    request.secrets = BTreeMap::from([("NPM".to_owned(), b"hunter2-hunter2".to_vec())]);
    let text = home.build_of(&request).await.0.unwrap_err().to_string();
    assert!(text.contains("\"NPM\" needs BuildKit"), "{text}");
    assert!(text.contains("DOCKER_BUILDKIT"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    home.clean().await;
}

/// Ids of all images without a name.
async fn dangling(home: &Home) -> Vec<String> {
    let filters = HashMap::from([("dangling", vec!["true"])]);
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    let images = home.client.list_images(Some(options)).await.unwrap();
    images.into_iter().map(|image| image.id).collect()
}

/// Images without a name whose last step is this.
async fn left_of(home: &Home, step: &str) -> Vec<String> {
    let mut left = Vec::new();
    for id in dangling(home).await {
        // Somebody else's may go meanwhile.
        let Ok(history) = home.client.image_history(&id).await else {
            continue;
        };
        if history
            .first()
            .is_some_and(|last| last.created_by.contains(step))
        {
            left.push(id);
        }
    }
    left
}

#[tokio::test(flavor = "multi_thread")]
async fn the_classic_builder_leaves_nothing_of_what_was_built_before() {
    let mut home = builder(true).await;
    let step = format!("step-of-{}", home.id);
    let stages = |round: &str, last: &str| {
        format!(
            "FROM scratch AS one\nCOPY program /program\nRUN [\"/program\", \"say\", \"{step}\"]\n\
             FROM scratch\nENV ROUND={round}\nCOPY --from=one /program /program\nRUN [\"/program\", {last}]\n"
        )
    };
    let pod = home.pod("steps", &stages("1", "\"exit\", \"3\""));
    assert!(home.build(&pod, UNFORCED).await.0.is_err());
    // The builder goes on from what a failed build made.
    assert_eq!(left_of(&home, &step).await.len(), 1);
    home.docker = restarted(&home, true);

    // Nobody else's image goes: not even one that looks like a step of ours.
    let foreign = home.client.commit_container(
        CommitContainerOptionsBuilder::new()
            .container(&foreign_container(&home).await)
            .build(),
        ContainerConfig::default(),
    );
    let foreign = foreign.await.unwrap().id;

    for round in ["2", "3"] {
        std::fs::write(
            pod.dir.join("Dockerfile"),
            stages(round, "\"say\", \"done\""),
        )
        .unwrap();
        home.build(&pod, UNFORCED).await.0.unwrap();
    }
    assert_eq!(left_of(&home, &step).await, Vec::<String>::new());
    assert!(dangling(&home).await.contains(&foreign));
    let force = RemoveImageOptionsBuilder::new().force(true).build();
    let removed = home.client.remove_image(&foreign, Some(force), None).await;
    removed.unwrap();
    home.clean().await;
}

/// A container that cldpd did not make, with the labels of this home so that it goes with it.
async fn foreign_container(home: &Home) -> String {
    let pod = home.pod("foreign-base", "FROM scratch\nCOPY program /program\n");
    let image = home.build(&pod, UNFORCED).await.0.unwrap();
    let request = home.request(&pod, &image.id, "");
    home.docker.create(&request).await.unwrap()
}

/// The home as another daemon finds it.
fn restarted(home: &Home, classic: bool) -> Docker {
    let config = DockerConfig {
        env_host: std::env::var("DOCKER_HOST").ok(),
        classic,
        ..DockerConfig::default()
    };
    Docker::new(config, home.sessions(), home.id, program())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_built_before_a_restart_goes_and_what_others_made_of_it_stays() {
    for classic in [false, true] {
        let mut home = builder(classic).await;
        let pod = home.pod("based", "FROM scratch\nCOPY program /program\n");
        let first = home.build(&pod, UNFORCED).await.0.unwrap();
        // Somebody's own image, without a name, and with our labels: it inherits them.
        let body = ContainerCreateBody {
            image: Some(first.id.clone()),
            cmd: Some(vec!["theirs".to_owned()]),
            ..ContainerCreateBody::default()
        };
        let container = home
            .client
            .create_container(None::<CreateContainerOptions>, body);
        let container = container.await.unwrap().id;
        let commit = CommitContainerOptionsBuilder::new().container(&container);
        let theirs = home
            .client
            .commit_container(commit.build(), ContainerConfig::default())
            .await
            .unwrap()
            .id;
        let force = RemoveContainerOptionsBuilder::new().force(true).build();
        let removed = home.client.remove_container(&container, Some(force)).await;
        removed.unwrap();

        // Theirs rests on the first; the second is used by nobody.
        for round in ["2", "3"] {
            home.docker = restarted(&home, classic);
            std::fs::write(pod.dir.join("round"), round).unwrap();
            let text = format!(
                "FROM scratch\nENV ROUND={round}{}\nCOPY program /program\n",
                home.id
            );
            std::fs::write(pod.dir.join("Dockerfile"), text).unwrap();
            home.build(&pod, UNFORCED).await.0.unwrap();
        }
        let label = format!("cldpd.pod={}", pod.name);
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        let left = home.client.list_images(Some(options)).await.unwrap();
        let left: Vec<_> = left.into_iter().map(|image| image.id).collect();
        assert!(left.contains(&theirs), "classic: {classic}");
        assert_eq!(
            left.len(),
            2,
            "theirs and the newest: {left:?}, first {}",
            first.id
        );
        home.clean().await;
    }
}
