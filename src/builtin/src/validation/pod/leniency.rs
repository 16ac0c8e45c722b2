//! [`Leniency`]: what an update may keep although a new pod could not have it.

use super::super::at::At;
use super::{resources, scheduling, security, spread, volumes};
use fairlead_api::{FieldErrors, Node};

/// Rules that are looser because the stored object already broke them, and where the spec stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leniency {
    /// The spec is a pod's own, not a template's.
    pub is_pod: bool,
    pub deletion_cost: bool,
    pub affinity_label_values: bool,
    pub node_affinity_label_values: bool,
    pub huge_pages: bool,
    pub spread_selector: bool,
    pub spread_label_keys: bool,
    pub token_path: bool,
    pub host_sysctls: bool,
    pub selinux_policy: bool,
    pub comparison_tolerations: bool,
    pub devices_in_user_namespaces: bool,
    pub restarting_init_containers: bool,
}

impl Leniency {
    pub fn of_new_pod() -> Leniency {
        Leniency {
            is_pod: true,
            ..Leniency::default()
        }
    }

    /// Of an update of a pod.
    pub fn of_pod(old: &Node) -> Leniency {
        Leniency {
            is_pod: true,
            deletion_cost: super::annotations::deletion_cost_is_broken(old),
            ..Leniency::of_spec(old.get("spec"))
        }
    }

    /// Of an update of what has a template; `None` where it had none.
    pub fn of_template(old: Option<&Node>) -> Leniency {
        let Some(old) = old else { return Leniency::default() };
        Leniency {
            deletion_cost: super::annotations::deletion_cost_is_broken(old),
            ..Leniency::of_spec(old.get("spec"))
        }
    }

    fn of_spec(spec: Option<&Node>) -> Leniency {
        let Some(spec) = spec else { return Leniency::default() };
        let at = At::named(spec, "spec");
        let strict = Leniency::default();
        let broken = |check: &dyn Fn(&mut FieldErrors)| {
            let mut errors = FieldErrors::new();
            check(&mut errors);
            !errors.is_empty()
        };
        Leniency {
            is_pod: false,
            deletion_cost: false,
            affinity_label_values: scheduling::has_bad_affinity_values(&at),
            node_affinity_label_values: scheduling::has_bad_node_affinity_values(&at),
            huge_pages: resources::has_broken_huge_pages(&at),
            spread_selector: broken(&|errors| spread::selectors(&at, errors)),
            spread_label_keys: broken(&|errors| spread::label_keys(&at, errors)),
            token_path: volumes::has_token_path_outside(&at),
            host_sysctls: broken(&|errors| security::host_sysctls(&at, errors)),
            selinux_policy: at.node.at(&["securityContext", "seLinuxChangePolicy"]).is_some(),
            comparison_tolerations: at
                .list("tolerations")
                .iter()
                .any(|toleration| matches!(toleration.str("operator"), "Lt" | "Gt")),
            devices_in_user_namespaces: broken(&|errors| security::devices_in_user_namespaces(&at, &strict, errors)),
            restarting_init_containers: at.each("initContainers").any(|container| {
                let mut policies = container.list("resizePolicy").iter();
                container.str("restartPolicy") != "Always"
                    && policies.any(|policy| policy.str("restartPolicy") == "RestartContainer")
            }),
        }
    }
}
