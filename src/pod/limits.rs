//! Limits of a container and of a run: sizes, processors, durations.
//!
//! Invariant: 0 is no limit everywhere, and what no engine would take is
//! refused here, with the place.

use super::json::{Node, Value};
use super::reader::{Object, Reader, shown};
use crate::model::retry::RETRIES_MAX;
use crate::model::units::parse_duration;
use crate::model::{Bounds, Dollars};

/// Less than this no engine takes.
const MEMORY_MIN: u64 = 6 << 20;
/// The share of a processor below which an engine counts nothing.
const CPUS_MIN: f64 = 0.01;
/// More processors than any machine has.
const CPUS_MAX: f64 = 1e6;

const SIZE: &str = "a number of MiB such as 512, or a size such as \"2g\"";
const CPUS: &str = "a number such as 1.5";
const PIDS: &str = "a whole number such as 512";
const TIMEOUT: &str = "a number of seconds such as 90, or a duration such as \"30m\"";
const TURNS: &str = "a whole number of turns such as 40";
const COST: &str = "a number of US dollars such as 2.5";
const RETRIES: &str = "a whole number from 0 to 10";
const NO_LIMIT: Option<&str> = Some("0 is no limit");
const UNLIMITED: Option<&str> = Some("0 is unlimited");

/// `memory`, in bytes.
pub(super) fn memory(reader: &mut Reader<'_>, object: &Object<'_>) -> Option<u64> {
    let bytes = size(reader, object, "memory")?;
    if bytes > 0 && bytes < MEMORY_MIN {
        let at = object.get("memory")?.at;
        let problem = "is less than 6 MiB, the least that an engine takes";
        reader.wrong_value("memory", at, problem, UNLIMITED);
        return None;
    }
    Some(bytes)
}

/// A size, in bytes.
pub(super) fn size(reader: &mut Reader<'_>, object: &Object<'_>, key: &str) -> Option<u64> {
    let node = object.get(key)?;
    let bytes = match &node.value {
        Value::Number(_) => whole(node).and_then(|mib| mib.checked_mul(1 << 20)),
        Value::Text(text) => parse_size(text),
        _ => {
            reader.wrong_type(key, node, SIZE);
            return None;
        }
    };
    // More than an engine can count, in its signed numbers.
    let bytes = bytes.filter(|bytes| i64::try_from(*bytes).is_ok());
    if bytes.is_none() {
        refuse(reader, key, node, SIZE, UNLIMITED);
    }
    bytes
}

/// `cpus`, in billionths.
pub(super) fn nano_cpus(reader: &mut Reader<'_>, object: &Object<'_>) -> Option<u64> {
    let node = object.get("cpus")?;
    let Value::Number(number) = &node.value else {
        reader.wrong_type("cpus", node, CPUS);
        return None;
    };
    let cpus = number.as_f64().unwrap_or(-1.0);
    if cpus != 0.0 && !(CPUS_MIN..=CPUS_MAX).contains(&cpus) {
        refuse(reader, "cpus", node, CPUS, UNLIMITED);
        return None;
    }
    Some((cpus * 1e9).round() as u64)
}

/// `pids`.
pub(super) fn pids(reader: &mut Reader<'_>, object: &Object<'_>) -> Option<u32> {
    number(reader, object, "pids", (PIDS, u32::MAX, UNLIMITED))
}

/// `timeout`, in seconds; none for 0, which is no limit.
pub(super) fn timeout(reader: &mut Reader<'_>, object: &Object<'_>) -> Option<u32> {
    duration(reader, object, "timeout").filter(|seconds| *seconds > 0)
}

/// How far the agent may go: `maxTurns`, `maxCost`, `idleTimeout`.
pub(super) fn bounds(reader: &mut Reader<'_>, object: &Object<'_>) -> Bounds {
    Bounds {
        max_turns: number(reader, object, "maxTurns", (TURNS, u32::MAX, NO_LIMIT)),
        max_cost: cost(reader, object),
        idle_timeout: duration(reader, object, "idleTimeout"),
        retries: number(reader, object, "retries", (RETRIES, RETRIES_MAX, None)),
    }
}

