//! To come.
use super::*;
/// Claude Code.
pub struct Claude;
impl Agent for Claude {
    fn kind(&self) -> AgentKind {
        AgentKind::Claude
    }
    fn command(&self, _: &Invocation<'_>) -> CommandLine {
        CommandLine {
            argv: vec![],
            env: BTreeMap::new(),
        }
    }
    fn read_line(&self, _: &[u8]) -> Option<AgentEvent> {
        None
    }
    fn pretty(&self, _: &[u8]) -> Option<String> {
        None
    }
    fn choose_session(&self, _: u128) -> Option<String> {
        None
    }
}
