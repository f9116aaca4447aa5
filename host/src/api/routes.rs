//! The route table.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::{
    State, activations, acts, auth, automation, capabilities, compat, dashboard, error, events,
    exec, exports, files, fleet, gaps, health, images, instances, invoices, journal, kept, logs,
    metrics, names, nap, one_offs, openapi, policies, proofs, proposals, resources, rules,
    sessions, shadows, snapshots, stream, tariffs, tenants, tokens, withdrawals,
};
use crate::limits;

/// The paths of the routes that need no token.
pub const OPEN_PATHS: [&str; 3] = ["/health", "/openapi.json", "/sessions"];

/// The routes that need no token.
fn open() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::new()
        .routes(routes!(health::get_health))
        .routes(routes!(openapi::get_openapi))
        .routes(routes!(sessions::create_session))
}

/// The routes that need a token.
fn guarded() -> OpenApiRouter<Arc<State>> {
    let component_bytes_max = DefaultBodyLimit::max(limits::policy::large::COMPONENT_BYTES_MAX);
    let batch_bytes_max = DefaultBodyLimit::max(limits::fleet::BODY_BYTES_MAX);
    OpenApiRouter::new()
        .routes(routes!(instances::list_instances, instances::create_instance))
        .routes(routes!(
            instances::get_instance,
            instances::delete_instance,
            automation::update_instance
        ))
        .routes(routes!(instances::start_instance))
        .routes(routes!(instances::stop_instance))
        .routes(routes!(instances::standby_instance))
        .routes(routes!(instances::restore_instance))
        .routes(routes!(instances::pause_instance))
        .routes(routes!(instances::resume_instance))
        .routes(routes!(instances::wait_for_instance))
        .routes(routes!(logs::stream_logs))
        .routes(routes!(instances::list_intervals))
        .routes(routes!(automation::resize_instance))
        .routes(routes!(automation::get_stats))
        .routes(routes!(automation::report_activity))
        .routes(routes!(exec::exec_in_instance))
        .routes(routes!(files::copy_files))
        .routes(routes!(files::stat_path))
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
        .routes(routes!(nap::get_auto_standby))
        .routes(routes!(nap::hold_auto_standby))
        .routes(routes!(kept::list_all_snapshots))
        .routes(routes!(kept::get_any_snapshot, kept::delete_any_snapshot))
        .routes(routes!(kept::fork_any_snapshot))
        .routes(routes!(resources::get_resources))
        .routes(routes!(images::list_images, images::import_image))
        .routes(routes!(images::prune_images))
        .routes(routes!(images::get_image, images::remove_image))
        .routes(routes!(images::tag_image))
        .routes(
            routes!(policies::list_policies, policies::upload_policy).layer(component_bytes_max),
        )
        .routes(routes!(policies::get_policy))
        .routes(routes!(tenants::list_tenants, tenants::create_tenant))
        .routes(routes!(tenants::get_tenant, tenants::end_tenant))
        .routes(routes!(tenants::suspend_tenant))
        .routes(routes!(tenants::set_limits))
        .routes(routes!(tenants::set_billing))
        .routes(routes!(tenants::set_billing_name))
        .routes(routes!(names::get_names, names::set_names))
        .routes(routes!(tenants::set_fallback))
        .routes(routes!(activations::get_tenant_policy, activations::activate_policy))
        .routes(routes!(activations::roll_back_policy))
        .routes(routes!(withdrawals::withdraw_policy))
        .routes(routes!(shadows::start_shadow))
        .routes(routes!(shadows::get_shadow, shadows::end_shadow))
        .routes(routes!(tokens::list_tokens, tokens::create_token))
        .routes(routes!(tokens::revoke_token))
        .routes(routes!(rules::get_prices, rules::set_prices))
        .routes(routes!(withdrawals::withdraw_prices))
        .routes(routes!(acts::list_acts))
        .routes(routes!(one_offs::create_one_off))
        .routes(routes!(proposals::list_proposals, proposals::propose))
        .routes(routes!(proposals::accept_proposal))
        .routes(routes!(proposals::decline_proposal))
        .routes(routes!(gaps::list_gaps))
        .routes(routes!(gaps::settle_gap))
        .routes(routes!(tariffs::list_tariffs))
        .routes(routes!(tariffs::set_default_tariff))
        .routes(routes!(tariffs::publish_tariff))
        .routes(routes!(tariffs::change_tariff))
        .routes(routes!(tariffs::join_tariff))
        .routes(routes!(rules::get_agreement, rules::set_agreement))
        .routes(routes!(invoices::preview_invoice))
        .routes(routes!(invoices::preview_rules))
        .routes(routes!(invoices::preview_days))
        .routes(routes!(invoices::get_days))
        .routes(routes!(invoices::settle_invoices))
        .routes(routes!(invoices::override_rules))
        .routes(routes!(invoices::close_invoice))
        .routes(routes!(invoices::list_invoices))
        .routes(routes!(invoices::get_invoice))
        .routes(routes!(invoices::correct_invoice))
        .routes(routes!(invoices::get_bundle))
        .routes(routes!(exports::export_focus))
        .routes(routes!(events::list_usage_events))
        .routes(routes!(proofs::prove_document))
        .routes(routes!(proofs::trace_document_line))
        .routes(routes!(sessions::get_session, sessions::end_session))
        .routes(routes!(journal::list_facts))
        .routes(routes!(stream::stream_facts))
        .routes(routes!(journal::get_journal_head))
        .routes(routes!(journal::list_heads))
        .routes(routes!(journal::list_segments, journal::seal_facts))
        .routes(routes!(journal::archive_segments))
        .routes(routes!(journal::prune_segments))
        .routes(routes!(fleet::take_facts).layer(batch_bytes_max))
        .routes(routes!(fleet::list_hosts))
        .routes(routes!(capabilities::get_capabilities))
        .routes(routes!(metrics::get_metrics))
}

/// The router of all routes.
pub fn router(state: Arc<State>) -> Router {
    let guarded: Router<Arc<State>> = guarded().into();
    let open: Router<Arc<State>> = open().into();
    guarded
        .route_layer(from_fn_with_state(state.clone(), auth::require))
        .route_layer(from_fn_with_state(state.clone(), metrics::measure::measure))
        .merge(open)
        .merge(dashboard::routes())
        .fallback(compat::fallback)
        .method_not_allowed_fallback(error::no_method)
        .layer(DefaultBodyLimit::max(limits::api::BODY_BYTES_MAX))
        .with_state(state)
}

/// The OpenAPI description of all routes.
pub(super) fn described() -> Document {
    let (_, routes) = open().merge(guarded()).split_for_parts();
    routes
}
