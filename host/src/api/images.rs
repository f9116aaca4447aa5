//! `/images`: the images that instances boot from.

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::body::Body;
use super::error::ApiError;
use super::model::{NewImage, OciImage};
use super::shared::Failures;
use super::{Shared, State, blocking};
use crate::id::ImageName;
use crate::image::{ImageImport, Manifest, OciImport, debian};

/// List images
#[utoipa::path(get, path = "/images", tag = "images", security(("bearer" = [])), responses(
    (status = 200, description = "All images, by name", body = [Manifest]),
    Failures,
))]
pub(super) async fn list_images(Extract(state): Shared) -> Result<Json<Vec<Manifest>>, ApiError> {
    let images = blocking(move || Ok(state.images.list()?)).await?;
    Ok(Json(images.into_iter().map(|image| image.manifest).collect()))
}

/// One image
#[utoipa::path(get, path = "/images/{name}", tag = "images", security(("bearer" = [])), responses(
    (status = 200, description = "The image", body = Manifest),
    Failures,
))]
pub(super) async fn get_image(
    Extract(state): Shared,
    Path(name): Path<String>,
) -> Result<Json<Manifest>, ApiError> {
    let name: ImageName = name.parse()?;
    let image = blocking(move || Ok(state.images.get(&name)?)).await?;
    Ok(Json(image.manifest))
}

/// Import an image
///
/// Copies the named files of the daemon's host; or makes one read-only file system, which all
/// instances share, of the layers of an OCI image in a layout on that host:
/// `{"name": "web", "oci": "/srv/layout", "tag": "latest"}`.
#[utoipa::path(post, path = "/images",
    tag = "images", security(("bearer" = [])), request_body = NewImage, responses(
    (status = 201, description = "The new image", body = Manifest),
    Failures,
))]
pub(super) async fn import_image(
    Extract(state): Shared,
    Body(import): Body<serde_json::Value>,
) -> Result<(StatusCode, Json<Manifest>), ApiError> {
    let image = match import.get("oci").is_some() {
        true => {
            let import: OciImage = read(import)?;
            let import = OciImport {
                name: import.name.parse()?,
                layout: import.oci.into(),
                tag: import.tag,
                base: import.base.as_deref().unwrap_or(debian::NAME).parse()?,
            };
            blocking(move || Ok(state.images.import_oci(&import)?)).await?
        }
        false => {
            let import: ImageImport = read(import)?;
            blocking(move || Ok(state.images.import(&import)?)).await?
        }
    };
    Ok((StatusCode::CREATED, Json(image.manifest)))
}

fn read<T: DeserializeOwned>(import: serde_json::Value) -> Result<T, ApiError> {
    let read = serde_json::from_value(import);
    read.map_err(|error| ApiError::unreadable("field", &error.to_string()))
}

/// Remove an image
///
/// Refused while an instance that is not deleted was made from the image: a start or restore reads
/// it again.
#[utoipa::path(delete, path = "/images/{name}",
    tag = "images", security(("bearer" = [])), responses(
    (status = 204, description = "The image is removed"),
    Failures,
))]
pub(super) async fn remove_image(
    Extract(state): Shared,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let name: ImageName = name.parse()?;
    check_unused(&state, &name)?;
    blocking(move || Ok(state.images.remove(&name)?)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn check_unused(state: &State, name: &ImageName) -> Result<(), ApiError> {
    let views = state.fleet.by_tenant();
    let users = views.values().flatten().filter(|view| view.record.spec.image == name.as_str());
    let names: Vec<_> = users.map(|view| view.record.name.as_str()).take(5).collect();
    if names.is_empty() {
        return Ok(());
    }
    let message =
        format!("the image '{name}' is used by {}; delete those instances first", names.join(", "));
    Err(ApiError::conflict("image_in_use", message))
}
