//! `leveret definitions`: what a file would change, before it does, and the import of a part of one.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Subcommand;
use leveret::broker::definitions::{Kind, Selection};
use leveret::config::Config;
use leveret::server::{self, PlannedFile, StartError};
use leveret::store::StoreOptions;

#[derive(Subcommand)]
pub(crate) enum DefinitionsCommand {
    /// Say what an import would create and change, and all mistakes, and change nothing; fails if there is a mistake
    ///
    /// A broker may run on the data directory meanwhile.
    Check(DefinitionsArgs),
    /// Import definitions, or a part of them, into the data of a broker that is not running
    Import(DefinitionsArgs),
}

#[derive(clap::Args)]
pub(crate) struct DefinitionsArgs {
    /// Definitions as RabbitMQ exports them, or a directory with such files
    file: PathBuf,
    /// Where everything is stored [default: $LEVERET_DATA_DIR, or else ./data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Only entries of these kinds, for instance queues,bindings
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    only: Vec<Kind>,
    /// Only this virtual host and what is in it, without users and global parameters; may be repeated
    #[arg(long, value_name = "NAME")]
    vhost: Vec<String>,
}

/// Why an import or a check failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DefinitionsFailure {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot print: {0}")]
    Print(io::Error),
    #[error("these definitions cannot be imported; mistakes: {0}")]
    Mistakes(usize),
}

impl DefinitionsCommand {
    /// What it works on, and which part of it.
    fn arguments(self, mut config: Config) -> (Config, Selection) {
        let (Self::Check(arguments) | Self::Import(arguments)) = self;
        config.definitions = vec![arguments.file];
        if let Some(dir) = arguments.data_dir {
            config.data_dir = dir;
        }
        let selection = Selection {
            kinds: arguments.only,
            vhosts: arguments.vhost,
        };
        (config, selection)
    }

    /// Runs it. An import needs a runtime.
    pub(crate) async fn run(self, config: Config) -> Result<(), DefinitionsFailure> {
        let is_check = matches!(self, Self::Check(_));
        let (config, selection) = self.arguments(config);
        if is_check {
            let files = server::check_definitions(&config, &selection)?;
            return report(&files, &mut io::stdout().lock());
        }
        let options = StoreOptions::new(config.data_dir.clone());
        Ok(server::import_definitions(config, options, &selection).await?)
    }

    /// An import logs what it does; what a check finds is all that it prints.
    pub(crate) const fn logs(&self) -> bool {
        matches!(self, Self::Import(_))
    }
}

/// A line for each entry and each mistake, and their numbers.
fn report(files: &[PlannedFile], out: &mut impl Write) -> Result<(), DefinitionsFailure> {
    let mut mistakes = 0;
    for file in files {
        mistakes += report_file(file, out).map_err(DefinitionsFailure::Print)?;
    }
    match mistakes {
        0 => Ok(()),
        mistakes => Err(DefinitionsFailure::Mistakes(mistakes)),
    }
}

/// Answers the number of mistakes.
fn report_file(file: &PlannedFile, out: &mut impl Write) -> io::Result<usize> {
    let path = file.path.display();
    let plan = match &file.plan {
        Ok(plan) => plan,
        Err(error) => {
            writeln!(out, "mistake {path}: {error}")?;
            return Ok(1);
        }
    };
    for entry in &plan.entries {
        writeln!(out, "{entry}")?;
    }
    for list in &plan.unknown_lists {
        writeln!(out, "skip {list}: no list of definitions has this name")?;
    }
    for mistake in &plan.mistakes {
        writeln!(out, "mistake {mistake}")?;
    }
    writeln!(out, "{path}: {}", plan.counts())?;
    Ok(plan.mistakes.len())
}
