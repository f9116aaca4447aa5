//! The API over HTTP, against a daemon in this process: access, refusals, policies and their
//! activation. Tests that need a running guest are elsewhere.

#[path = "http/bills.rs"]
mod bills;
#[path = "http/charges.rs"]
mod charges;
#[path = "http/money.rs"]
mod money;
#[path = "http/proposals.rs"]
mod proposals;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use hmac::Mac as _;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tallyman::api;
use tallyman::hypervisor::Kind;
use tallyman::invoice::Letterhead;
use tallyman::journal::{self, OpenError};
use tallyman::limits::api::REQUESTS_AT_ONCE_MAX;
use tallyman::runtime::{Daemon, Options, RuntimeError};
use tallyman::tenancy::JwtConfig;
use tallyman::tenant::Role;
use tallyman::tls;
use tallyman_tests::machine::patiently;
use tallyman_tests::policies;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const TOKEN: &str = "the right one";

/// A daemon on a port of its own.
struct Server {
    url: String,
    http: Client,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
    data: Arc<TempDir>,
}

impl Server {
    async fn start() -> Self {
        Self::on(Arc::new(TempDir::new().expect("a folder")), None).await
    }

    async fn on(data: Arc<TempDir>, jwt: Option<JwtConfig>) -> Self {
        // A process that another test starts at this moment holds our files, the folder's lock
        // included, until it executes another program.
        let options = || Options {
            data: data.path().into(),
            listen: api::Listen::on("127.0.0.1:0".parse().expect("an address")),
            qemu: "qemu-system-x86_64".into(),
            cloud_hypervisor: "/nowhere/cloud-hypervisor".into(),
            firecracker: "/nowhere/firecracker".into(),
            accelerator: None,
            jwt: jwt.clone(),
            token: Some(TOKEN.into()),
            token_file: None,
            probe_networks: Vec::new(),
            ratios: Default::default(),
            network: None,
            images: Default::default(),
            letterhead: Letterhead { issuer: Some("Example Ltd".into()), prefix: "EX-".into() },
            receivers: Vec::new(),
            supervisor: None,
            vmm_user: None,
            compiler: None,
            journal: journal::Options::default(),
            fleet: Default::default(),
            stores: Default::default(),
            retention: Default::default(),
            heads_to: None,
        };
        let mut tries = 0;
        let daemon = loop {
            tries += 1;
            match Daemon::start(options()).await {
                Err(RuntimeError::Journal(OpenError::InUse { .. })) if tries < 100 => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                started => break started.expect("a daemon"),
            }
        };
        let url = format!("http://{}", daemon.address());
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(async move { daemon.serve(stopped).await.expect("served") });
        Self { url, http: tls::plain_client().build().expect("a client"), stop, served, data }
    }

    /// Starts another daemon on the same data folder.
    async fn again(self) -> Self {
        let data = self.data.clone();
        self.stop().await;
        Self::on(data, None).await
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.served.await.expect("ended");
    }

    fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        self.ask_as(TOKEN, method, path, body).await
    }

    async fn ask_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let request = self.bare(method, path).bearer_auth(token);
        answer(body.map_or(request.try_clone().expect("a request"), |body| request.json(&body)))
            .await
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.ask(Method::GET, path, None).await
    }

    /// Creates a tenant with request limits as high as a test needs.
    async fn tenant(&self, id: &str) {
        let (status, made) = self.ask(Method::POST, "/tenants", Some(json!({"id": id}))).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let limits = json!({"requests_per_s": 1_000_000});
        let (status, set) =
            self.ask(Method::PATCH, &format!("/tenants/{id}/limits"), Some(limits)).await;
        assert_eq!(status, StatusCode::OK, "{set}");
    }

    /// Allows the admins of a tenant what charges it.
    async fn delegate(&self, id: &str) {
        let path = format!("/tenants/{id}/billing");
        let (status, set) = self.ask(Method::PUT, &path, Some(json!({"delegated": true}))).await;
        assert_eq!(status, StatusCode::OK, "{set}");
    }

    /// Creates a token and returns its secret and its id.
    async fn token(&self, tenant: &str, role: Role) -> (String, String) {
        let wanted = json!({"name": "a-test", "role": role.as_str(), "tenant": tenant});
        let (status, made) = self.ask(Method::POST, "/tokens", Some(wanted)).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let text = |name: &str| made[name].as_str().expect("a text").to_owned();
        (text("secret"), text("id"))
    }

    async fn upload(&self, bytes: Vec<u8>) -> (StatusCode, Value) {
        self.upload_as(TOKEN, bytes).await
    }

    async fn upload_as(&self, token: &str, bytes: Vec<u8>) -> (StatusCode, Value) {
        let request = self.bare(Method::POST, "/policies").bearer_auth(token);
        answer(request.header("content-type", "application/wasm").body(bytes)).await
    }
}

async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status();
    // A stream has no end.
    let kind = response.headers().get("content-type");
    if kind.is_some_and(|kind| kind == "text/event-stream") {
        return (status, Value::Null);
    }
    let text = response.bytes().await.expect("a body");
    (status, serde_json::from_slice(&text).unwrap_or(Value::Null))
}

/// Sends a request that must succeed, and returns its answer.
async fn done(server: &Server, method: Method, path: &str, body: Value) -> Value {
    let (status, answer) = server.ask(method, path, Some(body)).await;
    assert!(status.is_success(), "{path}: {answer}");
    answer
}

/// Sends a request that must be refused, and returns status and code.
async fn refused(server: &Server, method: Method, path: &str, body: Value) -> (u16, String) {
    let (status, answer) = server.ask(method, path, Some(body)).await;
    let code = answer["code"].as_str().unwrap_or_else(|| panic!("{path}: {answer}"));
    (status.as_u16(), code.to_owned())
}

/// A book whose only charge is a minimum.
fn book(currency: &str, minimum: &str) -> Value {
    let minimum = json!({"id": "base", "kind": "minimum", "amount": minimum});
    json!({"currency": currency, "prices": [], "adjustments": [minimum]})
}

/// Fills a path with names that nothing has.
fn concrete(path: &str) -> String {
    let names = ["{id}", "{name}", "{digest}"];
    names.into_iter().fold(path.to_owned(), |path, name| path.replace(name, "x"))
}

fn coarse() -> Vec<u8> {
    policies::component("coarse")
}

