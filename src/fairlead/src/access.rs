//! Authentication and authorization, put together from the configuration.

use crate::config::{Config, Mode};
use crate::core_access::{CoreAuthorizer, CoreTokens};
use crate::identity::{FRONT_PROXY_NAME, Identity};
use crate::sight::Counted;
use anyhow::{Context, Result, ensure};
use fairlead_api::{Clock, StatusResult};
use fairlead_auth::authentication::anonymous::Anonymous;
use fairlead_auth::authentication::bootstrap_token::BootstrapTokens;
use fairlead_auth::authentication::keys::SigningKey;
use fairlead_auth::authentication::request_header::{FrontProxy, IdentityHeaders};
use fairlead_auth::authentication::service_account::issuer::Issuer;
use fairlead_auth::authentication::service_account::{Config as TokenConfig, ServiceAccountTokens};
use fairlead_auth::authentication::token_file::TokenFile;
use fairlead_auth::authentication::trust::Authorities;
use fairlead_auth::authentication::union::Union as Authenticators;
use fairlead_auth::authentication::x509::ClientCertificates;
use fairlead_auth::authorization::forbidden::forbidden;
use fairlead_auth::authorization::node::NodeAuthorizer;
use fairlead_auth::authorization::rbac::Rbac;
use fairlead_auth::authorization::union::{AlwaysAllow, AlwaysDeny, Masters, Union as Authorizers};
use fairlead_auth::{Authenticator, Authorizer, AuthzAttributes, Decision, ObjectSource, bootstrap};
use fairlead_builtin::auth::Auth;
use fairlead_discovery::Router;
use fairlead_gateway::Core;
use fairlead_resource::{AuthorizeCreate, Request};
use fairlead_telemetry::Families;
use futures_util::future::BoxFuture;
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Who decides about requests.
pub struct Access {
    pub authenticator: Arc<dyn Authenticator>,
    pub authorizer: Arc<dyn Authorizer>,
    pub rbac: Option<Arc<Rbac>>,
    /// Headers that name users, to be removed from every request.
    pub identity_headers: IdentityHeaders,
    /// For the ConfigMap by which others learn whom to trust.
    pub client_ca_pem: String,
    pub request_header: RequestHeader,
}

/// The core this server stands in front of, and who knows what goes there.
pub struct Behind {
    pub core: Core,
    pub router: Arc<OnceLock<Router>>,
}

/// The front-proxy settings that are in force.
pub struct RequestHeader {
    pub ca_pem: String,
    pub allowed_names: Vec<String>,
    pub headers: IdentityHeaders,
}

impl Access {
    /// # Errors
    /// A file cannot be read, or what the flags say together would let clients choose their names.
    pub fn new(
        config: &Config,
        identity: &Identity,
        objects: Arc<dyn ObjectSource>,
        clock: Arc<dyn Clock>,
        families: &Families,
        core: Option<Behind>,
    ) -> Result<Access> {
        let client_ca_pem = match &config.authentication.client_ca {
            Some(path) => read(path)?,
            None => identity.authority_pem.clone(),
        };
        let request_header = request_header(config, identity)?;
        let tokens = core.as_ref().map(|behind| CoreTokens::new(behind.core.clone()));
        let authenticator = authenticator(
            config,
            identity,
            &client_ca_pem,
            &request_header,
            &objects,
            clock,
            tokens,
        )?;
        let mut authorizers: Vec<Arc<dyn Authorizer>> = vec![Arc::new(Masters)];
        let mut rbac = None;
        let modes = match core {
            // Users and their roles are the core's: nobody could write any here.
            Some(Behind { core, router }) => {
                authorizers.push(Arc::new(CoreAuthorizer::new(core, router)));
                &[]
            }
            None => config.authorization_modes.as_slice(),
        };
        for mode in modes {
            let (authorizer, kind, name): (Arc<dyn Authorizer>, _, _) = match mode {
                Mode::Node => {
                    let node = NodeAuthorizer::new(objects.clone(), bootstrap::node_rules());
                    (Arc::new(node), "Node", "node")
                }
                Mode::Rbac => {
                    let one = Arc::new(Rbac::new(objects.clone()));
                    rbac = Some(one.clone());
                    (one, "RBAC", "rbac")
                }
                Mode::AlwaysAllow => (Arc::new(AlwaysAllow), "AlwaysAllow", "alwaysallow"),
                Mode::AlwaysDeny => (Arc::new(AlwaysDeny), "AlwaysDeny", "alwaysdeny"),
            };
            authorizers.push(Counted::new(authorizer, kind, name, families));
        }
        Ok(Access {
            authenticator,
            authorizer: Arc::new(Authorizers(authorizers)),
            rbac,
            identity_headers: request_header.headers.clone(),
            client_ca_pem,
            request_header,
        })
    }

