//! Encryption at rest, from the file that configures it: read at start, and again when it changes.

use anyhow::{Context, Result, bail, ensure};
use fairlead_api::Clock;
use fairlead_codec::yaml;
use fairlead_server::filters::deadline::parse_duration;
use fairlead_storage::Encryption;
use fairlead_storage::encryption::config::EncryptionConfiguration;
use fairlead_storage::encryption::{Keyring, Metrics, sha256};
use fairlead_telemetry::health::Scope;
use fairlead_telemetry::metrics::{Counters, Gauges};
use fairlead_telemetry::{Families, Health};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the configuration stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptionFile {
    pub path: PathBuf,
    /// Whether it is read again when it changes.
    pub reload: bool,
}

/// How often a file that may change is looked at. Upstream waits a minute; the file is small.
const LOOK: Duration = Duration::from_secs(10);

/// What was read, and how to know it again.
struct Loaded {
    keyring: Keyring,
    hash: String,
}

/// Encryption as the file says.
///
/// # Errors
/// The file cannot be read, or what is wrong in it.
pub async fn start(
    file: &EncryptionFile,
    prefix: &str,
    server: &str,
    clock: Arc<dyn Clock>,
    families: &Families,
) -> Result<(Encryption, Reloader)> {
    let outside = Outside {
        clock,
        metrics: Metrics::register(families, server),
    };
    let loaded = load(file, &outside)?;
    loaded.keyring.start().await;
    let reloader = Reloader {
        file: file.clone(),
        hash: loaded.hash,
        told: Told::register(families, server),
        outside: outside.clone(),
    };
    reloader.told.in_force(&reloader.hash, None);
    Ok((Encryption::new(loaded.keyring, prefix, outside.metrics), reloader))
}

/// Adds what upstream's health has of it: one check for all plugins. It is there, too, where plugins may come later.
pub fn watch_over(health: &Health, file: &EncryptionFile, encryption: &Encryption) {
    if !file.reload && !encryption.keyring().has_plugins() {
        return;
    }
    let encryption = encryption.clone();
    health.check("kms-providers", Scope::Serving, move || {
        let keyring = encryption.keyring();
        Box::pin(async move { keyring.health().await })
    });
}

/// What providers need besides their keys.
#[derive(Clone)]
struct Outside {
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// Reads the file again.
pub struct Reloader {
    file: EncryptionFile,
    /// Of the file whose keyring is in force.
    hash: String,
    told: Told,
    outside: Outside,
}

impl Reloader {
    /// Looks at the file until it is dropped. What cannot be used changes nothing.
    pub async fn run(mut self, encryption: Encryption) {
        if !self.file.reload {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(LOOK).await;
            self.look(&encryption).await;
        }
    }

    async fn look(&mut self, encryption: &Encryption) {
        match self.changed().await {
            Ok(None) => {}
            Ok(Some(loaded)) => {
                encryption.replace(loaded.keyring);
                self.told.in_force(&loaded.hash, Some(&self.hash));
                self.told.reloaded("success");
                self.hash = loaded.hash;
                tracing::info!(file = %self.file.path.display(), "the encryption configuration was read again");
            }
            Err(error) => {
                self.told.reloaded("failure");
                let error = format!("{error:#}");
                tracing::error!(
                    error,
                    "the changed encryption configuration cannot be used, the old one stays"
                );
            }
        }
    }

