//! The program of a machine: written by the host at the end of a disk, read by the agent at boot.

use crate::fields::{Malformed, Reader, Writer};
use crate::frame;

/// Bytes at the end of the disk that hold it.
pub const SETUP_BYTES: u64 = 64 << 10;

/// The word of the kernel's command line that says that there is one.
pub const SETUP_WORD: &str = "tallyman.setup";

/// The program of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setup {
    /// The program and its arguments.
    pub argv: Vec<Vec<u8>>,
    /// Its variables, `NAME=value`.
    pub env: Vec<Vec<u8>>,
    /// The folder to run it in; empty for `/`.
    pub cwd: Vec<u8>,
    /// The user to run it as; empty for root.
    pub user: Vec<u8>,
    /// The signal that asks it to end.
    pub stop_signal: i32,
    /// The machine's name.
    pub hostname: Vec<u8>,
}

impl Setup {
    /// The bytes that the disk ends with.
    ///
    /// # Errors
    /// [`Malformed`] if they are too many.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let mut to = Writer::default();
        to.u8(1).list(&self.argv).list(&self.env).bytes(&self.cwd).bytes(&self.user);
        to.i32(self.stop_signal).bytes(&self.hostname);
        let mut out = Vec::new();
        frame::encode(&to.0, &mut out);
        if out.len() as u64 > SETUP_BYTES {
            return Err(Malformed("the command and its variables are too long"));
        }
        out.resize(usize::try_from(SETUP_BYTES).unwrap_or(out.len()), 0);
        Ok(out)
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`Malformed`] if there is none.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let frame = frame::Decoder::default().next(&mut bytes);
        let body = frame.and_then(Result::ok).ok_or(Malformed("there is no setup"))?;
        let mut from = Reader::new(&body);
        if from.u8()? != 1 {
            return Err(Malformed("the setup is of a later version"));
        }
        let setup = Self {
            argv: from.list()?,
            env: from.list()?,
            cwd: from.bytes()?,
            user: from.bytes()?,
            stop_signal: from.i32()?,
            hostname: from.bytes()?,
        };
        from.end().map(|()| setup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setup_comes_back_from_its_bytes() {
        let setup = Setup {
            argv: vec![b"sh".to_vec(), b"-c".to_vec(), b"".to_vec()],
            env: vec![b"A=b=c".to_vec()],
            cwd: b"/srv".to_vec(),
            user: b"web:log".to_vec(),
            stop_signal: 15,
            hostname: b"web".to_vec(),
        };
        let bytes = setup.encode().expect("short");
        assert_eq!(bytes.len() as u64, SETUP_BYTES);
        assert_eq!(Setup::decode(&bytes), Ok(setup));
    }

    #[test]
    fn what_is_too_long_or_not_there_is_refused() {
        let setup = Setup { argv: vec![vec![b'x'; 70_000]], ..Setup::default() };
        setup.encode().expect_err("too long");
        for bytes in [&[][..], &[0; 4_096], &[1; 4_096]] {
            Setup::decode(bytes).expect_err("none");
        }
    }
}
