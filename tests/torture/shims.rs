//! Whose shim, or keeper, dies, and where; and whose spool has little room.

use crate::support::Dice;

/// Where they can be made to die, and at which time at the latest.
const POINTS: [(&str, u64); 19] = [
    ("shim.born", 1),
    ("shim.spooled", 1),
    ("shim.listens", 1),
    ("run.asked", 1),
    ("run.accepted", 1),
    ("run.begun", 1),
    ("run.executed", 1),
    ("run.started", 1),
    ("spool.half", 80),
    ("spool.written", 80),
    ("spool.segment", 3),
    ("spool.trimmed", 3),
    ("run.ended", 1),
    ("run.drained", 1),
    ("run.exited", 1),
    ("shim.finished", 1),
    ("keeper.begun", 1),
    ("keeper.started", 1),
    ("keeper.ended", 1),
];
/// Segments are small then, and whoever writes more waits for the daemon. Less would not
/// hold the largest frame.
const LITTLE: &str = "spool.max=400000";

/// What the shims of a round's first sessions have before them.
pub struct Shims {
    dying: Vec<Option<String>>,
    little: Vec<bool>,
}

impl Shims {
    /// What chance has in store; of dice of its own, so that a seed's other choices
    /// do not depend on it.
    pub fn roll(seed: u64, sessions: usize) -> Self {
        let mut dice = Dice::new(seed ^ 0x5e1f_d1e5);
        let mut dying = Vec::new();
        let mut little = Vec::new();
        for _ in 0..sessions {
            let (point, at) = *dice.pick(&POINTS);
            let point = format!("{point}=kill@{}", dice.roll(at) + 1);
            dying.push(dice.percent(15).then_some(point));
            little.push(dice.percent(30));
        }
        Self { dying, little }
    }

    /// Where the shim of the session of that number dies, if it does.
    pub fn dies(&self, number: usize) -> Option<&str> {
        self.dying.get(number)?.as_deref()
    }

    /// What arms them; `name` says how a session is called.
    pub fn armed(&self, name: impl Fn(usize) -> String) -> String {
        let mut armed = Vec::new();
        for (number, little) in self.little.iter().enumerate() {
            let name = name(number);
            if let Some(point) = self.dies(number) {
                armed.push(format!("{name}/{point}"));
            }
            if *little {
                armed.push(format!("{name}/{LITTLE}"));
            }
        }
        armed.join(";")
    }
}
