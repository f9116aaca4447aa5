//! One-off charges and goodwill: amounts that no book prices.

use biller::book::Book;

use super::InvoiceError;
use super::act::Act;
use super::change::{ChangeError, blocking};
use super::difference::utc_text;
use super::door::Refusal;
use super::evidence::{Evidence, one_off_id};
use super::issuer::Issuer;
use crate::billing::decimal::Decimal;
use crate::billing::{Reading, TenantFact};
use crate::id::TenantId;
use crate::tenant;
use crate::units::Instant;

/// An amount to charge or to give once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOneOff {
    /// Charge or goodwill.
    pub kind: tenant::OneOffKind,
    /// The amount in nano-units.
    pub amount: i64,
    /// ISO 4217 code; that of the book in force, if none.
    pub currency: Option<String>,
    /// The instant to which it belongs; now, if none.
    pub at: Option<Instant>,
    /// The reason, in words.
    pub reason: String,
}

/// A one-off that is on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOffSet {
    /// Its id on documents.
    pub id: String,
    /// Charge or goodwill.
    pub kind: tenant::OneOffKind,
    /// The amount in nano-units.
    pub amount: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// The instant to which it belongs.
    pub at: Instant,
    /// Sequence number of its fact.
    pub fact: u64,
}

impl OneOffSet {
    /// The one-off that a tenant's fact says; none if that is about something else.
    fn of(said: &TenantFact, fact: u64) -> Option<Self> {
        let TenantFact::OneOff { kind, amount, currency, at, .. } = said else { return None };
        let kind = *kind;
        let amount = *amount;
        let currency = currency.clone();
        let at = *at;
        Some(Self { id: one_off_id(kind, fact), kind, amount, currency, at, fact })
    }
}

impl Issuer {
    /// Charges or gives an amount once. Documents change with the next close or settlement.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn one_off(
        &self,
        tenant: &TenantId,
        asked: NewOneOff,
        reading: Reading,
        act: Act,
    ) -> Result<OneOffSet, ChangeError> {
        let changing = self.lock(tenant);
        let _changing = changing.lock().await;
        if let Some(first) = self.first_try(&act).await? {
            let set = first.fact.of_tenant().and_then(|said| OneOffSet::of(said, first.seq));
            return Ok(set.ok_or_else(|| first.used_otherwise())?);
        }
        let issuer = self.clone();
        let whose = tenant.clone();
        let now = reading.meter;
        let (asked, currency) = blocking(move || {
            let currency = issuer.check_one_off(&whose, &asked, now)?;
            Ok((asked, currency))
        })
        .await?;
        let at = asked.at.unwrap_or(now);
        let NewOneOff { kind, amount, reason, .. } = asked;
        let said = TenantFact::OneOff {
            kind,
            amount,
            currency: currency.clone(),
            at,
            reason,
            by: act.by.clone(),
        };
        let fact = self.say(tenant, (reading, said), Vec::new(), act).await?;
        Ok(OneOffSet { id: one_off_id(kind, fact), kind, amount, currency, at, fact })
    }

    /// The currency of a one-off that can be billed.
    pub(super) fn check_one_off(
        &self,
        tenant: &TenantId,
        asked: &NewOneOff,
        now: Instant,
    ) -> Result<String, ChangeError> {
        let archive = self.journal().archive();
        let view = self.view(&archive, tenant)?;
        let at = asked.at.unwrap_or(now);
        let text = || utc_text(&view.calendar, at);
        if at > now {
            return Err(Refusal::ToCome(text()).into());
        }
        if let Some(ended) = view.ended.filter(|&ended| at >= ended) {
            return Err(Refusal::Ended(utc_text(&view.calendar, ended)).into());
        }
        let first = view.periods(Instant(now.0.saturating_add(1)))?.into_iter().next();
        if let Some(first) = first.filter(|first| at < first.start) {
            return Err(Refusal::BeforeFirst(utc_text(&view.calendar, first.start)).into());
        }
        let books = view.rules.books((at, Instant(at.0.saturating_add(1))));
        let book = books.first().ok_or_else(|| Refusal::NoBook(text()))?;
        let bytes = Evidence::document(&archive, book.book).map_err(InvoiceError::from)?;
        let book = Book::parse_stored(&bytes)?;
        let currency = book.currency();
        if let Some(named) = asked.currency.as_deref().filter(|named| *named != currency.code()) {
            return Err(Refusal::OtherCurrency {
                known: currency.to_string(),
                named: named.to_owned(),
            }
            .into());
        }
        let coin = 10_i64.pow(9 - u32::from(currency.minor_digits()));
        if asked.amount <= 0 || asked.amount % coin != 0 {
            let amount = Decimal::nanos(asked.amount.into()).to_string();
            let digits = currency.minor_digits();
            return Err(Refusal::Amount { amount, currency: currency.to_string(), digits }.into());
        }
        Ok(currency.code().into())
    }
}
