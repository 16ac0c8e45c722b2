//! Addresses, address families and node ports of services.

use super::{needs_address, needs_health_check, needs_node_port};
use crate::allocators::{Allocators, Owner, Reservation};
use crate::validation::at::At;
use crate::validation::services::cluster_ips;
use crate::value::{copy, each, int, list};
use fairlead_api::{FieldError, FieldErrors, FieldPath, GroupKind, Node, Status, StatusResult};
use fairlead_resource::HookContext;
use std::net::IpAddr;

/// Clients may leave out what was given to the service before: they need not read to write.
pub fn keep_allocated(spec: &mut Node, old: &Node) {
    if needs_address(old) && needs_address(spec) {
        for field in ["clusterIP", "clusterIPs"] {
            if spec.get(field).is_none() {
                copy(spec, old, &[field]);
            }
        }
    }
    if needs_node_port(old) && needs_node_port(spec) {
        let ports = |spec: &Node| -> Vec<(String, i64)> {
            list(spec, &["ports"])
                .iter()
                .map(|p| (p.str("name").to_owned(), int(p, &["nodePort"])))
                .collect()
        };
        let (before, wanted) = (ports(old), ports(spec));
        each(spec, "ports", |port| {
            if int(port, &["nodePort"]) == 0
                && let Some((_, number)) = before.iter().rfind(|(name, _)| name == port.str("name"))
                && *number != 0
                && !wanted.iter().any(|(_, used)| used == number)
            {
                port.set("nodePort", *number);
            }
        });
    }
    if needs_health_check(old) && needs_health_check(spec) && spec.get("healthCheckNodePort").is_none() {
        copy(spec, old, &["healthCheckNodePort"]);
    }
}

/// Guesses the list of addresses where a client knows only the single one.
pub fn align_addresses(spec: &mut Node, old: &Node) {
    if spec.get("clusterIPs").is_none() && spec.get("clusterIP") == old.get("clusterIP") {
        copy(spec, old, &["clusterIPs"]);
    }
    if spec.get("clusterIP") != old.get("clusterIP") && spec.get("clusterIPs") == old.get("clusterIPs") {
        match spec.get("clusterIP").cloned() {
            None => drop(spec.remove("clusterIPs")),
            Some(address) => spec.set("clusterIPs", vec![address]),
        }
    }
}

/// Gives a new service what it needs.
pub async fn create(
    allocators: &Allocators,
    service: &mut Node,
    context: &HookContext<'_>,
) -> StatusResult<Reservation> {
    init_families(allocators, service, None)?;
    let mut reservation = allocators.reserve(Owner::of(service), context.dry_run);
    give_addresses(&mut reservation, service, context).await?;
    if matches!(service.str_at(&["spec", "type"]), "NodePort" | "LoadBalancer") {
        give_node_ports(&mut reservation, service, &[], context).await?;
    }
    if needs_health_check(spec(service)) {
        give_health_check(&mut reservation, service, context).await?;
    }
    Ok(reservation)
}

/// Gives a changed service what it needs now, and takes back what it needs no more.
pub async fn update(
    allocators: &Allocators,
    service: &mut Node,
    old: &Node,
    context: &HookContext<'_>,
) -> StatusResult<Reservation> {
    init_families(allocators, service, Some(old))?;
    let mut reservation = allocators.reserve(Owner::of(service), context.dry_run);
    update_addresses(&mut reservation, service, old, context).await?;
    let ports = |service: &Node| -> Vec<i64> {
        list(service, &["spec", "ports"])
            .iter()
            .map(|p| int(p, &["nodePort"]))
            .filter(|p| *p != 0)
            .collect()
    };
    let before = ports(old);
    if matches!(service.str_at(&["spec", "type"]), "NodePort" | "LoadBalancer") {
        give_node_ports(&mut reservation, service, &before, context).await?;
    }
    let now = ports(service);
    before
        .iter()
        .filter(|port| !now.contains(port))
        .for_each(|port| reservation.return_port(*port));
    match (needs_health_check(spec(old)), needs_health_check(spec(service))) {
        (false, true) => give_health_check(&mut reservation, service, context).await?,
        (true, false) => reservation.return_port(int(old, &["spec", "healthCheckNodePort"])),
        _ => {}
    }
    Ok(reservation)
}

