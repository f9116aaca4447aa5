//! Acts on a tenant's money: who acts, and by what the request is known again.

use super::document::Invoice;
use crate::journal::RequestKey;
use crate::tenant::Actor;

/// Joins a client's key and the name of a part of the request. No key that a client may send has
/// it.
const JOINT: char = '\u{1f}';

/// The circumstances of an act.
#[derive(Debug, Clone)]
pub struct Act {
    /// The actor.
    pub by: Actor,
    /// By what the request is known again if it is sent a second time.
    pub request: Option<RequestKey>,
}

impl Act {
    /// An act that would be done twice if it were asked for twice.
    pub fn by(by: Actor) -> Self {
        Self { by, request: None }
    }

    /// The same act, as a part of its request that is done by itself.
    #[must_use]
    pub fn part(&self, name: &str) -> Self {
        let part = |request: &RequestKey| RequestKey {
            key: format!("{}{JOINT}{name}", request.key),
            ..request.clone()
        };
        Self { by: self.by.clone(), request: self.request.as_ref().map(part) }
    }
}

/// The outcome of earlier tries of a request for documents.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) documents: Vec<Invoice>,
    /// Set if nothing is left to do.
    pub(super) is_all: bool,
}
