//! Marker lines on the guest's console: program started, agent ready, program exited.
//!
//! The instant of a marker is the host's time of receipt. A time that the guest prints is not read.

/// A marker that a line of the console announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marker {
    /// The guest's main program was started.
    ProgramStarted,
    /// The guest's agent answers.
    AgentReady,
    /// The guest's main program ended.
    Exited {
        /// Exit code of the program.
        code: i32,
        /// Explanation that the guest gives; at most [`MESSAGE_BYTES_MAX`], empty if there is none.
        message: String,
    },
}

/// Accepted beginnings of a marker line.
const PREFIXES: [&str; 2] = ["TALLYMAN-", "HYPEMAN-"];

/// Longest message kept in [`Marker::Exited`], in bytes; the rest is cut off.
pub const MESSAGE_BYTES_MAX: usize = 4_096;

/// Returns the marker that a line of the console announces, if any.
///
/// A marker begins the line: text later in a line may come from elsewhere, such as a request
/// that a web server logs. A terminal's `\r` may come before and after it. An exit without a whole
/// number as its code is no marker.
pub fn parse(line: &[u8]) -> Option<Marker> {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_start_matches('\r');
    PREFIXES.iter().find_map(|prefix| {
        let rest = line.strip_prefix(prefix)?;
        let (word, rest) = rest.split_once(|c: char| c.is_whitespace()).unwrap_or((rest, ""));
        match word {
            "PROGRAM-START" => Some(Marker::ProgramStarted),
            "AGENT-READY" => Some(Marker::AgentReady),
            "EXIT" => parse_exit(rest),
            _ => None,
        }
    })
}

fn parse_exit(fields: &str) -> Option<Marker> {
    let (before, message) = match fields.split_once("message=") {
        Some((before, message)) => (before, unquote(message.trim_end())),
        None => (fields, String::new()),
    };
    let code =
        before.split_whitespace().find_map(|field| field.strip_prefix("code="))?.parse().ok()?;
    Some(Marker::Exited { code, message: truncate(message) })
}

fn truncate(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
    message
}

/// Returns the text between double quotes with its escapes (those of Go's `%q`) resolved, or text
/// without quotes as it is.
fn unquote(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"') else {
        return text.into();
    };
    let mut bytes = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => unescape(&mut chars, &mut bytes),
            plain => push(&mut bytes, plain),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn push(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Resolves one escape after its backslash. `\x` is a byte, `\u` and `\U` are code points.
fn unescape(chars: &mut std::str::Chars<'_>, bytes: &mut Vec<u8>) {
    match chars.next() {
        Some('x') => bytes.extend(hex(chars, 2).and_then(|value| u8::try_from(value).ok())),
        Some('u') => push(bytes, code_point(hex(chars, 4))),
        Some('U') => push(bytes, code_point(hex(chars, 8))),
        Some('a') => bytes.push(0x07),
        Some('b') => bytes.push(0x08),
        Some('f') => bytes.push(0x0c),
        Some('n') => bytes.push(b'\n'),
        Some('r') => bytes.push(b'\r'),
        Some('t') => bytes.push(b'\t'),
        Some('v') => bytes.push(0x0b),
        Some(other) => push(bytes, other),
        None => {}
    }
}

fn code_point(value: Option<u32>) -> char {
    value.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn hex(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<u32> {
    let text = chars.as_str().get(..digits)?;
    let value = u32::from_str_radix(text, 16).ok()?;
    *chars = chars.as_str()[digits..].chars();
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i32, message: &str) -> Option<Marker> {
        Some(Marker::Exited { code, message: message.into() })
    }

    #[test]
    fn every_line_announces_what_it_says() {
        let rows: &[(&[u8], Option<Marker>)] = &[
            (b"TALLYMAN-PROGRAM-START", Some(Marker::ProgramStarted)),
            (
                b"HYPEMAN-PROGRAM-START ts=2026-03-08T12:00:00.123456789Z mode=exec",
                Some(Marker::ProgramStarted),
            ),
            (
                b"HYPEMAN-PROGRAM-START ts=2026-03-08T12:00:00Z mode=systemd\r",
                Some(Marker::ProgramStarted),
            ),
            (b"\rTALLYMAN-AGENT-READY\r\n", Some(Marker::AgentReady)),
            (b"2026-03-08T12:00:00Z [INFO] HYPEMAN-PROGRAM-START ts=x", None),
            (b"[    1.234567] init: TALLYMAN-AGENT-READY\r\n", None),
            (b"10.0.0.7 - \"GET /TALLYMAN-EXIT code=0 HTTP/1.1\" 404", None),
            (b" TALLYMAN-EXIT code=0", None),
            (b"TALLYMAN-AGENT-READY ts=2099-01-01T00:00:00Z", Some(Marker::AgentReady)),
            (b"\xff\xfe TALLYMAN-AGENT-READY", None),
            (b"TALLYMAN-AGENT-READY \xff\xfe", Some(Marker::AgentReady)),
            (b"HYPEMAN-EXIT code=0 message=\"\"", exited(0, "")),
            (
                b"HYPEMAN-EXIT code=137 message=\"killed by signal 9\"",
                exited(137, "killed by signal 9"),
            ),
            (b"HYPEMAN-EXIT code=1 message=\"said \\\"no\\\"\"\r", exited(1, "said \"no\"")),
            (b"HYPEMAN-EXIT code=2 message=\"a\\tb\\\\c\\n\"", exited(2, "a\tb\\c\n")),
            (
                b"HYPEMAN-EXIT code=2 message=\"\\u00e9\\U0001f600\\x41\\xc3\\xa9\"",
                exited(2, "\u{e9}\u{1f600}A\u{e9}"),
            ),
            (b"HYPEMAN-EXIT code=42", exited(42, "")),
            (b"TALLYMAN-EXIT code=-1 message=plain words", exited(-1, "plain words")),
            (b"TALLYMAN-EXIT code=1 message=\"cut \\x", exited(1, "cut ")),
            (b"TALLYMAN-EXIT code=1 message=\"code=7\"", exited(1, "code=7")),
            (b"HYPEMAN-EXIT code=abc message=\"bad\"", None),
            (b"HYPEMAN-EXIT code= message=\"bad\"", None),
            (b"HYPEMAN-EXIT message=\"code=1\"", None),
            (b"HYPEMAN-EXIT code=99999999999", None),
            (b"HYPEMAN-EXIT", None),
            (b"TALLYMAN-PROGRAM-STARTED", None),
            (b"HYPEMAN-HEADERS-READY", None),
            (b"tallyman-agent-ready", None),
            (b"", None),
        ];
        for (line, expected) in rows {
            assert_eq!(parse(line), *expected, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn a_message_is_cut_at_its_limit_between_characters() {
        let line =
            format!("TALLYMAN-EXIT code=1 message=\"x{}\"", "\u{e9}".repeat(MESSAGE_BYTES_MAX));
        let Some(Marker::Exited { message, .. }) = parse(line.as_bytes()) else {
            panic!("no exit in the line")
        };
        assert_eq!(message.len(), MESSAGE_BYTES_MAX - 1);
    }
}
