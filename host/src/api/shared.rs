//! The parts of the OpenAPI document that many operations share: written once, and referred to by
//! name from each of them.

use std::collections::BTreeMap;

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses};

use super::idempotency::IdempotencyKey;

const WRONG: &str = "RequestError";
const FAILED: &str = "HostError";

/// The answers of an operation that failed.
pub(super) struct Failures;

/// The answer of an operation that failed through no fault of the client.
pub(super) struct HostFailure;

type Answers = BTreeMap<String, RefOr<Response>>;

fn answer(status: &str, name: &str) -> (String, RefOr<Response>) {
    let place = Ref::from_response_name(name);
    (status.into(), RefOr::Ref(place))
}

impl IntoResponses for Failures {
    fn responses() -> Answers {
        BTreeMap::from([answer("4XX", WRONG), answer("5XX", FAILED)])
    }
}

impl IntoResponses for HostFailure {
    fn responses() -> Answers {
        BTreeMap::from([answer("5XX", FAILED)])
    }
}

/// The answers that operations refer to, by name.
pub(super) fn answers() -> [(&'static str, Response); 2] {
    let error = |description: &str| {
        let schema = Ref::from_schema_name("Error");
        let content = ContentBuilder::new().schema(Some(schema)).build();
        ResponseBuilder::new().description(description).content("application/json", content).build()
    };
    [
        (WRONG, error("The request is invalid or refused")),
        (FAILED, error("The host failed to carry out the request")),
    ]
}

/// A path parameter that several routes share.
struct PathParameter {
    component: &'static str,
    /// The common prefix of the paths that have it.
    paths: &'static str,
    name: &'static str,
    is_number: bool,
    description: &'static str,
}

const fn text(
    component: &'static str,
    paths: &'static str,
    name: &'static str,
    description: &'static str,
) -> PathParameter {
    PathParameter { component, paths, name, is_number: false, description }
}

/// All path parameters. The first match by name and prefix counts.
const PATH_PARAMETERS: [PathParameter; 16] = [
    text(
        "InstanceKey",
        "/instances/{id}",
        "id",
        "The instance's id, its name, or a unique prefix of the id",
    ),
    text("SnapshotId", "/snapshots/{id}", "id", "The snapshot's id"),
    text(
        "SnapshotName",
        "/instances/{id}/snapshots/{name}",
        "name",
        "The snapshot's name, or its id",
    ),
    text(
        "ImageName",
        "/images/{name}",
        "name",
        "The image's name, or its reference with `/` written as `%2F`",
    ),
    text("PolicyKey", "/policies/{digest}", "digest", POLICY_KEY),
    text("TenantId", "/tenants/{id}", "id", "The tenant's id, or `self` for the caller's own"),
    text(
        "ExportTable",
        "/tenants/{id}/exports/{table}",
        "table",
        "`focus-1.2`, `focus-1.4`, `focus-1.4-invoice-detail` or `focus-1.4-billing-period`",
    ),
    text("PolicyKey", "/tenants/{id}/shadows/{digest}", "digest", POLICY_KEY),
    text("PolicyKey", "/tenants/{id}/policy/planned/{digest}", "digest", POLICY_KEY),
    text("TariffName", "/tariffs/{tariff}", "tariff", "The tariff's name"),
    text("TariffVersion", "/tariffs/{tariff}/{version}", "version", "The version's name"),
    text(
        "BookKey",
        "/tenants/{id}/prices/planned/{digest}",
        "digest",
        "The price book's digest, or the digest's unique beginning",
    ),
    PathParameter {
        component: "DocumentNumber",
        paths: "/tenants/{id}/invoices/{number}",
        name: "number",
        is_number: true,
        description: "The number of an invoice or a correction",
    },
    PathParameter {
        component: "GapFact",
        paths: "/gaps/{fact}",
        name: "fact",
        is_number: true,
        description: "The number of the fact that records the gap",
    },
    PathParameter {
        component: "ProposalNumber",
        paths: "/tenants/{id}/proposals/{number}",
        name: "number",
        is_number: true,
        description: "The number of a proposal",
    },
    text("TokenId", "/tokens/{id}", "id", "The token's id, or a unique prefix of it"),
];

const POLICY_KEY: &str =
    "The policy's name, its digest, a unique prefix of the digest, or `standard`";

/// The parameter of that name in a path, with the name of its reference.
pub(super) fn path_parameter(path: &str, name: &str) -> Option<(&'static str, Parameter)> {
    let known =
        PATH_PARAMETERS.iter().find(|known| known.name == name && path.starts_with(known.paths))?;
    let schema = match known.is_number {
        true => ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(0)),
        false => ObjectBuilder::new().schema_type(Type::String),
    };
    let parameter = ParameterBuilder::new()
        .name(known.name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(known.description))
        .schema(Some(schema));
    Some((known.component, parameter.build()))
}

/// The header `Idempotency-Key`, with the name of its reference.
pub(super) fn idempotency_key() -> (&'static str, Option<Parameter>) {
    ("IdempotencyKey", IdempotencyKey::into_params(|| None).into_iter().next())
}
