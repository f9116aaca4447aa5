//! The power button.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;

/// `struct input_event` of `linux/input.h`.
const EVENT_BYTES: usize = 24;
const KEY: u16 = 1;
const POWER: u16 = 116;
const PRESSED: i32 = 1;

/// The devices that may have one.
pub(crate) fn buttons() -> Vec<File> {
    let devices = fs::read_dir("/dev/input").into_iter().flatten().flatten();
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let open = |entry: fs::DirEntry| {
        let is_event = entry.file_name().as_encoded_bytes().starts_with(b"event");
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(nonblocking);
        is_event.then(|| options.open(entry.path()).ok()).flatten()
    };
    devices.filter_map(open).collect()
}

/// Returns whether it was pressed since it was asked last.
pub(crate) fn was_pressed(button: &mut File) -> bool {
    let mut was = false;
    let mut events = [0; 64 * EVENT_BYTES];
    while let Ok(count @ 1..) = button.read(&mut events) {
        was |= events[..count].chunks_exact(EVENT_BYTES).any(is_press);
    }
    was
}

fn is_press(event: &[u8]) -> bool {
    let field = |at: usize| event.get(at..at + 2).and_then(|two| two.try_into().ok());
    let value = event.get(20..24).and_then(|four| four.try_into().ok());
    field(16).map(u16::from_le_bytes) == Some(KEY)
        && field(18).map(u16::from_le_bytes) == Some(POWER)
        && value.map(i32::from_le_bytes) == Some(PRESSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_press_of_the_power_key_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut event = vec![7; 16];
            event.extend(kind.to_le_bytes());
            event.extend(code.to_le_bytes());
            event.extend(value.to_le_bytes());
            event
        };
        assert!(is_press(&event(KEY, POWER, PRESSED)));
        for (kind, code, value) in [(0, POWER, 1), (KEY, 30, 1), (KEY, POWER, 0), (KEY, POWER, 2)] {
            assert!(!is_press(&event(kind, code, value)));
        }
        assert!(!is_press(&[0; 23]));
    }
}
