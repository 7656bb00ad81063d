//! One file for each subcommand.

pub mod cache;
pub mod classify;
pub mod data;
pub mod demo;
pub mod doctor;
pub mod encode;
pub mod eval;
pub mod explain;
pub mod export;
pub mod import;
pub mod models;
pub mod predict;
pub mod pretrain;
pub mod report;
pub mod resume;
pub mod serve;
pub mod shell;
pub mod sweep;
pub mod tokenize;
pub mod train;
