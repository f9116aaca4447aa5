//! `tallyman image`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};

use super::output::{self, Output};
use super::progress::{during, spinner};
use super::{Global, client::Client};
use crate::api::model::OciImage;
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
    /// Remove an image that no instance uses
    #[command(visible_alias = "rm", after_help = "Examples:\n  tallyman image remove mine")]
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

impl Command {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let output = global.output();
        match self {
            Command::List => {
                let images: Vec<Manifest> = global.client()?.get(&["images"], &[]).await?;
                output.show(&images, |images| table(images))
            }
            Command::Get { name } => {
                let image: Manifest = global.client()?.get(&["images", &name], &[]).await?;
                output.show(&image, details)
            }
            Command::Import(import) => import.run(&global.client()?, output).await,
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
            let image: Manifest = during("importing", client.post(&["images"], &import)).await?;
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
        let image: Manifest = during("importing", client.post(&["images"], &import)).await?;
        output.show(&image, |image| format!("{} is imported", image.name))
    }
}

fn bytes(image: &Manifest) -> u64 {
    let optional = [&image.initrd, &image.root_disk, &image.root_fs];
    image.kernel.bytes + optional.into_iter().flatten().map(|file| file.bytes).sum::<u64>()
}

fn table(images: &[Manifest]) -> String {
    let rows = images.iter().map(|image| {
        vec![
            image.name.to_string(),
            bytes(image).to_string(),
            format_size(image.memory_bytes_min),
            image.description.clone(),
        ]
    });
    output::table(&["NAME", "BYTES", "LEAST MEMORY", "DESCRIPTION"], &[1, 2], rows)
}

fn details(image: &Manifest) -> String {
    let file = |file: &Option<image::FileRecord>| {
        file.as_ref().map(|file| format!("{} bytes, {}", file.bytes, file.sha256))
    };
    let rows = [
        ("name", Some(image.name.to_string())),
        ("description", Some(image.description.clone())),
        ("imported", Some(image.created_at.to_rfc3339())),
        ("least memory", Some(format_size(image.memory_bytes_min))),
        ("cmdline", Some(image.cmdline.clone())),
        ("agent", image.agent.then(|| "yes".to_owned())),
        ("kernel", file(&Some(image.kernel.clone()))),
        ("initrd", file(&image.initrd)),
        ("root disk", file(&image.root_disk)),
        ("file system", file(&image.root_fs)),
        ("of", image.oci.as_ref().map(|oci| oci.digest.clone())),
    ];
    output::pairs(rows.into_iter().filter_map(|(name, value)| Some((name, value?))))
}
