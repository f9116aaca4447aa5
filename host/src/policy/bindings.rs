//! The bindings of `wit/`. Generated; outside `policy` only the types of a measurement are used.

#![allow(missing_docs, unreachable_pub)]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "policy",
    additional_derives: [PartialEq, Eq, serde::Serialize],
});
