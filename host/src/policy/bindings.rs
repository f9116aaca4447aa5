//! What `wit/` says, as the host sees it. Generated; nothing outside `policy` sees these types,
//! except a measurement's.

#![allow(missing_docs, unreachable_pub)]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "policy",
    additional_derives: [PartialEq, Eq, serde::Serialize],
});
