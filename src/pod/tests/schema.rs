//! The schema and the reader agree.

use super::super::keys::{FILE, Form, Key, Shape};
use super::super::schema;
use super::*;
use jsonschema::Validator;
use serde_json::{Value, json};
use std::sync::LazyLock;

fn validator() -> Validator {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    jsonschema::draft202012::new(&schema).unwrap()
}

#[test]
fn the_published_schema_is_current() {
    let published = include_str!("../../../docs/pod.schema.json");
    assert_eq!(
        published,
        schema(),
        "`cargo run -- pod schema > docs/pod.schema.json` writes it anew"
    );
}

/// A home in which the files are that the examples name.
fn furnished() -> Home {
    let home = Home::with("{}");
    for path in [
        "user/.claude.json",
        "user/.ssh/known_hosts",
        "user/.ssh/deploy.pem",
        "user/.config/npm-token",
        "pods/p/data",
    ] {
        home.write(path, "x");
    }
    home
}

fn wrong_in(home: &Home, document: &Value) -> Vec<String> {
    home.write("pods/p/pod.json", document.to_string());
    home.wrong()
}

fn examples(key: &Key) -> Vec<Value> {
    let texts = key.examples.iter().chain(key.default.iter());
    texts
        .map(|text| serde_json::from_str(text).unwrap())
        .collect()
}

/// The documents that the table's examples come to, one key each.
fn all_examples() -> Vec<Value> {
    let nested = |name: &str, shape: &Shape, key: &Key| {
        let item = |value: Value| {
            let mut item = match shape.required {
                ["name"] => json!({ "name": "N" }),
                _ => json!({ "source": "data", "target": "/t" }),
            };
            item[key.name] = value;
            json!({ name: [item] })
        };
        examples(key).into_iter().map(item).collect::<Vec<_>>()
    };
    let mut all = Vec::new();
    for key in FILE.keys {
        all.extend(examples(key).into_iter().map(|v| json!({ key.name: v })));
        if let Form::List(Form::Object(shape)) = key.form {
            all.extend(shape.keys.iter().flat_map(|k| nested(key.name, shape, k)));
        }
    }
    all
}

#[test]
fn every_key_has_an_example_that_both_take() {
    let (home, validator) = (furnished(), validator());
    for key in FILE.keys {
        assert!(
            !key.examples.is_empty() && !key.about.is_empty(),
            "{}",
            key.name
        );
    }
    for document in all_examples() {
        assert_eq!(wrong_in(&home, &document), [""; 0], "{document}");
        let verdict = validator.validate(&document);
        assert!(verdict.is_ok(), "{document}: {verdict:?}");
    }
    let mut whole = json!({ "$schema": "../pod.schema.json" });
    for key in FILE.keys {
        whole[key.name] = examples(key).swap_remove(0);
    }
    assert_eq!(wrong_in(&home, &whole), [""; 0], "{whole:#}");
    assert!(validator.is_valid(&whole));
}

#[test]
fn it_takes_what_new_pods_begin_with() {
    let validator = validator();
    for template in Template::ALL {
        let json = template
            .files()
            .iter()
            .find(|(name, _)| *name == "pod.json");
        let json: Value = serde_json::from_str(json.unwrap().1).unwrap();
        assert!(validator.is_valid(&json), "{template:?}");
    }
}

