//! `tallyman token`.

use clap::{Args, Subcommand};

use super::global::Global;
use super::output;
use crate::api::model::{CreateToken, CreatedToken, Token, TokenStatus};
use crate::api::parse_duration;
use crate::tenant::Role;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a token; its secret is printed once
    #[command(after_help = "Examples:\n  \
                      tallyman token create ci --role policy-author\n  \
                      tallyman token create prometheus --role metrics\n  \
                      tallyman token create laptop --role tenant-admin --expires 720h \
                      --tenant acme\n  \
                      TALLYMAN_TOKEN=tly_... tallyman instance list")]
    Create(Create),
    /// List tokens, without their secrets
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  tallyman token list\n  tallyman token list --tenant acme --json"
    )]
    List,
    /// Revoke a token, at once and for good
    #[command(after_help = "Examples:\n  tallyman token revoke 3f9a1c")]
    Revoke {
        /// The token: its id, or a unique prefix of its id
        id: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Name of the token, for people: 1 to 63 characters
    name: String,
    /// Role of the token: operator, billing, tenant-admin, tenant-reader, policy-author, metrics,
    /// which reads those of the whole host alone, or host, with which the host of the token's name
    /// hands its facts to its collector
    #[arg(long)]
    role: Role,
    /// Lifetime, such as 12h or 720h, at most 366 days; 90 days if absent
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    expires: Option<std::time::Duration>,
}

impl Command {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let client = global.client()?;
        let output = global.output();
        match self {
            Command::Create(create) => {
                let request = CreateToken {
                    name: create.name,
                    role: create.role.into(),
                    tenant: None,
                    expires_in_s: create.expires.map(|expires| expires.as_secs()),
                };
                let created: CreatedToken = client.post(&["tokens"], &request).await?;
                output.show(&created, created_text)
            }
            Command::List => {
                let tokens: Vec<Token> = client.get(&["tokens"], &[]).await?;
                output.show(&tokens, |tokens| table(tokens))
            }
            Command::Revoke { id } => {
                client.delete(&["tokens", &id], &[]).await?;
                output
                    .show(&serde_json::json!({"revoked": id}), |_| format!("token {id} is revoked"))
            }
        }
    }
}

fn created_text(created: &CreatedToken) -> String {
    let token = &created.token;
    format!(
        "{}\n\nThe secret is shown once. Token {} of tenant {} has the role {} until {}.",
        created.secret,
        token.id,
        token.tenant,
        Role::from(token.role),
        token.expires_at
    )
}

fn table(tokens: &[Token]) -> String {
    let rows = tokens.iter().map(|token| {
        let status = match token.status {
            TokenStatus::Good => "good",
            TokenStatus::Expired => "expired",
            TokenStatus::Revoked => "revoked",
        };
        vec![
            token.id.to_string(),
            token.name.clone(),
            token.tenant.to_string(),
            Role::from(token.role).to_string(),
            status.to_owned(),
            token.expires_at.to_string(),
            token.created_by.clone(),
        ]
    });
    output::table(&["ID", "NAME", "TENANT", "ROLE", "STATUS", "EXPIRES", "CREATED BY"], &[], rows)
}
