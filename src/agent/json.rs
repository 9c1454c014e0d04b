//! Reads what is wanted out of a line of JSON, and passes over the rest.
//!
//! Lines may be megabytes of which a few words matter, keys stand in any order,
//! and versions differ: so nothing is decoded that nobody asks for, and a value
//! that is not as expected is as if it were not there.

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A value as it stands there.
pub(super) type Raw<'a> = Option<&'a RawValue>;

/// The values of these keys of an object, the last where a key stands twice;
/// none when `text` is no object, or not whole.
pub(super) fn fields<'a, const N: usize>(text: &'a str, names: [&str; N]) -> Option<[Raw<'a>; N]> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = reader.deserialize_map(Fields { names }).ok()?;
    reader.end().ok()?;
    Some(found)
}

/// The values of these keys, where `value` is an object.
pub(super) fn members<'a, const N: usize>(value: Raw<'a>, names: [&str; N]) -> [Raw<'a>; N] {
    let found = value.and_then(|value| fields(value.get(), names));
    found.unwrap_or([None; N])
}

/// The value at the end of this path of keys.
pub(super) fn at<'a>(value: Raw<'a>, path: &[&str]) -> Raw<'a> {
    path.iter().fold(value, |value, key| {
        let [found] = members(value, [*key]);
        found
    })
}

/// The items of a list.
pub(super) fn items(value: Raw<'_>) -> Vec<&RawValue> {
    let list = value.and_then(|value| serde_json::from_str(value.get()).ok());
    list.unwrap_or_default()
}

/// The keys and values of an object, in its order.
pub(super) fn entries<'a>(value: Raw<'a>) -> Vec<(Cow<'a, str>, &'a RawValue)> {
    let Some(value) = value else {
        return Vec::new();
    };
    let mut reader = serde_json::Deserializer::from_str(value.get());
    reader.deserialize_map(Entries).unwrap_or_default()
}

/// A text. What is no character in it (half of a pair of surrogates, as cut
/// texts have them) is replaced.
pub(super) fn text(value: Raw<'_>) -> Option<Cow<'_, str>> {
    let raw = value?.get();
    let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
    if !inside.contains('\\') {
        return Some(Cow::Borrowed(inside));
    }
    let mut reader = serde_json::Deserializer::from_str(raw);
    let bytes = reader.deserialize_bytes(Bytes).ok()?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(damaged) => String::from_utf8_lossy(damaged.as_bytes()).into_owned(),
    };
    Some(Cow::Owned(text))
}

/// A whole number of at least 0.
pub(super) fn number(value: Raw<'_>) -> Option<u64> {
    let raw = value?.get();
    // Some write whole numbers as 1.0 or 1e3.
    raw.parse().ok().or_else(|| {
        let number: f64 = raw.parse().ok()?;
        ((0.0..=MAX_EXACT).contains(&number) && number.fract() == 0.0).then_some(number as u64)
    })
}

/// The largest whole number up to which all are numbers of JavaScript.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// A number.
pub(super) fn float(value: Raw<'_>) -> Option<f64> {
    let number: f64 = value?.get().parse().ok()?;
    number.is_finite().then_some(number)
}

/// True or false.
pub(super) fn flag(value: Raw<'_>) -> Option<bool> {
    value?.get().parse().ok()
}

/// Anything but null.
pub(super) fn present(value: Raw<'_>) -> bool {
    value.is_some_and(|value| value.get() != "null")
}

struct Fields<'n, const N: usize> {
    names: [&'n str; N],
}

impl<'de, const N: usize> Visitor<'de> for Fields<'_, N> {
    type Value = [Raw<'de>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(Key(key)) = map.next_key()? {
            match self.names.iter().position(|name| *name == key) {
                Some(at) => found[at] = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            entries.push((key, map.next_value()?));
        }
        Ok(entries)
    }
}

/// A key, not copied unless it has escapes; one that is no text is replaced.
struct Key<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        reader.deserialize_str(Keys)
    }
}

/// The bytes of a text.
struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(bytes.to_vec())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_asked_for_is_found_in_any_order() {
        let line = r#" {"b":{"type":"no"},"n":1e3,"a":[1,{"c":"x"}],"type":"yes","esc\u0061pe":true,"a":[2]} "#;
        let [kind, a, n, escape, none] =
            fields(line, ["type", "a", "n", "escape", "none"]).unwrap();
        assert_eq!(text(kind).as_deref(), Some("yes"));
        assert_eq!(items(a).len(), 1, "the last counts");
        assert_eq!((number(n), float(n)), (Some(1000), Some(1000.0)));
        assert_eq!(flag(escape), Some(true));
        assert!(!present(none) && !present(Some(of("null"))) && present(escape));
        assert_eq!(number(Some(of("-1"))), None);
        assert_eq!(number(Some(of("1.5"))), None);
        assert_eq!(
            text(at(Some(of(line.trim())), &["b", "type"])).as_deref(),
            Some("no")
        );
        for bad in ["", "[]", "1", "{", "{\"a\":1}x", "{\"a\":1,}", "null"] {
            assert!(fields(bad, ["a"]).is_none(), "{bad}");
        }
    }

    #[test]
    fn halves_of_characters_are_replaced() {
        let cut = of(r#""a\ud83d \ud83d\ude00 \n""#);
        let text = text(Some(cut)).unwrap();
        assert!(text.starts_with('a') && text.ends_with("😀 \n"), "{text}");
        assert!(text.contains('\u{fffd}'), "{text}");
    }

    proptest! {
        #[test]
        fn texts_are_what_they_were(said: String, key: String) {
            let json = serde_json::json!({ &key: said });
            let json = json.to_string();
            let [found] = fields(&json, [&key]).unwrap();
            let found = text(found).map(Cow::into_owned);
            prop_assert_eq!(found, Some(said));
            let all = entries(Some(of(&json)));
            prop_assert_eq!(all.len(), 1);
            prop_assert_eq!(&all[0].0, &key);
        }

        #[test]
        fn anything_is_looked_at(line: String) {
            let _ = fields(&line, ["type"]);
        }
    }
}
