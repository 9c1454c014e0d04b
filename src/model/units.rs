//! Durations and sizes as people write and read them.

/// `90s`, `30m`, `2d`, and several in a row as in `1h30m`, in seconds. The units
/// are s, m, h, d and w; none is understood that is too large to count.
#[must_use]
pub fn parse_duration(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest.get(..end)?.parse().ok()?;
        let scale = match rest.as_bytes().get(end)? {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(scale)?)?;
        rest = rest.get(end + 1..)?;
    }
    (!text.is_empty()).then_some(total)
}

/// `2 GiB`, `512 MiB`: bytes in the largest unit of which there is a whole number.
#[must_use]
pub fn exact_size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = units
        .iter()
        .find(|(bits, _)| bytes.trailing_zeros() >= *bits);
    match whole {
        Some((bits, unit)) => format!("{} {unit}", bytes >> bits),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_have_units() {
        for (text, seconds) in [
            ("90s", Some(90)),
            ("30m", Some(1800)),
            ("1h30m", Some(5400)),
            ("2d", Some(172_800)),
            ("1w", Some(604_800)),
            ("90", None),
            ("m", None),
            ("1h30", None),
            ("-1s", None),
            ("", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(parse_duration(text), seconds, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_said_exactly() {
        for (bytes, text) in [
            (3 << 30, "3 GiB"),
            (2 << 30, "2 GiB"),
            (1536 << 20, "1536 MiB"),
            (1 << 40, "1 TiB"),
            (1000, "1000 bytes"),
            (1500, "1500 bytes"),
        ] {
            assert_eq!(exact_size(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd_for_a_duration(text in "\\PC{0,12}") {
            let _ = parse_duration(&text);
        }
    }
}
