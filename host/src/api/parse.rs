//! Conversion of requests about instances from the API's types to the driver's, with errors that
//! name the field.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::http::StatusCode;

use super::State;
use super::error::ApiError;
use super::model::{
    AutoStandby, Compression, ConsoleCheck, CreateInstance, DiskRequest, ExecCheck, ExpiryAction,
    HealthCheck, HealthCheckKind, NetworkCheck, RestartPolicy, Timestamp,
};
use super::network::network_wish;
use super::size::parse_size;
use super::time::parse_duration;
use crate::driver::{self, Disk, Expiry, NetworkWish, NewInstance, Probe, Program, View};
use crate::image::{Platform, Resolved};
use crate::limits::{self, idle};
use crate::units::Nanos;
use crate::vm;

pub(super) fn new_instance(
    state: &State,
    request: CreateInstance,
) -> Result<impl FnOnce(&Resolved) -> NewInstance, ApiError> {
    refuse_absent_abilities(&request)?;
    let hotplug = hotplug_bytes(&request)?;
    let name = request.name.parse()?;
    let memory_bytes = memory_bytes(request.size.as_deref(), request.memory_bytes)?;
    let restart = request.restart_policy.as_ref().map(restart_policy).transpose()?;
    let health = request.health_check.as_ref().map_or(Ok(None), health_check)?;
    let auto_standby = request.auto_standby.as_ref().map_or(Ok(None), auto_standby)?;
    let expiry = expiry(state, request.ttl.as_deref(), request.expires_at, request.expiry_action)?;
    let overlay_bytes = request.overlay_size.as_deref().map(overlay_bytes).transpose()?;
    let wish = request.network.as_ref().map_or(Ok(NetworkWish::default()), network_wish)?;
    Ok(move |image: &Resolved| NewInstance {
        name,
        image: image.image.manifest.name.clone(),
        image_reference: image.reference.as_ref().map(ToString::to_string),
        vcpus: request.vcpus,
        memory_bytes,
        cmdline: request.cmdline,
        disks: request.disks.into_iter().map(disk).collect(),
        tags: request.tags,
        skip_guest_agent: request.skip_guest_agent,
        stop_grace_ms: request.stop_grace_ms.unwrap_or(limits::instance::STOP_GRACE_MS),
        hypervisor: request.hypervisor,
        memory_bytes_max: hotplug.map_or(request.memory_bytes_max, |more| {
            let least = memory_bytes.unwrap_or(image.image.manifest.memory_bytes_min);
            Some(least.saturating_add(more))
        }),
        restart: restart.unwrap_or_default(),
        health,
        auto_standby,
        expiry,
        program: Program { entrypoint: request.entrypoint, cmd: request.cmd, env: request.env },
        overlay_bytes,
        network: wish,
    })
}

fn disk(disk: DiskRequest) -> Disk {
    Disk {
        path: PathBuf::from(disk.path),
        read_only: disk.read_only,
        size_bytes: 0, // Measured when the instance is prepared.
    }
}

fn overlay_bytes(size: &str) -> Result<u64, ApiError> {
    parse_size(size).map_err(|error| ApiError::invalid(format!("overlay_size: {error}")))
}

/// Refuses what other services have and this one does not.
fn refuse_absent_abilities(request: &CreateInstance) -> Result<(), ApiError> {
    if let Some(platform) = &request.platform {
        platform.parse::<Platform>().map_err(|error| {
            ApiError::new(StatusCode::BAD_REQUEST, "invalid_platform", error.to_string())
        })?;
    }
    let policy = request.snapshot_policy.clone().unwrap_or_default();
    uncompressed(policy.compression.as_ref())?;
    let rows = [
        (request.disk_io_bps.is_some(), "disk_io_bps", "no disk's bandwidth is limited"),
        (!request.volumes.is_empty(), "volumes", "an operator gives an instance `disks`"),
        (!request.devices.is_empty(), "devices", "no device of the host is given to a guest"),
        (request.gpu.is_some(), "gpu", "no device of the host is given to a guest"),
        (
            !request.credentials.is_empty(),
            "credentials",
            "no secret is put into a guest's requests; give it in `env`",
        ),
    ];
    match rows.into_iter().find(|(is_wanted, ..)| *is_wanted) {
        Some((_, field, why)) => Err(ApiError::not_implemented(format!("{field}: {why}"))),
        None => Ok(()),
    }
}

