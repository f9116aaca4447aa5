//! The protocol between the host and the program inside a guest.
//!
//! ```text
//! frame    bytes of a message on a wire that loses, cuts and keeps bytes: COBS, a checksum, a zero
//! message  what is said, and its bytes
//! link     numbers and acknowledgements of messages, and the handshake that begins a connection
//! record   what the helpers for files say to the host through their standard output
//! network  the settings of a network card, as words of the kernel's command line
//! setup    what a machine is to run, as the host writes it and the agent reads it at boot
//! fields   integers, texts and lists as bytes
//! ```
//!
//! Nothing here reads or writes anything: both sides feed it what they read. Whatever is fed, it
//! answers or refuses; it never panics and never holds more than [`frame::BODY_BYTES_MAX`].

pub mod fields;
pub mod frame;
pub mod link;
pub mod message;
pub mod network;
pub mod record;
pub mod setup;

/// The name of the virtio-serial port on which the agent listens.
pub const PORT_NAME: &str = "org.tallyman.agent.0";

/// The port of the vsock device on which an agent listens that has no virtio-serial port.
pub const VSOCK_PORT: u32 = 1_024;
