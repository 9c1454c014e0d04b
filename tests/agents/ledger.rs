//! What the mock dispensed in a run, and what cldpd shows of it.

use crate::agent::Agent;
use serde::Serialize;
use serde_json::Value;

/// What a run came to: once as dispensed, once as shown.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Told {
    /// All its texts.
    pub texts: String,
    /// Tools: name and summary.
    pub tools: Vec<(String, String)>,
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    /// In billionths, since these can be compared.
    pub cost_nano_usd: Option<u64>,
}

impl Told {
    /// By the mock's ledger of a run. What was asked aside is no word of the agent's.
    pub fn dispensed(agent: &Agent, ledger: &[Value]) -> Self {
        let mut told = Self::default();
        for line in ledger {
            let aside = line["aside"] == true;
            if aside && !agent.asides {
                continue;
            }
            let count = |key: &str| line[key].as_u64().unwrap_or(0);
            told.input += count("input");
            told.output += count("output");
            told.cache_read += count("cache_read");
            told.cache_write += count("cache_write");
            let list = |key: &str| line[key].as_array().cloned().unwrap_or_default();
            if !aside {
                let texts = list("texts");
                told.texts.extend(texts.iter().filter_map(Value::as_str));
                told.tools.extend(list("tools").iter().map(agent.tool));
            }
        }
        told.price(agent);
        told
    }

    /// By cldpd's typed events of a run.
    pub fn shown(events: &[Value]) -> Self {
        let mut told = Self::default();
        let mut cost = None;
        for event in events.iter().filter(|e| e["kind"] == "agent") {
            let event = &event["event"];
            let text = |key: &str| event[key].as_str().unwrap_or_default();
            match text("type") {
                "text" => told.texts.push_str(text("text")),
                "tool_use" => {
                    let tool = (text("name").to_owned(), text("summary").to_owned());
                    told.tools.push(tool);
                }
                "usage" => {
                    told.add(event);
                    if let Some(more) = event["cost_usd"].as_f64() {
                        cost = Some(cost.unwrap_or(0.0) + more);
                    }
                }
                _ => {}
            }
        }
        told.cost_nano_usd = cost.map(nano);
        told
    }

    /// By the sum that cldpd shows of a session, which has no words.
    pub fn summed(usage: &Value) -> Self {
        let mut told = Self::default();
        told.add(usage);
        told.cost_nano_usd = usage["cost_usd"].as_f64().map(nano);
        told
    }

    /// The sum of several runs, without their words.
    pub fn sum(runs: &[&Self]) -> Self {
        let mut sum = Self::default();
        for run in runs {
            sum.input += run.input;
            sum.output += run.output;
            sum.cache_read += run.cache_read;
            sum.cache_write += run.cache_write;
            if let Some(cost) = run.cost_nano_usd {
                sum.cost_nano_usd = Some(sum.cost_nano_usd.unwrap_or(0) + cost);
            }
        }
        sum
    }

    /// Figures alone.
    pub fn figures(&self) -> Self {
        Self {
            texts: String::new(),
            tools: Vec::new(),
            ..self.clone()
        }
    }

    fn add(&mut self, usage: &Value) {
        let count = |key: &str| usage[key].as_u64().unwrap_or(0);
        self.input += count("input");
        self.output += count("output");
        self.cache_read += count("cache_read");
        self.cache_write += count("cache_write");
    }

    fn price(&mut self, agent: &Agent) {
        let Some(prices) = agent.price else {
            return;
        };
        let counts = [self.input, self.output, self.cache_read, self.cache_write];
        // A dollar for a million is a thousand billionths for one.
        let sum: f64 = counts
            .iter()
            .zip(prices)
            .map(|(count, price)| *count as f64 * price * 1000.0)
            .sum();
        self.cost_nano_usd = (sum > 0.0).then_some(sum.round() as u64);
    }
}

fn nano(dollars: f64) -> u64 {
    (dollars * 1e9).round() as u64
}