#[test]
fn typical_mistakes_are_refused_by_both() {
    let (home, validator) = (furnished(), validator());
    for mistake in [
        json!([]),
        json!({"envs": {}}),
        json!({"env": {"A": 1}}),
        json!({"env": {"A=B": "x"}}),
        json!({"inheritEnv": "A"}),
        json!({"inheritEnv": ["A=b"]}),
        json!({"image": "a b"}),
        json!({"workdir": "work"}),
        json!({"mounts": [{"source": "data"}]}),
        json!({"mounts": [{"source": "data", "target": "t"}]}),
        json!({"mounts": [{"source": "~bob/x", "target": "/t"}]}),
        json!({"mounts": [{"source": "data", "target": "/t", "readonly": true}]}),
        json!({"mounts": [{"source": "data", "target": "/t", "readOnly": "yes"}]}),
        json!({"copy": [{"source": "data", "target": "t"}]}),
        json!({"copy": [{"source": "data", "target": "~"}]}),
        json!({"copy": ["data"]}),
        json!({"secrets": [{}]}),
        json!({"secrets": [{"name": "A", "env": "A", "file": "data"}]}),
        json!({"secrets": [{"name": "A", "as": "volume"}]}),
        json!({"secrets": [{"name": "A b"}]}),
        json!({"secrets": ["A"]}),
        json!({"agent": "copilot"}),
        json!({"permissions": "all"}),
        json!({"user": "a b"}),
        json!({"memory": -1}),
        json!({"memory": "512"}),
        json!({"memory": "2 gigs"}),
        json!({"memory": 1.5}),
        json!({"cpus": -1}),
        json!({"cpus": "1.5"}),
        json!({"pids": -1}),
        json!({"pids": 1.5}),
        json!({"timeout": "90"}),
        json!({"timeout": "soon"}),
        json!({"timeout": -1}),
        json!({"keep": 0}),
        json!({"keep": "sometimes"}),
        json!({"maxParallel": 0}),
        json!({"maxTurns": -1}),
        json!({"retries": "3"}),
        json!({"maxCost": "5"}),
        json!({"idleTimeout": "soon"}),
        json!({"runtime": "podman"}),
        json!({"labels": {"cldpd.home": "x"}}),
        json!({"extraHosts": ["host"]}),
        json!({"network": " "}),
        json!({"repos": []}),
        json!({"image": null}),
    ] {
        assert_ne!(wrong_in(&home, &mistake), [""; 0], "{mistake}");
        assert!(!validator.is_valid(&mistake), "{mistake}");
    }
}

fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[a-z~./:=0 -]{0,6}",
        "[0-9]{1,4}[.]?[0-9]{0,2} ?[bkmgtKMGTiIs]{0,3}",
        "([0-9]{1,3}[smhdw]){1,3}",
        Just("always".to_owned()),
        Just("~/x".to_owned()),
        Just("/t".to_owned()),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        (0u16..2000).prop_map(Value::from),
        (-10.0..1000.0).prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    let names = FILE.keys.iter().flat_map(|key| {
        let shape = match key.form {
            Form::List(Form::Object(shape)) => shape.names().collect(),
            _ => Vec::new(),
        };
        std::iter::once(key.name).chain(shape)
    });
    let names: Vec<&'static str> = names.collect();
    leaf.prop_recursive(3, 12, 3, move |inner| {
        let key = prop::sample::select(names.clone());
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..4)
                .prop_map(|map| json!(map.into_iter().collect::<BTreeMap<_, _>>())),
        ]
    })
}

/// One key of the file or of its items, with any value.
fn document() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(FILE.keys.iter().collect::<Vec<_>>());
    (key, value(), any::<prop::sample::Index>()).prop_map(|(key, value, which)| {
        let Form::List(Form::Object(shape)) = key.form else {
            return json!({ key.name: value });
        };
        let inner = &shape.keys[which.index(shape.keys.len())];
        let mut item = json!({"source": "/", "target": "/t"});
        if shape.required == ["name"] {
            item = json!({"name": "N"});
        }
        item[inner.name] = value;
        json!({ key.name: [item] })
    })
}

/// Making it takes longer than asking it.
static VALIDATOR: LazyLock<Validator> = LazyLock::new(validator);

proptest! {
    #[test]
    fn what_the_reader_takes_the_schema_takes(documents in prop::collection::vec(document(), 16)) {
        for document in documents {
            if super::read_text(document.to_string().as_bytes()).is_empty() {
                prop_assert!(VALIDATOR.is_valid(&document), "{}", document);
            }
        }
    }
}
