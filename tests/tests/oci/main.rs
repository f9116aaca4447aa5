//! OCI images: from layouts and from registries; what is taken, what is refused, and that one
//! really boots.

mod clients;
mod double;
mod hostile;
mod layouts;
mod registries;
mod registry;
