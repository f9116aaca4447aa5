//! `tallyman image`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};

use super::global::Global;
use super::output::{self, Output};
use super::progress::{during, spinner};

use super::client::Client;
use crate::api::model::{
    Image, ImageStatus, OciImage, PruneImages, PrunedImages, PullImage, RegistryCredentials,
    TagImage,
};
use crate::api::{format_size, parse_size};
use crate::image::{self, ImageImport, Images, Manifest};
use crate::limits;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List images
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  tallyman image list\n  tallyman image list --json"
    )]
    List,
    /// Show one image
    #[command(after_help = "Examples:\n  tallyman image get debian-busybox")]
    Get {
        /// Name of the image
        name: String,
    },
    /// Import an image from files on the daemon's host
    #[command(after_help = "Examples:\n  \
                      tallyman image import mine --kernel /boot/vmlinuz --initrd ./initrd \
                      --cmdline 'console=ttyS0'\n  \
                      tallyman image import web --oci ./layout --tag latest\n  \
                      tallyman image import disk --kernel ./vmlinuz --root-disk ./root.raw \
                      --memory 256MB")]
    Import(Box<Import>),
    /// Pull an image from a registry
    #[command(after_help = "Examples:\n  \
                      tallyman image pull docker.io/library/nginx:1.27\n  \
                      tallyman image pull registry.example/web@sha256:... --label team=blue\n  \
                      tallyman image pull registry.example/web --username ci \
                      --password-stdin\n\n\
                      Breaking off leaves the pull to the daemon.")]
    Pull(Box<Pull>),
    /// Give an image a further name
    #[command(
        after_help = "Examples:\n  tallyman image tag nginx:1.27 registry.example/web:stable"
    )]
    Tag {
        /// The image: the name of an import, or a reference
        name: String,
        /// The new name: a reference with a tag
        target: String,
    },
    /// Remove pulled images that no instance uses, and what broken pulls have left
    #[command(after_help = "Examples:\n  tallyman image prune --unused-for 720h")]
    Prune {
        /// Time since the last pull or use; any if absent
        #[arg(long, value_name = "DURATION")]
        unused_for: Option<String>,
    },
    /// Remove an image that no instance uses, or one of its names
    #[command(
        visible_aliases = ["rm", "delete"],
        after_help = "Examples:\n  tallyman image remove mine\n  tallyman image delete nginx:1.27"
    )]
    Remove {
        /// Name of the image
        name: String,
    },
    /// Build an image from this machine's packages, into the data folder
    #[command(after_help = "Examples:\n  tallyman image build debian-busybox\n\n\
                      Needs no daemon; a daemon with the same data folder sees the image at once.")]
    Build {
        /// The image to build
        name: Recipe,
    },
}

/// The images that this program can build.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Recipe {
    /// Debian's kernel and busybox
    DebianBusybox,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// Name of the new image: 1 to 63 of a-z, 0-9 and '-'
    name: String,
    /// The kernel: a bzImage, or an ELF file with a PVH entry
    #[arg(long, required_unless_present = "oci")]
    kernel: Option<PathBuf>,
    /// An OCI layout, instead of files
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["kernel", "initrd", "root_disk"])]
    oci: Option<PathBuf>,
    /// The image's name in the layout; the only one if absent
    #[arg(long, requires = "oci")]
    tag: Option<String>,
    /// The image whose kernel and initial RAM disk it boots with
    #[arg(long, requires = "oci", value_name = "IMAGE")]
    base: Option<String>,
    /// The initial RAM disk
    #[arg(long)]
    initrd: Option<PathBuf>,
    /// A raw root disk; instances get copies of their own
    #[arg(long)]
    root_disk: Option<PathBuf>,
    /// The kernel's command line
    #[arg(long, default_value = "", hide_default_value = true)]
    cmdline: String,
    /// Least guest memory that the image boots with, such as 256MB; 128MB if absent
    #[arg(long, value_parser = parse_size)]
    memory: Option<u64>,
    /// The program `tallyman-agent` runs in it
    #[arg(long)]
    agent: bool,
    /// Description of the image, for people
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
}

