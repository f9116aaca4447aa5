//! The one table of routes, and the document that describes them.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, PathItem};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::{
    State, access, auth, capabilities, error, health, images, instances, invoices, journal, logs, metrics, policies,
    settings, shadows, snapshots, tenants, tokens,
};
use crate::limits;

/// The paths that need no token.
pub const OPEN_PATHS: [&str; 2] = ["/health", "/openapi.json"];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tallyman",
        description = "Virtual machines on one host, and an account of every millisecond of their life.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
        contact(),
    ),
    tags(
        (name = "instances", description = "Virtual machines and their time"),
        (name = "snapshots", description = "What machines were, kept and copied"),
        (name = "images", description = "What a machine boots"),
        (name = "tenants", description = "Who is served, and who may speak for them"),
        (name = "policies", description = "How time counts, and for whom"),
        (name = "invoices", description = "What it costs"),
        (name = "journal", description = "Every fact"),
        (name = "host", description = "The daemon"),
    ),
    modifiers(&Bearer),
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "The operator's token, which is the content of the file `token` in the daemon's data folder; a token of `POST /tokens`; or a \
                 signed token (JWT), if the daemon accepts them. An operator names the tenant that a request is about with the header \
                 `Tallyman-Tenant`; without it that is `default`, and lists are of everybody's.",
            ))
            .build();
        document.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Says with each operation who may use it.
struct Roles;

impl Modify for Roles {
    fn modify(&self, document: &mut Document) {
        for (path, item) in &mut document.paths.paths {
            for (method, operation) in operations(item) {
                if let Some(roles) = access::roles(method, path) {
                    let roles: Vec<_> = roles.map(|role| role.as_str()).collect();
                    operation.extensions.get_or_insert_default().insert("x-roles".into(), roles.into());
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

/// Those that anybody may ask.
fn open() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::new().routes(routes!(health::get_health)).routes(routes!(get_openapi))
}

/// Those that need the token.
fn guarded() -> OpenApiRouter<Arc<State>> {
    let component_bytes_max = DefaultBodyLimit::max(limits::policy::large::COMPONENT_BYTES_MAX);
    OpenApiRouter::new()
        .routes(routes!(instances::list_instances, instances::create_instance))
        .routes(routes!(instances::get_instance, instances::delete_instance, settings::update_instance))
        .routes(routes!(instances::start_instance))
        .routes(routes!(instances::stop_instance))
        .routes(routes!(instances::standby_instance))
        .routes(routes!(instances::restore_instance))
        .routes(routes!(instances::pause_instance))
        .routes(routes!(instances::resume_instance))
        .routes(routes!(instances::wait_for_instance))
        .routes(routes!(logs::stream_logs))
        .routes(routes!(instances::list_intervals))
        .routes(routes!(settings::resize_instance))
        .routes(routes!(settings::get_stats))
        .routes(routes!(settings::report_activity))
        .routes(routes!(snapshots::list_snapshots, snapshots::create_snapshot))
        .routes(routes!(snapshots::get_snapshot, snapshots::delete_snapshot))
        .routes(routes!(snapshots::restore_snapshot))
        .routes(routes!(snapshots::fork_snapshot))
        .routes(routes!(snapshots::fork_instance))
        .routes(routes!(
            snapshots::get_snapshot_schedule,
            snapshots::set_snapshot_schedule,
            snapshots::delete_snapshot_schedule
        ))
        .routes(routes!(images::list_images, images::import_image))
        .routes(routes!(images::get_image, images::remove_image))
        .routes(routes!(policies::list_policies, policies::upload_policy).layer(component_bytes_max))
        .routes(routes!(policies::get_policy))
        .routes(routes!(tenants::list_tenants, tenants::create_tenant))
        .routes(routes!(tenants::get_tenant))
        .routes(routes!(tenants::set_limits))
        .routes(routes!(tenants::set_fallback))
        .routes(routes!(tenants::get_tenant_policy, tenants::activate_policy))
        .routes(routes!(tenants::roll_back_policy))
        .routes(routes!(shadows::start_shadow))
        .routes(routes!(shadows::get_shadow, shadows::end_shadow))
        .routes(routes!(tokens::list_tokens, tokens::create_token))
        .routes(routes!(tokens::revoke_token))
        .routes(routes!(invoices::get_prices, invoices::set_prices))
        .routes(routes!(invoices::preview_invoice))
        .routes(routes!(invoices::close_invoice))
        .routes(routes!(invoices::list_invoices))
        .routes(routes!(invoices::get_invoice))
        .routes(routes!(invoices::correct_invoice))
        .routes(routes!(invoices::get_bundle))
        .routes(routes!(journal::list_facts))
        .routes(routes!(journal::get_journal_head))
        .routes(routes!(capabilities::get_capabilities))
        .routes(routes!(metrics::get_metrics))
}

/// The whole service.
pub fn router(state: Arc<State>) -> Router {
    let guarded: Router<Arc<State>> = guarded().into();
    let open: Router<Arc<State>> = open().into();
    guarded
        .route_layer(from_fn_with_state(state.clone(), auth::require))
        .merge(open)
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(DefaultBodyLimit::max(limits::api::BODY_BYTES_MAX))
        .with_state(state)
}

/// The description of all routes.
pub fn openapi() -> Document {
    let (_, routes) = open().merge(guarded()).split_for_parts();
    let mut document = Description::openapi().merge_from(routes);
    Roles.modify(&mut document);
    document
}

/// The description as it is served and committed: JSON with a line break at its end.
pub fn openapi_text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let mut text = openapi().to_pretty_json().unwrap_or_else(|error| unreachable!("a document of ours: {error}"));
        text.push('\n');
        text
    });
    &TEXT
}

/// This document
///
/// Needs no token.
#[utoipa::path(get, path = "/openapi.json", tag = "host", responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")))]
async fn get_openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], openapi_text())
}