#[tokio::test]
async fn every_route_needs_the_token_except_the_listed_ones() {
    let server = Server::start().await;
    let document: Value = serde_json::from_str(api::openapi_text()).expect("JSON");
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("methods").keys() {
            let method: Method = method.to_uppercase().parse().expect("a method");
            let concrete = concrete(path);
            let status = |request: RequestBuilder| async move { answer(request).await };
            let (none, body) = status(server.bare(method.clone(), &concrete)).await;
            let (wrong, _) =
                status(server.bare(method.clone(), &concrete).bearer_auth("the wrong one")).await;
            asked += 1;
            if api::OPEN_PATHS.contains(&path.as_str()) {
                // Signing in sends the token in the body, and this request has none.
                let open = match method {
                    Method::POST => StatusCode::BAD_REQUEST,
                    _ => StatusCode::OK,
                };
                assert_eq!(none, open, "{method} {path}");
                continue;
            }
            assert_eq!(
                (none, wrong),
                (StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED),
                "{method} {path}"
            );
            assert_eq!(body["code"], "unauthorized");
            assert!(body["hint"].as_str().expect("a hint").contains("Bearer"));
        }
    }
    assert!(asked > 20, "{asked}");
    server.stop().await;
}

#[tokio::test]
async fn bad_input_is_told_what_would_be_right() {
    let server = Server::start().await;
    let good = json!({"name": "a", "image": "none"});
    let mut unknown = good.clone();
    unknown["memry"] = json!(1);
    let mut bad_name = good.clone();
    bad_name["name"] = json!("Not A Name");
    let mut twice = good.clone();
    (twice["size"], twice["memory_bytes"]) = (json!("1GB"), json!(1));
    let rows = [
        (Method::POST, "/instances", Some(good), 404, "no_such_image", "none"),
        (Method::POST, "/instances", Some(unknown), 400, "unknown_field", "`memry`"),
        (Method::POST, "/instances", Some(bad_name), 400, "invalid", "a-z"),
        (Method::POST, "/instances", Some(twice), 400, "invalid", "memory_bytes"),
        (Method::POST, "/instances", Some(json!([])), 400, "invalid", ""),
        (Method::GET, "/instances/nobody", None, 404, "not_found", "nobody"),
        (Method::GET, "/instances/nobody?deleted=true", None, 404, "not_found", "nobody"),
        (Method::GET, "/instances?stat=Running", None, 400, "unknown_field", "`stat`"),
        (Method::GET, "/instances?state=Sleeping", None, 400, "invalid", "Standby"),
        (
            Method::POST,
            "/instances/nobody/stop",
            Some(json!({"grace": 1})),
            400,
            "unknown_field",
            "`grace_ms`",
        ),
        (Method::POST, "/instances/nobody/pause", None, 404, "not_found", "nobody"),
        (
            Method::GET,
            "/instances/nobody/wait?state=Running&timeout=soon",
            None,
            400,
            "invalid",
            "30s",
        ),
        (Method::GET, "/images/nothing", None, 404, "no_such_image", "nothing"),
        (Method::GET, "/policies/ffff", None, 404, "no_such_policy", "ffff"),
        (
            Method::PUT,
            "/tenants/default/policy",
            Some(json!({"digest": "ffff"})),
            404,
            "no_such_policy",
            "ffff",
        ),
        (
            Method::PUT,
            "/tenants/other/policy",
            Some(json!({"digest": "ffff"})),
            404,
            "no_such_tenant",
            "'other'",
        ),
        (
            Method::POST,
            "/tenants",
            Some(json!({"id": "default"})),
            409,
            "tenant_exists",
            "'default'",
        ),
        (Method::POST, "/tenants", Some(json!({"id": "self"})), 400, "reserved", "'self'"),
        (Method::POST, "/tenants", Some(json!({"id": "Not A Name"})), 400, "invalid", "a-z"),
        (
            Method::PATCH,
            "/tenants/default/limits",
            Some(json!({"disks": 1})),
            400,
            "invalid",
            "memory_bytes",
        ),
        (
            Method::PUT,
            "/tenants/default/fallback",
            Some(json!({"ladder": []})),
            400,
            "invalid",
            "last-good",
        ),
        (
            Method::PUT,
            "/tenants/default/fallback",
            Some(json!({"ladder": ["hold", "standard"]})),
            400,
            "invalid",
            "put it last",
        ),
        (
            Method::POST,
            "/tokens",
            Some(json!({"name": "a", "role": "root"})),
            400,
            "invalid",
            "tenant-admin",
        ),
        (
            Method::POST,
            "/tokens",
            Some(json!({"name": "", "role": "operator"})),
            400,
            "invalid",
            "1 to 63",
        ),
        (
            Method::POST,
            "/tokens",
            Some(json!({"name": "a", "role": "operator", "expires_in_s": 1_000_000_000})),
            400,
            "invalid",
            "31622400",
        ),
        (
            Method::POST,
            "/tokens",
            Some(json!({"name": "a", "role": "operator", "tenant": "b"})),
            404,
            "no_such_tenant",
            "'b'",
        ),
        (Method::DELETE, "/tokens/ffff", None, 404, "no_such_token", "'ffff'"),
        (
            Method::POST,
            "/tenants/default/shadows",
            Some(json!({"digest": "standard"})),
            409,
            "in_force",
            "in force",
        ),
        (
            Method::DELETE,
            "/tenants/default/shadows/standard",
            None,
            404,
            "no_such_shadow",
            "not tried",
        ),
        (Method::POST, "/tenants/default/policy/rollback", None, 409, "nothing_to_roll_back", ""),
        (Method::GET, "/journal?kind=gossip", None, 400, "invalid", "policy-activated"),
        (Method::GET, "/nowhere", None, 404, "no_such_route", "/nowhere"),
        (Method::DELETE, "/journal", None, 405, "method_not_allowed", "DELETE"),
    ];
    for (method, path, body, status, code, says) in rows {
        let (is, answer) = server.ask(method.clone(), path, body).await;
        assert_eq!(
            (is.as_u16(), answer["code"].as_str()),
            (status, Some(code)),
            "{method} {path}: {answer}"
        );
        assert!(
            answer["message"].as_str().expect("a message").contains(says),
            "{method} {path}: {answer}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_policy_is_refused_with_its_reason() {
    let server = Server::start().await;
    let core = b"\0asm\x01\0\0\0".to_vec();
    let rows = [
        (b"hello".to_vec(), 400, "not_a_component"),
        (core, 400, "core_module"),
        (vec![0; tallyman::limits::policy::COMPONENT_BYTES_MAX + 1], 413, "too_large"),
    ];
    for (bytes, status, code) in rows {
        let (is, answer) = server.upload(bytes).await;
        assert_eq!((is.as_u16(), answer["code"].as_str()), (status, Some(code)), "{answer}");
    }
    let (_, policies) = server.get("/policies").await;
    assert_eq!(policies["policies"].as_array().expect("policies").len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_policy_is_uploaded_activated_and_rolled_back_and_the_journal_tells_it() {
    let server = Server::start().await;
    let (_, before) = server.get("/tenants/default/policy").await;
    let (created, uploaded) = server.upload(coarse()).await;
    assert_eq!(created, StatusCode::CREATED, "{uploaded}");
    let digest = uploaded["digest"].as_str().expect("a digest").to_owned();
    let (_, one) = server.get(&format!("/policies/{}", &digest[..12])).await;
    assert_eq!(
        (&one["digest"], one["limits"]["component_bytes_max"].as_u64()),
        (&uploaded["digest"], Some(1 << 20))
    );

    let request = json!({"digest": &digest[..12]});
    let (status, activated) =
        server.ask(Method::PUT, "/tenants/default/policy", Some(request)).await;
    assert_eq!(
        (status, activated["digest"].as_str()),
        (StatusCode::OK, Some(digest.as_str())),
        "{activated}"
    );
    assert_eq!(
        activated["answered_by"], activated["digest"],
        "a probe is answered by the new policy"
    );
    let (_, during) = server.get("/tenants/default/policy").await;
    assert_eq!((&during["digest"], &during["previous"]), (&uploaded["digest"], &before["digest"]));

    let (status, back) = server.ask(Method::POST, "/tenants/default/policy/rollback", None).await;
    assert_eq!((status, &back["digest"]), (StatusCode::OK, &before["digest"]), "{back}");

    let later = json!({"digest": digest, "at": "2100-01-01T00:00:00Z"});
    let (status, refused) =
        server.ask(Method::PUT, "/tenants/default/policy", Some(later.clone())).await;
    assert_eq!(
        (status, refused["code"].as_str()),
        (StatusCode::CONFLICT, Some("older_policy")),
        "{refused}"
    );
    let mut meant = later;
    meant["again"] = json!(true);
    let (status, _) = server.ask(Method::PUT, "/tenants/default/policy", Some(meant)).await;
    let (_, planned) = server.get("/tenants/default/policy").await;
    assert_eq!((status, &planned["digest"]), (StatusCode::OK, &before["digest"]));
    assert_eq!(planned["planned"][0]["digest"].as_str(), Some(digest.as_str()));
    assert!(
        planned["planned"][0]["from"]
            .as_str()
            .expect("an instant")
            .starts_with("2100-01-01T00:00:00")
    );

    let (_, page) = server.get("/journal?kind=policy-activated").await;
    let facts = page["facts"].as_array().expect("facts");
    let told: Vec<_> =
        facts.iter().map(|fact| fact["digest"].as_str().expect("a digest")).collect();
    let standard = before["digest"].as_str().expect("a digest");
    assert_eq!(told, [standard, &digest, standard, &digest]);
    assert_eq!(facts[2]["rollback"], true);
    assert_eq!(
        facts.iter().map(|fact| &fact["by"]).collect::<Vec<_>>(),
        ["host", "operator", "operator", "operator"]
    );
    let (_, head) = server.get("/journal/head").await;
    let (_, last) = server
        .get(&format!("/journal?after={}", head["seq"].as_u64().expect("a number") - 1))
        .await;
    assert_eq!(last["facts"][0]["hash"], head["hash"]);
    server.stop().await;
}

#[tokio::test]
async fn a_second_rollback_goes_one_further_back() {
    let server = Server::start().await;
    let policy = "/tenants/default/policy";
    let (_, first) = server.get(policy).await;
    let mut digests = vec![first["digest"].clone()];
    for component in [coarse(), policies::component("ec2")] {
        let (_, uploaded) = server.upload(component).await;
        let request = json!({"digest": uploaded["digest"]});
        let (status, done) = server.ask(Method::PUT, policy, Some(request)).await;
        assert_eq!(status, StatusCode::OK, "{done}");
        digests.push(uploaded["digest"].clone());
    }
    for expected in [1, 0] {
        let (_, before) = server.get(policy).await;
        assert_eq!(before["previous"], digests[expected]);
        let (_, back) = server.ask(Method::POST, &format!("{policy}/rollback"), None).await;
        assert_eq!(back["digest"], digests[expected]);
    }
    let (status, none) = server.ask(Method::POST, &format!("{policy}/rollback"), None).await;
    assert_eq!((status.as_u16(), &none["code"]), (409, &json!("nothing_to_roll_back")));
    server.stop().await;
}

#[tokio::test]
async fn an_activation_of_what_is_in_force_says_so_and_records_nothing() {
    let server = Server::start().await;
    let policy = "/tenants/default/policy";
    let (_, uploaded) = server.upload(coarse()).await;
    let request = json!({"digest": uploaded["digest"]});
    let (_, first) = server.ask(Method::PUT, policy, Some(request.clone())).await;
    assert_eq!(first["already"], json!(false));
    let (_, head) = server.get("/journal/head").await;
    let (status, again) = server.ask(Method::PUT, policy, Some(request.clone())).await;
    assert_eq!((status, &again["already"]), (StatusCode::OK, &json!(true)), "{again}");
    assert_eq!((&again["fact"], &again["from_ns"]), (&first["fact"], &first["from_ns"]));
    assert_eq!(server.get("/journal/head").await.1, head, "nothing was recorded");
    // A plan for later stays, and changes nothing about that.
    let plan = json!({"digest": "standard", "at": "2100-01-01T00:00:00Z", "again": true});
    server.ask(Method::PUT, policy, Some(plan)).await;
    let (_, again) = server.ask(Method::PUT, policy, Some(request)).await;
    assert_eq!((&again["already"], &again["fact"]), (&json!(true), &first["fact"]), "{again}");
    assert_eq!(server.get(policy).await.1["planned"].as_array().map(Vec::len), Some(1));
    let (status, left) =
        server.ask(Method::DELETE, &format!("{policy}/planned/standard"), None).await;
    assert_eq!((status, &left["planned"]), (StatusCode::OK, &json!([])), "{left}");
    let (status, none) =
        server.ask(Method::DELETE, &format!("{policy}/planned/standard"), None).await;
    assert_eq!((status.as_u16(), &none["code"]), (404, &json!("not_planned")));
    server.stop().await;
}

#[tokio::test]
async fn an_activation_in_the_past_is_refused() {
    let server = Server::start().await;
    let request = json!({"digest": "standard", "at": "2020-01-01T00:00:00Z"});
    let (status, refused) = server.ask(Method::PUT, "/tenants/default/policy", Some(request)).await;
    assert_eq!((status.as_u16(), &refused["code"]), (400, &json!("invalid")), "{refused}");
    assert!(refused["message"].as_str().expect("words").contains("in the past"), "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn a_tenant_with_every_request_under_way_holds_no_other_up() {
    let server = Server::start().await;
    server.tenant("busy").await;
    server.tenant("calm").await;
    let (busy, _) = server.token("busy", Role::TenantAdmin).await;
    let (calm, _) = server.token("calm", Role::TenantAdmin).await;
    // Requests whose bodies never arrive.
    let head = format!(
        "POST /instances HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {busy}\r\n\
         content-type: application/json\r\ncontent-length: 10\r\n\r\n"
    );
    let mut unfinished = Vec::new();
    for _ in 0..REQUESTS_AT_ONCE_MAX {
        let address = server.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(head.as_bytes()).await.expect("sent");
        unfinished.push(stream);
    }
    // The daemon takes them up one by one; from then on one more is too many.
    let refused = patiently("refusal", async {
        loop {
            let (status, answer) = server.ask_as(&busy, Method::GET, "/tenants", None).await;
            if status != StatusCode::OK {
                break answer;
            }
        }
    })
    .await;
    assert_eq!(refused["code"], json!("too_many_at_once"), "{refused}");
    assert_eq!(server.ask_as(&calm, Method::GET, "/tenants", None).await.0, StatusCode::OK);
    drop(unfinished);
    server.stop().await;
}

#[tokio::test]
async fn a_tenant_sets_its_own_price_only_where_that_is_delegated() {
    let server = Server::start().await;
    server.tenant("acme").await;
    let (admin, _) = server.token("acme", Role::TenantAdmin).await;
    let (billing, _) = server.token("acme", Role::Billing).await;
    let book = json!({"currency": "EUR", "prices": []});
    let set = |token: &str| {
        let request = server.bare(Method::PUT, "/tenants/acme/prices").bearer_auth(token);
        answer(request.json(&book))
    };
    let (status, refused) = set(&admin).await;
    assert_eq!((status.as_u16(), &refused["code"]), (403, &json!("forbidden")), "{refused}");
    assert!(
        refused["hint"].as_str().expect("a hint").contains("/tenants/{id}/billing"),
        "{refused}"
    );
    assert_eq!(set(&billing).await.0, StatusCode::OK);
    let policy = json!({"digest": "standard"});
    let activate =
        |token| server.ask_as(token, Method::PUT, "/tenants/acme/policy", Some(policy.clone()));
    assert_eq!(activate(&admin).await.0, StatusCode::FORBIDDEN);
    assert_eq!(activate(&billing).await.0, StatusCode::OK);

    let path = "/tenants/acme/billing";
    let delegated = Some(json!({"delegated": true}));
    assert_eq!(
        server.ask_as(&admin, Method::PUT, path, delegated.clone()).await.0,
        StatusCode::FORBIDDEN
    );
    let (status, tenant) = server.ask(Method::PUT, path, delegated).await;
    assert_eq!((status, &tenant["billing_delegated"]), (StatusCode::OK, &json!(true)));
    let server = server.again().await;
    let request = server.bare(Method::PUT, "/tenants/acme/prices").bearer_auth(&admin);
    assert_eq!(answer(request.json(&book)).await.0, StatusCode::OK, "also after a restart");
    let (_, facts) = server.get("/journal?kind=tenant-changed").await;
    let last = facts["facts"].as_array().expect("facts").last().expect("a fact").clone();
    assert_eq!((&last["billing_delegated"], &last["by"]), (&json!(true), &json!("operator")));
    server.stop().await;
}

#[tokio::test]
async fn a_tenants_admin_makes_no_token_that_charges_it() {
    let server = Server::start().await;
    server.tenant("acme").await;
    let (admin, _) = server.token("acme", Role::TenantAdmin).await;
    let (_, id) = server.token("acme", Role::Billing).await;
    for role in ["operator", "billing"] {
        let wanted = json!({"name": "mine", "role": role});
        let (status, refused) = server.ask_as(&admin, Method::POST, "/tokens", Some(wanted)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{role}: {refused}");
    }
    let (status, _) = server.ask_as(&admin, Method::DELETE, &format!("/tokens/{id}"), None).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "nor revokes it one");
    server.stop().await;
}

#[tokio::test]
async fn a_policy_has_a_name_of_its_tenants_own() {
    let server = Server::start().await;
    server.tenant("acme").await;
    let upload = |query: &str, tenant: &str, bytes: Vec<u8>| {
        let request = server.bare(Method::POST, &format!("/policies{query}")).bearer_auth(TOKEN);
        let request =
            request.header("tallyman-tenant", tenant).header("content-type", "application/wasm");
        answer(request.body(bytes))
    };
    let (status, night) = upload("?name=night-v3", "acme", coarse()).await;
    assert_eq!((status, &night["name"]), (StatusCode::CREATED, &json!("night-v3")), "{night}");
    for (query, code) in [
        ("?name=night-v3", "name_in_use"),
        ("?name=standard", "name_in_use"),
        ("?name=a%20b", "invalid"),
    ] {
        let (_, refused) = upload(query, "acme", policies::component("ec2")).await;
        assert_eq!(refused["code"], json!(code), "{query}: {refused}");
    }
    let activate = json!({"digest": "night-v3"});
    let (status, done) =
        server.ask(Method::PUT, "/tenants/acme/policy", Some(activate.clone())).await;
    assert_eq!((status, &done["digest"]), (StatusCode::OK, &night["digest"]), "{done}");
    let (status, refused) =
        server.ask(Method::PUT, "/tenants/default/policy", Some(activate)).await;
    assert_eq!(
        (status.as_u16(), &refused["code"]),
        (404, &json!("no_such_policy")),
        "it is acme's name"
    );
    let (_, status) = server.get("/tenants/acme/policy").await;
    let stands = status["policies"].as_array().expect("policies");
    assert!(stands.iter().any(|one| one["name"] == json!("night-v3")), "{stands:?}");
    assert_eq!(done["answered_by_name"], json!("night-v3"), "{done}");
    goes_by_its_name_elsewhere(&server).await;
    let (status, again) = upload("?name=night-v4", "acme", coarse()).await;
    assert_eq!((status.as_u16(), &again["code"]), (409, &json!("already_admitted")), "{again}");
    assert_eq!(
        upload("?name=night-v3", "acme", coarse()).await.0,
        StatusCode::CREATED,
        "it is the same"
    );
    let server = server.again().await;
    let request = server.bare(Method::GET, "/policies/night-v3").bearer_auth(TOKEN);
    let (_, found) = answer(request.header("tallyman-tenant", "acme")).await;
    assert_eq!(found["digest"], night["digest"], "also after a restart");
    server.stop().await;
}

/// A trial and the way back name policies, too.
async fn goes_by_its_name_elsewhere(server: &Server) {
    let standard = json!({"digest": "standard"});
    let shadow = server.ask(Method::POST, "/tenants/acme/shadows", Some(standard)).await;
    assert_eq!(shadow.0, StatusCode::OK, "{}", shadow.1);
    let (_, report) = server.get("/tenants/acme/shadows/standard").await;
    assert_eq!(report["name"], json!("standard"), "{report}");
    assert_eq!(report["active_name"], json!("night-v3"), "{report}");
    let again = json!({"digest": "standard", "again": true});
    let (_, over) = server.ask(Method::PUT, "/tenants/acme/policy", Some(again)).await;
    assert_eq!(over["answered_by_name"], json!("standard"), "{over}");
    let (_, stands) = server.get("/tenants/acme/policy").await;
    assert_eq!(stands["previous_name"], json!("night-v3"), "{stands}");
}

#[tokio::test]
async fn two_tenants_with_the_same_bytes_see_nothing_of_each_other() {
    let server = Server::start().await;
    let mut tokens = Vec::new();
    for tenant in ["one", "two"] {
        server.tenant(tenant).await;
        tokens.push(server.token(tenant, Role::PolicyAuthor).await.0);
    }
    let (_, first) = server.upload_as(&tokens[0], coarse()).await;
    let path = format!("/policies/{}", first["digest"].as_str().expect("a digest"));
    let unknown = server.ask_as(&tokens[1], Method::GET, &path, None).await;
    assert_eq!(unknown.0, StatusCode::NOT_FOUND);
    let (_, second) = server.upload_as(&tokens[1], coarse()).await;
    assert_ne!(second["admitted_at"], first["admitted_at"]);
    assert_eq!(
        second["compile_ms"], first["compile_ms"],
        "nobody hears that it was compiled before"
    );
    let (_, again) = server.ask_as(&tokens[0], Method::GET, &path, None).await;
    for field in ["admitted_at", "compile_ms", "self_test"] {
        assert_eq!(again[field], first[field], "{field}");
    }
    assert_eq!(
        again["history"].as_array().map(Vec::len),
        Some(2),
        "its own upload and admission: {again}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_daemon_that_stops_answers_what_it_has_begun() {
    let server = Server::start().await;
    let (status, health) = server.get("/health").await;
    assert_eq!((status, health["status"].as_str()), (StatusCode::OK, Some("ok")));
    let url = server.url.clone();
    server.stop().await;
    let asked = tls::plain_client().build().expect("a client").get(format!("{url}/health")).send();
    assert!(asked.await.is_err_and(|error| error.is_connect()));
}

#[tokio::test]
async fn hypervisors_are_listed_with_what_they_can_do_or_why_they_are_not_there() {
    let server = Server::start().await;
    let (status, body) = server.get("/capabilities").await;
    assert_eq!(status, StatusCode::OK);
    let listed = body["hypervisors"].as_array().expect("a list");
    assert_eq!(listed.len(), Kind::ALL.len());
    for (kind, one) in Kind::ALL.into_iter().zip(listed) {
        assert_eq!(one["name"], kind.as_str());
        assert_eq!(one["default"], kind == Kind::Qemu);
        assert_eq!(one["capabilities"]["memory_resize"], kind == Kind::CloudHypervisor);
        match kind {
            Kind::Qemu | Kind::QemuMicrovm => {
                assert_eq!((&one["available"], &one["reason"]), (&json!(true), &Value::Null));
                assert!(
                    one["version"]
                        .as_str()
                        .expect("a version")
                        .starts_with(|c: char| c.is_ascii_digit())
                );
            }
            Kind::CloudHypervisor | Kind::Firecracker => {
                assert_eq!((&one["available"], &one["version"]), (&json!(false), &Value::Null));
                assert!(one["reason"].as_str().expect("a reason").contains("/nowhere/"), "{one}");
            }
        }
    }
}

#[tokio::test]
async fn every_route_is_decided_for_every_role_and_keeps_to_it() {
    let server = Server::start().await;
    server.tenant("acme").await;
    let document: Value = serde_json::from_str(api::openapi_text()).expect("JSON");
    let mut tokens = Vec::new();
    for role in Role::ALL {
        tokens.push((role, server.token("acme", role).await.0));
    }
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            if api::OPEN_PATHS.contains(&path.as_str()) {
                continue;
            }
            let decided = operation["x-roles"].as_array();
            let decided =
                decided.unwrap_or_else(|| panic!("nobody has decided who may use {method} {path}"));
            assert!(decided.contains(&json!("operator")));
            for (role, token) in &tokens {
                let method: Method = method.to_uppercase().parse().expect("a method");
                let (status, body) =
                    server.ask_as(token, method.clone(), &concrete(path), None).await;
                let refused =
                    (status, body["code"].as_str()) == (StatusCode::FORBIDDEN, Some("forbidden"));
                assert_eq!(
                    refused,
                    !decided.contains(&json!(role.as_str())),
                    "{role}: {method} {path}: {body}"
                );
                assert!(!status.is_server_error(), "{role}: {method} {path}: {body}");
                asked += 1;
            }
        }
    }
    assert!(asked > 4 * 25, "{asked}");
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_shown_once_is_good_for_its_tenant_and_role_and_ends_when_it_is_revoked() {
    let server = Server::start().await;
    server.tenant("acme").await;
    let (secret, id) = server.token("acme", Role::TenantReader).await;
    let (status, tenants) = server.ask_as(&secret, Method::GET, "/tenants", None).await;
    assert_eq!(
        (status, tenants.as_array().map(Vec::len), &tenants[0]["id"]),
        (StatusCode::OK, Some(1), &json!("acme"))
    );
    let (_, listed) = server.get("/tokens").await;
    assert_eq!(
        (&listed[0]["id"], &listed[0]["status"], &listed[0]["created_by"]),
        (&json!(id), &json!("good"), &json!("operator"))
    );
    assert!(!listed.to_string().contains(&secret));

    let server = server.again().await;
    let (status, _) = server.ask_as(&secret, Method::GET, "/instances", None).await;
    assert_eq!(status, StatusCode::OK, "a token outlives the daemon");
    let (status, listed_again) = server.get("/tokens").await;
    assert_eq!((status, listed_again), (StatusCode::OK, listed));

    let path = format!("/tokens/{}", &id[..6]);
    assert_eq!(server.ask(Method::DELETE, &path, None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(
        server.ask(Method::DELETE, &path, None).await.0,
        StatusCode::NO_CONTENT,
        "again changes nothing"
    );
    let (status, refused) = server.ask_as(&secret, Method::GET, "/instances", None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(refused["message"].as_str().expect("a message").contains("revoked"), "{refused}");
    let server = server.again().await;
    assert_eq!(
        server.ask_as(&secret, Method::GET, "/instances", None).await.0,
        StatusCode::UNAUTHORIZED
    );
    let (_, journal) = server.get("/journal?limit=1000").await;
    let told = journal.to_string();
    assert!(
        told.contains("token-created") && told.contains("token-revoked") && !told.contains(&secret),
        "{told}"
    );
    use sha2::Digest as _;
    assert!(!told.contains(&hex::encode(sha2::Sha256::digest(&secret))), "not even its hash");
    server.stop().await;
}

#[tokio::test]
async fn a_token_for_metrics_reads_those_of_the_whole_host_and_is_the_operator_s_to_give() {
    let server = Server::start().await;
    server.tenant("acme").await;
    let (admin, _) = server.token("acme", Role::TenantAdmin).await;
    let wanted = json!({"name": "mine", "role": "metrics"});
    let (status, refused) = server.ask_as(&admin, Method::POST, "/tokens", Some(wanted)).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{refused}");
    let (metrics, id) = server.token("default", Role::Metrics).await;
    let text = server.bare(Method::GET, "/metrics").bearer_auth(&metrics).send().await;
    let text = text.expect("an answer").text().await.expect("text");
    for part in ["tallyman_build_info", "tallyman_journal_facts_total", "tenant=\"acme\""] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let (_, theirs) = server.ask_as(&admin, Method::GET, "/tokens", None).await;
    assert!(!theirs.to_string().contains(&id), "{theirs}");
    server.stop().await;
}

#[tokio::test]
async fn no_tenant_sees_or_touches_what_is_anothers() {
    let server = Server::start().await;
    for tenant in ["acme", "evil"] {
        server.tenant(tenant).await;
        server.delegate(tenant).await;
    }
    let (ours, our_id) = server.token("acme", Role::TenantAdmin).await;
    let (theirs, _) = server.token("evil", Role::TenantAdmin).await;
    let (_, operators) = server.token("evil", Role::Operator).await;
    let (status, policy) = server.upload_as(&ours, coarse()).await;
    assert_eq!(status, StatusCode::CREATED, "{policy}");
    let digest = policy["digest"].as_str().expect("a digest");
    let activate = json!({"digest": digest});
    let (status, done) =
        server.ask_as(&ours, Method::PUT, "/tenants/self/policy", Some(activate.clone())).await;
    assert_eq!((status, &done["tenant"]), (StatusCode::OK, &json!("acme")), "{done}");

    let rows = [
        (Method::GET, "/tenants/acme".to_owned(), None, "no_such_tenant"),
        (Method::GET, "/tenants/acme/policy".into(), None, "no_such_tenant"),
        (Method::PUT, "/tenants/acme/policy".into(), Some(activate.clone()), "no_such_tenant"),
        (Method::POST, "/tenants/acme/policy/rollback".into(), None, "no_such_tenant"),
        (
            Method::PUT,
            "/tenants/acme/fallback".into(),
            Some(json!({"ladder": ["hold"]})),
            "no_such_tenant",
        ),
        (Method::POST, "/tenants/acme/shadows".into(), Some(activate.clone()), "no_such_tenant"),
        (Method::DELETE, format!("/tenants/acme/shadows/{digest}"), None, "no_such_tenant"),
        (Method::PUT, "/tenants/self/policy".into(), Some(activate.clone()), "no_such_policy"),
        (Method::POST, "/tenants/self/shadows".into(), Some(activate), "no_such_policy"),
        (Method::GET, format!("/policies/{digest}"), None, "no_such_policy"),
        (Method::DELETE, format!("/tokens/{our_id}"), None, "no_such_token"),
        (Method::DELETE, format!("/tokens/{operators}"), None, "no_such_token"),
        (
            Method::POST,
            "/tokens".into(),
            Some(json!({"name": "a", "role": "tenant-reader", "tenant": "acme"})),
            "no_such_tenant",
        ),
    ];
    for (method, path, body, code) in rows {
        let (status, answer) = server.ask_as(&theirs, method.clone(), &path, body).await;
        assert_eq!(
            (status.as_u16(), answer["code"].as_str()),
            (404, Some(code)),
            "{method} {path}: {answer}"
        );
        assert!(!answer.to_string().contains("operator"), "{answer}");
    }
    let header =
        server.bare(Method::GET, "/tenants").bearer_auth(&theirs).header("tallyman-tenant", "acme");
    assert_eq!(answer(header).await.0, StatusCode::NOT_FOUND);
    let (status, refused) = server
        .ask_as(&theirs, Method::POST, "/tokens", Some(json!({"name": "a", "role": "operator"})))
        .await;
    assert_eq!((status, refused["code"].as_str()), (StatusCode::FORBIDDEN, Some("forbidden")));

    for path in ["/tenants", "/tokens", "/policies", "/journal?limit=1000"] {
        let (status, seen) = server.ask_as(&theirs, Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK);
        let told = seen.to_string();
        assert!(
            !told.contains("acme") && !told.contains(&our_id) && !told.contains(digest),
            "{path}: {told}"
        );
    }
    let (_, own) = server.ask_as(&ours, Method::GET, "/journal?limit=1000", None).await;
    let tenants: Vec<_> =
        own["facts"].as_array().expect("facts").iter().map(|fact| &fact["tenant"]).collect();
    assert!(tenants.len() > 4 && tenants.iter().all(|tenant| *tenant == "acme"), "{tenants:?}");
    // The operator sees the whole chain, or one tenant's part of it.
    let (_, all) = server.get("/journal?limit=1000").await;
    let seqs: Vec<_> =
        all["facts"].as_array().expect("facts").iter().map(|fact| fact["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).map(Some).collect::<Vec<_>>());
    let part = server
        .bare(Method::GET, "/journal?limit=1000")
        .bearer_auth(TOKEN)
        .header("tallyman-tenant", "acme");
    // The host may have written more facts of the tenant meanwhile.
    let part = answer(part).await.1["facts"].clone();
    let own = own["facts"].clone();
    let part = part.as_array().expect("facts");
    let own = own.as_array().expect("facts");
    assert_eq!(part.get(..own.len()), Some(own.as_slice()));
    server.stop().await;
}

#[tokio::test]
async fn a_policy_author_brings_and_tries_policies_and_puts_none_in_force() {
    let server = Server::start().await;
    server.tenant("acme").await;
    let (author, id) = server.token("acme", Role::PolicyAuthor).await;
    let (status, policy) = server.upload_as(&author, coarse()).await;
    assert_eq!((status, &policy["state"]), (StatusCode::CREATED, &json!("admitted")), "{policy}");
    let request = json!({"digest": policy["digest"], "reason": "closer to the contract"});
    let (status, tried) =
        server.ask_as(&author, Method::POST, "/tenants/self/shadows", Some(request)).await;
    assert_eq!((status, &tried["state"]), (StatusCode::OK, &json!("shadow")), "{tried}");
    let request = json!({"digest": policy["digest"]});
    let (status, refused) =
        server.ask_as(&author, Method::PUT, "/tenants/self/policy", Some(request.clone())).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(refused["hint"].as_str().expect("a hint").contains("billing"), "{refused}");

    server.delegate("acme").await;
    let (admin, _) = server.token("acme", Role::TenantAdmin).await;
    let (status, _) =
        server.ask_as(&admin, Method::PUT, "/tenants/self/policy", Some(request)).await;
    assert_eq!(status, StatusCode::OK);
    let path = format!("/policies/{}", policy["digest"].as_str().expect("a digest"));
    let (_, shown) = server.ask_as(&author, Method::GET, &path, None).await;
    assert_eq!(shown["state"], "active");
    let history = shown["history"].as_array().expect("facts");
    let told: Vec<_> =
        history.iter().rev().map(|fact| fact["to"].as_str().or(fact["kind"].as_str())).collect();
    assert_eq!(
        told,
        [Some("uploaded"), Some("policy-admitted"), Some("shadow"), Some("policy-activated")]
    );
    assert!(
        history[1..].iter().all(|fact| fact["by"] == json!(format!("token:{id}"))),
        "{history:?}"
    );
    assert_eq!(history[1]["reason"], "closer to the contract");
    server.stop().await;
}

#[tokio::test]
async fn over_a_limit_the_answer_says_which_and_when_to_come_again() {
    let server = Server::start().await;
    server.tenant("acme").await;
    let (admin, _) = server.token("acme", Role::TenantAdmin).await;
    let set = |limits: Value| server.ask(Method::PATCH, "/tenants/acme/limits", Some(limits));

    assert_eq!(set(json!({"policies": 0})).await.0, StatusCode::OK);
    let (status, refused) = server.upload_as(&admin, coarse()).await;
    assert_eq!(
        (status, refused["code"].as_str()),
        (StatusCode::FORBIDDEN, Some("quota_exceeded")),
        "{refused}"
    );
    assert!(refused["hint"].as_str().expect("a hint").contains("`policies`"), "{refused}");

    assert_eq!(set(json!({"fuel_per_minute": 0})).await.0, StatusCode::OK);
    let request = server.bare(Method::GET, "/instances").bearer_auth(&admin);
    let response = request.send().await.expect("an answer");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (429, &"60".parse().expect("a value"))
    );
    let refused: Value = response.json().await.expect("JSON");
    assert_eq!(refused["code"], "fuel_exhausted");
    assert_eq!(
        server.get("/instances").await.0,
        StatusCode::OK,
        "the operator's looks are nobody's"
    );

    let (status, tenant) =
        set(json!({"requests_per_s": 1, "fuel_per_minute": null, "policies": null})).await;
    assert_eq!((status, &tenant["limits"]["requests_per_s"]), (StatusCode::OK, &json!(1)));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(server.ask_as(&admin, Method::GET, "/tenants", None).await.0.as_u16());
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    let server = server.again().await;
    let (_, tenant) = server.get("/tenants/acme").await;
    assert_eq!(
        (&tenant["limits"]["requests_per_s"], &tenant["limits"]["policies"]),
        (&json!(1), &json!(100))
    );
    server.stop().await;
}

#[tokio::test]
async fn a_tenant_at_its_limits_takes_nothing_of_another() {
    let server = Server::start().await;
    for tenant in ["busy", "calm"] {
        server.tenant(tenant).await;
    }
    let (busy, _) = server.token("busy", Role::TenantAdmin).await;
    let (calm, _) = server.token("calm", Role::TenantAdmin).await;
    let rows = [
        (json!({"policies": 0}), "quota_exceeded"),
        (json!({"policies": null, "fuel_per_minute": 0}), "fuel_exhausted"),
        (json!({"fuel_per_minute": null, "requests_per_s": 1}), "too_many_requests"),
    ];
    for (limits, code) in rows {
        let (status, set) = server.ask(Method::PATCH, "/tenants/busy/limits", Some(limits)).await;
        assert_eq!(status, StatusCode::OK, "{set}");
        // The bucket of requests holds twice the rate.
        let mut codes = Vec::new();
        for _ in 0..4 {
            let (_, upload) = server.upload_as(&busy, coarse()).await;
            let (_, listed) = server.ask_as(&busy, Method::GET, "/instances", None).await;
            codes.extend([upload["code"].clone(), listed["code"].clone()]);
        }
        assert!(codes.contains(&json!(code)), "{code}: {codes:?}");
        let (status, listed) = server.ask_as(&calm, Method::GET, "/instances", None).await;
        assert_eq!(status, StatusCode::OK, "{code}: {listed}");
    }
    assert_eq!(server.upload_as(&calm, coarse()).await.0, StatusCode::CREATED);
    server.stop().await;
}

#[tokio::test]
async fn an_activation_that_is_sent_again_is_done_once() {
    let server = Server::start().await;
    let (_, uploaded) = server.upload(coarse()).await;
    let put = |key: &str, digest: &Value, path: &str| {
        let method = if path.ends_with("rollback") { Method::POST } else { Method::PUT };
        let body = if path.ends_with("rollback") { json!({}) } else { json!({"digest": digest}) };
        let request = server.bare(method, path).bearer_auth(TOKEN).header("idempotency-key", key);
        answer(request.json(&body))
    };
    let policy = "/tenants/default/policy";
    let (status, first) = put("one", &uploaded["digest"], policy).await;
    assert_eq!((status, &first["repeated"]), (StatusCode::OK, &json!(false)), "{first}");
    let (_, back) = put("two", &Value::Null, "/tenants/default/policy/rollback").await;
    assert_ne!(back["digest"], uploaded["digest"]);
    // Another policy is in force by now; the second try gets the first one's answer, and changes
    // nothing.
    let (status, again) = put("one", &uploaded["digest"], policy).await;
    assert_eq!((status, &again["repeated"]), (StatusCode::OK, &json!(true)), "{again}");
    for field in ["digest", "from", "from_ns", "fact", "tenant"] {
        assert_eq!(again[field], first[field]);
    }
    assert_eq!(
        put("two", &Value::Null, "/tenants/default/policy/rollback").await.1["fact"],
        back["fact"]
    );
    let (status, reused) = put("one", &back["digest"], policy).await;
    assert_eq!(
        (status, reused["code"].as_str()),
        (StatusCode::UNPROCESSABLE_ENTITY, Some("idempotency_key_reused")),
        "{reused}"
    );
    let server = server.again().await;
    let (_, now) = server.get(policy).await;
    assert_eq!(now["digest"], back["digest"]);
    let request =
        server.bare(Method::PUT, policy).bearer_auth(TOKEN).header("idempotency-key", "one");
    let (_, later) = answer(request.json(&json!({"digest": uploaded["digest"]}))).await;
    assert_eq!(
        (&later["fact"], &later["repeated"]),
        (&first["fact"], &json!(true)),
        "also after a restart"
    );
    let (_, facts) = server.get("/journal?kind=policy-activated").await;
    assert_eq!(facts["facts"].as_array().map(Vec::len), Some(3));
    server.stop().await;
}

const JWT_SECRET: &[u8] = b"a secret of 32 bytes, at the least";

/// Signs a message with a key that is made of `seed`.
type Sign = fn(seed: u8, message: &str) -> Vec<u8>;

fn ed25519(seed: u8) -> ed25519_dalek::SigningKey {
    ed25519_dalek::SigningKey::from_bytes(&[seed; 32])
}

fn sign_hs256(seed: u8, message: &str) -> Vec<u8> {
    let secret = [&[seed], JWT_SECRET].concat();
    let mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&secret).expect("any length");
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

fn sign_eddsa(seed: u8, message: &str) -> Vec<u8> {
    use ed25519_dalek::Signer as _;
    ed25519(seed).sign(message.as_bytes()).to_vec()
}

/// A token as another issuer would sign it.
fn signed(sign: Sign, seed: u8, header: &Value, claims: &Value) -> String {
    let base64 = base64::prelude::BASE64_URL_SAFE_NO_PAD;
    let message =
        format!("{}.{}", base64.encode(header.to_string()), base64.encode(claims.to_string()));
    format!("{message}.{}", base64.encode(sign(seed, &message)))
}

/// The configuration with these keys in files of the folder.
fn accepting(folder: &TempDir, secret: Option<&[u8]>, public: Option<&str>) -> JwtConfig {
    let written = |name: &str, bytes: &[u8]| {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).expect("written");
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("set");
        file
    };
    JwtConfig {
        hs256_secret: secret.map(|secret| written("secret", secret)),
        eddsa_public_key: public.map(|pem| written("public", pem.as_bytes())),
        keys: None,
        issuer: "https://id.example".into(),
        audience: "tallyman".into(),
    }
}

#[tokio::test]
async fn a_token_signed_with_hs256_speaks_for_its_tenant_only_where_it_is_accepted() {
    let folder = TempDir::new().expect("a folder");
    let secret = [&[7], JWT_SECRET].concat();
    signed_tokens_are_kept_to(
        "HS256",
        sign_hs256,
        accepting(&folder, Some(&secret), None),
        (sign_eddsa, "EdDSA"),
    )
    .await;
}

#[tokio::test]
async fn a_token_signed_with_eddsa_speaks_for_its_tenant_only_where_it_is_accepted() {
    use ed25519_dalek::pkcs8::{EncodePublicKey as _, spki::der::pem::LineEnding};
    let folder = TempDir::new().expect("a folder");
    let public = ed25519(7).verifying_key().to_public_key_pem(LineEnding::LF).expect("a key");
    signed_tokens_are_kept_to(
        "EdDSA",
        sign_eddsa,
        accepting(&folder, None, Some(&public)),
        (sign_hs256, "HS256"),
    )
    .await;
}

/// Tries a signed token with every fault; `other` is an algorithm without a key.
async fn signed_tokens_are_kept_to(
    algorithm: &str,
    sign: Sign,
    config: JwtConfig,
    other: (Sign, &str),
) {
    let now_s = u64::try_from(tallyman::clock::wall_ns()).expect("after 1970") / 1_000_000_000;
    let claims = json!({
        "iss": "https://id.example", "aud": "tallyman", "sub": "ci", "exp": now_s + 600,
        "tenant": "acme", "role": "tenant-admin",
    });
    let header = json!({"alg": algorithm, "typ": "JWT"});
    let good = signed(sign, 7, &header, &claims);
    let server = Server::start().await;
    let (status, refused) = server.ask_as(&good, Method::GET, "/tenants", None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "not configured: {refused}");
    let data = server.data.clone();
    server.stop().await;

    let server = Server::on(data, Some(config)).await;
    let (status, refused) = server.ask_as(&good, Method::GET, "/tenants", None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "no such tenant yet: {refused}");
    server.tenant("acme").await;
    let (status, seen) = server.ask_as(&good, Method::GET, "/tenants", None).await;
    assert_eq!((status, &seen[0]["id"]), (StatusCode::OK, &json!("acme")), "{seen}");
    let wanted = json!({"name": "from elsewhere", "role": "tenant-reader"});
    let (status, made) = server.ask_as(&good, Method::POST, "/tokens", Some(wanted)).await;
    assert_eq!((status, &made["created_by"]), (StatusCode::CREATED, &json!("jwt:ci")), "{made}");
    let with = |name: &str, value: Value| {
        let mut other = claims.clone();
        other[name] = value;
        signed(sign, 7, &header, &other)
    };
    let rows = [
        with("role", json!("operator")),
        with("tenant", json!("nobody")),
        with("exp", json!(now_s - 600)),
        with("exp", json!(now_s + 1_000_000)),
        with("aud", json!("else")),
        signed(sign, 8, &header, &claims),
        signed(sign, 7, &json!({"alg": "none"}), &claims),
        signed(other.0, 7, &json!({"alg": other.1}), &claims),
        signed(other.0, 7, &header, &claims),
    ];
    for bad in rows {
        let (status, refused) = server.ask_as(&bad, Method::GET, "/tenants", None).await;
        assert_eq!(
            (status, refused["code"].as_str()),
            (StatusCode::UNAUTHORIZED, Some("unauthorized")),
            "{refused}"
        );
    }
    server.stop().await;
}