#[derive(Debug, Args)]
pub(super) struct Pull {
    /// The image, such as registry.example/team/web:1; docker.io and latest where left out
    name: String,
    /// The platform, where there are several, such as linux/amd64
    #[arg(long)]
    platform: Option<String>,
    /// A label of the name, NAME=VALUE; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::args::tag)]
    label: Vec<(String, String)>,
    /// The user's name at the registry; lent for this pull
    #[arg(long, requires = "password_stdin")]
    username: Option<String>,
    /// Read the password from the standard input
    #[arg(long, requires = "username", conflicts_with = "token_stdin")]
    password_stdin: bool,
    /// Read a token that the registry takes as it is from the standard input
    #[arg(long, conflicts_with = "username")]
    token_stdin: bool,
    /// The image whose kernel and initial RAM disk it boots with
    #[arg(long, value_name = "IMAGE")]
    base: Option<String>,
    /// Answer at once; `tallyman image get` tells how far it is
    #[arg(long)]
    no_wait: bool,
}

/// Interval at which the progress of a pull is asked for.
const ASK_EVERY: Duration = Duration::from_millis(300);

impl Pull {
    async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let secret = || std::io::read_to_string(std::io::stdin()).context("can't read the secret");
        let secret = (self.password_stdin || self.token_stdin).then(secret).transpose()?;
        let secret = secret.map(|secret| secret.trim_end_matches(['\r', '\n']).to_owned());
        let credentials = secret.map(|secret| match self.username {
            Some(username) => RegistryCredentials {
                username: Some(username),
                password: Some(secret),
                ..RegistryCredentials::default()
            },
            None => RegistryCredentials {
                registry_token: Some(secret),
                ..RegistryCredentials::default()
            },
        });
        let request = PullImage {
            name: self.name,
            platform: self.platform,
            tags: self.label.into_iter().collect(),
            credentials,
            base: self.base,
        };
        let mut image: Image =
            during("asking the registry", client.post(&["images"], &request)).await?;
        let spinner = spinner(&image.name);
        while !self.no_wait && !matches!(image.status, ImageStatus::Ready | ImageStatus::Failed) {
            spinner.set_message(progress(&image));
            tokio::time::sleep(ASK_EVERY).await;
            let name = image.name.clone();
            image = client.get(&["images", &name], &[]).await?;
        }
        spinner.finish_and_clear();
        if let Some(error) = image.error {
            bail!("{error}");
        }
        output.show(&image, |image| match image.status {
            ImageStatus::Ready => format!("{} is there: {}", image.name, image.digest),
            other => format!("{} is {}: {}", image.name, status(other), image.digest),
        })
    }
}

/// The progress of a pull in words.
fn progress(image: &Image) -> String {
    let part = image.progress.map(|progress| {
        format!(", {} of {}", format_size(progress.bytes), format_size(progress.bytes_total))
    });
    format!("{} is {}{}", image.name, status(image.status), part.unwrap_or_default())
}

impl Command {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let output = global.output();
        match self {
            Command::List => {
                let images: Vec<Image> = global.client()?.get(&["images"], &[]).await?;
                output.show(&images, |images| table(images))
            }
            Command::Get { name } => {
                let image: Image = global.client()?.get(&["images", &name], &[]).await?;
                output.show(&image, details)
            }
            Command::Import(import) => import.run(&global.client()?, output).await,
            Command::Pull(pull) => pull.run(&global.client()?, output).await,
            Command::Tag { name, target } => {
                let path = ["images", name.as_str(), "tag"];
                let image: Image = global.client()?.post(&path, &TagImage { target }).await?;
                output.show(&image, |image| format!("{} is {}", image.name, image.digest))
            }
            Command::Prune { unused_for } => prune(&global.client()?, output, unused_for).await,
            Command::Remove { name } => {
                global.client()?.delete(&["images", &name], &[]).await?;
                output.show(&name, |name| format!("{name} is removed"))
            }
            Command::Build { name: Recipe::DebianBusybox } => {
                let spinner = spinner("building debian-busybox");
                let told = spinner.clone();
                let built =
                    build(&global.data()?, move |what| told.set_message(what.to_owned())).await;
                spinner.finish_and_clear();
                output.show(&built?, |image| format!("{} is built", image.name))
            }
        }
    }
}

