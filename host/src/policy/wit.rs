//! The contract that this host serves: its text, and the names in it.

use wit_parser::{Resolve, SourceMap, WorldId};

use super::component::World;

/// The version of `tallyman:policy` that this host serves.
pub(super) const VERSION: &str = "0.2.0";
pub(super) const PACKAGE: &str = "tallyman:policy/";
pub(super) const TYPES: &str = "tallyman:policy/types@0.2.0";
pub(super) const ACCOUNTING: &str = "tallyman:policy/accounting@0.2.0";
pub(super) const METERING: &str = "tallyman:policy/metering@0.2.0";

/// The files of the contract, by name: components are compared with them, and authors get them.
pub const CONTRACT: [(&str, &str); 4] = [
    ("types.wit", include_str!("../../../wit/types.wit")),
    ("accounting.wit", include_str!("../../../wit/accounting.wit")),
    ("metering.wit", include_str!("../../../wit/metering.wit")),
    ("world.wit", include_str!("../../../wit/world.wit")),
];

/// Resolves a world of the contract.
pub(super) fn contract(world: World) -> anyhow::Result<(Resolve, WorldId)> {
    let mut sources = SourceMap::new();
    for (name, text) in CONTRACT {
        sources.push_str(name, text);
    }
    let mut resolve = Resolve::default();
    let contract = sources.parse().map_err(|(_, error)| error)?;
    let package = resolve.push_group(contract)?;
    let id = resolve.select_world(&[package], Some(world.as_str()))?;
    Ok((resolve, id))
}
