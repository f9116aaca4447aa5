//! The network of an instance, between the API's types and the driver's.

use super::bandwidth::{format_rate, parse_rate};
use super::error::ApiError;
use super::model::{AllowedPlace, Egress, NetworkRequest, NetworkState};
use crate::driver::{Network, NetworkWish};
use crate::network::{GUEST_MAC, Place, UnknownPlace};

/// The network that a request asks for.
pub(super) fn network_wish(network: &NetworkRequest) -> Result<NetworkWish, ApiError> {
    let rate = |field: &str, text: &Option<String>| {
        let rate = text.as_deref().map(parse_rate).transpose();
        rate.map_err(|error| ApiError::invalid(format!("network.{field}: {error}")))
    };
    Ok(NetworkWish {
        enabled: Some(network.enabled.unwrap_or(true)),
        upload_bytes_max: rate("bandwidth_upload", &network.bandwidth_upload)?,
        download_bytes_max: rate("bandwidth_download", &network.bandwidth_download)?,
        allowed: network.egress.as_ref().map_or(Ok(None), allowed)?,
    })
}

/// The places of a request; none for all that is not closed.
fn allowed(egress: &Egress) -> Result<Option<Vec<Place>>, ApiError> {
    if egress.enabled == Some(true) {
        return Err(ApiError::not_implemented(
            "network.egress.enabled: no proxy of this host reads what guests send; list the places \
             that the guest may send to in network.egress.allow",
        ));
    }
    let places = egress.allow.as_ref().map(|places| places.iter().map(place).collect());
    places
        .transpose()
        .map_err(|error: UnknownPlace| ApiError::invalid(format!("network.egress.allow: {error}")))
}

fn place(place: &AllowedPlace) -> Result<Place, UnknownPlace> {
    let protocol = place.protocol.as_deref().map(str::parse).transpose()?;
    let ports = place.ports.as_deref().map(str::parse).transpose()?;
    Place::new(&place.cidr, protocol, ports)
}

/// The network of an instance, as it is shown.
pub(super) fn network_state(network: Option<&Network>) -> NetworkState {
    NetworkState {
        enabled: network.is_some(),
        name: network.map(|_| "default".into()),
        ip: network.map(|network| network.address.to_string()),
        mac: network.map(|_| GUEST_MAC.into()),
        bandwidth_upload: network.and_then(|network| network.upload_bytes_max).map(format_rate),
        bandwidth_download: network.and_then(|network| network.download_bytes_max).map(format_rate),
        egress: network.and_then(|network| network.allowed.as_deref()).map(egress),
    }
}

/// The list of places that a guest may send to, as requests and answers have it.
pub fn egress(places: &[Place]) -> Egress {
    let place = |place: &Place| AllowedPlace {
        cidr: place.network().to_string(),
        protocol: place.protocol().map(|protocol| protocol.name().into()),
        ports: place.ports().map(ToString::to_string),
    };
    Egress { allow: Some(places.iter().map(place).collect()), ..Egress::default() }
}
