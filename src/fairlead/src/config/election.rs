//! The flags about which of several servers runs the loops. As kube-controller-manager's.

use crate::flags::Flags;
use anyhow::{Result, ensure};
use fairlead_controllers::election::Election;

/// The settings; `None` where the loops run in any case: nobody else has an embedded store.
///
/// # Errors
/// A value makes no sense; the error names the flag.
pub fn settings(flags: &Flags, shared: bool) -> Result<Option<Election>> {
    if !flags.bool("leader-elect") || !shared {
        return Ok(None);
    }
    let (lease, renew_deadline, retry) = (
        flags.duration("leader-elect-lease-duration"),
        flags.duration("leader-elect-renew-deadline"),
        flags.duration("leader-elect-retry-period"),
    );
    ensure!(
        lease.as_secs() >= 1,
        "--leader-elect-lease-duration must be at least one second"
    );
    ensure!(
        lease > renew_deadline,
        "--leader-elect-lease-duration must be greater than --leader-elect-renew-deadline"
    );
    ensure!(
        !retry.is_zero(),
        "--leader-elect-retry-period must be greater than zero"
    );
    ensure!(
        renew_deadline > retry.mul_f64(1.2),
        "--leader-elect-renew-deadline must be greater than 1.2 times --leader-elect-retry-period"
    );
    let lock = flags.text("leader-elect-resource-lock");
    ensure!(lock == "leases", "--leader-elect-resource-lock={lock} must be leases");
    let (name, namespace) = (
        flags.text("leader-elect-resource-name"),
        flags.text("leader-elect-resource-namespace"),
    );
    ensure!(!name.is_empty(), "--leader-elect-resource-name must name a Lease");
    ensure!(
        !namespace.is_empty(),
        "--leader-elect-resource-namespace must name a namespace"
    );
    Ok(Some(Election {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        lease,
        renew_deadline,
        retry,
    }))
}
