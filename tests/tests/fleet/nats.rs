//! Servers of NATS, as operators run them.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tallyman::fleet::Servers;
use tallyman::tls::Files;
use tallyman_tests::authority::Authority;
use tempfile::TempDir;

/// Servers that make one engine. They end with the value.
pub(crate) struct Nats {
    folder: TempDir,
    authority: Authority,
    servers: Vec<Server>,
}

struct Server {
    port: u16,
    config: PathBuf,
    store: PathBuf,
    child: Option<Child>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Server {
    fn start(&mut self) {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = tests.join("../target/nats/nats-server");
        assert!(program.is_file(), "{}: `scripts/setup test` fetches it", program.display());
        let log = File::create(self.config.with_extension("log")).expect("a log");
        let mut command = Command::new(program);
        command.arg("--config").arg(&self.config).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("a server"));
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port that nobody listens on now.
fn port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// The permissions of a host: publish its own facts, and hear the answers to it.
fn permissions(host: &str) -> String {
    format!(
        r#"{{ user: "{host}", permissions: {{
            publish: ["tallyman.facts.{host}",
                "$JS.API.DIRECT.GET.TALLYMAN_ANSWERS.tallyman.answers.{host}"],
            subscribe: ["tallyman.answers.{host}", "_INBOX.{host}.>"] }} }}
        "#
    )
}

impl Nats {
    /// Starts servers which know the collector and these hosts by their certificates.
    pub(crate) fn start(number: usize, hosts: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let authority = Authority::default();
        let ca = authority.write(folder.path());
        let ways: Vec<_> = (0..number).map(|_| port()).collect();
        let routes: Vec<_> = ways.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let users = hosts.iter().fold(String::new(), |users, host| users + &permissions(host));
        let mut servers = Vec::new();
        for (place, way) in ways.iter().enumerate() {
            let own = folder.path().join(format!("n{place}"));
            fs::create_dir(&own).expect("a folder");
            let (certificate, key) = authority.issue(&own);
            let store = own.join("store");
            let port = port();
            let mut text = format!(
                "server_name: n{place}\nlisten: \"127.0.0.1:{port}\"\n\
                 jetstream {{ store_dir: {store:?}, sync_interval: always }}\n\
                 tls {{ cert_file: {certificate:?}, key_file: {key:?}, ca_file: {ca:?}, \
                 verify_and_map: true }}\n\
                 authorization {{ users: [ {{ user: \"collector\" }}\n{users} ] }}\n"
            );
            if number > 1 {
                let listen = format!("cluster {{ name: c, listen: \"127.0.0.1:{way}\", ");
                writeln!(text, "{listen} routes: {routes:?} }}").expect("text");
            }
            let config = own.join("nats.conf");
            fs::write(&config, text).expect("written");
            servers.push(Server { port, config, store, child: None });
        }
        servers.iter_mut().for_each(Server::start);
        Self { folder, authority, servers }
    }

    /// The servers, as a host or the collector is told of them.
    pub(crate) fn known_to(&self, name: &str) -> Servers {
        let own = self.folder.path().join(format!("of-{name}"));
        fs::create_dir_all(&own).expect("a folder");
        let (certificate, key) = self.authority.issue_to(name, &own);
        let addresses = self.servers.iter().map(|one| format!("tls://127.0.0.1:{}", one.port));
        Servers {
            addresses: addresses.collect::<Vec<_>>().join(","),
            ca: Some(self.folder.path().join("ca.pem")),
            identity: Some(Files { certificate, key }),
        }
    }

    /// Kills a server; it loses what it has not written.
    pub(crate) fn kill(&mut self, place: usize) {
        self.servers[place].kill();
    }

    /// Starts a server that was killed.
    pub(crate) fn start_again(&mut self, place: usize) {
        self.servers[place].start();
    }

    /// Kills a server, and loses its disk.
    pub(crate) fn wipe(&mut self, place: usize) {
        self.kill(place);
        fs::remove_dir_all(&self.servers[place].store).expect("removed");
    }
}
