//! The core's discovery and OpenAPI, learnt as this server itself and kept until they change.

use super::{Core, CoreError};
use crate::discovery::AGGREGATED;
use crate::discovery::documents::{from_aggregated, from_legacy, spoken_of};
use crate::openapi::{Document, v2};
use bytes::Bytes;
use fairlead_api::{GroupVersion, Node, json};
use std::collections::HashMap;
use std::sync::Arc;

/// What is known of one group-version of the core. In the order of the core's discovery.
#[derive(Clone, Debug)]
pub struct CoreGroup {
    pub group_version: GroupVersion,
    pub resources: Arc<Vec<Node>>,
    /// Bytes and hash.
    pub openapi_v3: Option<(Bytes, String)>,
    pub openapi_v2: Option<Bytes>,
}

/// Everything known, and by which tags it is asked for again.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    pub groups: Vec<CoreGroup>,
    tags: [String; 2],
    openapi_v2: String,
    /// URL of each OpenAPI v3 document by its path; it holds the document's hash.
    openapi_v3: HashMap<String, String>,
}

impl Documents {
    /// The documents as they are now; `None` where nothing changed.
    ///
    /// # Errors
    /// The core does not answer, or answers nonsense. What was known before is still the best there is.
    pub async fn learn(&self, core: &Core) -> Result<Option<Documents>, CoreError> {
        let mut new = self.clone();
        let changed = new.learn_groups(core).await?;
        // Without these nothing stands still but `explain`.
        let described = new.learn_openapi(core, changed).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the core's OpenAPI is not known");
            false
        });
        Ok((changed || described).then_some(new))
    }

    async fn learn_groups(&mut self, core: &Core) -> Result<bool, CoreError> {
        let (legacy, groups) = (
            core.get("/api", AGGREGATED, &self.tags[0]).await?,
            core.get("/apis", AGGREGATED, &self.tags[1]).await?,
        );
        if legacy.is_none() && groups.is_none() {
            return Ok(false);
        }
        // One has changed: the other is asked for once more.
        let mut found = Vec::new();
        for (i, (path, answer)) in [("/api", legacy), ("/apis", groups)].into_iter().enumerate() {
            let (bytes, tag) = match answer {
                Some(answer) => answer,
                None => core.get(path, AGGREGATED, "").await?.ok_or(CoreError::Document)?,
            };
            self.tags[i] = tag;
            let document = json::parse(&bytes).map_err(|_| CoreError::Document)?;
            match document.str("kind") {
                "APIGroupDiscoveryList" => aggregated(&document, &mut found),
                // Of before Kubernetes 1.26.
                _ => {
                    self.tags[i].clear();
                    for gv in group_versions(&document) {
                        let resources = core.json(&discovery_path(&gv)).await?;
                        if let Some(resources) = from_legacy(&resources, &gv) {
                            found.push((gv, resources));
                        }
                    }
                }
            }
        }
        if found.is_empty() {
            return Err(CoreError::Document);
        }
        let old = std::mem::take(&mut self.groups);
        let same = old.len() == found.len()
            && old
                .iter()
                .zip(&found)
                .all(|(o, (gv, resources))| o.group_version == *gv && *o.resources == *resources);
        self.groups = found
            .into_iter()
            .map(|(group_version, resources)| {
                let known = old.iter().find(|o| o.group_version == group_version);
                CoreGroup {
                    openapi_v3: known.and_then(|k| k.openapi_v3.clone()),
                    openapi_v2: known.and_then(|k| k.openapi_v2.clone()),
                    group_version,
                    resources: Arc::new(resources),
                }
            })
            .collect();
        Ok(!same)
    }

    async fn learn_openapi(&mut self, core: &Core, groups_changed: bool) -> Result<bool, CoreError> {
        let mut changed = false;
        let index = core.json("/openapi/v3").await?;
        for group in &mut self.groups {
            let path = discovery_path(&group.group_version).trim_start_matches('/').to_owned();
            let url = index.str_at(&["paths", &path, "serverRelativeURL"]).to_owned();
            if url.is_empty() || self.openapi_v3.get(&path) == Some(&url) && group.openapi_v3.is_some() {
                continue;
            }
            // Only a path: whatever else the index says, nobody else is asked.
            if !url.starts_with("/openapi/v3/") {
                continue;
            }
            // One that cannot be had now is asked for again next time.
            if let Ok(Some((bytes, _))) = core.get(&url, "application/json", "").await {
                let document = Document::new(bytes);
                group.openapi_v3 = Some((document.bytes, document.hash));
                self.openapi_v3.insert(path, url);
                changed = true;
            }
        }
        let tag = if groups_changed { "" } else { self.openapi_v2.as_str() };
        if let Some((bytes, tag)) = core.get("/openapi/v2", "application/json", tag).await? {
            let document = v2::parse(&bytes).map_err(|_| CoreError::Document)?;
            for group in &mut self.groups {
                let cut = v2::cut(&document, &group.group_version);
                group.openapi_v2 = cut.map(|cut| json::to_vec(&cut).into());
            }
            self.openapi_v2 = tag;
            changed = true;
        }
        Ok(changed)
    }
}

fn aggregated(document: &Node, found: &mut Vec<(GroupVersion, Vec<Node>)>) {
    for gv in spoken_of(document) {
        if let Some(resources) = from_aggregated(document, &gv) {
            found.push((gv, resources));
        }
    }
}

/// Those of `APIVersions` or an `APIGroupList`.
fn group_versions(document: &Node) -> Vec<GroupVersion> {
    match document.str("kind") {
        "APIVersions" => document
            .list("versions")
            .iter()
            .filter_map(Node::as_str)
            .map(|version| GroupVersion::new("", version))
            .collect(),
        _ => document
            .list("groups")
            .iter()
            .flat_map(|g| {
                g.list("versions")
                    .iter()
                    .map(|v| GroupVersion::new(g.str("name"), v.str("version")))
            })
            .collect(),
    }
}

fn discovery_path(gv: &GroupVersion) -> String {
    if gv.group.is_empty() {
        format!("/api/{}", gv.version)
    } else {
        format!("/apis/{}/{}", gv.group, gv.version)
    }
}
