//! Where the configuration comes from: the file and the node's name. Reads and checks; changes nothing.

use std::io;
use std::path::PathBuf;

use hastmon_core::config::{self, Config, NodeName};

use crate::cli::Common;
use crate::os::{host, sysexits};

/// The file and the name of this node.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    path: PathBuf,
    node: NodeName,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The file cannot be read.
    #[error("Cannot read the configuration {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no text.
    #[error("The configuration {} is not valid UTF-8 text (byte {at}); save it as UTF-8", path.display())]
    NotText {
        /// Which file.
        path: PathBuf,
        /// The first byte that is no text.
        at: usize,
    },
    /// The host's name cannot stand in the configuration.
    #[error("{0:?} cannot be the name of a node; name this one with -n")]
    Nameless(String),
    /// The file has errors: all of them, with their places, ready to be read.
    #[error("{0}")]
    Faulty(String),
}

impl LoadError {
    /// What the program exits with.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Unreadable { .. } => sysexits::NOINPUT,
            Self::NotText { .. } | Self::Nameless(_) | Self::Faulty(_) => sysexits::CONFIG,
        }
    }
}

impl Source {
    /// The source that the command line names.
    ///
    /// # Errors
    /// The current directory is gone, so a relative path means nothing; or the host has no usable name.
    pub(crate) fn new(args: &Common) -> Result<Self, LoadError> {
        let name = args.node.clone().unwrap_or_else(host::host_name);
        let node = NodeName::new(&name).map_err(|_| LoadError::Nameless(name))?;
        let path = std::path::absolute(&args.config)
            .map_err(|source| LoadError::Unreadable { path: args.config.clone(), source })?;
        Ok(Self { path, node })
    }

    /// Reads the file and checks it as a whole. Warnings go to the log.
    ///
    /// # Errors
    /// There is no usable configuration.
    pub(crate) fn load(&self) -> Result<Config, LoadError> {
        let path = || self.path.clone();
        let bytes = std::fs::read(&self.path).map_err(|source| LoadError::Unreadable { path: path(), source })?;
        let text = String::from_utf8(bytes)
            .map_err(|error| LoadError::NotText { path: path(), at: error.utf8_error().valid_up_to() })?;
        let outcome = config::load(&text, &self.node);
        let name = self.path.to_string_lossy();
        let rendered = outcome.diagnostics.iter().map(|diagnostic| diagnostic.render(&name, &text));
        match outcome.config {
            Some(config) => {
                for warning in rendered {
                    log::warn!("{}", warning.trim_end());
                }
                Ok(config)
            }
            None => Err(LoadError::Faulty(rendered.collect())),
        }
    }
}
