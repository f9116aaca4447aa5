//! Debian's registry on a folder of its own, and images in it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::layouts::run;

/// The name and password of a registry with a lock, and the line that stands for them.
pub(crate) const USER: (&str, &str) = ("reader", "open-sesame-4711");
const USER_LINE: &str = "reader:$2b$04$abcdefghijklmnopqrstuuo6bT7LAS3oDMO8ApB/N/H/clbsiEgqi";

/// A registry on a free port of this host. It ends with the value.
pub(crate) struct Registry {
    child: Child,
    _folder: TempDir,
    /// Its address and port.
    pub(crate) address: String,
}

impl Registry {
    /// Starts one that serves everybody.
    pub(crate) fn open() -> Self {
        Self::start("")
    }

    /// Starts one that serves [`USER`] alone.
    pub(crate) fn locked() -> Self {
        Self::start(USER_LINE)
    }

    fn start(users: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let auth = match users {
            "" => String::new(),
            _ => format!("auth: {{htpasswd: {{realm: r, path: {}}}}}\n", at("users").display()),
        };
        fs::write(at("users"), users).expect("a file");
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:0\"}}\n{auth}",
            at("blobs").display()
        );
        fs::write(at("config.yml"), config).expect("a file");
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(at("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry; `scripts/setup test` installs it");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let address = lines.by_ref().map(|line| line.expect("text")).find_map(|line| {
            let (_, rest) = line.split_once("listening on ")?;
            Some(rest.split('"').next()?.to_owned())
        });
        let address = address.expect("it listens");
        // What it says later is of no interest, but has to go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, _folder: folder, address }
    }

    /// A reference to an image in it.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Copies the image of a layout into it; `tag` is its name there, and none if it has none.
    pub(crate) fn push(&self, layout: &Path, tag: Option<&str>, name: &str) {
        let tag = tag.map_or_else(String::new, |tag| format!(":{tag}"));
        let from = format!("oci:{}{tag}", layout.display());
        let to = format!("docker://{}", self.image(name));
        let user = format!("{}:{}", USER.0, USER.1);
        let arguments =
            ["copy", "--quiet", "--dest-tls-verify=false", "--dest-creds", &user, &from, &to];
        run("skopeo", &arguments);
    }

    /// The digest that it has for an image.
    pub(crate) fn digest(&self, name: &str) -> String {
        let image = format!("docker://{}", self.image(name));
        let arguments = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &image];
        let output = Command::new("skopeo").args(arguments).output().expect("skopeo");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
