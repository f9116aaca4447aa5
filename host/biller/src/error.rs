//! Reasons why there is no bill.

use crate::book::BookError;

/// A reason why there is no bill.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BillError {
    /// The input is malformed, or its parts contradict each other.
    #[error("the input's {place} {problem}")]
    Input {
        /// Part of the input, such as `interval 3`.
        place: String,
        /// The fault, and what would be right.
        problem: String,
    },
    /// The text of a book in force is no price book.
    #[error("the book in force from {from} ns on can't be read")]
    Book {
        /// Meter instant from which the book is in force, in nanoseconds.
        from: i64,
        /// Fault in the book.
        #[source]
        source: BookError,
    },
    /// Two books of one period have different currencies.
    #[error(
        "a period has one currency, and its books have {one} and {other}; change it at a border"
    )]
    Currency {
        /// Code of the earlier book's currency.
        one: String,
        /// Code of the later book's currency.
        other: String,
    },
    /// One id names adjustments of two kinds.
    #[error("adjustment '{id}' was of another kind before; give the new one an id of its own")]
    Kind {
        /// The id.
        id: String,
    },
    /// A grant is named with another amount or currency than before.
    #[error(
        "credit '{id}' was granted with another amount or currency; \
         give the new one an id of its own"
    )]
    Grant {
        /// The id.
        id: String,
    },
    /// A line that a policy stated itself can't be charged.
    #[error("line {line} of the policy's own {problem}")]
    Own {
        /// Number of the line, from 0.
        line: usize,
        /// The fault, and what would be right.
        problem: String,
    },
    /// A sum is larger than its integer.
    #[error("the charges of '{rule}' are too large to be added up")]
    Overflow {
        /// Rule, meter or adjustment whose sum it is.
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