/// Refuses a compression of what a standby writes.
pub(super) fn uncompressed(wanted: Option<&Compression>) -> Result<(), ApiError> {
    match wanted.is_some_and(|wanted| wanted.enabled) {
        true => Err(ApiError::not_implemented(
            "compression: what a standby writes is not compressed; take a snapshot with \
             `compression` to keep it small",
        )),
        false => Ok(()),
    }
}

/// The memory beyond its first to which an instance can grow; `None` if that is not asked for.
fn hotplug_bytes(request: &CreateInstance) -> Result<Option<u64>, ApiError> {
    let size = |text: &String| {
        parse_size(text).map_err(|error| ApiError::invalid(format!("hotplug_size: {error}")))
    };
    let more = request.hotplug_size.as_ref().map(size).transpose()?.filter(|&more| more > 0);
    match more.is_some() && request.memory_bytes_max.is_some() {
        true => Err(ApiError::invalid(
            "hotplug_size and memory_bytes_max both set the most memory; give one of them",
        )),
        false => Ok(more),
    }
}

/// Returns whether a time to live stands for no end.
pub(super) fn never(ttl: &str) -> Result<bool, ApiError> {
    Ok(duration_ms("ttl", ttl)? == 0)
}

pub(super) fn memory_bytes(
    size: Option<&str>,
    bytes: Option<u64>,
) -> Result<Option<u64>, ApiError> {
    match (size, bytes) {
        (Some(_), Some(_)) => {
            Err(ApiError::invalid("size and memory_bytes both set the memory; give one of them"))
        }
        (Some(size), None) => {
            parse_size(size).map(Some).map_err(|error| ApiError::invalid(format!("size: {error}")))
        }
        (None, bytes) => Ok(bytes),
    }
}

/// Parses a duration as people write it, in milliseconds. `field` is named in the error.
pub(super) fn duration_ms(field: &str, text: &str) -> Result<u64, ApiError> {
    let duration =
        parse_duration(text).map_err(|error| ApiError::invalid(format!("{field}: {error}")))?;
    Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// The restart policy that a request asks for.
pub(super) fn restart_policy(policy: &RestartPolicy) -> Result<vm::RestartPolicy, ApiError> {
    let RestartPolicy { policy: mode, backoff, max_attempts, stable_after } = policy;
    let default = vm::RestartPolicy::default();
    let ms = |field, text: &Option<String>, default| {
        text.as_deref().map_or(Ok(default), |text| duration_ms(field, text))
    };
    Ok(vm::RestartPolicy {
        mode: (*mode).into(),
        backoff_ms: ms("restart_policy.backoff", backoff, default.backoff_ms)?,
        attempts_max: max_attempts.filter(|&max| max > 0),
        stable_after_ms: ms("restart_policy.stable_after", stable_after, default.stable_after_ms)?,
    })
}

/// The expiry that a request asks for; `None` if it asks for none.
pub(super) fn expiry(
    state: &State,
    ttl: Option<&str>,
    at: Option<Timestamp>,
    action: Option<ExpiryAction>,
) -> Result<Option<Expiry>, ApiError> {
    let now = state.fleet.now();
    let ttl = match ttl {
        Some(text) if at.is_none() && never(text)? => None,
        ttl => ttl,
    };
    let at = match (ttl, at) {
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid(
                "ttl and expires_at both set the expiry; give one of them",
            ));
        }
        (None, None) if action.is_some() => {
            return Err(ApiError::invalid("expiry_action: needs a ttl or expires_at; give one"));
        }
        (None, None) => return Ok(None),
        (Some(ttl), None) => now.after(Nanos(duration_ms("ttl", ttl)?.saturating_mul(1_000_000))),
        (None, Some(at)) => Some(state.fleet.meter_to_come(at.0)),
    };
    let at = at.ok_or_else(|| ApiError::invalid("ttl: is too long; give a shorter one"))?;
    Ok(Some(Expiry { at_ns: at.0, action: action.unwrap_or_default().into() }))
}

