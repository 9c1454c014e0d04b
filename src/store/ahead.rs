//! Which lines of a block to look at: those before the next place where a match
//! may begin are passed over.
//!
//! A look ahead may go through all of the rest, only to say that a match may
//! begin right here. So each has to pay: after one that leads over less than a
//! [`LOOKS`]th of the block lines are taken one by one, after each further such
//! look twice as many. That makes at most [`LOOKS`] looks that pay, and no more
//! that do not than the number of lines has bits, whatever the pattern.

use std::ops::Range;

/// Looks that pay, at most.
const LOOKS: usize = 16;

/// How far a block was looked through.
pub(super) struct Ahead {
    /// What a look has to lead over.
    pays: usize,
    /// Before this place no match begins.
    clear: usize,
    /// Lines that are still taken one by one.
    blind: usize,
    /// How many are so after the next look that does not pay.
    penalty: usize,
}

impl Ahead {
    /// For a payload of so many bytes.
    pub(super) const fn new(len: usize) -> Self {
        Self {
            pays: len / LOOKS,
            clear: 0,
            blind: 0,
            penalty: 1,
        }
    }

    /// Whether the line at this place, behind those asked about before, may
    /// match. `look` says where from a place on the next match may begin.
    pub(super) fn is_worth(
        &mut self,
        line: Range<usize>,
        look: impl FnOnce(usize) -> Option<usize>,
    ) -> bool {
        if self.clear > line.end {
            return false;
        }
        if self.blind > 0 {
            self.blind -= 1;
            return true;
        }
        if self.clear < line.start {
            self.clear = look(line.start).unwrap_or(usize::MAX);
            if self.clear - line.start < self.pays {
                self.blind = self.penalty;
                self.penalty *= 2;
            }
        }
        self.clear <= line.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Which lines of `len` bytes each are worth a look when matches begin at
    /// `places`, and how often it was looked ahead.
    fn worth(lines: usize, len: usize, places: &[usize]) -> (Vec<usize>, usize) {
        let mut ahead = Ahead::new(lines * len);
        let mut looks = 0;
        let found = (0..lines).filter(|line| {
            // Before each line lies what belongs to no line.
            ahead.is_worth(line * len + 3..(line + 1) * len, |from| {
                looks += 1;
                let next = places.partition_point(|place| *place < from);
                places.get(next).copied()
            })
        });
        (found.collect(), looks)
    }

    proptest! {
        #[test]
        fn few_looks_are_made_and_no_line_is_missed(
            lines in 1usize..3_000,
            len in 4usize..120,
            gaps in prop::collection::vec(prop_oneof![0usize..150, 0usize..20_000], 0..2_000),
        ) {
            let mut places = Vec::new();
            let mut at = 0;
            for gap in gaps {
                at += gap;
                places.push(at);
            }
            let (found, looks) = worth(lines, len, &places);
            let bits = lines.ilog2() as usize + 1;
            prop_assert!(looks <= LOOKS + bits + 1, "{} looks", looks);
            for line in 0..lines {
                let matches = |place: &usize| (line * len + 3..=(line + 1) * len).contains(place);
                if places.iter().any(matches) {
                    prop_assert!(found.binary_search(&line).is_ok(), "line {}", line);
                }
            }
        }
    }

    #[test]
    fn one_look_leads_over_a_block_without_a_match() {
        assert_eq!(worth(1_000, 100, &[]), (vec![], 1));
        let (found, looks) = worth(1_000, 100, &[50_050]);
        assert_eq!(found, [500]);
        assert_eq!(looks, 2);
    }
}
