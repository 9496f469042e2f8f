//! Where the configuration comes from: the file and the node's name. Reads and checks; changes nothing.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use hastmon_core::config::{self, Config, NodeName};
use zeroize::Zeroizing;

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
    #[error("{brief}")]
    Faulty {
        /// In one line, for the log.
        brief: String,
        /// With source lines and carets, to be read as it is.
        report: String,
    },
}

impl LoadError {
    /// What the program exits with.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Unreadable { .. } => sysexits::NOINPUT,
            Self::NotText { .. } | Self::Nameless(_) | Self::Faulty { .. } => sysexits::CONFIG,
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
        let (config, warnings) = self.read()?;
        warnings.iter().for_each(|warning| log::warn!("{warning}"));
        Ok(config)
    }

    /// The same, with the warnings as lines.
    ///
    /// # Errors
    /// There is no usable configuration.
    pub(crate) fn read(&self) -> Result<(Config, Vec<String>), LoadError> {
        self.read_as(&self.node)
    }

    /// The same, as another node reads it.
    ///
    /// # Errors
    /// There is no usable configuration.
    pub(crate) fn read_as(&self, node: &NodeName) -> Result<(Config, Vec<String>), LoadError> {
        let path = || self.path.clone();
        let unreadable = |source| LoadError::Unreadable { path: path(), source };
        // It may hold secrets, and is wiped.
        let bytes = Zeroizing::new(std::fs::read(&self.path).map_err(unreadable)?);
        let text = std::str::from_utf8(&bytes)
            .map_err(|error| LoadError::NotText { path: path(), at: error.valid_up_to() })?;
        let outcome = config::load(text, node);
        let name = self.path.to_string_lossy();
        let briefs = outcome.diagnostics.iter().map(|diagnostic| diagnostic.brief(&name, text));
        match outcome.config {
            Some(config) => Ok((config, briefs.collect())),
            None => Err(LoadError::Faulty {
                brief: briefs.collect::<Vec<_>>().join("; "),
                report: outcome.diagnostics.iter().map(|diagnostic| diagnostic.render(&name, text) + "\n").collect(),
            }),
        }
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Says what in this configuration helps an attacker. For the daemon, at its start and when the file is read again.
    pub(crate) fn warn_of_weak_secrets(&self, config: &Config) {
        for (resource, warning) in self.weak_secrets(config) {
            match resource {
                Some(name) => log::warn!(target: name, "{warning}"),
                None => log::warn!("{warning}"),
            }
        }
    }

    /// What in this configuration helps an attacker: of a resource, or of the whole.
    pub(crate) fn weak_secrets<'a>(&self, config: &'a Config) -> Vec<(Option<&'a str>, String)> {
        let mut found = Vec::new();
        let keys = || config.resources.iter().filter_map(|resource| Some((resource, resource.key.as_ref()?)));
        let mode = std::fs::metadata(&self.path).map(|file| file.permissions().mode());
        if keys().next().is_some() && mode.is_ok_and(|mode| mode & OTHERS_MAY_READ != 0) {
            let path = self.path.display();
            let warning =
                format!("{path} holds a secret and may be read by everybody on this machine: chmod 600 {path}");
            found.push((None, warning));
        }
        for (resource, key) in keys().filter(|(_, key)| key.secret.as_bytes().len() < MIN_SECRET) {
            let length = key.secret.as_bytes().len();
            let warning = format!(
                "the secret of its key has {length} bytes, so it can be guessed from recorded traffic: use {MIN_SECRET} or more"
            );
            found.push((Some(resource.name.as_str()), warning));
        }
        let open: Vec<&str> = config.resources.iter().filter(|r| r.key.is_none()).map(|r| r.name.as_str()).collect();
        if let Some((first, rest)) = open.split_first() {
            let rest = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            found.push((
                None,
                format!(
                    "no key for {first}{rest}: who can use the address of a friend or remote can speak for it; set a key, or keep strangers off the network"
                ),
            ));
        }
        found
    }
}

/// The bit of a file's mode that lets everybody read it.
const OTHERS_MAY_READ: u32 = 0o004;
/// Bytes of a secret that cannot be guessed by trying: 16 random letters and digits are worth over 80 bits.
const MIN_SECRET: usize = 16;
