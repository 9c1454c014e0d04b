//! Putting numbers and byte strings into buffers, and taking them out again.
//!
//! Taking never panics and never allocates more than the input is long:
//! whatever a length says, it is checked against what is there first.

/// What could not be decoded, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad(pub &'static str);

impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Bad {}

/// Appends numbers (little-endian) and byte strings (behind a length of four bytes).
pub trait Put {
    /// One byte.
    fn put_u8(&mut self, value: u8);
    /// Two bytes.
    fn put_u16(&mut self, value: u16);
    /// Four bytes.
    fn put_u32(&mut self, value: u32);
    /// Eight bytes.
    fn put_u64(&mut self, value: u64);
    /// Sixteen bytes.
    fn put_u128(&mut self, value: u128);
    /// A length and the bytes.
    fn put_bytes(&mut self, value: &[u8]);
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_u128(&mut self, value: u128) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_bytes(&mut self, value: &[u8]) {
        // Nothing that is ever sent comes near 4 GiB; what does is cut rather
        // than written with a length that lies.
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.put_u32(length);
        self.extend_from_slice(&value[..(length as usize).min(value.len())]);
    }
}

/// Takes numbers and byte strings from the front of a slice.
#[derive(Clone, Debug)]
pub struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    /// Begins at the front of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// How many bytes are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// That nothing is left.
    ///
    /// # Errors
    /// When something is.
    pub fn end(&self) -> Result<(), Bad> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Bad("there are bytes behind the end"))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        let (head, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(Bad("it ends too early"))?;
        self.0 = rest;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// When there is none.
    pub fn u8(&mut self) -> Result<u8, Bad> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    /// A byte that is 0 or 1.
    ///
    /// # Errors
    /// When there is none, or it is neither.
    pub fn bool(&mut self) -> Result<bool, Bad> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Bad("a truth value is neither 0 nor 1")),
        }
    }

    /// Two bytes.
    ///
    /// # Errors
    /// When they are not there.
    pub fn u16(&mut self) -> Result<u16, Bad> {
        self.fixed().map(u16::from_le_bytes)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// When they are not there.
    pub fn u32(&mut self) -> Result<u32, Bad> {
        self.fixed().map(u32::from_le_bytes)
    }

    /// Four bytes with a sign.
    ///
    /// # Errors
    /// When they are not there.
    pub fn i32(&mut self) -> Result<i32, Bad> {
        self.fixed().map(i32::from_le_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// When they are not there.
    pub fn u64(&mut self) -> Result<u64, Bad> {
        self.fixed().map(u64::from_le_bytes)
    }

    /// Sixteen bytes.
    ///
    /// # Errors
    /// When they are not there.
    pub fn u128(&mut self) -> Result<u128, Bad> {
        self.fixed().map(u128::from_le_bytes)
    }

    /// So many raw bytes.
    ///
    /// # Errors
    /// When they are not there.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        self.fixed()
    }

    /// A length and the bytes.
    ///
    /// # Errors
    /// When fewer are there than the length says.
    pub fn bytes(&mut self) -> Result<&'a [u8], Bad> {
        let length = self.u32()? as usize;
        let (head, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(Bad("a length is longer than what is there"))?;
        self.0 = rest;
        Ok(head)
    }

    /// A length and text; what is not UTF-8 is replaced.
    ///
    /// # Errors
    /// When fewer bytes are there than the length says.
    pub fn text(&mut self) -> Result<String, Bad> {
        self.bytes()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// A count of things that take at least `each` bytes.
    ///
    /// # Errors
    /// When so many cannot be there.
    pub fn count(&mut self, each: usize) -> Result<usize, Bad> {
        let count = self.u32()? as usize;
        if count > self.0.len() / each.max(1) {
            return Err(Bad("a count is larger than what is there"));
        }
        Ok(count)
    }
}
