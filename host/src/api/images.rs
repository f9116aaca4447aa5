//! `/images`: the images that instances boot from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::auth::Caller;
use super::body::{Body, Params};
use super::error::ApiError;
use super::model::{
    Image, ImageStatus, NewImage, OciImage, PruneImages, PrunedImages, PullImage, PullProgress,
    RegistryCredentials, TagImage,
};
use super::shared::Failures;
use super::time::parse_duration;
use super::{Shared, State, blocking};
use crate::causes::in_words;
use crate::id::ImageName;
use crate::image::{
    self, ImageError, ImageImport, Manifest, OciImport, Platform, Reference, Resolved, debian,
};
use crate::limits;
use crate::pull::{Credentials, Pull, Request, Stage};

/// Instances that are named where an image can't be removed for them.
const USERS_SHOWN: usize = 5;

/// List images
///
/// Imports by name, then pulled images by reference, each under all of its names.
#[utoipa::path(get, path = "/images", tag = "images", security(("bearer" = [])),
    params(
        ("tags" = Option<std::collections::HashMap<String, String>>, Query,
            style = DeepObject, explode,
            description = "Only those with all of these labels, as in `tags[team]=blue`"),
    ), responses(
    (status = 200, description = "All images", body = [Image]),
    Failures,
))]
pub(super) async fn list_images(
    Extract(state): Shared,
    Params(params): Params<Vec<(String, String)>>,
) -> Result<Json<Vec<Image>>, ApiError> {
    let wanted = labels(params)?;
    let mut images = blocking(move || listed(&state)).await?;
    images.retain(|image| wanted.iter().all(|(name, value)| image.tags.get(name) == Some(value)));
    Ok(Json(images))
}

/// The labels of a filter.
fn labels(params: Vec<(String, String)>) -> Result<BTreeMap<String, String>, ApiError> {
    let label = |(name, value): (String, String)| {
        let label = name.strip_prefix("tags[").and_then(|name| name.strip_suffix(']'));
        label.map(|label| (label.to_owned(), value)).ok_or_else(|| {
            let error = format!("unknown field `{name}`, expected `tags[<name>]`");
            ApiError::unreadable("query parameter", &error)
        })
    };
    params.into_iter().map(label).collect()
}

fn listed(state: &State) -> Result<Vec<Image>, ApiError> {
    let pulls = state.pulls.list();
    let names = state.images.names_of_pulled()?;
    let mut list = Vec::new();
    for image in state.images.list()? {
        let own = names.iter().filter(|(_, named)| named.image == image.manifest.name);
        let before = list.len();
        list.extend(own.map(|(name, named)| shown(name, &image, named.labels.clone())));
        if !image.is_pulled() {
            list.push(shown(image.manifest.name.as_str(), &image, BTreeMap::new()));
        } else if list.len() == before {
            list.push(shown(&by_digest(&image), &image, BTreeMap::new()));
        }
    }
    list.retain(|image| pulls.iter().all(|pull| pull.reference.to_string() != image.name));
    list.extend(pulls.iter().map(|pull| under_way(state, pull)));
    list.sort_by(|a, b| (a.name.contains('/'), &a.name).cmp(&(b.name.contains('/'), &b.name)));
    Ok(list)
}

/// The name of a pulled image that has no other.
fn by_digest(image: &image::Image) -> String {
    let source = image.manifest.oci.as_ref().and_then(|oci| oci.source.as_deref());
    format!("{}@{}", source.unwrap_or_default(), image.digest())
}