fn spec(service: &Node) -> &Node {
    static NONE: Node = Node::Null;
    service.get("spec").unwrap_or(&NONE)
}

fn is_headless(service: &Node) -> bool {
    service.str_at(&["spec", "clusterIP"]) == "None"
}

fn has_selector(service: &Node) -> bool {
    service.at(&["spec", "selector"]).is_some_and(|s| !s.is_zero())
}

fn strings(service: &Node, field: &str) -> Vec<String> {
    list(service, &["spec", field])
        .iter()
        .filter_map(Node::as_str)
        .map(str::to_owned)
        .collect()
}

fn set_strings(service: &mut Node, field: &str, values: &[String]) {
    let values: Vec<Node> = values.iter().map(|v| Node::string(v.as_str())).collect();
    service.set_at(&["spec", field], values);
}

fn other(family: &str) -> &'static str {
    if family == "IPv4" { "IPv6" } else { "IPv4" }
}

/// Decides the policy and the families, where the client did not.
fn init_families(allocators: &Allocators, service: &mut Node, old: Option<&Node>) -> StatusResult<()> {
    const POLICY: [&str; 2] = ["spec", "ipFamilyPolicy"];
    if !needs_address(spec(service)) || old.is_some_and(|old| is_unchanged_preference(service, old)) {
        return Ok(());
    }
    if service.at(&POLICY).is_none() {
        let before = old.map_or("", |old| old.str_at(&POLICY));
        let policy = match before {
            "" if is_headless(service) && !has_selector(service) => "RequireDualStack",
            "" => "SingleStack",
            before => before,
        };
        service.set_at(&POLICY, policy);
    }
    let single = service.str_at(&POLICY) == "SingleStack";
    let mut errors = FieldErrors::new();
    cluster_ips(
        &At::root(service).part("spec"),
        old.and_then(|old| old.get("spec")),
        &mut errors,
    );
    refuse(service, std::mem::take(&mut errors))?;
    let path = FieldPath::new("spec.ipFamilyPolicy");
    let policy = Node::string(service.str_at(&POLICY));
    if let Some(old) = old {
        reduce(service, old, single, &path, &policy, &mut errors);
    }
    for (field, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
        if single && list(service, &["spec", field]).len() == 2 {
            let detail = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            errors.push(FieldError::invalid(&path, policy.clone(), detail));
        }
    }
    let configured: Vec<&str> = allocators.families().collect();
    let addresses = strings(service, "clusterIPs");
    let mut families = strings(service, "ipFamilies");
    for (i, address) in addresses
        .iter()
        .enumerate()
        .take_while(|(_, a)| *a != "None")
        .skip(families.len())
    {
        let family = if address.contains(':') { "IPv6" } else { "IPv4" };
        match configured.contains(&family) {
            true => families.push(family.into()),
            false => errors.push(FieldError::invalid(
                &FieldPath::new("spec.clusterIPs").index(i),
                service.at(&["spec", "clusterIPs"]).cloned().unwrap_or_default(),
                format!("{family} is not configured on this cluster"),
            )),
        }
    }
    refuse(service, errors)?;

    let primary = configured.first().copied().unwrap_or("IPv4");
    if is_headless(service) && !has_selector(service) {
        // Endpoints of a headless service without a selector may be of any family, configured or not.
        if families.is_empty() {
            families.push(primary.into());
        }
        if families.len() < 2 && !single {
            families.push(other(&families[0]).into());
        }
        set_strings(service, "ipFamilies", &families);
        return Ok(());
    }
    let mut errors = FieldErrors::new();
    if service.str_at(&POLICY) == "RequireDualStack" && configured.len() < 2 {
        errors.push(FieldError::invalid(
            &path,
            policy,
            "this cluster is not configured for dual-stack services",
        ));
    }
    for (i, family) in families
        .iter()
        .enumerate()
        .filter(|(_, f)| !configured.contains(&f.as_str()))
    {
        let path = FieldPath::new("spec.ipFamilies").index(i);
        errors.push(FieldError::invalid(
            &path,
            family.as_str(),
            "not configured on this cluster",
        ));
    }
    refuse(service, errors)?;
    if families.is_empty() {
        families.push(primary.into());
    }
    if !single && families.len() == 1 && configured.len() == 2 {
        families.push(other(&families[0]).into());
    }
    set_strings(service, "ipFamilies", &families);
    Ok(())
}

