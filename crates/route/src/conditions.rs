//! What Gateways, ListenerSets and routes are told, from what was found out about their listeners.

use sluice_model::gateway::{GatewaySpec, ParentRef};

use crate::address::{Addresses, Refused};
use crate::clients;
use crate::facts::{ObjectKey, World};
use crate::report::{Finding, GatewayReport, ListenerReport, ListenerSetReport, ParentReport, reason};

fn holding(listeners: &[ListenerReport], kind: &str) -> usize {
    let holds = |listener: &&ListenerReport| listener.says(kind);
    listeners.iter().filter(holds).count()
}

/// `Accepted`, where so many of all listeners are valid.
fn validity(valid: usize, all: usize, is_whole: bool) -> Finding {
    if is_whole {
        return Finding::yes(reason::ACCEPTED, reason::ACCEPTED, "every listener is valid");
    }
    let message = format!("{valid} of {all} listeners are valid");
    Finding { kind: reason::ACCEPTED, holds: valid > 0, reason: reason::LISTENERS_NOT_VALID, message }
}

/// `Programmed`, where so many of all listeners are served.
fn service(served: usize, all: usize, otherwise: &'static str) -> Finding {
    match served {
        0 => Finding::no(reason::PROGRAMMED, otherwise, "no listener is served"),
        _ => Finding::yes(reason::PROGRAMMED, reason::PROGRAMMED, format!("{served} of {all} listeners are served")),
    }
}

/// The Gateway's own conditions follow from those of its listeners.
pub(crate) fn gateway_report(
    world: &World,
    key: &ObjectKey,
    addresses: &Addresses,
    listeners: Vec<ListenerReport>,
    listener_sets: i32,
) -> GatewayReport {
    let all = listeners.len();
    let (accepted, programmed) = (holding(&listeners, reason::ACCEPTED), holding(&listeners, reason::PROGRAMMED));
    let accepted = validity(accepted, all, accepted == all && all > 0);
    let programmed = service(programmed, all, reason::INVALID);
    let facts = &world.gateways[key];
    let (accepted, programmed) = match (refusal(&facts.spec), addresses.refused(key)) {
        (Some(refused), _) => (refused, unserved()),
        (None, Some(Refused::Unsupported(why))) => {
            (Finding::no(reason::ACCEPTED, reason::UNSUPPORTED_ADDRESS, why.clone()), unserved())
        }
        (None, Some(Refused::Unusable(why))) => {
            (accepted, Finding::no(reason::PROGRAMMED, reason::ADDRESS_NOT_USABLE, why.clone()))
        }
        (None, None) => (accepted, programmed),
    };
    let resolved = || Finding::yes(reason::RESOLVED_REFS, reason::RESOLVED_REFS, "all references are resolved");
    let refs = clients::own_certificate(world, key, facts).map(|found| match found {
        Ok(usable) => usable.complaint.unwrap_or_else(resolved),
        Err(unresolved) => unresolved,
    });
    let findings = [Some(accepted), Some(programmed), refs, clients::warning(&facts.spec)];
    let findings = findings.into_iter().flatten().collect();
    GatewayReport { generation: facts.generation, address: addresses.of(key), findings, listeners, listener_sets }
}

fn unserved() -> Finding {
    Finding::no(reason::PROGRAMMED, reason::INVALID, "the Gateway is not accepted")
}

/// What of a Gateway keeps all of it from being served.
pub(crate) fn refusal(spec: &GatewaySpec) -> Option<Finding> {
    let reference = spec.infrastructure.as_ref()?.parameters_ref.as_ref()?;
    let message = format!(
        "`infrastructure.parametersRef` names a `{}/{}`, but this gateway has no parameters of any kind",
        reference.group, reference.kind
    );
    Some(Finding::no(reason::ACCEPTED, reason::INVALID_PARAMETERS, message))
}

/// Whether the Gateway as such is accepted, whatever its listeners are.
pub(crate) fn is_acceptable(world: &World, key: &ObjectKey, addresses: &Addresses) -> bool {
    refusal(&world.gateways[key].spec).is_none() && !matches!(addresses.refused(key), Some(Refused::Unsupported(_)))
}

/// Of a ListenerSet whose Gateway is not accepted.
pub(crate) fn orphaned_set_report(generation: i64, listeners: Vec<ListenerReport>) -> ListenerSetReport {
    let message = "the Gateway is not accepted";
    let accepted = Finding::no(reason::ACCEPTED, reason::PARENT_NOT_ACCEPTED, message);
    let programmed = Finding::no(reason::PROGRAMMED, reason::PARENT_NOT_PROGRAMMED, message);
    ListenerSetReport { generation, findings: vec![accepted, programmed], listeners }
}

/// Of a ListenerSet that its Gateway lets in: accepted while some listener of it is of use.
pub(crate) fn set_report(generation: i64, listeners: Vec<ListenerReport>) -> ListenerSetReport {
    let of_use = |listener: &&ListenerReport| listener.says(reason::ACCEPTED) && listener.says(reason::RESOLVED_REFS);
    let (accepted, all) = (listeners.iter().filter(of_use).count(), listeners.len());
    let programmed = holding(&listeners, reason::PROGRAMMED);
    let accepted = validity(accepted, all, accepted == all);
    let programmed = service(programmed, all, reason::LISTENERS_NOT_VALID);
    ListenerSetReport { generation, findings: vec![accepted, programmed], listeners }
}

/// Of a ListenerSet that its Gateway does not let in.
pub(crate) fn refused_set_report(generation: i64) -> ListenerSetReport {
    let refused =
        |kind| Finding::no(kind, reason::SET_NOT_ALLOWED, "the Gateway's `allowedListeners` do not let it in");
    let findings = vec![refused(reason::ACCEPTED), refused(reason::PROGRAMMED)];
    ListenerSetReport { generation, findings, listeners: Vec::new() }
}

/// What is said to one parent about a route that it took or refused.
pub(crate) fn parent_report(
    parent: ParentRef,
    outcome: Result<(), Finding>,
    refs: &Finding,
    rules: usize,
    unusable: &[String],
) -> ParentReport {
    let mut findings = Vec::with_capacity(3);
    let broken = unusable.join("; ");
    match outcome {
        Err(refused) => findings.push(refused),
        Ok(()) if !unusable.is_empty() && unusable.len() >= rules => {
            findings.push(Finding::no(reason::ACCEPTED, reason::UNSUPPORTED_VALUE, broken));
        }
        Ok(()) => {
            findings.push(Finding::yes(reason::ACCEPTED, reason::ACCEPTED, "the route is attached"));
            if !unusable.is_empty() {
                // The Gateway API wants these first words, so that nobody takes it for a fall-back to former rules.
                let dropped = format!("Dropped Rule(s): {broken}");
                findings.push(Finding::yes(reason::PARTIALLY_INVALID, reason::UNSUPPORTED_VALUE, dropped));
            }
        }
    }
    findings.push(refs.clone());
    ParentReport { parent, findings }
}
