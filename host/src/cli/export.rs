//! `tallyman invoice export`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::client::Client;
use super::output::{self, Output};
use super::progress::during;
use crate::invoice::focus::{Table, UnknownTable};
use crate::tenancy::SELF;

/// The selection of documents, and the form of their table.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// The table: focus-1.2, focus-1.4, focus-1.4-invoice-detail or focus-1.4-billing-period
    #[arg(long, value_parser = table, default_value = Table::CostAndUsage12.as_str())]
    format: Table,
    /// A month, such as 2026-01: only periods that have their middle in it, in UTC
    #[arg(long, value_name = "YEAR-MONTH")]
    month: Option<String>,
    /// Export what a close would make now, too
    #[arg(long)]
    preview: bool,
    /// The name of the provider and issuer of invoices
    #[arg(long, default_value = "Tallyman")]
    provider: String,
    /// The terms of payment, in focus-1.4-invoice-detail
    #[arg(long)]
    terms: Option<String>,
    /// Write the table to this file, as Parquet, instead of printing it
    #[arg(long, value_name = "FILE")]
    parquet: Option<PathBuf>,
}

fn table(text: &str) -> Result<Table, UnknownTable> {
    text.parse()
}

impl Export {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let path = ["tenants", SELF, "exports", self.format.as_str()];
        let form = match (&self.parquet, output.is_json()) {
            (Some(_), _) => "parquet",
            (None, true) => "json",
            (None, false) => "csv",
        };
        let mut query = vec![("as", form), ("provider", self.provider.as_str())];
        query.extend(self.month.as_deref().map(|month| ("month", month)));
        query.extend(self.terms.as_deref().map(|terms| ("terms", terms)));
        query.extend(self.preview.then_some(("preview", "true")));
        let table = during("exporting", client.get_bytes(&path, &query)).await?;
        if let Some(file) = &self.parquet {
            return std::fs::write(file, table)
                .with_context(|| format!("can't write {}", file.display()));
        }
        if !output.is_json() {
            return output::text(&String::from_utf8_lossy(&table));
        }
        let rows: serde_json::Value = serde_json::from_slice(&table)?;
        output.show(&rows, |_| String::new())
    }
}