/// An update to a single stack drops the second address and family; any other may not.
fn reduce(service: &mut Node, old: &Node, single: bool, path: &FieldPath, policy: &Node, errors: &mut FieldErrors) {
    for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let (mut now, before) = (strings(service, field), strings(old, field));
        if single && now == before && now.len() > 1 {
            now.truncate(1);
            set_strings(service, field, &now);
        } else if !single && before.len() == 2 && now.len() == 1 && now[0] == before[0] {
            let detail = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(FieldError::invalid(path, policy.clone(), detail));
        }
    }
}

/// A preference for two families binds nothing once a service has what it has.
fn is_unchanged_preference(service: &Node, old: &Node) -> bool {
    let same = |field: &str| service.at(&["spec", field]) == old.at(&["spec", field]);
    service.str_at(&["spec", "ipFamilyPolicy"]) == "PreferDualStack"
        && matches!(old.str_at(&["spec", "ipFamilyPolicy"]), "PreferDualStack" | "")
        && ["type", "clusterIPs", "ipFamilies"].into_iter().all(same)
}

async fn give_addresses(
    reservation: &mut Reservation,
    service: &mut Node,
    context: &HookContext<'_>,
) -> StatusResult<()> {
    let mut addresses = strings(service, "clusterIPs");
    if !needs_address(spec(service)) || addresses.first().is_some_and(|a| a == "None") {
        return Ok(());
    }
    for (i, family) in strings(service, "ipFamilies").iter().enumerate() {
        if addresses.len() <= i {
            addresses.push(String::new());
        }
        addresses[i] = give_address(reservation, service, family, &addresses[i], context).await?;
    }
    let first = addresses.first().cloned().unwrap_or_default();
    service.set_at(&["spec", "clusterIP"], first);
    set_strings(service, "clusterIPs", &addresses);
    Ok(())
}

async fn give_address(
    reservation: &mut Reservation,
    service: &Node,
    family: &str,
    wanted: &str,
    context: &HookContext<'_>,
) -> StatusResult<String> {
    if wanted.is_empty() {
        let given = reservation.any_address(family, context.entropy).await?;
        return given.map(|a| a.to_string()).ok_or_else(|| {
            Status::internal(format!(
                "failed to allocate a serviceIP for Service \"{}\": range is full",
                service.name()
            ))
        });
    }
    let address: IpAddr = wanted
        .parse()
        .map_err(|_| Status::internal(format!("failed to parse service IP \"{wanted}\"")))?;
    match reservation.address(address).await? {
        Ok(()) => Ok(wanted.to_owned()),
        Err(why) => {
            let addresses = service.at(&["spec", "clusterIPs"]).cloned().unwrap_or_default();
            let detail = format!("failed to allocate IP {wanted}: {why}");
            Err(invalid(
                service,
                vec![FieldError::invalid(
                    &FieldPath::new("spec.clusterIPs"),
                    addresses,
                    detail,
                )],
            ))
        }
    }
}

