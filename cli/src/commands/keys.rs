//! `tarn keys create|list|revoke`.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;
use tarn_api::{Grant, KeySummary};

use crate::args::{KeysCommand, KeysCreateArgs};
use crate::context::{Context, Opening};
use crate::error::CliError;
use crate::output::{BAD, Cell, DIM, GOOD, NAME, Report, Table, ago};

pub(super) async fn run(context: &Context, command: KeysCommand) -> Result<ExitCode, CliError> {
    match command {
        KeysCommand::Create(args) => create(context, args).await,
        KeysCommand::List => list(context).await,
        KeysCommand::Revoke { id } => revoke(context, id).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreatedReport {
    key: String,
    id: String,
    name: String,
    grants: Vec<Grant>,
}

impl Report for CreatedReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{GOOD}created{GOOD:#} key {NAME}{}{NAME:#} for {}", self.id, self.name)?;
        writeln!(out, "\n  {}\n", self.key)?;
        writeln!(out, "This is the only time it is shown; the store keeps a hash. Send it as")?;
        writeln!(out, "  Authorization: Bearer {}", self.key)
    }
}

async fn create(context: &Context, args: KeysCreateArgs) -> Result<(), CliError> {
    let grants = args.grants.iter().map(|text| parse_grant(text)).collect::<Result<Vec<_>, _>>()?;
    let store = context.store(Opening::OrCreate)?;
    let new = tarn_api::create_key(&store, &args.name, grants).await?;
    context.out.show(&CreatedReport {
        key: new.key,
        id: new.record.id,
        name: new.record.name,
        grants: new.record.grants,
    })
}

fn parse_grant(text: &str) -> Result<Grant, CliError> {
    text.parse::<Grant>().map_err(|error| {
        CliError::of(&error).hint("a grant looks like read:indices/docs* or write:data-sources/docs/1.0 or admin:*")
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListReport {
    keys: Vec<KeySummary>,
    #[serde(skip)]
    now_ms: i64,
}

impl Report for ListReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        if self.keys.is_empty() {
            return writeln!(out, "no keys: servers of this store answer anybody, on loopback addresses only");
        }
        let mut table = Table::new(["ID", "NAME", "GRANTS", "CREATED", "STATE"]);
        for key in &self.keys {
            let grants: Vec<String> = key.grants.iter().map(ToString::to_string).collect();
            table.row([
                Cell::styled(&key.id, NAME),
                (&key.name).into(),
                grants.join(" ").into(),
                Cell::styled(ago(key.created_ms, self.now_ms), DIM),
                match key.revoked_ms {
                    None => Cell::styled("valid", GOOD),
                    Some(ms) => Cell::styled(format!("revoked {}", ago(ms, self.now_ms)), BAD),
                },
            ]);
        }
        table.write(out)
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    let keys = tarn_api::list_keys(&store).await?;
    context.out.show(&ListReport { keys, now_ms: store.clock().now_ms() })
}

#[derive(Serialize)]
struct RevokedReport {
    id: String,
}

impl Report for RevokedReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{GOOD}revoked{GOOD:#} key {NAME}{}{NAME:#}; servers notice within seconds", self.id)
    }
}

async fn revoke(context: &Context, id: String) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    if !tarn_api::revoke_key(&store, &id).await? {
        return Err(CliError::new(format!("there is no key '{id}'")).hint("`tarn keys list` shows the ids"));
    }
    context.out.show(&RevokedReport { id })
}
