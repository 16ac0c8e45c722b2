//! DefaultIngressClass: ingresses that name no class get the one that is marked as default.

use super::default_storage_class::newest_marked;
use super::{Plugin, now};
use crate::{Attributes, Cluster};
use fairlead_api::StatusResult;
use futures_util::future::BoxFuture;

#[derive(Default)]
pub struct DefaultIngressClass;

const GROUP: &str = "networking.k8s.io";
const CLASS: &str = "kubernetes.io/ingress.class";
const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

impl Plugin for DefaultIngressClass {
    fn mutates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.creates() && attributes.is_main(GROUP, "ingresses")
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        let ingress = &mut attributes.object;
        let annotated = ingress.annotations().is_some_and(|annotations| annotations.contains_key(CLASS));
        let named = ingress.at(&["spec", "ingressClassName"]).is_some_and(|name| !name.is_null());
        if !annotated && !named {
            let classes = cluster.lookup.list(GROUP, "ingressclasses", "");
            if let Some(class) = newest_marked(classes, &[IS_DEFAULT]) {
                ingress.set_at(&["spec", "ingressClassName"], class.name());
            }
        }
        now(Ok(()))
    }
}
