//! How pods are replaced when their template changes.

use super::super::at::At;
use super::super::shown;
use super::{int_or_percent, percent_limit, value_of};
use fairlead_api::{FieldError, FieldErrors, Node};

pub fn of_deployment(spec: &At, errors: &mut FieldErrors) {
    let strategy = spec.part("strategy");
    match strategy.str("type") {
        "Recreate" => {
            if strategy.has("rollingUpdate") {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                strategy.forbidden("rollingUpdate", detail, errors);
            }
        }
        "RollingUpdate" => match strategy.get("rollingUpdate") {
            None => strategy.required("rollingUpdate", "this should be defaulted and never be nil", errors),
            Some(rolling) => {
                int_or_percent(&rolling, "maxUnavailable", errors);
                int_or_percent(&rolling, "maxSurge", errors);
                if value_of(&rolling, "maxUnavailable") == 0 && value_of(&rolling, "maxSurge") == 0 {
                    let detail = "may not be 0 when `maxSurge` is 0";
                    rolling.invalid_shown("maxUnavailable", text_of(&rolling, "maxUnavailable"), detail, errors);
                }
                percent_limit(&rolling, "maxUnavailable", errors);
            }
        },
        _ => unsupported(
            &strategy,
            "apps.DeploymentStrategy",
            &["Recreate", "RollingUpdate"],
            errors,
        ),
    }
}

pub fn of_daemon_set(spec: &At, errors: &mut FieldErrors) {
    let strategy = spec.part("updateStrategy");
    match strategy.str("type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let Some(rolling) = strategy.get("rollingUpdate") else {
                return strategy.required("rollingUpdate", "", errors);
            };
            for check in [int_or_percent, percent_limit] {
                check(&rolling, "maxUnavailable", errors);
                check(&rolling, "maxSurge", errors);
            }
            let (unavailable, surge) = (value_of(&rolling, "maxUnavailable"), value_of(&rolling, "maxSurge"));
            if unavailable != 0 && surge != 0 {
                let detail = "may not be set when maxUnavailable is non-zero";
                rolling.invalid_shown("maxSurge", text_of(&rolling, "maxSurge"), detail, errors);
            } else if unavailable == 0 && surge == 0 {
                rolling.required("maxUnavailable", "cannot be 0 when maxSurge is 0", errors);
            }
        }
        _ => unsupported(
            &strategy,
            "apps.DaemonSetUpdateStrategy",
            &["RollingUpdate", "OnDelete"],
            errors,
        ),
    }
}

pub fn of_stateful_set(spec: &At, errors: &mut FieldErrors) {
    let strategy = spec.part("updateStrategy");
    let rolling = strategy.get("rollingUpdate");
    match (strategy.str("type"), rolling) {
        ("", _) => strategy.required("", "", errors),
        ("OnDelete", Some(rolling)) => {
            let text = shown::json("apps.RollingUpdateStatefulSetStrategy", Some(rolling.node));
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            rolling.invalid_shown("", text, detail, errors);
        }
        ("RollingUpdate", Some(rolling)) => {
            rolling.non_negative("partition", errors);
            if rolling.has("maxUnavailable") {
                int_or_percent(&rolling, "maxUnavailable", errors);
                if value_of(&rolling, "maxUnavailable") == 0 {
                    let text = text_of(&rolling, "maxUnavailable");
                    rolling.invalid_shown("maxUnavailable", text, "cannot be 0", errors);
                }
                percent_limit(&rolling, "maxUnavailable", errors);
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => {
            let text = shown::json("apps.StatefulSetUpdateStrategy", Some(strategy.node));
            strategy.invalid_shown("", text, "must be 'RollingUpdate' or 'OnDelete'", errors);
        }
    }
}

/// COMPAT: the whole strategy is what is told to be unsupported.
fn unsupported(strategy: &At, kind: &str, supported: &[&str], errors: &mut FieldErrors) {
    let text = shown::json(kind, Some(strategy.node));
    errors.push(FieldError::not_supported(&strategy.path(), Node::Null, supported).showing(text));
}

fn text_of(at: &At, field: &str) -> String {
    match at.node.get(field) {
        None => "0".into(),
        value => shown::json("any", value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn deployments_must_be_able_to_move() {
        let check = |rolling: Node| {
            let spec = node!({"strategy": {"type": "RollingUpdate"}});
            let mut spec = spec;
            spec.set_at(&["strategy", "rollingUpdate"], rolling);
            let mut errors = Vec::new();
            of_deployment(&At::named(&spec, "spec"), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(check(node!({"maxSurge": 1, "maxUnavailable": 0})).is_empty());
        assert_eq!(
            check(node!({"maxSurge": "0%", "maxUnavailable": 0})),
            ["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"]
        );
        assert_eq!(
            check(node!({"maxSurge": 1, "maxUnavailable": "101%"})),
            [r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%"#]
        );
    }
}
