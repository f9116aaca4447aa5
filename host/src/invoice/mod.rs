//! Documents: a tenant's charges by period, made final, corrected and proved. `docs/bill.md`
//! defines every number.
//!
//! - `evidence` is the input of documents, in the journal or in a bundle; `view` is a tenant's part
//!   of it as of one head; `period` cuts time, `rules` finds the policy and book in force;
//! - `usage` and `measure` turn facts into the time that policies count, `compute` turns that into
//!   charges by the biller: the one path to a charge; `calls` is the seam to components;
//! - `difference` makes a document of the charges, `issue` finds the next document;
//! - `naming` knows the names of policies and books;
//! - `focus` makes a table of documents;
//! - `proof` makes a document again and compares; `bundle` is a document with its evidence, `since`
//!   its begin at the end of the period before, `carried` the state there, `proofs` what was read.

mod act;
mod bundle;
mod calls;
mod carried;
mod change;
mod comparison;
mod compute;
mod days;
mod difference;
mod document;
mod door;
mod engines;
mod evidence;
mod exact;
pub mod focus;
mod free;
mod gaps;
mod hash;
mod issue;
mod issuer;
mod measure;
mod naming;
mod needed;
mod once;
mod one_offs;
mod open_gaps;
mod period;
mod proof;
mod proofs;
mod proposals;
mod rules;
mod sheet;
mod since;
mod stand_ins;
mod tariffs;
mod usage;
mod view;

pub use act::Act;
pub use bundle::{Bundle, BundledFact, bundle, close_of};
pub use calls::{Call, CallError, Calls};
pub use carried::{Carried, CarriedInstance, UnderWay};
pub use change::{BookSet, ChangeError, Overridden};
pub use comparison::{Comparison, Worth};
pub use compute::{Computer, Names, TracedInterval};
pub use days::DaySum;
pub use difference::{Heading, Letterhead};
pub use document::{
    CarriedNote, Closing, FORM, Invoice, Kind, Line, Named, OverrideNote, Place, Receipt,
    RulesNote, Stretch, Sum,
};
pub use door::{Refusal, check_options, check_policy, check_together};
pub use engines::Engines;
pub use evidence::{Evidence, EvidenceError, InForce, News, Override, Quarantine, Visit};
pub use gaps::{GapCharge, GapError, SettleGap, Settlement, TimeGap};
pub use issue::Goal;
pub use issuer::{BookSummary, Directory, IssueError, Issuer};
pub use naming::Naming;
pub use needed::Needed;
pub use one_offs::{NewOneOff, OneOffSet};
pub use open_gaps::OpenGaps;
pub use period::{AgreementFrom, Period};
pub use proof::{Difference, ProofError, Proved, prove, trace_line};
pub use proofs::Proofs;
pub use proposals::{Proposal, ProposalEnd, Wish};
pub use rules::Overriding;
pub use sheet::{Rated, Sheet, SheetError, SheetRow, SheetRules};
pub use since::{Noted, Since};
pub use tariffs::{Membership, Tariff, TariffVersion};
pub use usage::INITIALIZING_MAX;
pub use view::View;

use crate::billing::agreement::AgreementError;
use crate::id::Digest;
use crate::policy::biller::BillerError;
use crate::policy::{AdmissionError, Fault};
use crate::units::Instant;

/// A reason why a period has no document.
#[derive(Debug, thiserror::Error)]
pub enum InvoiceError {
    /// Facts or documents can't be read.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// An agreement can't cut this time.
    #[error(transparent)]
    Agreement(#[from] AgreementError),
    /// A price book can't be read.
    #[error("price book: {problem}")]
    Book {
        /// The reason, with the place.
        problem: String,
    },
    /// A component can't be loaded.
    #[error("component {digest} can't be loaded")]
    Policy {
        /// The component.
        digest: Digest,
        /// The reason.
        #[source]
        source: Box<AdmissionError>,
    },
    /// A document's biller can't divide it into days.
    #[error(
        "the period keeps the biller of its first document, which is of an earlier version and \
         can't divide it into days"
    )]
    Undivided,
    /// A policy gave no valid answer. The facts are safe; the period stays unrated.
    #[error("policy {component} did not measure the period: {}", fault.in_words())]
    Fault {
        /// The policy.
        component: Digest,
        /// The failure.
        fault: Box<Fault>,
    },
    /// The biller gave no bill.
    #[error("biller {biller} gave no bill")]
    Biller {
        /// The biller.
        biller: Digest,
        /// The reason.
        #[source]
        source: Box<BillerError>,
    },
    /// A policy was quarantined, and the tenant's fallback order holds its time.
    #[error(
        "policy {policy} is quarantined and its time is held: from {} to {} on the meter clock",
        from.0, until.0
    )]
    Held {
        /// The policy.
        policy: Digest,
        /// First instant of the time.
        from: Instant,
        /// First instant after.
        until: Instant,
    },
    /// A policy stated other terms in the same span of time.
    #[error("policy {policy} stated different terms in two requests of one activation")]
    Terms {
        /// The policy.
        policy: Digest,
    },
    /// The policies of a period have too many meters.
    #[error(
        "the policies of the period have more than {} meters in all",
        crate::limits::policy::METERS_MAX
    )]
    Meters,
    /// Two currencies meet in one period.
    #[error(
        "the period is billed in {known}, and {named} was named; change the currency at a border"
    )]
    Currencies {
        /// The currency of the period's documents.
        known: String,
        /// The other one.
        named: String,
    },
    /// A sum does not fit.
    #[error("a sum of the period does not fit 128 bits")]
    Overflow,
    /// The span of a comparison is empty.
    #[error("the span is empty; it must end after it begins")]
    Empty,
}

impl InvoiceError {
    /// Returns whether the period stays unrated by a policy or a book, so that later periods may be
    /// billed without it.
    pub fn is_unrated(&self) -> bool {
        match self {
            Self::Fault { .. } | Self::Held { .. } | Self::Terms { .. } | Self::Policy { .. } => {
                true
            }
            Self::Biller { source, .. } => matches!(**source, BillerError::Refused { .. }),
            Self::Evidence(_)
            | Self::Undivided
            | Self::Agreement(_)
            | Self::Book { .. }
            | Self::Meters
            | Self::Currencies { .. }
            | Self::Overflow
            | Self::Empty => false,
        }
    }
}

#[cfg(test)]
mod tests;
