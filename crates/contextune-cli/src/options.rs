//! Options that several commands share.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
#[cfg(any(feature = "metal", feature = "vulkan"))]
use burn::tensor::DeviceKind;
use burn::tensor::{Device, Tensor};
use clap::{Args, ValueEnum};
use contextune::backbone::Activation;
use contextune::input::EncodingOptions;
use contextune::model::{Model, ModelError, ModelOptions};

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
    /// Where features are kept so that no picture is encoded twice; without it CONTEXTUNE_CACHE, or contextune in the
    /// system's folder for caches.
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        help_heading = "Everywhere"
    )]
    cache: Option<PathBuf>,
    /// Keep no features, use none that were kept.
    #[arg(
        long,
        global = true,
        conflicts_with = "cache",
        help_heading = "Everywhere"
    )]
    no_cache: bool,
    /// No progress, no remarks: only the answer and errors.
    #[arg(long, short, global = true, help_heading = "Everywhere")]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DeviceName {
    /// The processor.
    Cpu,
    /// The first CUDA device.
    #[cfg(feature = "cuda")]
    Cuda,
    /// The system's Metal device.
    #[cfg(feature = "metal")]
    Metal,
    /// The system's Vulkan device.
    #[cfg(feature = "vulkan")]
    Vulkan,
}

/// The devices that this program can compute on, as `--device` names them.
pub fn devices() -> Vec<String> {
    let names = DeviceName::value_variants().iter();
    names
        .filter_map(|name| Some(name.to_possible_value()?.get_name().to_owned()))
        .collect()
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
    /// Root of the cache, if there is to be one.
    pub cache: Option<PathBuf>,
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
            #[cfg(feature = "cuda")]
            DeviceName::Cuda => Device::cuda(0),
            #[cfg(feature = "metal")]
            DeviceName::Metal => Device::metal(DeviceKind::DefaultDevice),
            #[cfg(feature = "vulkan")]
            DeviceName::Vulkan => Device::vulkan(DeviceKind::DefaultDevice),
        };
        let screen = Screen::new(self.quiet);
        Ok(Context {
            device,
            interrupt: Interrupt::listen(screen.clone())?,
            screen,
            cache: match (self.no_cache, &self.cache) {
                (true, _) => None,
                (false, Some(folder)) => Some(folder.clone()),
                (false, None) => std::env::var_os("CONTEXTUNE_CACHE")
                    .map(PathBuf::from)
                    .or_else(|| Some(dirs::cache_dir()?.join("contextune"))),
            },
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
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ActivationName {
    /// As in OpenAI's models and OpenCLIP's -quickgelu models.
    Quickgelu,
    /// As in OpenCLIP's other models.
    Gelu,
}

impl From<ActivationName> for Activation {
    fn from(name: ActivationName) -> Self {
        match name {
            ActivationName::Quickgelu => Self::QuickGelu,
            ActivationName::Gelu => Self::Gelu,
        }
    }
}

impl ModelArguments {
    /// Opens the model; remarks about it go to the screen.
    pub fn open(&self, context: &Context) -> Result<Model> {
        let options = ModelOptions {
            activation: self.activation.map(Into::into),
            normalization: None,
        };
        Ok(open_model(self.model.as_deref(), options, context)?)
    }
}

/// Opens a model; remarks about it go to the screen.
pub fn open_model(
    name: Option<&str>,
    options: ModelOptions,
    context: &Context,
) -> Result<Model, ModelError> {
    let bar = context.screen.bytes("fetch");
    let model = Model::open(name, options, &context.device, |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(progress.file.to_owned());
    })?;
    bar.finish_and_clear();
    for warning in model.warnings() {
        context.screen.warning(warning);
    }
    Ok(model)
}

impl PictureArguments {
    /// How pictures become features; they are kept where the context says.
    pub fn encoding(&self, context: &Context) -> EncodingOptions {
        EncodingOptions {
            honour_exif: self.exif,
            strict: self.strict,
            cache: context.cache.clone(),
        }
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

/// The elements of a tensor of 32-bit floats.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor
        .inner()
        .into_data()
        .try_to_vec()
        .context("the model computes in 32-bit floats")
}