pub(super) fn with_action(view: &View, action: ExpiryAction) -> Result<Option<Expiry>, ApiError> {
    let missing = || {
        ApiError::invalid(
            "expiry_action: the instance does not expire; give a ttl or expires_at with it",
        )
    };
    let expiry = view.record.spec.expiry.ok_or_else(missing)?;
    Ok(Some(Expiry { action: action.into(), ..expiry }))
}

/// The auto-standby setting that a request asks for; `None` if it is to be off.
pub(super) fn auto_standby(auto: &AutoStandby) -> Result<Option<driver::AutoStandby>, ApiError> {
    if !auto.ignore_source_cidrs.is_empty() || !auto.ignore_destination_ports.is_empty() {
        return Err(ApiError::not_implemented(
            "auto_standby: connections do not keep an instance awake, so that none is ignored; \
             leave ignore_source_cidrs and ignore_destination_ports out",
        ));
    }
    if auto.enabled == Some(false) {
        return Ok(None);
    }
    let idle_after_ms = match (&auto.idle_after, &auto.idle_timeout) {
        (Some(a), Some(b)) if a != b => {
            return Err(ApiError::invalid(
                "auto_standby: idle_after and idle_timeout are the same setting; give one of them",
            ));
        }
        (Some(text), _) => duration_ms("auto_standby.idle_after", text)?,
        (None, Some(text)) => duration_ms("auto_standby.idle_timeout", text)?,
        (None, None) => idle::AFTER_MS,
    };
    let cpu_permille_max = auto.cpu_permille.unwrap_or(idle::CPU_PERMILLE);
    Ok(Some(driver::AutoStandby { idle_after_ms, cpu_permille_max }))
}

/// The health check that a request asks for; `None` for the type `none`.
pub(super) fn health_check(check: &HealthCheck) -> Result<Option<driver::HealthCheck>, ApiError> {
    let default = |text: &Option<String>, field, default| {
        text.as_deref().map_or(Ok(default), |text| duration_ms(field, text))
    };
    let Some(probe) = probe(check)? else { return Ok(None) };
    if check.success_threshold.is_some_and(|threshold| threshold > 1) {
        return Err(ApiError::not_implemented(
            "health_check.success_threshold: one success makes a workload healthy; leave it out",
        ));
    }
    Ok(Some(driver::HealthCheck {
        probe,
        interval_ms: default(
            &check.interval,
            "health_check.interval",
            limits::health::INTERVAL_MS,
        )?,
        timeout_ms: default(&check.timeout, "health_check.timeout", limits::health::TIMEOUT_MS)?,
        failures_max: check.failure_threshold.unwrap_or(limits::health::FAILURES_MAX),
        start_period_ms: default(&check.start_period, "health_check.start_period", 0)?,
    }))
}

/// The probe of a health check. Kinds that can't be carried out are refused.
fn probe(check: &HealthCheck) -> Result<Option<Probe>, ApiError> {
    let missing = |field| {
        ApiError::invalid(format!("health_check.{field}: missing; this type of check needs it"))
    };
    Ok(Some(match check.kind {
        HealthCheckKind::None if *check == HealthCheck::default() => return Ok(None),
        HealthCheckKind::None => {
            let message =
                "health_check.type: `none` takes no other field; use console, http or tcp";
            return Err(ApiError::invalid(message));
        }
        HealthCheckKind::Console => {
            let ConsoleCheck { send, expect } =
                check.console.clone().ok_or_else(|| missing("console"))?;
            Probe::Console { send, expect }
        }
        HealthCheckKind::Http => {
            let http = check.http.as_ref().ok_or_else(|| missing("http"))?;
            let path = http.path.clone().unwrap_or_else(|| "/".into());
            if http.scheme.as_ref().is_some_and(|scheme| scheme != "http")
                || http.expected_status.is_some()
            {
                return Err(ApiError::not_implemented(
                    "health_check.http: a workload is asked by http, and a status of 200 to 399 is \
                     a success; leave scheme and expected_status out",
                ));
            }
            Probe::Http { address: address("http", http)?, path }
        }
        HealthCheckKind::Tcp => Probe::Tcp {
            address: address("tcp", check.tcp.as_ref().ok_or_else(|| missing("tcp"))?)?,
        },
        HealthCheckKind::Exec => {
            let ExecCheck { command, working_dir } =
                check.exec.clone().ok_or_else(|| missing("exec"))?;
            Probe::Exec { command, working_dir }
        }
    }))
}