/// An image by one of its names.
fn shown(name: &str, image: &image::Image, tags: BTreeMap<String, String>) -> Image {
    let manifest = image.manifest.clone();
    let settings = manifest.oci.as_ref().map(|oci| oci.settings.clone()).unwrap_or_default();
    let pair = |text: String| {
        text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let env = settings.env.map(|env| env.into_iter().filter_map(pair).collect());
    let Manifest { description, created_at, memory_bytes_min, cmdline, agent, oci, .. } = manifest;
    Image {
        name: name.to_owned(),
        status: ImageStatus::Ready,
        digest: image.digest(),
        created_at,
        description,
        tags,
        platform: oci.as_ref().map_or_else(of_guests, |oci| oci.platform.clone()),
        size_bytes: Some(image.bytes()),
        entrypoint: settings.entrypoint,
        cmd: settings.cmd,
        env,
        working_dir: Some(settings.working_dir).filter(|folder| !folder.is_empty()),
        error: None,
        queue_position: None,
        progress: None,
        memory_bytes_min: Some(memory_bytes_min),
        cmdline,
        agent,
        kernel: Some(manifest.kernel),
        initrd: manifest.initrd,
        root_disk: manifest.root_disk,
        root_fs: manifest.root_fs,
        oci,
    }
}

fn of_guests() -> String {
    Platform::of_guests().to_string()
}

/// An image that is being pulled.
fn under_way(state: &State, pull: &Pull) -> Image {
    let (status, error) = match pull.stage() {
        Stage::Pending => (ImageStatus::Pending, None),
        Stage::Pulling => (ImageStatus::Pulling, None),
        Stage::Converting => (ImageStatus::Converting, None),
        Stage::Ready(image) => {
            return shown(&pull.reference.to_string(), &image, pull.labels.clone());
        }
        Stage::Failed(error) => (ImageStatus::Failed, Some(in_words(&error))),
    };
    Image {
        name: pull.reference.to_string(),
        status,
        digest: pull.digest.clone(),
        created_at: pull.since,
        description: String::new(),
        tags: pull.labels.clone(),
        platform: pull.platform.clone(),
        size_bytes: None,
        entrypoint: None,
        cmd: None,
        env: None,
        working_dir: None,
        error,
        queue_position: state.pulls.place(pull),
        progress: Some(PullProgress { bytes: pull.bytes(), bytes_total: pull.bytes_total }),
        memory_bytes_min: None,
        cmdline: String::new(),
        agent: false,
        kernel: None,
        initrd: None,
        root_disk: None,
        root_fs: None,
        oci: None,
    }
}

/// One image
///
/// By the name of an import, or by reference: percent-encoded, as one part of the path. While it is
/// pulled, `status` and `progress` tell how far that is.
#[utoipa::path(get, path = "/images/{name}", tag = "images", security(("bearer" = [])), responses(
    (status = 200, description = "The image", body = Image),
    Failures,
))]
pub(super) async fn get_image(
    Extract(state): Shared,
    Path(name): Path<String>,
) -> Result<Json<Image>, ApiError> {
    if let Some(pull) = name.parse().ok().and_then(|reference| state.pulls.find(&reference)) {
        return Ok(Json(under_way(&state, &pull)));
    }
    let found = blocking(move || Ok(state.images.resolve(&name)?)).await?;
    Ok(Json(resolved(found)))
}

fn resolved(found: Resolved) -> Image {
    let Resolved { image, reference, labels } = found;
    let name = reference
        .map_or_else(|| image.manifest.name.to_string(), |reference| reference.to_string());
    shown(&name, &image, labels)
}

/// Pull or import an image
///
/// With a reference as the name, the image is pulled from its registry: the answer comes once the
/// registry has said what the reference stands for, `GET /images/{name}` tells of the rest. With
/// `kernel`, files of the daemon's host are copied. With `oci`, one read-only file system, which
/// all instances share, is made of the layers of an OCI image in a layout on that host:
/// `{"name": "web", "oci": "/srv/layout", "tag": "latest"}`.
#[utoipa::path(post, path = "/images",
    tag = "images", security(("bearer" = [])), request_body = NewImage, responses(
    (status = 201, description = "The new image", body = Image),
    (status = 202, description = "The image that is being pulled", body = Image),
    Failures,
))]
pub(super) async fn import_image(
    Extract(state): Shared,
    Body(new): Body<serde_json::Value>,
) -> Result<(StatusCode, Json<Image>), ApiError> {
    if new.get("kernel").is_none() && new.get("oci").is_none() {
        let pull = state.pulls.begin(request(read(new)?)?).await?;
        return Ok((StatusCode::ACCEPTED, Json(under_way(&state, &pull))));
    }
    let image = match new.get("oci").is_some() {
        true => {
            let import: OciImage = read(new)?;
            let import = OciImport {
                name: import.name.parse()?,
                layout: import.oci.into(),
                tag: import.tag,
                base: import.base.as_deref().unwrap_or(debian::NAME).parse()?,
            };
            blocking(move || Ok(state.images.import_oci(&import)?)).await?
        }
        false => {
            let import: ImageImport = read(new)?;
            blocking(move || Ok(state.images.import(&import)?)).await?
        }
    };
    let image = shown(image.manifest.name.as_str(), &image, BTreeMap::new());
    Ok((StatusCode::CREATED, Json(image)))
}

