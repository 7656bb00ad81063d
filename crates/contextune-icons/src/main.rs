//! `contextune-icons`: builds the icon benchmark and the demo's data. See `data-recipes/icons/README.md`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use contextune_icons::dataset::{Builder, Count};

#[derive(Parser)]
#[command(
    about = "Builds the icon benchmark from openly licensed emoji art",
    version
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
struct Paths {
    /// The folder that data-recipes/icons/fetch.py filled
    sources: PathBuf,
    /// Where the datasets go
    #[arg(long)]
    out: PathBuf,
    /// The committed split file
    #[arg(long, default_value = "data-recipes/icons/split.json")]
    split: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Write icon-concepts, icon-subgroups, icon-subgroups-coarse and animal-silhouettes
    Build {
        #[command(flatten)]
        paths: Paths,
        /// Side of the icons in pixels
        #[arg(long, default_value_t = 128)]
        side: u32,
    },
    /// Write icon-pretraining: icon-concepts and further icons (fetch.py --more)
    Pretraining {
        #[command(flatten)]
        paths: Paths,
        /// Side of the icons in pixels
        #[arg(long, default_value_t = 96)]
        side: u32,
        /// Only the sets that draw emoji
        #[arg(long)]
        emoji: bool,
    },
    /// Write the demo's data: icon-demo and a slice of animal-silhouettes
    Demo {
        #[command(flatten)]
        paths: Paths,
        /// Side of the icons in pixels
        #[arg(long, default_value_t = 64)]
        side: u32,
    },
}

/// The demo's silhouettes: 16 shots, 4 to validate and 20 to test with, a class.
const DEMO_SILHOUETTES: [usize; 3] = [16, 4, 20];

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Build { paths, side } => {
            let builder = Builder::new(&paths.sources, &paths.split, side)?;
            for (style, concepts) in builder.coverage() {
                println!("{style}: {concepts} concepts");
            }
            let (count, dropped) = builder.concepts(&paths.out)?;
            print(&count);
            println!("tags that are held-out names, dropped from the captions: {dropped}");
            for count in builder.subgroups(&paths.out)? {
                print(&count);
            }
            print(&builder.silhouettes(&paths.out, None)?);
        }
        Command::Pretraining { paths, side, emoji } => {
            let builder = Builder::new(&paths.sources, &paths.split, side)?;
            print(&builder.pretraining(&paths.out, emoji)?);
        }
        Command::Demo { paths, side } => {
            let builder = Builder::new(&paths.sources, &paths.split, side)?;
            print(&builder.demo_icons(&paths.out)?);
            print(&builder.silhouettes(&paths.out, Some(DEMO_SILHOUETTES))?);
        }
    }
    Ok(())
}

fn print(count: &Count) {
    let Count {
        dataset,
        classes,
        train,
        val,
        test,
    } = count;
    println!("{dataset}: {classes} classes; pictures: {train} train, {val} val, {test} test");
}
