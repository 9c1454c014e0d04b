//! What is searched for: a regular expression, or plain text, held against lines.
//!
//! Beside the expression stands a looser one, without anything that looks at
//! what is around a match (`^`, `$`, `\b` and the like). So it matches wherever
//! the first does, whatever the text stands in, and whole blocks of the journal
//! can be looked through before they are taken apart.

use super::error::{Error, ErrorCode, Result};
use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::{Capture, Hir, HirKind, Repetition};
use std::ops::Range;

/// Something to find in lines. Matching takes time linear in the text.
#[derive(Clone, Debug)]
pub struct Pattern {
    exact: Regex,
    /// None where it would match anywhere.
    loose: Option<Regex>,
}

impl Pattern {
    /// Understands `text`: a regular expression, or with `fixed` the very characters.
    ///
    /// # Errors
    /// `usage` with the place, when it is no regular expression.
    pub fn new(text: &str, fixed: bool, ignore_case: bool) -> Result<Self> {
        let escaped = fixed.then(|| regex_syntax::escape(text));
        let regex = escaped.as_deref().unwrap_or(text);
        let hir = regex_syntax::ParserBuilder::new()
            .utf8(false)
            .case_insensitive(ignore_case)
            .build()
            .parse(regex)
            .map_err(|error| not_understood(text, &error))?;
        let exact = RegexBuilder::new(regex)
            .case_insensitive(ignore_case)
            .build()
            .map_err(|error| too_large(&error))?;
        let loose = without_looks(&hir);
        let loose = match loose.properties().minimum_len() {
            // What can match nothing matches anywhere.
            Some(0) | None => None,
            Some(_) => Regex::new(&loose.to_string()).ok(),
        };
        Ok(Self { exact, loose })
    }

    /// Whether a line matches.
    #[must_use]
    pub fn matches(&self, line: &[u8]) -> bool {
        self.exact.is_match(line)
    }

    /// Where a line matches, at most `max` places.
    #[must_use]
    pub fn places(&self, line: &[u8], max: usize) -> Vec<Range<usize>> {
        let found = self.exact.find_iter(line).take(max);
        found.map(|place| place.range()).collect()
    }

    /// Where in `text`, from `from` on, the first match may begin, whatever
    /// lines the text is cut into. None where there can be no match.
    #[must_use]
    pub fn may_begin(&self, text: &[u8], from: usize) -> Option<usize> {
        match &self.loose {
            Some(loose) => loose.find_at(text, from).map(|place| place.start()),
            None => Some(from),
        }
    }
}

/// The same expression with nothing in it that looks at what is around.
fn without_looks(hir: &Hir) -> Hir {
    let all = |subs: &[Hir]| subs.iter().map(without_looks).collect::<Vec<_>>();
    match hir.kind() {
        HirKind::Look(_) => Hir::empty(),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) => hir.clone(),
        HirKind::Repetition(of) => Hir::repetition(Repetition {
            sub: Box::new(without_looks(&of.sub)),
            ..of.clone()
        }),
        HirKind::Capture(of) => Hir::capture(Capture {
            sub: Box::new(without_looks(&of.sub)),
            ..of.clone()
        }),
        HirKind::Concat(subs) => Hir::concat(all(subs)),
        HirKind::Alternation(subs) => Hir::alternation(all(subs)),
    }
}

fn not_understood(text: &str, error: &regex_syntax::Error) -> Error {
    let (kind, span) = match error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), Some(error.span())),
        regex_syntax::Error::Translate(error) => (error.kind().to_string(), Some(error.span())),
        other => (other.to_string(), None),
    };
    let place = span.map_or_else(String::new, |span| {
        let before = text.get(..span.start.offset).unwrap_or(text);
        let character = before.chars().count() + 1;
        let rest: String = text.chars().skip(character - 1).take(20).collect();
        match rest.as_str() {
            "" => " at its end".to_owned(),
            rest => format!(" at character {character}, \"{}\"", rest.escape_debug()),
        }
    });
    let message = format!("the pattern is not understood{place}: {kind}");
    Error::new(ErrorCode::Usage, message).hint("-F looks for the text as it is")
}

fn too_large(error: &regex::Error) -> Error {
    let message = match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("the pattern is too large: it would take more than {limit} bytes")
        }
        other => format!("the pattern cannot be used: {other}"),
    };
    Error::new(ErrorCode::Usage, message).hint("repeat less in it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text, false, false).unwrap()
    }

    /// Expressions with much that looks around.
    fn expression() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("a".to_owned()),
            Just("b".to_owned()),
            Just("[^a]".to_owned()),
            Just("é".to_owned()),
            Just(".".to_owned()),
            Just(r"\w".to_owned()),
            Just("^".to_owned()),
            Just("$".to_owned()),
            Just(r"\b".to_owned()),
            Just(r"\B".to_owned()),
            Just(r"(?-u:\xFF)".to_owned()),
        ];
        leaf.prop_recursive(4, 16, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 1..4).prop_map(|all| all.concat()),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}|{b})")),
                inner.clone().prop_map(|a| format!("({a})*")),
                inner.clone().prop_map(|a| format!("(?i:{a})+?")),
                inner.prop_map(|a| format!("({a}){{1,2}}")),
            ]
        })
    }

    proptest! {
        /// What the looser expression says can be left out has no match.
        #[test]
        fn nothing_that_matches_is_left_out(
            expression in expression(),
            lines in proptest::collection::vec("[abé \u{0}\n_]{0,6}", 1..5),
            between in proptest::collection::vec(any::<u8>(), 0..4),
        ) {
            let pattern = pattern(&expression);
            let mut text = Vec::new();
            let mut begins = Vec::new();
            for line in &lines {
                text.extend_from_slice(&between);
                begins.push(text.len());
                text.extend_from_slice(line.as_bytes());
            }
            for (line, begin) in lines.iter().zip(begins) {
                for place in pattern.places(line.as_bytes(), 9) {
                    for from in [0, begin] {
                        let may = pattern.may_begin(&text, from);
                        prop_assert!(may.is_some_and(|may| may <= begin + place.start));
                    }
                }
            }
        }

        #[test]
        fn fixed_text_is_itself(text in "\\PC{1,8}") {
            let pattern = Pattern::new(&text, true, false).unwrap();
            prop_assert_eq!(pattern.places(text.as_bytes(), 2), vec![0..text.len()]);
        }
    }

    #[test]
    fn a_wrong_one_is_told_with_its_place() {
        let error = Pattern::new("ab(c", false, false).unwrap_err();
        assert_eq!(error.code, ErrorCode::Usage);
        assert_eq!(
            error.message,
            "the pattern is not understood at character 3, \"(c\": unclosed group"
        );
        let error = Pattern::new("é[z-a]", false, false).unwrap_err();
        assert!(
            error.message.contains("at character 3"),
            "{}",
            error.message
        );
        let error = Pattern::new(r"(\w{999}){999}", false, false).unwrap_err();
        assert!(error.message.contains("too large"), "{}", error.message);
    }

    #[test]
    fn case_may_be_left_out_of_account() {
        let pattern = Pattern::new("Éa.", true, true).unwrap();
        assert!(pattern.matches("xéA.".as_bytes()));
        assert_eq!(pattern.may_begin("xéA.".as_bytes(), 0), Some(1));
        assert!(!pattern.matches("éab".as_bytes()));
    }
}