async fn prune(client: &Client, output: Output, unused_for: Option<String>) -> anyhow::Result<()> {
    let request = PruneImages { unused_for };
    let pruned: PrunedImages = client.post(&["images", "prune"], &request).await?;
    output.show(&pruned, |pruned| match pruned.images.as_slice() {
        [] => "nothing to remove".to_owned(),
        images => {
            let gone = images.iter().map(|image| format!("{} is removed", image.name));
            gone.collect::<Vec<_>>().join("\n")
        }
    })
}

/// Builds `debian-busybox` into the data folder. `progress` is called with the name of each step.
pub(super) async fn build(
    data: &Path,
    mut progress: impl FnMut(&str) + Send + 'static,
) -> anyhow::Result<Manifest> {
    let data = data.to_owned();
    let built = tokio::task::spawn_blocking(move || {
        let images = Images::open(&data)?;
        let image = image::build_debian_busybox(&images, &data.join("work"), &mut progress)?;
        anyhow::Ok(image.manifest)
    });
    built.await.context("the build was interrupted")?.context("can't build the image")
}

impl Import {
    async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let absolute = |path: PathBuf| {
            std::path::absolute(&path).with_context(|| format!("can't find {}", path.display()))
        };
        if let Some(layout) = self.oci {
            let oci = absolute(layout)?.display().to_string();
            let import = OciImage { name: self.name, oci, tag: self.tag, base: self.base };
            let image: Image = during("importing", client.post(&["images"], &import)).await?;
            return output.show(&image, |image| format!("{} is imported", image.name));
        }
        let import = ImageImport {
            name: self.name.parse()?,
            description: self.description,
            kernel: absolute(self.kernel.unwrap_or_default())?,
            initrd: self.initrd.map(absolute).transpose()?,
            root_disk: self.root_disk.map(absolute).transpose()?,
            cmdline: self.cmdline,
            memory_bytes_min: self.memory.unwrap_or(limits::image::MEMORY_BYTES_MIN_DEFAULT),
            agent: self.agent,
        };
        let image: Image = during("importing", client.post(&["images"], &import)).await?;
        output.show(&image, |image| format!("{} is imported", image.name))
    }
}

fn table(images: &[Image]) -> String {
    let rows = images.iter().map(|image| {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        vec![
            image.name.clone(),
            status(image.status).to_owned(),
            or_none(image.size_bytes.map(|bytes| bytes.to_string())),
            or_none(image.memory_bytes_min.map(format_size)),
            image.digest.chars().take(SHOWN_DIGEST_CHARS).collect(),
            image.description.clone(),
        ]
    });
    let heads = ["NAME", "STATUS", "BYTES", "LEAST MEMORY", "DIGEST", "DESCRIPTION"];
    output::table(&heads, &[2, 3], rows)
}

/// `sha256:` and twelve digits.
const SHOWN_DIGEST_CHARS: usize = 19;

fn status(status: ImageStatus) -> &'static str {
    match status {
        ImageStatus::Pending => "pending",
        ImageStatus::Pulling => "pulling",
        ImageStatus::Converting => "converting",
        ImageStatus::Ready => "ready",
        ImageStatus::Failed => "failed",
    }
}

fn details(image: &Image) -> String {
    let file = |file: &Option<image::FileRecord>| {
        file.as_ref().map(|file| format!("{} bytes, {}", file.bytes, file.sha256))
    };
    let rows = [
        ("name", Some(image.name.clone())),
        ("status", Some(status(image.status).to_owned())),
        ("error", image.error.clone()),
        ("digest", Some(image.digest.clone())),
        ("platform", Some(image.platform.clone())),
        ("description", Some(image.description.clone())),
        ("imported", Some(image.created_at.to_rfc3339())),
        ("least memory", image.memory_bytes_min.map(format_size)),
        ("cmdline", Some(image.cmdline.clone())),
        ("agent", image.agent.then(|| "yes".to_owned())),
        ("kernel", file(&image.kernel)),
        ("initrd", file(&image.initrd)),
        ("root disk", file(&image.root_disk)),
        ("file system", file(&image.root_fs)),
    ];
    output::pairs(rows.into_iter().filter_map(|(name, value)| Some((name, value?))))
}
