//! Blocks.

/// Why a block cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// It ends too early.
    #[error("the block is too short")]
    Short,
}
