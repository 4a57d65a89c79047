
pub mod config;
pub mod perf;
