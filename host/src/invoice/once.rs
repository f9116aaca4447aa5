//! Acts of money that are done once, however often they are asked for.
//!
//! An act that records one fact keeps the client's key with that fact. One that makes several
//! documents keeps a key of its own with each of them, and the client's once all are made: a try
//! that a crash has ended goes on where it stopped, and one that ended is not done again.

use std::sync::Arc;

use super::InvoiceError;
use super::act::{Act, Done};
use super::document::Invoice;
use super::evidence::{Evidence, EvidenceError};
use super::issuer::{IssueError, Issuer};
use super::view::read;
use crate::billing::TenantFact;
use crate::blocking;
use crate::journal::{CommitError, Entry, FirstTry, RequestKey};

impl Issuer {
    /// The fact that the first try of an act recorded; none if this is the first.
    ///
    /// # Errors
    /// [`CommitError::Repeated`] if the key was used for something else.
    pub(super) async fn first_try(&self, act: &Act) -> Result<Option<FirstTry>, IssueError> {
        let Some(request) = act.request.clone() else { return Ok(None) };
        let issuer = self.clone();
        let found = blocking::run(move || issuer.find(&request)).await;
        found.map_err(|error| IssueError::Broken(Arc::new(error)))?
    }

    /// The documents that earlier tries of an act have made.
    ///
    /// # Errors
    /// As [`Issuer::first_try`].
    pub(super) async fn done_before(&self, act: &Act) -> Result<Done, IssueError> {
        let Some(request) = act.request.clone() else { return Ok(Done::default()) };
        let issuer = self.clone();
        let act = act.clone();
        let work = move || {
            let is_all = issuer.find(&request)?.is_some();
            let mut documents = Vec::new();
            while let Some(part) = act.part(&documents.len().to_string()).request
                && let Some(first) = issuer.find(&part)?
            {
                documents.push(issuer.issued_by(&first)?);
            }
            Ok(Done { documents, is_all })
        };
        let done = blocking::run(work).await;
        done.map_err(|error| IssueError::Broken(Arc::new(error)))?
    }

    /// The documents of an act that an earlier try has done; none if something is left to do.
    ///
    /// # Errors
    /// [`CommitError::Repeated`] if the key was used for something else.
    pub async fn done(&self, act: &Act) -> Result<Option<Vec<Invoice>>, IssueError> {
        let Done { documents, is_all } = self.done_before(act).await?;
        Ok(is_all.then_some(documents))
    }

    /// Keeps in mind that an act is done.
    pub(super) async fn finish(&self, act: &Act) -> Result<(), IssueError> {
        if act.request.is_some() {
            let entry = Entry { request: act.request.clone(), ..Entry::default() };
            self.journal().commit(entry).await?;
        }
        Ok(())
    }

    fn find(&self, request: &RequestKey) -> Result<Option<FirstTry>, IssueError> {
        let first = self.journal().first_try(request).map_err(EvidenceError::from);
        match first.map_err(InvoiceError::from)? {
            Some(FirstTry { seq, same: false, .. }) => {
                Err(CommitError::Repeated { fact: seq, same: false }.into())
            }
            first => Ok(first),
        }
    }

    fn issued_by(&self, first: &FirstTry) -> Result<Invoice, InvoiceError> {
        let Some(TenantFact::Invoiced { digest, .. }) = first.fact.of_tenant() else {
            let missing = format!("the document of fact {}", first.seq);
            return Err(EvidenceError::Missing(missing).into());
        };
        let bytes = Evidence::document(&self.journal().archive(), *digest)?;
        Ok(read(*digest, &bytes)?)
    }
}
