//! The API over HTTP, against a daemon in this process: who may ask, what is refused and how, policies and their activation.
//! What needs a running guest is tested elsewhere.

use std::path::Path;

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tallyman::api;
use tallyman::hypervisor::Kind;
use tallyman::journal;
use tallyman::runtime::{Daemon, Options};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const TOKEN: &str = "the right one";

/// A daemon on a port of its own.
struct Server {
    url: String,
    http: Client,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
    _data: TempDir,
}

impl Server {
    async fn start() -> Self {
        let data = TempDir::new().expect("a folder");
        let options = Options {
            data: data.path().into(),
            listen: "127.0.0.1:0".parse().expect("an address"),
            qemu: "qemu-system-x86_64".into(),
            cloud_hypervisor: "/nowhere/cloud-hypervisor".into(),
            firecracker: "/nowhere/firecracker".into(),
            accelerator: None,
            token: Some(TOKEN.into()),
            supervisor: None,
            journal: journal::Options::default(),
        };
        let daemon = Daemon::start(options).await.expect("a daemon");
        let url = format!("http://{}", daemon.address());
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(async move { daemon.serve(stopped).await.expect("served") });
        Self { url, http: Client::new(), stop, served, _data: data }
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.served.await.expect("ended");
    }

    fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let request = self.bare(method, path).bearer_auth(TOKEN);
        answer(body.map_or(request.try_clone().expect("a request"), |body| request.json(&body))).await
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.ask(Method::GET, path, None).await
    }

    async fn upload(&self, bytes: Vec<u8>) -> (StatusCode, Value) {
        let request = self.bare(Method::POST, "/policies").bearer_auth(TOKEN);
        answer(request.header("content-type", "application/wasm").body(bytes)).await
    }
}

async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status();
    let text = response.bytes().await.expect("a body");
    (status, serde_json::from_slice(&text).unwrap_or(Value::Null))
}

fn coarse() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/policies/coarse.wasm");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; building the daemon makes it", path.display()))
}

#[tokio::test]
async fn every_route_needs_the_token_except_the_listed_ones() {
    let server = Server::start().await;
    let document: Value = serde_json::from_str(api::openapi_text()).expect("JSON");
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("methods").keys() {
            let method: Method = method.to_uppercase().parse().expect("a method");
            let concrete = path.replace("{id}", "x").replace("{name}", "x").replace("{digest}", "x");
            let status = |request: RequestBuilder| async move { answer(request).await };
            let (none, body) = status(server.bare(method.clone(), &concrete)).await;
            let (wrong, _) = status(server.bare(method.clone(), &concrete).bearer_auth("the wrong one")).await;
            asked += 1;
            if api::OPEN_PATHS.contains(&path.as_str()) {
                assert_eq!(none, StatusCode::OK, "{method} {path}");
                continue;
            }
            assert_eq!((none, wrong), (StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED), "{method} {path}");
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
        (Method::POST, "/instances/nobody/stop", Some(json!({"grace": 1})), 400, "unknown_field", "`grace_ms`"),
        (Method::POST, "/instances/nobody/pause", None, 404, "not_found", "nobody"),
        (Method::GET, "/instances/nobody/wait?state=Running&timeout=soon", None, 400, "invalid", "30s"),
        (Method::GET, "/images/nothing", None, 404, "no_such_image", "nothing"),
        (Method::GET, "/policies/ffff", None, 404, "no_such_policy", "ffff"),
        (Method::PUT, "/tenants/default/policy", Some(json!({"digest": "ffff"})), 404, "no_such_policy", "ffff"),
        (Method::PUT, "/tenants/other/policy", Some(json!({"digest": "ffff"})), 404, "no_such_tenant", "default"),
        (Method::POST, "/tenants/default/policy/rollback", None, 409, "nothing_to_roll_back", ""),
        (Method::GET, "/journal?kind=gossip", None, 400, "invalid", "policy-activated"),
        (Method::GET, "/nowhere", None, 404, "no_such_route", "/nowhere"),
        (Method::DELETE, "/journal", None, 405, "method_not_allowed", "DELETE"),
    ];
    for (method, path, body, status, code, says) in rows {
        let (is, answer) = server.ask(method.clone(), path, body).await;
        assert_eq!((is.as_u16(), answer["code"].as_str()), (status, Some(code)), "{method} {path}: {answer}");
        assert!(answer["message"].as_str().expect("a message").contains(says), "{method} {path}: {answer}");
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
    assert_eq!((&one["digest"], one["limits"]["component_bytes_max"].as_u64()), (&uploaded["digest"], Some(1 << 20)));

    let request = json!({"digest": &digest[..12]});
    let (status, activated) = server.ask(Method::PUT, "/tenants/default/policy", Some(request)).await;
    assert_eq!((status, activated["digest"].as_str()), (StatusCode::OK, Some(digest.as_str())), "{activated}");
    let (_, during) = server.get("/tenants/default/policy").await;
    assert_eq!((&during["digest"], &during["previous"]), (&uploaded["digest"], &before["digest"]));

    let (status, back) = server.ask(Method::POST, "/tenants/default/policy/rollback", None).await;
    assert_eq!((status, &back["digest"]), (StatusCode::OK, &before["digest"]), "{back}");

    let later = json!({"digest": digest, "at": "2100-01-01T00:00:00Z"});
    let (status, _) = server.ask(Method::PUT, "/tenants/default/policy", Some(later)).await;
    let (_, planned) = server.get("/tenants/default/policy").await;
    assert_eq!((status, &planned["digest"]), (StatusCode::OK, &before["digest"]));
    assert_eq!(planned["planned"][0]["digest"].as_str(), Some(digest.as_str()));
    assert!(planned["planned"][0]["from"].as_str().expect("an instant").starts_with("2100-01-01T00:00:00"));

    let (_, page) = server.get("/journal?kind=policy-activated").await;
    let facts = page["facts"].as_array().expect("facts");
    let told: Vec<_> = facts.iter().map(|fact| fact["digest"].as_str().expect("a digest")).collect();
    let standard = before["digest"].as_str().expect("a digest");
    assert_eq!(told, [standard, &digest, standard, &digest]);
    assert_eq!(facts[2]["rollback"], true);
    let (_, head) = server.get("/journal/head").await;
    let (_, last) = server.get(&format!("/journal?after={}", head["seq"].as_u64().expect("a number") - 1)).await;
    assert_eq!(last["facts"][0]["hash"], head["hash"]);
    server.stop().await;
}

#[tokio::test]
async fn a_daemon_that_stops_answers_what_it_has_begun() {
    let server = Server::start().await;
    let (status, health) = server.get("/health").await;
    assert_eq!((status, health["status"].as_str()), (StatusCode::OK, Some("ok")));
    let url = server.url.clone();
    server.stop().await;
    assert!(reqwest::get(format!("{url}/health")).await.is_err_and(|error| error.is_connect()));
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
                assert!(one["version"].as_str().expect("a version").starts_with(|c: char| c.is_ascii_digit()));
            }
            Kind::CloudHypervisor | Kind::Firecracker => {
                assert_eq!((&one["available"], &one["version"]), (&json!(false), &Value::Null));
                assert!(one["reason"].as_str().expect("a reason").contains("/nowhere/"), "{one}");
            }
        }
    }
    server.stop().await;
}
