//! `tallyman tariff`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;

use super::args::Once;
use super::global::Global;
use super::invoice::charged;
use super::output;
use crate::api::model::{
    ChangeTariff, ChangedTariff, JoinTariff, Prices, SetDefaultTariff, Tariff,
};
use crate::tenancy::SELF;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List tariffs, their versions, and how many tenants are on each
    #[command(visible_alias = "ls", after_help = "Examples:\n  tallyman tariff list")]
    List,
    /// Publish a price book as a version of a tariff; nobody is charged by it yet
    #[command(after_help = "Examples:\n  tallyman tariff publish pro 2026-12 prices.json")]
    Publish {
        /// The tariff
        tariff: String,
        /// The version, which is one book for ever
        version: String,
        /// The book: one JSON document
        file: PathBuf,
    },
    /// Set the tariff under which new tenants begin
    #[command(
        after_help = "Examples:\n  tallyman tariff default pro\n  tallyman tariff default   None"
    )]
    Default {
        /// The tariff; none, if absent
        tariff: Option<String>,
    },
    /// Charge a tenant by a tariff
    #[command(
        after_help = "Examples:\n  tallyman tariff join pro --tenant acme\n  tallyman tariff join pro 2026-12 --at border --tenant acme"
    )]
    Join {
        /// The tariff
        tariff: String,
        /// The version; the newest, if absent
        version: Option<String>,
        /// First instant at which its book holds, as an instant, a date in UTC, or `border`; now,
        /// if absent
        #[arg(long, value_name = "INSTANT")]
        at: Option<String>,
        #[command(flatten)]
        once: Once,
    },
    /// Change the version for all tenants of a tariff, each at the end of its present period
    #[command(
        after_help = "Examples:\n  tallyman tariff change pro 2026-12\n  tallyman tariff change pro 2026-12 --at 2026-12-01"
    )]
    Change {
        /// The tariff
        tariff: String,
        /// The version; the newest, if absent
        version: Option<String>,
        /// First instant at which its book holds, as an instant or a date in UTC; the end of each
        /// tenant's present period, if absent
        #[arg(long, value_name = "INSTANT")]
        at: Option<String>,
    },
}

impl Command {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let client = global.client()?;
        let output = global.output();
        match self {
            Command::List => {
                let tariffs: Vec<Tariff> = client.get(&["tariffs"], &[]).await?;
                output.show(&tariffs, |tariffs| table(tariffs))
            }
            Command::Publish { tariff, version, file } => {
                let text = std::fs::read(&file)
                    .with_context(|| format!("can't read {}", file.display()))?;
                let path = ["tariffs", &tariff, &version];
                let tariffs: Vec<Tariff> = client.put_text(&path, &[], text, None).await?;
                output.show(&tariffs, |tariffs| table(tariffs))
            }
            Command::Default { tariff } => {
                let request = SetDefaultTariff { tariff };
                let tariffs: Vec<Tariff> = client.put(&["tariffs", "default"], &request).await?;
                output.show(&tariffs, |tariffs| table(tariffs))
            }
            Command::Join { tariff, version, at, once } => {
                let request = JoinTariff { tariff, version, at };
                let path = ["tenants", SELF, "tariff"];
                let prices: Prices = client.put_once(&path, &request, once.key()).await?;
                output.show(&prices, charged)
            }
            Command::Change { tariff, version, at } => {
                let request = ChangeTariff { version, at };
                let path = ["tariffs", &tariff, "change"];
                let changed: ChangedTariff = client.post(&path, &request).await?;
                output.show(&changed, changes)?;
                let refused = changed.tenants.iter().filter(|one| one.refused.is_some()).count();
                anyhow::ensure!(refused == 0, "{refused} tenants stay as they are");
                Ok(())
            }
        }
    }
}

fn table(tariffs: &[Tariff]) -> String {
    let rows = tariffs.iter().flat_map(|tariff| {
        let note = if tariff.is_default { "for new tenants" } else { "" };
        tariff.versions.iter().map(move |version| {
            vec![
                tariff.name.clone(),
                version.version.clone(),
                version.currency.clone(),
                version.prices.to_string(),
                version.tenants.to_string(),
                version.digest.chars().take(12).collect(),
                note.to_owned(),
            ]
        })
    });
    let head = ["TARIFF", "VERSION", "CURRENCY", "PRICES", "TENANTS", "BOOK", ""];
    output::table(&head, &[3, 4], rows)
}

fn changes(changed: &ChangedTariff) -> String {
    let rows = changed.tenants.iter().map(|one| {
        vec![
            one.tenant.clone(),
            one.version.clone().unwrap_or_default(),
            one.from.map(|from| from.to_string()).unwrap_or_default(),
            one.refused.clone().unwrap_or_default(),
        ]
    });
    output::table(&["TENANT", "VERSION", "FROM", "REFUSED"], &[], rows)
}
