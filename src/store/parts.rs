//! Long values, cut into rows that the database keeps in its log.
//!
//! sled keeps up to 16 rows in a leaf, and puts a leaf that is too large into
//! a file of its own that it never reclaims. With values of at most
//! [`PART_MAX`] bytes no leaf is.

use super::{block, keys, rows};

/// Largest value of a row, in bytes.
pub(super) const PART_MAX: usize = 6 * 1024;
/// Largest value that can be cut into parts.
pub(super) const VALUE_MAX: usize = PART_MAX * u16::MAX as usize;

// Whatever a block or an envelope may hold can be cut.
const _: () = assert!(block::RAW_MAX + block::HEADER_LEN <= VALUE_MAX);
const _: () = assert!(rows::CONTENT_MAX + rows::ENVELOPE_LEN <= VALUE_MAX);

/// Rows of the value at `prefix`, in order.
pub(super) fn split<'a>(
    prefix: &'a [u8],
    value: &'a [u8],
) -> impl Iterator<Item = (Vec<u8>, &'a [u8])> {
    debug_assert!((1..=VALUE_MAX).contains(&value.len()));
    (0..=u16::MAX)
        .zip(value.chunks(PART_MAX))
        .map(|(part, piece)| (keys::with_part(prefix, part), piece))
}

/// How many rows a value of `len` bytes has.
pub(super) const fn count(len: usize) -> u16 {
    len.div_ceil(PART_MAX) as u16
}

/// Length of row number `part` of a value of `len` bytes.
pub(super) fn part_len(len: usize, part: u16) -> usize {
    len.saturating_sub(usize::from(part) * PART_MAX)
        .min(PART_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_make_the_whole(len in 1usize..40_000, prefix: Vec<u8>) {
            let value: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let rows: Vec<_> = split(&prefix, &value).collect();
            prop_assert_eq!(rows.len(), usize::from(count(len)));
            prop_assert!(rows.is_sorted_by(|a, b| a.0 < b.0));
            for (part, (_, piece)) in rows.iter().enumerate() {
                prop_assert_eq!(piece.len(), part_len(len, part as u16));
            }
            let whole: Vec<u8> = rows.iter().flat_map(|(_, piece)| piece.to_vec()).collect();
            prop_assert_eq!(whole, value);
        }
    }
}