/// A whole number: what it is to be, how much it may be, what else there is to say.
fn number(
    reader: &mut Reader<'_>,
    object: &Object<'_>,
    key: &str,
    (expected, most, hint): (&'static str, u32, Option<&'static str>),
) -> Option<u32> {
    let node = object.get(key)?;
    let Value::Number(_) = &node.value else {
        reader.wrong_type(key, node, expected);
        return None;
    };
    let number = whole(node).and_then(|number| u32::try_from(number).ok());
    let number = number.filter(|number| *number <= most);
    if number.is_none() {
        refuse(reader, key, node, expected, hint);
    }
    number
}

fn cost(reader: &mut Reader<'_>, object: &Object<'_>) -> Option<Dollars> {
    let node = object.get("maxCost")?;
    let Value::Number(number) = &node.value else {
        reader.wrong_type("maxCost", node, COST);
        return None;
    };
    let cost = number.as_f64().and_then(|cost| Dollars::new(cost).ok());
    if cost.is_none() {
        refuse(reader, "maxCost", node, COST, NO_LIMIT);
    }
    cost
}

fn duration(reader: &mut Reader<'_>, object: &Object<'_>, key: &str) -> Option<u32> {
    let node = object.get(key)?;
    let seconds = match &node.value {
        Value::Number(_) => whole(node),
        Value::Text(text) => parse_duration(text),
        _ => {
            reader.wrong_type(key, node, TIMEOUT);
            return None;
        }
    };
    let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
    if seconds.is_none() {
        refuse(reader, key, node, TIMEOUT, NO_LIMIT);
    }
    seconds
}

fn refuse(reader: &mut Reader<'_>, key: &str, node: &Node, expected: &str, hint: Option<&str>) {
    let found = match &node.value {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => format!("\"{}\"", shown(text)),
        other => other.describe().to_owned(),
    };
    let problem = format!("has to be {expected}, but is {found}");
    reader.wrong_value(key, node.at, problem, hint);
}

/// A whole number of at least 0, also where it is written as 512.0.
fn whole(node: &Node) -> Option<u64> {
    let Value::Number(number) = &node.value else {
        return None;
    };
    number.as_u64().or_else(|| {
        // Up to here every whole number is one of these, too.
        let exact = 0.0..=9_007_199_254_740_992.0;
        let float = number.as_f64()?;
        (exact.contains(&float) && float.fract() == 0.0).then_some(float as u64)
    })
}

/// `2g`, `512m`, `1.5 GiB`: the engine's units, each 1024 of the one before.
fn parse_size(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let scale: u64 = match unit.as_str() {
        "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    let fraction: f64 = format!("0.{fraction}").parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    let part = (fraction * scale as f64) as u64;
    whole.checked_mul(scale)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::parse_size;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_the_engines() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("0m", Some(0)),
            ("512m", Some(536_870_912)),
            ("512MiB", Some(536_870_912)),
            ("2g", Some(2 << 30)),
            ("1.5 GB", Some(3 << 29)),
            ("100b", Some(100)),
            ("1t", Some(1 << 40)),
            ("512", None),
            ("-1m", None),
            ("1.m", None),
            (".5m", None),
            ("1.2.3m", None),
            ("m", None),
            ("1x", None),
            ("1  m", None),
            ("", None),
            ("99999999999999999999g", None),
            ("17179869184g", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn whole_sizes_are_exact(number in 0u64..1 << 20, unit in 0usize..5) {
            let (word, shift) = [("b", 0), ("k", 10), ("m", 20), ("g", 30), ("t", 40)][unit];
            prop_assert_eq!(parse_size(&format!("{number}{word}")), Some(number << shift));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,12}|[0-9.]{0,24} ?[bkmgtBKMGTiI]{0,3}") {
            parse_size(&text);
        }
    }
}
