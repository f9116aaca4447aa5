//! The bindings of `wit/biller/`.
#![allow(missing_docs, unreachable_pub)]

wasmtime::component::bindgen!({ path: "../wit/biller", world: "biller" });
