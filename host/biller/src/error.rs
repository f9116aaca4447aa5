//! Reasons why there is no bill.

use crate::book::BookError;

/// A reason why there is no bill.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BillError {
    /// The input is not of the form that is asked for.
    #[error("the input's {place} {problem}")]
    Input {
        /// Which part.
        place: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// A book in force is none.
    #[error("the book in force from {from} ns on can't be read")]
    Book {
        /// Meter instant.
        from: i64,
        /// Why.
        #[source]
        source: BookError,
    },
    /// Two books of the period are in two currencies.
    #[error(
        "a period has one currency, and its books have {one} and {other}; change it at a border"
    )]
    Currency {
        /// The earlier book's.
        one: String,
        /// The later book's.
        other: String,
    },
    /// An id stands for two adjustments.
    #[error("adjustment '{id}' was of another kind before; give the new one an id of its own")]
    Kind {
        /// The id.
        id: String,
    },
    /// A grant is named with another amount or currency than before.
    #[error(
        "credit '{id}' was granted with another amount or currency; give the new one an id of its own"
    )]
    Grant {
        /// The id.
        id: String,
    },
    /// A line that a policy stated itself can't be charged.
    #[error("line {line} of the policy's own {problem}")]
    Own {
        /// Its number, from 0.
        line: usize,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// A sum is larger than can be written down.
    #[error("the charges of '{rule}' are too large to be added up")]
    Overflow {
        /// The rule, or the meter or adjustment.
        rule: String,
    },
}

impl BillError {
    pub(crate) fn input(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Input { place: place.into(), problem: problem.into() }
    }

    pub(crate) fn overflow(rule: &str) -> Self {
        Self::Overflow { rule: rule.into() }
    }
}
