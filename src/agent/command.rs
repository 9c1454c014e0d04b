//! To come.
use super::*;
/// Any program.
pub struct Command;
impl Agent for Command {
    fn kind(&self) -> AgentKind {
        AgentKind::Command
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