    /// What the hooks of reviews, tokens and roles ask. `signing` is `None` where tokens cannot be issued.
    pub fn hooks(&self, config: &Config, signing: Option<SigningKey>, objects: Arc<dyn ObjectSource>) -> Auth {
        let accounts = &config.service_accounts;
        let issuer = |key| {
            let mut issuer = Issuer::new(
                key,
                accounts.issuers.first().cloned().unwrap_or_default(),
                accounts.audiences.clone(),
            );
            issuer.max_expiration_seconds = i64::try_from(accounts.max_expiration.as_secs()).unwrap_or(i64::MAX);
            issuer.extend_expiration = accounts.extend_expiration;
            Arc::new(issuer)
        };
        Auth {
            authenticator: self.authenticator.clone(),
            audiences: accounts.audiences.clone(),
            authorizer: self.authorizer.clone(),
            // Grants are checked by RBAC's rules in every mode.
            rbac: self
                .rbac
                .clone()
                .unwrap_or_else(|| Arc::new(Rbac::new(objects.clone()))),
            objects,
            issuer: signing.map(issuer),
        }
    }
}

fn request_header(config: &Config, identity: &Identity) -> Result<RequestHeader> {
    Ok(match &config.authentication.front_proxy {
        Some(given) => RequestHeader {
            ca_pem: read(&given.ca)?,
            allowed_names: given.allowed_names.clone(),
            headers: given.headers.clone(),
        },
        None => RequestHeader {
            ca_pem: identity.front_proxy.authority_pem.clone(),
            allowed_names: vec![FRONT_PROXY_NAME.into()],
            headers: IdentityHeaders::default(),
        },
    })
}

fn authenticator(
    config: &Config,
    identity: &Identity,
    client_ca_pem: &str,
    request_header: &RequestHeader,
    objects: &Arc<dyn ObjectSource>,
    clock: Arc<dyn Clock>,
    core: Option<CoreTokens>,
) -> Result<Arc<dyn Authenticator>> {
    let authorities = |pem: &str| Authorities::from_pem(pem.as_bytes());
    let client_ca = authorities(client_ca_pem).context("--client-ca-file holds no usable certificate")?;
    let proxy_ca =
        authorities(&request_header.ca_pem).context("--requestheader-client-ca-file holds no usable certificate")?;
    let proxy = FrontProxy::new(
        proxy_ca,
        request_header.allowed_names.clone(),
        request_header.headers.clone(),
        clock.clone(),
    );
    ensure!(
        !proxy.trusts_clients_of(&client_ca),
        "--requestheader-client-ca-file and --client-ca-file share a CA: --requestheader-allowed-names must say which of its certificates are proxies"
    );
    let mut known: Vec<Arc<dyn Authenticator>> = vec![Arc::new(proxy)];
    known.push(Arc::new(ClientCertificates::new(client_ca, clock.clone())));
    if config.authentication.client_ca.is_some() {
        // The administrator's own certificate stays good beside a CA that was given.
        let own = authorities(&identity.authority_pem).context("the generated CA is damaged")?;
        known.push(Arc::new(ClientCertificates::new(own, clock.clone())));
    }
    if let Some(path) = &config.authentication.token_file {
        let tokens =
            TokenFile::parse(&read(path)?).with_context(|| format!("{} is not a token file", path.display()))?;
        known.push(Arc::new(tokens));
    }
    let tokens = TokenConfig {
        issuers: config.service_accounts.issuers.clone(),
        audiences: config.service_accounts.audiences.clone(),
        keys: identity.tokens.verify.clone(),
        ..TokenConfig::default()
    };
    known.push(Arc::new(ServiceAccountTokens::new(
        tokens,
        objects.clone(),
        clock.clone(),
    )));
    if config.authentication.bootstrap_tokens {
        known.push(Arc::new(BootstrapTokens::new(objects.clone(), clock)));
    }
    if let Some(tokens) = core {
        known.push(Arc::new(tokens));
    }
    let anonymous = config
        .authentication
        .anonymous
        .then(|| Arc::new(Anonymous::new(Vec::new())) as Arc<dyn Authenticator>);
    Ok(Arc::new(Authenticators {
        authenticators: known,
        audiences: config.service_accounts.audiences.clone(),
        anonymous,
    }))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Whether a user may create what his update is about to create.
pub struct CreateByUpdate(pub Arc<dyn Authorizer>);

impl AuthorizeCreate for CreateByUpdate {
    fn authorize_create<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(async move {
            let attributes = AuthzAttributes {
                user: request.user.clone(),
                verb: "create".into(),
                namespace: request.namespace.clone(),
                group: request.definition.group.clone(),
                version: request.definition.version.clone(),
                resource: request.definition.plural.clone(),
                subresource: request.subresource.clone(),
                name: request.name.clone(),
                resource_request: true,
                ..AuthzAttributes::default()
            };
            match self.0.authorize(&attributes).await {
                (Decision::Allow, _) => Ok(()),
                (_, reason) => Err(forbidden(&attributes, &reason)),
            }
        })
    }
}
