//! The one table of the keys of `pod.json`: the reader knows no others, and the
//! published schema is made of it.

/// What an object may hold.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) keys: &'static [Key],
    /// Keys that have to be there.
    pub(super) required: &'static [&'static str],
    /// Two keys of which at most one may be there.
    pub(super) either: Option<[&'static str; 2]>,
}

impl Shape {
    /// The names of all keys.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }
}

/// A key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// What it is for, in which unit, and what holds without it.
    pub(super) about: &'static str,
    pub(super) form: Form,
    /// What holds without it, as JSON, where that can be said so.
    pub(super) default: Option<&'static str>,
    /// Values, as JSON.
    pub(super) examples: &'static [&'static str],
}

/// What a value may be.
#[derive(Debug)]
pub(super) enum Form {
    /// Any text.
    Text,
    /// A text of this pattern.
    Like(&'static str),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// True or false.
    Flag,
    /// A whole number of at least this.
    Whole(u32),
    /// A number of at least 0.
    Number,
    /// One of several.
    Any(&'static [Form]),
    /// A list.
    List(&'static Form),
    /// Texts by name; the names have this pattern.
    Table(&'static str),
    /// An object of its own.
    Object(&'static Shape),
}

/// Something that is no white space.
const WORD: &str = "\\S";
/// A variable's name: what an environment can hold.
const VARIABLE: &str = "^[^=\\u0000]+$";
/// A size with its unit: the engine's spelling, each unit 1024 of the one before.
const SIZE: Form = Form::Any(&[
    Form::Whole(0),
    Form::Like("^([0-9]+(\\.[0-9]+)? ?([kKmMgGtT]([iI]?[bB])?|[bB])|0)$"),
]);
/// A path in a container.
const TARGET: &str = "^/+[^/]";
/// A path of this machine, not of somebody else's home.
const SOURCE: &str = "^(~(/|$)|[^~\\s]|\\s+\\S)";

/// The file.
pub(super) const FILE: Shape = Shape {
    keys: KEYS,
    required: &[],
    either: None,
};

/// Names a schema for editors; means nothing to us.
pub(super) const SCHEMA: &str = "$schema";

/// Keys that are to come. Refused, so that nobody believes them to work.
pub(super) const RESERVED: &[&str] = &["repos"];

const KEYS: &[Key] = &[
    Key {
        name: "image",
        about: "The image's name. With a Dockerfile it is what the built image is called; without one \
                the image has to be there, or to be had. cldpd-<pod> when absent.",
        form: Form::Like("^[A-Za-z0-9]([A-Za-z0-9._/:@+-]*[A-Za-z0-9])?$"),
        default: None,
        examples: &["\"cldpd-myrepo\"", "\"ghcr.io/org/agents:1.2\""],
    },
    Key {
        name: "env",
        about: "Variables of the agent. Values of names that say key, token, secret or password are \
                never recorded.",
        form: Form::Table(VARIABLE),
        default: Some("{}"),
        examples: &["{\"GIT_AUTHOR_NAME\": \"robot\"}"],
    },
    Key {
        name: "buildArgs",
        about: "Arguments of the image's build. They stand in the image's history: no place for secrets.",
        form: Form::Table(VARIABLE),
        default: Some("{}"),
        examples: &["{\"BASE\": \"node:22-slim\"}"],
    },
    Key {
        name: "workdir",
        about: "Where the agent begins, an absolute path in the container; the image's when absent.",
        form: Form::Like("^/"),
        default: None,
        examples: &["\"/workspace\""],
    },
    Key {
        name: "inheritEnv",
        about: "Names of variables whose values come from the environment of whoever dispatches. Names \
                that are not set there are left out, and that is said.",
        form: Form::List(&Form::Like("^[^=\\u0000]+$")),
        default: Some("[]"),
        examples: &["[\"ANTHROPIC_API_KEY\"]"],
    },
    Key {
        name: "mounts",
        about: "Files and directories of this machine in the container.",
        form: Form::List(&Form::Object(&MOUNT)),
        default: Some("[]"),
        examples: &[
            "[{\"source\": \"~/.ssh/known_hosts\", \"target\": \"/etc/ssh/ssh_known_hosts\", \"readOnly\": true, \"optional\": true}]",
        ],
    },
    Key {
        name: "copy",
        about: "Files and directories that are copied into the container before its first start. They \
                keep their modes and belong to the container's user.",
        form: Form::List(&Form::Object(&COPY)),
        default: Some("[]"),
        examples: &[
            "[{\"source\": \"~/.claude.json\", \"target\": \"~/.claude.json\", \"optional\": true}]",
        ],
    },
    Key {
        name: "secrets",
        about: "Values that the agent or the build is to know and nobody else: they are in no image, \
                no container's configuration and no journal.",
        form: Form::List(&Form::Object(&SECRET)),
        default: Some("[]"),
        examples: &[
            "[{\"name\": \"NPM_TOKEN\", \"as\": \"build\"}, {\"name\": \"deploy.pem\", \"file\": \"~/.ssh/deploy.pem\", \"as\": \"file\"}]",
        ],
    },
    Key {
        name: "agent",
        about: "How the agent is spoken to: claude is Claude Code, codex is OpenAI's Codex, gemini is \
                Gemini CLI, opencode is opencode; command is any program, with the prompt on its \
                standard input.",
        form: Form::Choice(&["claude", "codex", "gemini", "opencode", "command"]),
        default: Some("\"claude\""),
        examples: &["\"command\""],
    },
    Key {
        name: "model",
        about: "The model that the agent is told to use; its own choice when absent.",
        form: Form::Like("^[^-\\s]|^\\s+\\S"),
        default: None,
        examples: &["\"opus\""],
    },
    Key {
        name: "args",
        about: "Further arguments to the agent.",
        form: Form::List(&Form::Text),
        default: Some("[]"),
        examples: &["[\"--max-turns\", \"50\"]"],
    },
    Key {
        name: "entrypoint",
        about: "The program of agent \"command\", with its arguments; the image's when absent.",
        form: Form::List(&Form::Text),
        default: None,
        examples: &["[\"my-agent\", \"--unattended\"]"],
    },
    Key {
        name: "command",
        about: "How the program of agent \"command\" is spoken to; with the prompt on its standard input and \
                plain lines out when absent.",
        form: Form::Object(&COMMAND),
        default: None,
        examples: &[
            "{\"prompt\": \"file\", \"output\": \"plain\", \"resume\": [\"--continue\", \"{session}\"]}",
        ],
    },
    Key {
        name: "permissions",
        about: "What the agent may do without being asked: bypass is everything, since the container is \
                the fence; default is what its own configuration says.",
        form: Form::Choice(&["bypass", "default"]),
        default: Some("\"bypass\""),
        examples: &["\"default\""],
    },
    Key {
        name: "steer",
        about: "The agent takes messages while it works: resume hands a prompt to the working process. \
                For claude.",
        form: Form::Flag,
        default: Some("false"),
        examples: &["true"],
    },
    Key {
        name: "user",
        about: "Who the agent is in the container, as name or number, with a group if need be; the \
                image's user when absent.",
        form: Form::Any(&[Form::Whole(0), Form::Like(USER)]),
        default: None,
        examples: &["\"node\"", "1000", "\"1000:1000\""],
    },
    Key {
        name: "groupAdd",
        about: "Further groups of that user, as names or numbers.",
        form: Form::List(&Form::Any(&[Form::Whole(0), Form::Like("^[^: ]+$")])),
        default: Some("[]"),
        examples: &["[\"docker\", 998]"],
    },
    Key {
        name: "memory",
        about: "How much memory the container may use, swap included: a number of MiB, or a size with \
                its unit (b, k, m, g, t). 0 is unlimited; config.toml's default when absent.",
        form: SIZE,
        default: None,
        examples: &["512", "\"2g\"", "\"512m\"", "0"],
    },
    Key {
        name: "cpus",
        about: "How many processors the container may keep busy. 0 is unlimited.",
        form: Form::Number,
        default: Some("0"),
        examples: &["1.5", "4"],
    },
    Key {
        name: "pids",
        about: "How many processes and threads it may have at once. 0 is unlimited; config.toml's \
                default when absent.",
        form: Form::Whole(0),
        default: None,
        examples: &["512"],
    },
    Key {
        name: "shm",
        about: "The size of /dev/shm: a number of MiB, or a size with its unit (b, k, m, g, t). \
                The engine's (64 MiB) when it is 0 or absent.",
        form: SIZE,
        default: None,
        examples: &["\"1g\"", "256"],
    },
    Key {
        name: "network",
        about: "The engine's network that the container is in: bridge, host, none, or one of your own.",
        form: Form::Like(WORD),
        default: None,
        examples: &["\"none\""],
    },
    Key {
        name: "extraHosts",
        about: "Further names that the container can resolve, as name:address.",
        form: Form::List(&Form::Like("^[^:]+:.")),
        default: Some("[]"),
        examples: &["[\"host.docker.internal:host-gateway\"]"],
    },
    Key {
        name: "labels",
        about: "Labels of the container. Those that begin with cldpd. are not free.",
        form: Form::Table("^(?!cldpd(\\.|$))[^=\\u0000]+$"),
        default: Some("{}"),
        examples: &["{\"team\": \"red\"}"],
    },
    Key {
        name: "timeout",
        about: "How long a run may take, from the start of its program: a number of seconds, or a \
                duration (s, m, h, d, w). 0 is no limit, and so is nothing.",
        form: Form::Any(&[Form::Whole(0), Form::Like("^([0-9]+[smhdw])+$")]),
        default: Some("0"),
        examples: &["\"90s\"", "\"30m\"", "\"1h30m\"", "7200"],
    },
    Key {
        name: "maxTurns",
        about: "How many turns a run may take: answers of the model, each with the tools that it asks for \
                at once. 0 is no limit, and so is nothing.",
        form: Form::Whole(0),
        default: Some("0"),
        examples: &["40"],
    },
    Key {
        name: "maxCost",
        about: "What a session may cost, all its runs together, in US dollars as its agent counts them. \
                0 is no limit, and so is nothing.",
        form: Form::Number,
        default: Some("0"),
        examples: &["2.5", "10"],
    },
    Key {
        name: "idleTimeout",
        about: "How long a run may say nothing: a number of seconds, or a duration (s, m, h, d, w). \
                0 is no limit; with nothing [agents] of config.toml says what silence comes to.",
        form: Form::Any(&[Form::Whole(0), Form::Like("^([0-9]+[smhdw])+$")]),
        default: None,
        examples: &["\"20m\"", "600"],
    },
    Key {
        name: "retries",
        about: "How often a run is tried again, in the same conversation, when its API did not answer or \
                cut the connection; at most 10 times.",
        form: Form::Whole(0),
        default: Some("0"),
        examples: &["3"],
    },
    Key {
        name: "keep",
        about: "How long the container of an ended session is kept so that it can be resumed: never, \
                always, a number of days, or a duration (s, m, h, d, w).",
        form: Form::Any(&[
            Form::Choice(&["never", "always"]),
            Form::Whole(1),
            Form::Like("^([0-9]+[smhdw])+$"),
        ]),
        default: Some("7"),
        examples: &["3", "\"12h\"", "\"always\""],
    },
    Key {
        name: "maxParallel",
        about: "How many sessions of this pod may be live at once; the rest waits in the queue. \
                No limit of its own when absent.",
        form: Form::Whole(1),
        default: None,
        examples: &["4"],
    },
    Key {
        name: "runtime",
        about: "Where sessions run: docker is a container; local is a plain process of this machine, \
                isolated by nothing.",
        form: Form::Choice(&["docker", "local"]),
        default: Some("\"docker\""),
        examples: &["\"local\""],
    },
];

const USER: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]*\\$?(:[A-Za-z0-9_][A-Za-z0-9_.-]*\\$?)?$";

const OPTIONAL: Key = Key {
    name: "optional",
    about: "Go without it where the source is not there, which is an error otherwise.",
    form: Form::Flag,
    default: Some("false"),
    examples: &["true"],
};

/// `command`.
pub(super) const COMMAND: Shape = Shape {
    keys: &[
        Key {
            name: "prompt",
            about: "How it gets its prompt: on stdin, as an arg, or in a file. {prompt} in entrypoint or \
                    args stands for the prompt or for the file's path; without it that is the last \
                    argument.",
            form: Form::Choice(&["stdin", "arg", "file"]),
            default: Some("\"stdin\""),
            examples: &["\"file\""],
        },
        Key {
            name: "output",
            about: "What it writes: plain lines, or those of an agent that is known, which are \
                    understood as its own are.",
            form: Form::Choice(&["plain", "claude", "codex", "gemini", "opencode"]),
            default: Some("\"plain\""),
            examples: &["\"claude\""],
        },
        Key {
            name: "begin",
            about: "Arguments of a run that begins a conversation; {session} is an id that is chosen \
                    for it (a UUID).",
            form: Form::List(&Form::Text),
            default: Some("[]"),
            examples: &["[\"--session-id\", \"{session}\"]"],
        },
        Key {
            name: "resume",
            about: "Arguments of a run that goes on with a conversation; {session} is its id.",
            form: Form::List(&Form::Text),
            default: Some("[]"),
            examples: &["[\"--resume\", \"{session}\"]"],
        },
        Key {
            name: "model",
            about: "Arguments where a model is asked for; {model} is its name.",
            form: Form::List(&Form::Text),
            default: Some("[]"),
            examples: &["[\"--model\", \"{model}\"]"],
        },
    ],
    required: &[],
    either: None,
};

/// An item of `mounts`.
pub(super) const MOUNT: Shape = Shape {
    keys: &[
        Key {
            name: "source",
            about: "A path of this machine: absolute, below ~/ (your home), or relative to the pod's \
                    directory.",
            form: Form::Like(SOURCE),
            default: None,
            examples: &["\"~/.ssh/known_hosts\"", "\"data\""],
        },
        Key {
            name: "target",
            about: "Where it is in the container, an absolute path.",
            form: Form::Like(TARGET),
            default: None,
            examples: &["\"/data\""],
        },
        Key {
            name: "readOnly",
            about: "Nothing in the container may write there.",
            form: Form::Flag,
            default: Some("false"),
            examples: &["true"],
        },
        OPTIONAL,
    ],
    required: &["source", "target"],
    either: None,
};

/// An item of `copy`.
pub(super) const COPY: Shape = Shape {
    keys: &[
        Key {
            name: "source",
            about: "A file or directory of this machine: absolute, below ~/ (your home), or relative to \
                    the pod's directory.",
            form: Form::Like(SOURCE),
            default: None,
            examples: &["\"~/.claude.json\""],
        },
        Key {
            name: "target",
            about: "Where it is put: an absolute path in the container, or below ~/, the home of its user.",
            form: Form::Like("^(~/+[^/]|/+[^/])"),
            default: None,
            examples: &["\"~/.claude.json\"", "\"/etc/agent.toml\""],
        },
        OPTIONAL,
    ],
    required: &["source", "target"],
    either: None,
};

/// An item of `secrets`.
pub(super) const SECRET: Shape = Shape {
    keys: &[
        Key {
            name: "name",
            about: "What it is called: the variable, the file in /run/secrets, or the id of \
                    RUN --mount=type=secret,id=….",
            form: Form::Like("^[A-Za-z0-9._-]+$"),
            default: None,
            examples: &["\"NPM_TOKEN\""],
        },
        Key {
            name: "env",
            about: "The variable of whoever dispatches that has the value; the one named as the secret \
                    when neither env nor file is given.",
            form: Form::Like("^[A-Za-z_][A-Za-z0-9_]*$"),
            default: None,
            examples: &["\"MY_NPM_TOKEN\""],
        },
        Key {
            name: "file",
            about: "The file of this machine that has the value: absolute, below ~/ (your home), or \
                    relative to the pod's directory.",
            form: Form::Like(SOURCE),
            default: None,
            examples: &["\"~/.config/npm-token\""],
        },
        Key {
            name: "as",
            about: "How it is given: env as a variable of the agent, file as /run/secrets/<name>, build \
                    to the image's build alone.",
            form: Form::Choice(&["env", "file", "build"]),
            default: Some("\"env\""),
            examples: &["\"build\""],
        },
    ],
    required: &["name"],
    either: Some(["env", "file"]),
};
