//! A fleet: facts of several hosts at one collector, whatever becomes of them on the way, and one
//! bill over all.

mod bill;
mod engine;
mod hosts;
mod nats;
mod site;
mod way;