async fn update_addresses(
    reservation: &mut Reservation,
    service: &mut Node,
    old: &Node,
    context: &HookContext<'_>,
) -> StatusResult<()> {
    if is_unchanged_preference(service, old) {
        return Ok(());
    }
    let (had, has) = (needs_address(spec(old)), needs_address(spec(service)));
    if !had && has {
        return give_addresses(reservation, service, context).await;
    }
    let before = strings(old, "clusterIPs");
    if before.first().is_some_and(|a| a == "None") {
        return Ok(());
    }
    let mut give_back = |addresses: &[String]| {
        addresses
            .iter()
            .filter_map(|a| a.parse().ok())
            .for_each(|a| reservation.return_address(a));
    };
    if had && !has {
        give_back(&before);
        return Ok(());
    }
    let families = strings(service, "ipFamilies");
    match (strings(old, "ipFamilies").len(), families.len()) {
        (2, 1) => give_back(&before[before.len().min(1)..]),
        (1, 2) => {
            let mut addresses = strings(service, "clusterIPs");
            addresses.resize(addresses.len().max(2), String::new());
            addresses[1] = give_address(reservation, service, &families[1], &addresses[1], context).await?;
            set_strings(service, "clusterIPs", &addresses);
        }
        _ => {}
    }
    Ok(())
}

/// Node ports: those asked for are taken, others chosen. Ports with one number share one node port.
async fn give_node_ports(
    reservation: &mut Reservation,
    service: &mut Node,
    had: &[i64],
    context: &HookContext<'_>,
) -> StatusResult<()> {
    let choose = needs_node_port(spec(service));
    let name = service.name().to_owned();
    let Some(Node::List(ports)) = service.at_mut(&["spec", "ports"]) else {
        return Ok(());
    };
    let asked: Vec<(i64, i64)> = ports
        .iter()
        .map(|p| (int(p, &["port"]), int(p, &["nodePort"])))
        .collect();
    let mut given: Vec<(i64, i64)> = Vec::new();
    for (i, port) in ports.iter_mut().enumerate() {
        let (number, mut wanted) = asked[i];
        if wanted == 0 && !choose {
            continue;
        }
        // A create shares node ports between protocols of one port; an update gives each its own.
        let shared = given
            .iter()
            .find(|(n, _)| *n == number && had.is_empty())
            .map(|(_, node_port)| *node_port);
        if wanted == 0 && had.is_empty() {
            wanted = shared
                .or_else(|| asked.iter().find(|(n, w)| *n == number && *w != 0).map(|(_, w)| *w))
                .unwrap_or(0);
        }
        if wanted == 0 {
            let node_port = reservation.any_port(context.entropy).await?;
            wanted = node_port.ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))?;
        } else if !had.contains(&wanted) && !given.iter().any(|(_, node_port)| *node_port == wanted) {
            reservation.port(wanted).await?.map_err(|why| {
                let path = FieldPath::new("spec.ports").index(i).child("nodePort");
                Status::invalid(&kind(), &name, &vec![FieldError::invalid(&path, wanted, why)])
            })?;
        }
        given.push((number, wanted));
        port.set("nodePort", wanted);
    }
    Ok(())
}

async fn give_health_check(
    reservation: &mut Reservation,
    service: &mut Node,
    context: &HookContext<'_>,
) -> StatusResult<()> {
    match int(service, &["spec", "healthCheckNodePort"]) {
        0 => {
            let port = reservation
                .any_port(context.entropy)
                .await?
                .ok_or_else(|| Status::internal("failed to allocate a HealthCheck NodePort 0: range is full"))?;
            service.set_at(&["spec", "healthCheckNodePort"], port);
        }
        wanted => reservation.port(wanted).await?.map_err(|why| {
            Status::internal(format!(
                "failed to allocate requested HealthCheck NodePort {wanted}: {why}"
            ))
        })?,
    }
    Ok(())
}

fn kind() -> GroupKind {
    GroupKind {
        group: Default::default(),
        kind: "Service".into(),
    }
}

fn invalid(service: &Node, errors: FieldErrors) -> Status {
    Status::invalid(&kind(), service.name(), &errors)
}

fn refuse(service: &Node, errors: FieldErrors) -> StatusResult<()> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(invalid(service, errors))
    }
}
