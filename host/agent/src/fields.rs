//! Fields of messages as bytes: little-endian integers, and texts and lists with their length
//! before them.

use std::fmt;

/// Most items of a list.
pub const ITEMS_MAX: u32 = 4_096;

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Appends fields to bytes.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// Appends a byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// Appends a truth value.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.u8(value.into())
    }

    /// Appends 16 bits.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.fixed(&value.to_le_bytes())
    }

    /// Appends 32 bits.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.fixed(&value.to_le_bytes())
    }

    /// Appends 32 bits with a sign.
    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.fixed(&value.to_le_bytes())
    }

    /// Appends 64 bits.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.fixed(&value.to_le_bytes())
    }

    /// Appends 64 bits with a sign.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.fixed(&value.to_le_bytes())
    }

    /// Appends bytes whose number both sides know.
    pub fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends bytes with their number before them. What is longer than 4 GiB is cut; no frame
    /// holds so much.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.u32(length).fixed(&bytes[..bytes.len().min(u32::MAX as usize)])
    }

    /// Appends a list of byte strings.
    pub fn list(&mut self, items: &[Vec<u8>]) -> &mut Self {
        self.u32(u32::try_from(items.len()).unwrap_or(u32::MAX));
        for item in items {
            self.bytes(item);
        }
        self
    }

    /// Appends a number that may be absent.
    pub fn option(&mut self, value: Option<u32>) -> &mut Self {
        match value {
            Some(value) => self.bool(true).u32(value),
            None => self.bool(false),
        }
    }
}

/// Takes fields off bytes.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed("it is too short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed("it is too short"))
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`Malformed`], as for all fields, if there is not so much left.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    /// The next truth value.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a truth value is neither 0 nor 1")),
        }
    }

    /// The next 16 bits.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next 32 bits.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next 32 bits with a sign.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_le_bytes)
    }

    /// The next 64 bits.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next 64 bits with a sign.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    /// The next bytes, whose number both sides know.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.array()
    }

    /// The next bytes with their number before them.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn bytes(&mut self) -> Result<Vec<u8>, Malformed> {
        let length = self.u32()? as usize;
        self.take(length).map(<[u8]>::to_vec)
    }

    /// The next text; what is no UTF-8 in it is replaced.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn text(&mut self) -> Result<String, Malformed> {
        Ok(String::from_utf8_lossy(&self.bytes()?).into_owned())
    }

    /// The next list of byte strings.
    ///
    /// # Errors
    /// [`Malformed`], also for more than [`ITEMS_MAX`].
    pub fn list(&mut self) -> Result<Vec<Vec<u8>>, Malformed> {
        let count = self.u32()?;
        if count > ITEMS_MAX {
            return Err(Malformed("a list is too long"));
        }
        (0..count).map(|_| self.bytes()).collect()
    }

    /// The next number that may be absent.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn option(&mut self) -> Result<Option<u32>, Malformed> {
        Ok(if self.bool()? { Some(self.u32()?) } else { None })
    }

    /// All that is left.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).to_vec()
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`Malformed`] if something is.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("it is too long")) }
    }
}
