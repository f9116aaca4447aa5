//! The OpenAPI document, generated from the routes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::openapi::path::{Operation, Parameter};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Info, OpenApi as Document, OpenApiVersion, PathItem, RefOr, Response, Schema, Tag,
};
use utoipa::{Modify, OpenApi};

use super::error::ErrorBody;
use super::{access, routes, shared};
use crate::tenant::Role;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tallyman",
        description = "Virtual machines on one host, and an account of every nanosecond of their \
                       lifetime.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
        contact(),
    ),
    tags(
        (name = "instances", description = "Virtual machines and their time"),
        (name = "snapshots", description = "Snapshots of instances, and forks"),
        (name = "images", description = "Images that instances boot from"),
        (name = "tenants", description = "Tenants, their limits and their tokens"),
        (name = "policies", description = "Policies, which decide how time counts"),
        (name = "invoices", description = "Prices, periods and invoices"),
        (name = "journal", description = "The journal of all facts"),
        (name = "fleet", description = "The facts of other hosts, at a collector"),
        (name = "host", description = "The daemon and its hypervisors"),
    ),
    components(schemas(ErrorBody)),
    modifiers(&Bearer),
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "The operator's token, which is the content of the file `token` in the daemon's \
                 data folder; a token of `POST /tokens`; or a signed token (JWT), if the daemon \
                 accepts them. An operator names the tenant of a request with the header \
                 `Tallyman-Tenant`. Without it, changes are made for the tenant `default`, and \
                 lists show all tenants.",
            ))
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Adds to each operation the roles that may use it, and describes the parameters of its path.
fn complete(document: &mut Document) {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            if let Some(roles) = access::roles(method, path) {
                let roles: Vec<_> = roles.map(|role| role.as_str()).collect();
                operation.extensions.get_or_insert_default().insert("x-roles".into(), roles.into());
            }
            if access::is_delegable(method, path) {
                let delegate = vec![Role::TenantAdmin.as_str()];
                let extensions = operation.extensions.get_or_insert_default();
                extensions.insert("x-roles-if-delegated".into(), delegate.into());
            }
            for parameter in operation.parameters.iter_mut().flatten() {
                if let Some((_, shared)) = shared::path_parameter(path, &parameter.name) {
                    *parameter = shared;
                }
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    let all = [("GET", get), ("PUT", put), ("POST", post), ("DELETE", delete), ("PATCH", patch)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// The document of all routes.
fn document() -> Document {
    let mut document = Description::openapi().merge_from(routes::described());
    complete(&mut document);
    document
}

/// The OpenAPI document as it is served and committed: JSON with a line break at its end.
pub fn openapi_text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let served = Served::new(document());
        let mut text = serde_json::to_string_pretty(&served)
            .unwrap_or_else(|error| unreachable!("a document of ours: {error}"));
        text.push('\n');
        text
    });
    &TEXT
}

/// The document with shared parameters and answers in `components`. The framework's types can't
/// express a reference to a parameter, so the paths are JSON values here.
#[derive(Serialize)]
struct Served {
    openapi: OpenApiVersion,
    info: Info,
    paths: BTreeMap<String, Value>,
    components: Components,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<Tag>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Components {
    parameters: BTreeMap<&'static str, Parameter>,
    responses: BTreeMap<&'static str, Response>,
    schemas: BTreeMap<String, RefOr<Schema>>,
    security_schemes: BTreeMap<String, SecurityScheme>,
}

impl Served {
    fn new(document: Document) -> Self {
        let Document { openapi, info, paths, components, tags, .. } = document;
        let parameters = parameters(paths.paths.iter());
        let referred: Vec<_> =
            parameters.iter().map(|(name, shared)| (*name, json!(shared))).collect();
        let refer = |(path, item): (String, PathItem)| {
            let mut item = json!(item);
            refer(&mut item, &referred);
            (path, item)
        };
        let components = components.unwrap_or_default();
        Self {
            openapi,
            info,
            paths: paths.paths.into_iter().map(refer).collect(),
            components: Components {
                parameters,
                responses: shared::answers().into(),
                schemas: components.schemas,
                security_schemes: components.security_schemes,
            },
            tags,
        }
    }
}

/// The parameters that operations share, by the names of their references.
fn parameters<'a>(
    paths: impl Iterator<Item = (&'a String, &'a PathItem)>,
) -> BTreeMap<&'static str, Parameter> {
    let mut parameters = BTreeMap::new();
    for (path, item) in paths {
        for (_, operation) in operations(&mut item.clone()) {
            let named = operation.parameters.iter().flatten();
            parameters.extend(named.filter_map(|one| shared::path_parameter(path, &one.name)));
        }
    }
    let (name, header) = shared::idempotency_key();
    parameters.extend(header.map(|header| (name, header)));
    parameters
}

/// Replaces each shared parameter of a path's operations with a reference to it.
fn refer(item: &mut Value, shared: &[(&'static str, Value)]) {
    let operations = item.as_object_mut().into_iter().flat_map(|item| item.values_mut());
    let parameters =
        operations.filter_map(|operation| operation.get_mut("parameters")?.as_array_mut());
    for parameter in parameters.flatten() {
        if let Some((name, _)) = shared.iter().find(|(_, shared)| shared == parameter) {
            *parameter = json!({ "$ref": format!("#/components/parameters/{name}") });
        }
    }
}
