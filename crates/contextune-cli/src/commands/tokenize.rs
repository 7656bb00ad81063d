use anyhow::Result;
use crate::options::Context;
/// x
#[derive(Debug, clap::Args)]
pub struct Arguments {}
pub fn run(_: Arguments, _: &Context) -> Result<()> { unimplemented!() }