    async fn changed(&self) -> Result<Option<Loaded>> {
        if sha256(&read(&self.file.path)?) == self.hash {
            return Ok(None);
        }
        let loaded = load(&self.file, &self.outside)?;
        loaded.keyring.start().await;
        let health = loaded.keyring.health().await;
        health
            .map_err(anyhow::Error::msg)
            .context("health check for new transformers failed")?;
        Ok(Some(loaded))
    }
}

fn load(file: &EncryptionFile, outside: &Outside) -> Result<Loaded> {
    let path = file.path.display();
    let text = read(&file.path)?;
    let config = parse(&text).map_err(|error| {
        anyhow::anyhow!("error decoding encryption provider configuration file \"{path}\": {error:#}")
    })?;
    let errors: Vec<String> = config.validate(file.reload).iter().map(ToString::to_string).collect();
    match errors.as_slice() {
        [] => {}
        [one] => bail!("error while parsing file: {one}"),
        many => bail!("error while parsing file: [{}]", many.join(", ")),
    }
    let keyring =
        Keyring::new(&config, &outside.clock, &outside.metrics).context("error while building transformers")?;
    Ok(Loaded {
        keyring,
        hash: sha256(&text),
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let shown = path.display();
    let text = std::fs::read(path)
        .with_context(|| format!("error reading encryption provider configuration file \"{shown}\""))?;
    ensure!(
        !text.is_empty(),
        "encryption provider configuration file \"{shown}\" is empty"
    );
    Ok(text)
}

fn parse(text: &[u8]) -> Result<EncryptionConfiguration> {
    let parsed = yaml::parse_strict(text)?;
    if let Some(path) = parsed.duplicates.first() {
        bail!("error converting YAML to JSON: yaml: unmarshal errors:\n  {path}");
    }
    EncryptionConfiguration::from_node(&parsed.node, &parse_duration).map_err(anyhow::Error::msg)
}

/// What is told of the file: upstream's families.
struct Told {
    reloads: Counters,
    last: Gauges,
    info: Gauges,
    /// Which server this is, hashed.
    server: String,
}

impl Told {
    fn register(families: &Families, server: &str) -> Told {
        Told {
            reloads: families.counters(
                "apiserver_encryption_config_controller_automatic_reloads_total",
                "Attempts to use a changed encryption configuration.",
                &["status", "apiserver_id_hash"],
            ),
            last: families.gauges(
                "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds",
                "When a changed encryption configuration was last read.",
                &["status", "apiserver_id_hash"],
            ),
            info: families.gauges(
                "apiserver_encryption_config_controller_last_config_info",
                "The encryption configuration in force, by its hash.",
                &["apiserver_id_hash", "hash"],
            ),
            server: sha256(server.as_bytes()),
        }
    }

    fn in_force(&self, hash: &str, before: Option<&str>) {
        if let Some(before) = before {
            self.info.remove(&[&self.server, before]);
        }
        self.info.with(&[&self.server, hash]).set(1);
    }

    fn reloaded(&self, status: &str) {
        self.reloads.with(&[status, &self.server]).inc();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        self.last.with(&[status, &self.server]).set(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_telemetry::SystemClock;

    const CONFIG: &str = "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n\
        - resources: [secrets]\n  providers:\n  - aescbc: {keys: [{name: NAME, secret: c2VjcmV0IGlzIHNlY3VyZQ==}]}\n";

    fn file(text: &str) -> (tempfile::TempDir, EncryptionFile) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("encryption.yaml");
        std::fs::write(&path, text).unwrap();
        (directory, EncryptionFile { path, reload: true })
    }

    fn outside() -> Outside {
        Outside {
            clock: Arc::new(SystemClock),
            metrics: Metrics::register(&Families::default(), "server"),
        }
    }

    fn refused(text: &str) -> String {
        let (_directory, file) = file(text);
        format!("{:#}", load(&file, &outside()).err().expect("the file is wrong"))
    }

    #[test]
    fn mistakes_are_told_in_upstreams_words() {
        assert!(refused("").ends_with("is empty"));
        assert!(refused("kind: Pod\napiVersion: v1\n").contains("no kind \"Pod\" is registered for version \"v1\""));
        let misspelt = CONFIG.replace("aescbc", "aescbcc");
        assert!(
            refused(&misspelt).contains("strict decoding error: unknown field \"resources[0].providers[0].aescbcc\"")
        );
        let twice = format!("{CONFIG}kind: EncryptionConfiguration\n");
        assert!(refused(&twice).contains("\"kind\" already set"));
        assert_eq!(
            refused(&CONFIG.replace("[secrets]", "[]")),
            "error while parsing file: resources[0].resources: Required value: at least one resources[0].resources is required"
        );
        let masked = format!(
            "{CONFIG}- resources: ['*.*']\n  providers: [{{identity: {{}}}}]\n- resources: [pods]\n  providers: [{{identity: {{}}}}]\n"
        );
        assert_eq!(
            refused(&masked),
            "error while building transformers: resource \"pods\" is masked by earlier rule \"*.*\""
        );
    }

    #[tokio::test]
    async fn a_changed_file_is_used_and_a_broken_one_is_not() {
        let (_directory, file) = file(CONFIG);
        let families = Families::default();
        let (encryption, mut reloader) = start(&file, "/registry", "server", Arc::new(SystemClock), &families)
            .await
            .unwrap();
        let first = encryption.keyring();
        let unchanged = |encryption: &Encryption| std::sync::Arc::ptr_eq(&first, &encryption.keyring());
        reloader.look(&encryption).await;
        assert!(unchanged(&encryption));
        std::fs::write(&file.path, "nonsense: [").unwrap();
        reloader.look(&encryption).await;
        assert!(unchanged(&encryption));
        std::fs::write(&file.path, CONFIG.replace("NAME", "other")).unwrap();
        reloader.look(&encryption).await;
        assert!(!unchanged(&encryption));
        let server = sha256(b"server");
        let count = |status| reloader.told.reloads.with(&[status, &server]).get();
        assert_eq!((count("success"), count("failure")), (1, 1));
        assert_eq!(reloader.told.info.len(), 1);
    }
}