fn read<T: DeserializeOwned>(import: serde_json::Value) -> Result<T, ApiError> {
    let read = serde_json::from_value(import);
    read.map_err(|error| ApiError::unreadable("field", &error.to_string()))
}

/// The pull that a client asks for.
fn request(pull: PullImage) -> Result<Request, ApiError> {
    let PullImage { name, platform, tags, credentials, base } = pull;
    let reference: Reference = name.parse().map_err(ImageError::from)?;
    let platform = match platform {
        None => Platform::of_guests(),
        Some(platform) => platform.parse().map_err(|error: image::UnknownPlatform| {
            ApiError::new(StatusCode::BAD_REQUEST, "invalid_platform", error.to_string())
        })?,
    };
    let is_label = |text: &String| (1..=limits::instance::TAG_BYTES_MAX).contains(&text.len());
    let are_labels = tags.iter().all(|(name, value)| is_label(name) && is_label(value));
    if tags.len() > limits::instance::TAGS_MAX || !are_labels {
        return Err(ApiError::invalid("tags: at most 64, each name and value of 1 to 256 bytes"));
    }
    let base: ImageName = base.as_deref().unwrap_or(debian::NAME).parse()?;
    let credentials = credentials.map_or(Ok(None), lent)?;
    Ok(Request { reference, platform, labels: tags, credentials, base })
}

/// The credentials that a client lends; none if it lends empty ones.
fn lent(credentials: RegistryCredentials) -> Result<Option<Credentials>, ApiError> {
    let said = |text: Option<String>| text.filter(|text| !text.is_empty());
    let RegistryCredentials { username, password, registry_token } = credentials;
    let is_plain = |text: &String| text.bytes().all(|c| c.is_ascii_graphic());
    match (said(username), said(password), said(registry_token)) {
        (None, None, None) => Ok(None),
        (Some(username), Some(password), None) if !username.contains(':') => {
            Ok(Some(Credentials::Basic { username, password }))
        }
        (None, None, Some(token)) if is_plain(&token) => Ok(Some(Credentials::Token(token))),
        _ => Err(ApiError::invalid(
            "credentials: give username and password, or registry_token alone; a name holds no ':'",
        )),
    }
}

/// Give an image a further name
///
/// Nothing is pulled. What the name stood for so far stays, and instances keep their image.
#[utoipa::path(post, path = "/images/{name}/tag",
    tag = "images", security(("bearer" = [])), request_body = TagImage, responses(
    (status = 200, description = "The image by its new name", body = Image),
    Failures,
))]
pub(super) async fn tag_image(
    Extract(state): Shared,
    Path(name): Path<String>,
    Body(TagImage { target }): Body<TagImage>,
) -> Result<Json<Image>, ApiError> {
    let target: Reference = target.parse().map_err(ImageError::from)?;
    if target.digest().is_some() {
        return Err(ApiError::invalid("target: a digest stands for one image; give a tag"));
    }
    let found = blocking(move || {
        let found = state.images.resolve(&name)?;
        state.images.set_name(&target, &found.image.manifest.name, found.labels.clone())?;
        Ok(Resolved { reference: Some(target), ..found })
    });
    Ok(Json(resolved(found.await?)))
}

/// Remove an image, or one of its names
///
/// A name goes alone while the image has others. Its last name, or its digest, goes with the image:
/// refused while an instance that is not deleted was made from it, as a start or restore reads it
/// again.
#[utoipa::path(delete, path = "/images/{name}",
    tag = "images", security(("bearer" = [])), responses(
    (status = 204, description = "The image or name is removed"),
    Failures,
))]
pub(super) async fn remove_image(
    Extract(state): Shared,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let reference: Option<Reference> = name.parse().ok();
    let was_failed = reference.as_ref().is_some_and(|reference| state.pulls.forget(reference));
    let removed = blocking(move || remove(&state, &name)).await;
    match removed {
        // Its failed pull was all there was.
        Err(error) if was_failed && error.status() == 404 => Ok(StatusCode::NO_CONTENT),
        removed => removed.map(|()| StatusCode::NO_CONTENT),
    }
}

