//! What a new pod begins with.

/// What a new pod runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Template {
    /// Claude Code.
    #[default]
    Claude,
    /// OpenAI's Codex.
    Codex,
    /// Google's Gemini CLI.
    Gemini,
    /// opencode.
    Opencode,
    /// A program of one's own, for which `cat` stands at first.
    Command,
}

impl Template {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Claude,
        Self::Codex,
        Self::Gemini,
        Self::Opencode,
        Self::Command,
    ];

    /// Its files, by name. The first is the Dockerfile.
    pub(super) const fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Claude => &[
                ("Dockerfile", include_str!("templates/claude/Dockerfile")),
                ("pod.json", include_str!("templates/claude/pod.json")),
                STANDING_ORDERS,
            ],
            Self::Codex => &[
                ("Dockerfile", include_str!("templates/codex/Dockerfile")),
                ("pod.json", include_str!("templates/codex/pod.json")),
                STANDING_ORDERS,
            ],
            Self::Gemini => &[
                ("Dockerfile", include_str!("templates/gemini/Dockerfile")),
                ("pod.json", include_str!("templates/gemini/pod.json")),
                (
                    "settings.json",
                    include_str!("templates/gemini/settings.json"),
                ),
                STANDING_ORDERS,
            ],
            Self::Opencode => &[
                ("Dockerfile", include_str!("templates/opencode/Dockerfile")),
                ("pod.json", include_str!("templates/opencode/pod.json")),
                STANDING_ORDERS,
            ],
            Self::Command => &[
                ("Dockerfile", include_str!("templates/command/Dockerfile")),
                ("pod.json", include_str!("templates/command/pod.json")),
                STANDING_ORDERS,
            ],
        }
    }
}

/// What every agent that nobody watches should know.
const STANDING_ORDERS: (&str, &str) = ("template.md", include_str!("templates/template.md"));