fn address(kind: &str, check: &NetworkCheck) -> Result<SocketAddr, ApiError> {
    let Some(address) = &check.address else {
        let message = format!(
            "health_check.{kind}: guests have no network of the host's, so that a port alone does \
             not name a workload. Give the `address`, such as 10.0.0.2:8080, at which this host \
             reaches it, or use a check of the type `console`"
        );
        return Err(ApiError::conflict("unsupported", message));
    };
    address.parse().map_err(|_| {
        ApiError::invalid(format!(
            "health_check.{kind}.address: '{address}' is not an IP address and a port; write it \
             like 10.0.0.2:8080"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::RestartMode;
    use crate::api::present;

    #[test]
    fn what_can_not_be_found_out_is_refused_with_what_can() {
        for (json, code, words) in [
            (r#"{"type":"http","http":{"port":80}}"#, "unsupported", "no network"),
            (r#"{"type":"tcp","tcp":{"port":80}}"#, "unsupported", "no network"),
            (r#"{"type":"tcp","tcp":{"address":"web:80"}}"#, "invalid", "10.0.0.2:8080"),
            (r#"{"type":"console"}"#, "invalid", "health_check.console"),
            (r#"{"type":"none","interval":"5s"}"#, "invalid", "health_check.type"),
            (
                r#"{"type":"console","console":{"expect":"a"},"interval":"soon"}"#,
                "invalid",
                "health_check.interval",
            ),
        ] {
            let check = serde_json::from_str(json).expect("a check");
            let body = health_check(&check).expect_err(json).into_body();
            assert_eq!(body.code, code, "{json}");
            assert!(body.message.contains(words), "{}", body.message);
        }
        let none = serde_json::from_str(r#"{"type":"none"}"#).expect("a check");
        assert_eq!(health_check(&none).expect("nothing to ask"), None);
    }

    #[test]
    fn a_health_check_is_presented_as_it_was_asked_for() {
        for json in [
            r#"{"type":"console","console":{"send":"p","expect":"PONG"},"interval":"1s","failure_threshold":2}"#,
            r#"{"type":"tcp","tcp":{"address":"10.0.0.2:80"},"timeout":"500ms"}"#,
            r#"{"type":"http","http":{"address":"[::1]:80","path":"/well"},"start_period":"1m"}"#,
            r#"{"type":"exec","exec":{"command":["true"],"working_dir":"/srv"}}"#,
        ] {
            let check = health_check(&serde_json::from_str(json).expect("a check"))
                .expect("taken")
                .expect("a check");
            assert_eq!(
                health_check(&present::health_check(&check)).expect("read back"),
                Some(check)
            );
        }
    }

    #[test]
    fn a_restart_policy_is_presented_as_it_was_asked_for() {
        let asked = RestartPolicy {
            policy: RestartMode::OnFailure,
            backoff: Some("1500ms".into()),
            max_attempts: Some(0),
            stable_after: None,
        };
        let policy = restart_policy(&asked).expect("a policy");
        assert_eq!((policy.backoff_ms, policy.attempts_max), (1_500, None));
        let shown = present::restart_policy(&policy);
        assert_eq!(restart_policy(&shown).expect("read back"), policy);
        let wrong = RestartPolicy { backoff: Some("soon".into()), ..asked };
        assert!(
            restart_policy(&wrong)
                .expect_err("refused")
                .into_body()
                .message
                .contains("restart_policy.backoff")
        );
    }

    #[test]
    fn memory_is_said_once() {
        assert_eq!(memory_bytes(Some("2MB"), None).ok(), Some(Some(2 << 20)));
        assert_eq!(memory_bytes(None, Some(7)).ok(), Some(Some(7)));
        assert_eq!(memory_bytes(None, None).ok(), Some(None));
        assert_eq!(memory_bytes(Some("2MB"), Some(7)).expect_err("refused").status(), 400);
        assert_eq!(memory_bytes(Some("much"), None).expect_err("refused").status(), 400);
    }
}
