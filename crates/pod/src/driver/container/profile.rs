//! A profile of system calls that the machine's owner has written (`seccompProfile: Localhost`), as filters. Pure.
//!
//! A filter of ours has one verdict for what it names. A profile may have several: so each verdict is a filter of its own, and
//! the kernel takes the strictest of what they say.

use std::{collections::BTreeMap, io};

use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
use serde::Deserialize;

use super::seccomp::{compile, number};

/// A profile is read by whoever starts a container: beyond this it is a mistake.
pub const MAX_PROFILE_BYTES: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    syscalls: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    names: Vec<String>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The filters of a profile in the order in which they are installed.
pub(super) fn filters(text: &str) -> io::Result<Vec<BpfProgram>> {
    let profile: Profile = serde_json::from_str(text).map_err(io::Error::other)?;
    let otherwise = action(&profile.default_action, profile.default_errno_ret)?;
    let mut named = Rules::new();
    let mut by_action: Vec<(SeccompAction, Rules)> = Vec::new();
    for entry in &profile.syscalls {
        let verdict = action(&entry.action, entry.errno_ret)?;
        if verdict == otherwise {
            continue;
        }
        if !by_action.iter().any(|(known, _)| *known == verdict) {
            by_action.push((verdict.clone(), Rules::new()));
        }
        let (_, own) = by_action.iter_mut().find(|(known, _)| *known == verdict).expect("pushed just now");
        for name in &entry.names {
            let Some(call) = number(name) else {
                // What nobody can call may be allowed to no effect, but not forbidden.
                match verdict {
                    SeccompAction::Allow | SeccompAction::Log => continue,
                    _ => return Err(io::Error::other(format!("system call `{name}` is not known here"))),
                }
            };
            let rules = rules(entry.args.as_deref().unwrap_or_default())?;
            add(&mut named, call, &rules);
            add(own, call, &rules);
        }
    }
    // What has a verdict of its own passes the first filter, and is judged by the next.
    let mut filters = Vec::new();
    if otherwise != SeccompAction::Allow {
        filters.push(compile(named, otherwise, SeccompAction::Allow)?);
    }
    for (verdict, rules) in by_action.into_iter().filter(|(verdict, _)| *verdict != SeccompAction::Allow) {
        filters.push(compile(rules, SeccompAction::Allow, verdict)?);
    }
    Ok(filters)
}

/// A call without conditions matches whatever its arguments are, and conditions elsewhere add nothing to that.
fn add(all: &mut Rules, call: i64, rules: &[SeccompRule]) {
    match all.get_mut(&call) {
        Some(known) if known.is_empty() => {}
        Some(known) if rules.is_empty() => known.clear(),
        Some(known) => known.extend_from_slice(rules),
        None => drop(all.insert(call, rules.to_vec())),
    }
}

/// Conditions hold together, except that several on one argument are alternatives, as libseccomp's users write them.
fn rules(arguments: &[Argument]) -> io::Result<Vec<SeccompRule>> {
    if arguments.is_empty() {
        return Ok(Vec::new());
    }
    let conditions = arguments.iter().map(condition).collect::<io::Result<Vec<_>>>()?;
    let repeated = arguments.iter().enumerate().any(|(n, one)| arguments[..n].iter().any(|o| o.index == one.index));
    let groups = if repeated { conditions.into_iter().map(|one| vec![one]).collect() } else { vec![conditions] };
    groups.into_iter().map(|group| SeccompRule::new(group).map_err(io::Error::other)).collect()
}

fn condition(argument: &Argument) -> io::Result<SeccompCondition> {
    let (operator, value) = match argument.op.as_str() {
        "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, argument.value),
        "SCMP_CMP_NE" => (SeccompCmpOp::Ne, argument.value),
        "SCMP_CMP_LT" => (SeccompCmpOp::Lt, argument.value),
        "SCMP_CMP_LE" => (SeccompCmpOp::Le, argument.value),
        "SCMP_CMP_GT" => (SeccompCmpOp::Gt, argument.value),
        "SCMP_CMP_GE" => (SeccompCmpOp::Ge, argument.value),
        "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(argument.value), argument.value_two),
        other => return Err(io::Error::other(format!("comparison `{other}` is not known"))),
    };
    SeccompCondition::new(argument.index, SeccompCmpArgLen::Qword, operator, value).map_err(io::Error::other)
}

fn action(name: &str, errno: Option<u32>) -> io::Result<SeccompAction> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => SeccompAction::Allow,
        "SCMP_ACT_LOG" => SeccompAction::Log,
        "SCMP_ACT_ERRNO" => SeccompAction::Errno(errno.unwrap_or(libc::EPERM.unsigned_abs())),
        "SCMP_ACT_TRAP" => SeccompAction::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => SeccompAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => SeccompAction::KillProcess,
        other => return Err(io::Error::other(format!("action `{other}` is not supported"))),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn count(profile: &Value) -> Result<usize, String> {
        filters(&profile.to_string()).map(|filters| filters.len()).map_err(|error| error.to_string())
    }

    #[test]
    fn each_verdict_is_a_filter() {
        let allow = json!({"names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW"});
        let errno = json!({"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38});
        let kill = json!({"names": ["ptrace"], "action": "SCMP_ACT_KILL_PROCESS"});
        let named = |default: &str, entries: &[&Value]| count(&json!({"defaultAction": default, "syscalls": entries}));
        assert_eq!(named("SCMP_ACT_ERRNO", &[&allow]), Ok(1));
        assert_eq!(named("SCMP_ACT_ERRNO", &[&allow, &errno, &kill]), Ok(3));
        assert_eq!(named("SCMP_ACT_ALLOW", &[&allow, &errno]), Ok(1));
        assert_eq!(named("SCMP_ACT_LOG", &[]), Ok(1));
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let refused = |entry: Value| count(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [entry]})).err();
        let unknown = refused(json!({"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"}));
        assert_eq!(unknown.as_deref(), Some("system call `no_such_call` is not known here"));
        let notify = refused(json!({"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}));
        assert_eq!(notify.as_deref(), Some("action `SCMP_ACT_NOTIFY` is not supported"));
        let odd = json!([{"index": 0, "value": 1, "op": "SCMP_CMP_ODD"}]);
        let compared = refused(json!({"names": ["mount"], "action": "SCMP_ACT_ERRNO", "args": odd}));
        assert_eq!(compared.as_deref(), Some("comparison `SCMP_CMP_ODD` is not known"));
    }

    #[test]
    fn conditions_on_one_argument_are_alternatives() {
        let argument = |index, value| Argument { index, value, value_two: 0, op: "SCMP_CMP_EQ".to_owned() };
        let count = |arguments: &[Argument]| rules(arguments).expect("rules").len();
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[argument(0, 1), argument(1, 2)]), 1);
        assert_eq!(count(&[argument(0, 1), argument(0, 2)]), 2);
    }
}
