//! Options that several commands share.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use burn::tensor::Device;
use clap::{Args, ValueEnum};
use contextune::backbone::Activation;
use contextune::model::{Model, ModelOptions};

use crate::interrupt::Interrupt;
use crate::screen::Screen;

/// A combination of arguments that makes no sense; the process ends with status 2.
#[derive(Debug)]
pub struct WrongUsage(pub String);

impl std::fmt::Display for WrongUsage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for WrongUsage {}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Everywhere {
    /// Where to compute.
    #[arg(long, global = true, value_enum, default_value_t = DeviceName::Cpu, help_heading = "Everywhere")]
    device: DeviceName,
    /// Threads to use; 0 means all cores.
    #[arg(
        long,
        global = true,
        default_value_t = 0,
        value_name = "N",
        help_heading = "Everywhere"
    )]
    threads: usize,
    /// No progress, no remarks: only the answer and errors.
    #[arg(long, short, global = true, help_heading = "Everywhere")]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DeviceName {
    /// The processor.
    Cpu,
}

/// What a command works with besides its own arguments.
#[derive(Debug)]
pub struct Context {
    /// Where tensors live.
    pub device: Device,
    /// Progress and remarks.
    pub screen: Screen,
    /// Ctrl-C.
    pub interrupt: Interrupt,
}

impl Everywhere {
    /// Sets up threads and device.
    pub fn setup(&self) -> Result<Context> {
        if self.threads > 0 {
            rayon::ThreadPoolBuilder::new()
                .num_threads(self.threads)
                .build_global()
                .context("cannot start the threads")?;
        }
        let device = match self.device {
            DeviceName::Cpu => Device::flex(),
        };
        Ok(Context {
            device,
            screen: Screen::new(self.quiet),
            interrupt: Interrupt::listen()?,
        })
    }
}

/// Which model, and how to read it.
#[derive(Clone, Debug, Args)]
pub struct ModelArguments {
    /// A checkpoint file or folder (OpenAI, Hugging Face, OpenCLIP; recognised by content) or a hub id such as
    /// openai/clip-vit-base-patch32. Without it: the small icon model in this program.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Activation of the model's MLPs, where the checkpoint does not tell.
    #[arg(long, value_name = "KIND")]
    pub activation: Option<ActivationName>,
}

/// See [`Activation`].
#[derive(Clone, Copy, Debug, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActivationName {
    /// As in OpenAI's models and OpenCLIP's -quickgelu models.
    Quickgelu,
    /// As in OpenCLIP's other models.
    Gelu,
}

impl ModelArguments {
    /// Opens the model; remarks about it go to the screen.
    pub fn open(&self, context: &Context) -> Result<Model> {
        let activation = self.activation.map(|name| match name {
            ActivationName::Quickgelu => Activation::QuickGelu,
            ActivationName::Gelu => Activation::Gelu,
        });
        let options = ModelOptions { activation };
        let bar = context.screen.bytes("fetch");
        let model = Model::open(
            self.model.as_deref(),
            options,
            &context.device,
            |progress| {
                bar.set_length(progress.total);
                bar.set_position(progress.done);
                bar.set_message(progress.file.to_owned());
            },
        )?;
        bar.finish_and_clear();
        for warning in model.warnings() {
            context.screen.remark(warning);
        }
        Ok(model)
    }
}

/// How pictures are read.
#[derive(Clone, Debug, Args)]
pub struct PictureArguments {
    /// Turn pictures upright as their EXIF orientation says.
    #[arg(long)]
    pub exif: bool,
    /// Stop at the first picture that cannot be read, instead of leaving it out with a warning.
    #[arg(long)]
    pub strict: bool,
}

/// Loose pictures: files, or folders with pictures in them.
#[derive(Clone, Debug, Args)]
pub struct PicturePaths {
    /// Pictures, or folders of pictures.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
}