fn remove(state: &State, name: &str) -> Result<(), ApiError> {
    let Resolved { image, reference, .. } = state.images.resolve(name)?;
    let stored = &image.manifest.name;
    if let Some(reference) = reference.filter(|reference| reference.digest().is_none()) {
        let names = state.images.names_of_pulled()?;
        let others = names.iter().filter(|(name, named)| {
            named.image == *stored && **name != reference.to_string() && !name.contains('@')
        });
        if !image.is_pulled() || others.count() > 0 {
            state.images.remove_name(&reference)?;
            return Ok(());
        }
    }
    check_unused(state, stored, name)?;
    Ok(state.images.remove(stored)?)
}

/// Remove pulled images that nothing uses
///
/// No instance that is not deleted was made of them, and they were neither pulled nor used for the
/// time. What broken pulls have left goes, too.
#[utoipa::path(post, path = "/images/prune",
    tag = "images", security(("bearer" = [])), request_body = Option<PruneImages>, responses(
    (status = 200, description = "The images that were removed", body = PrunedImages),
    Failures,
))]
pub(super) async fn prune_images(
    Extract(state): Shared,
    Body(PruneImages { unused_for }): Body<PruneImages>,
) -> Result<Json<PrunedImages>, ApiError> {
    let unused_for = unused_for.map(|text| parse_duration(&text)).transpose();
    let unused_for =
        unused_for.map_err(|error| ApiError::invalid(format!("unused_for: {error}")))?;
    let images = blocking(move || {
        let is_held =
            |image: &image::Image| !state.fleet.users_of(&image.manifest.name, 1).is_empty();
        let removed = state.images.prune(unused_for.unwrap_or_default(), is_held)?;
        state.pulls.sweep()?;
        Ok(removed)
    });
    let shown = |image: &image::Image| shown(&by_digest(image), image, BTreeMap::new());
    Ok(Json(PrunedImages { images: images.await?.iter().map(shown).collect() }))
}

fn check_unused(state: &State, image: &ImageName, name: &str) -> Result<(), ApiError> {
    let users = state.fleet.users_of(image, USERS_SHOWN);
    if users.is_empty() {
        return Ok(());
    }
    let message =
        format!("the image '{name}' is used by {}; delete those instances first", users.join(", "));
    Err(ApiError::conflict("image_in_use", message))
}

/// The image of a new instance. One that is not there is pulled, if its name can only be a
/// reference and the caller may pull from its registry.
pub(super) async fn for_instance(
    state: &Arc<State>,
    caller: &Caller,
    name: &str,
) -> Result<Resolved, ApiError> {
    let looked_up = || {
        let state = state.clone();
        let name = name.to_owned();
        blocking(move || Ok(state.images.resolve(&name)))
    };
    let missing = match looked_up().await? {
        Ok(found) => return Ok(found),
        Err(error @ ImageError::UnknownReference(_)) => error,
        Err(error) => return Err(error.into()),
    };
    let reference: Reference = name.parse().map_err(ImageError::from)?;
    let registry = reference.registry();
    if !caller.is_operator() && !state.pull_registries.iter().any(|known| known == registry) {
        let hint = format!(
            "an operator can pull it, or let tenants pull from {registry} with the daemon's option \
             --pull-registry"
        );
        return Err(ApiError::from(missing).hint(hint));
    }
    let name = name.to_owned();
    let pull =
        PullImage { name, platform: None, tags: BTreeMap::new(), credentials: None, base: None };
    let pull = state.pulls.begin(request(pull)?).await?;
    let patience = Duration::from_millis(limits::pull::CREATE_WAIT_MS);
    match timeout(patience, pull.done()).await {
        Ok(Ok(_)) => Ok(looked_up().await??),
        Ok(Err(error)) => Err(ApiError::from(&*error)),
        Err(_) => Err(ApiError::still_pulling(&pull.reference.to_string())),
    }
}
