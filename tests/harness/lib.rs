//! Code that tests share.

pub mod aloud;
pub mod authority;
pub mod daemon;
pub mod deadline;
pub mod double;
pub mod guest;
pub mod linux;
pub mod machine;
pub mod networks;
pub mod objects;
pub mod parity;
pub mod policies;
pub mod rig;
pub mod vectors;
