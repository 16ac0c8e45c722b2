//! `fairlead backup` and `fairlead restore`: copies of the embedded store.
//!
//! A backup is asked for at the server, over TLS and with a kubeconfig: that works from another machine, is authorized
//! and audited like every request, and needs no second process in the data directory. What arrives is checked row by
//! row before it gets the name that was asked for.

use crate::kubeconfig::{self, Target};
use anyhow::{Context, Result, bail, ensure};
use fairlead_gateway::download::{ApiServer, download};
use fairlead_gateway::tls::{ClientIdentity, Trust};
use fairlead_server::backup::{BackupSource, PATH};
use fairlead_storage::embedded::{Summary, restore, verify};
use fairlead_storage::{Embedded, store};
use futures_util::future::BoxFuture;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const BACKUP_USAGE: &str = "Usage:\n  fairlead backup FILE [--kubeconfig FILE] [--data-dir DIR]\n\n\
    Asks a running server for a copy of its store, checks it and writes it to FILE.\n\n\
    \x20     --kubeconfig string   Which server, and as whom; admin.kubeconfig under --data-dir if not set.\n\
    \x20     --data-dir string     The server's data, to find the kubeconfig in. (default fairlead-data)\n";
const RESTORE_USAGE: &str = "Usage:\n  fairlead restore FILE [--data-dir DIR]\n\n\
    Makes a backup the store of a new data directory. The server must not run.\n\n\
    \x20     --data-dir string     Where the new server's data lies. (default fairlead-data)\n";

/// What stands behind the first word of the command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Backup { file: PathBuf, kubeconfig: PathBuf },
    Restore { file: PathBuf, data: PathBuf },
    Help(&'static str),
}

impl Command {
    /// `None` where the command line is one of the server's.
    ///
    /// # Errors
    /// One sentence that names the argument.
    pub fn parse(arguments: &[String]) -> Result<Option<Command>> {
        let Some((word, rest)) = arguments.split_first() else {
            return Ok(None);
        };
        let (usage, flags): (_, &[&str]) = match word.as_str() {
            "backup" => (BACKUP_USAGE, &["kubeconfig", "data-dir"]),
            "restore" => (RESTORE_USAGE, &["data-dir"]),
            _ => return Ok(None),
        };
        let (mut files, mut given) = (Vec::new(), std::collections::HashMap::new());
        let mut rest = rest.iter();
        while let Some(argument) = rest.next() {
            if matches!(argument.as_str(), "--help" | "-h") {
                return Ok(Some(Command::Help(usage)));
            }
            let Some(flag) = argument.strip_prefix("--") else {
                files.push(PathBuf::from(argument));
                continue;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            ensure!(flags.contains(&name), "unknown flag: --{name}\n\n{usage}");
            let value = value.or_else(|| rest.next().cloned());
            given.insert(
                name,
                PathBuf::from(value.with_context(|| format!("flag needs a value: --{name}"))?),
            );
        }
        let [file] = files.as_slice() else {
            bail!("one FILE is needed\n\n{usage}");
        };
        let (file, data) = (
            file.clone(),
            given.remove("data-dir").unwrap_or_else(|| "fairlead-data".into()),
        );
        Ok(Some(match word.as_str() {
            "backup" => Command::Backup {
                file,
                kubeconfig: given
                    .remove("kubeconfig")
                    .unwrap_or_else(|| data.join("admin.kubeconfig")),
            },
            _ => Command::Restore { file, data },
        }))
    }

    /// Does it, and answers what there is to say about it.
    ///
    /// # Errors
    /// One sentence; then nothing has changed.
    pub async fn run(self) -> Result<String> {
        match self {
            Command::Help(usage) => Ok(usage.into()),
            Command::Backup { file, kubeconfig } => {
                let Summary { revision, rows } = backup(&file, &kubeconfig).await?;
                Ok(format!(
                    "{} holds revision {} ({rows} versions of objects)\n",
                    file.display(),
                    revision.0
                ))
            }
            Command::Restore { file, data } => {
                let directory = data.join("store");
                let restored = tokio::task::spawn_blocking({
                    let (file, directory) = (file.clone(), directory.clone());
                    move || {
                        crate::files::make_directory(&data)?;
                        restore(&file, &directory).context("nothing was restored")
                    }
                });
                let Summary { revision, rows } = restored.await??;
                Ok(format!(
                    "{} holds {} ({rows} versions of objects), going on at revision {}\n",
                    directory.display(),
                    file.display(),
                    revision.0
                ))
            }
        }
    }
}

async fn backup(file: &Path, kubeconfig: &Path) -> Result<Summary> {
    let target = kubeconfig::read(kubeconfig)?;
    let mut fresh = file.as_os_str().to_owned();
    fresh.push(".partial");
    let part = Part(fresh);
    fetch(&target, &part).await?;
    let summary = tokio::task::spawn_blocking({
        let path = PathBuf::from(&part.0);
        move || verify(&path)
    });
    let summary = summary.await?.context("what arrived is not a whole backup")?;
    std::fs::rename(&part.0, file).with_context(|| format!("cannot write {}", file.display()))?;
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(summary)
}

async fn fetch(target: &Target, part: &Part) -> Result<()> {
    let identity = match &target.certificate {
        Some((certificate, key)) => {
            Some(ClientIdentity::from_pem(certificate, key).context("the kubeconfig's client certificate")?)
        }
        None => None,
    };
    let server = ApiServer {
        url: &target.server,
        trust: match &target.authority {
            _ if target.insecure => Trust::Insecure,
            Some(pem) => Trust::Bundle(pem),
            None => Trust::System,
        },
        identity: identity.as_ref(),
        token: target.token.as_deref(),
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part.0)
        .with_context(|| format!("cannot write {}", Path::new(&part.0).display()))?;
    let taken = download(&server, PATH, &mut |piece| file.write_all(&piece)).await;
    taken
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("no backup from {}", target.server))?;
    file.sync_all()?;
    Ok(())
}

/// Removed when dropped, unless it has got its name by then.
struct Part(OsString);

impl Drop for Part {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

/// The embedded store as a source of backups.
pub struct EmbeddedBackup(pub Embedded);

impl BackupSource for EmbeddedBackup {
    fn backup(&self) -> BoxFuture<'_, store::Result<(File, u64)>> {
        Box::pin(async {
            let backup = self.0.backup().await?;
            Ok((backup.file, backup.bytes))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Command>> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Command::parse(&arguments)
    }

    #[test]
    fn the_first_word_tells_commands_from_flags() {
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse("--secure-port=0 backup").unwrap(), None);
        assert_eq!(
            parse("backup a.db --data-dir=/d").unwrap(),
            Some(Command::Backup {
                file: "a.db".into(),
                kubeconfig: "/d/admin.kubeconfig".into()
            })
        );
        assert_eq!(
            parse("restore --data-dir /d a.db").unwrap(),
            Some(Command::Restore {
                file: "a.db".into(),
                data: "/d".into()
            })
        );
        assert!(matches!(parse("restore --help").unwrap(), Some(Command::Help(_))));
        for (wrong, why) in [
            ("backup", "one FILE is needed"),
            ("backup a b", "one FILE is needed"),
            ("restore a --kubeconfig=x", "unknown flag: --kubeconfig"),
            ("backup a --data-dir", "flag needs a value: --data-dir"),
        ] {
            assert!(parse(wrong).unwrap_err().to_string().starts_with(why), "{wrong}");
        }
    }
}
