//! Who a process of a container is and what it may do: the same for its first one and for those that come later.

use std::{io, rc::Rc};

use rustix::{
    process::{Gid, Uid},
    thread::{CapabilitySet, CapabilitySets},
};
use seccompiler::BpfProgram;

use super::{profile, seccomp};
use crate::{confinement::Confinement, kernel};

/// Who a container's processes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

#[derive(Debug, Clone)]
pub(super) struct Privileges {
    user: User,
    kept: CapabilitySet,
    no_new: bool,
    /// Empty for a container that is not filtered.
    filters: Rc<[BpfProgram]>,
}

/// The filters of a pod's containers, each made once: most containers of a pod have the same, and every probe in one takes them.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<(Wanted, Rc<[BpfProgram]>)>);

#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    capabilities: Vec<String>,
    profile: Option<String>,
}

impl Filters {
    /// As many as a pod has containers, at most: what a container wants stands in the pod's plan.
    fn of(&mut self, confinement: &Confinement) -> io::Result<Rc<[BpfProgram]>> {
        if confinement.privileged || (confinement.seccomp_profile.is_none() && !confinement.seccomp) {
            return Ok(Rc::new([]));
        }
        let profile = confinement.seccomp_profile.clone();
        // A profile's verdicts are the same whatever a container may keep.
        let capabilities = if profile.is_some() { Vec::new() } else { confinement.capabilities.clone() };
        let wanted = Wanted { capabilities, profile };
        if let Some((_, known)) = self.0.iter().find(|(known, _)| *known == wanted) {
            return Ok(Rc::clone(known));
        }
        let filters: Rc<[BpfProgram]> = match &wanted.profile {
            Some(text) => profile::filters(text)
                .map_err(|error| io::Error::other(format!("the seccomp profile cannot be used: {error}")))?,
            None => seccomp::programs(&wanted.capabilities)?,
        }
        .into();
        self.0.push((wanted, Rc::clone(&filters)));
        Ok(filters)
    }
}

impl Privileges {
    /// `possible`: what this node holds itself, and can hand on.
    pub(super) fn new(
        confinement: &Confinement,
        user: &User,
        possible: CapabilitySet,
        filters: &mut Filters,
    ) -> io::Result<Self> {
        let kept = if confinement.privileged { possible } else { granted(confinement, possible)? };
        let filters = filters.of(confinement)?;
        Ok(Self { user: user.clone(), kept, no_new: confinement.no_new_privileges, filters })
    }

    /// Becomes the user. What capabilities a process holds it keeps, for [`Privileges::confine`].
    pub(super) fn assume_user(&self) -> io::Result<()> {
        let groups: Vec<Gid> = self.user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        match rustix::thread::set_thread_groups(&groups) {
            // Where a user namespace denies it there is nothing to set.
            Err(rustix::io::Errno::PERM) if groups.is_empty() => {}
            other => other?,
        }
        rustix::thread::set_keep_capabilities(true)?;
        let (uid, gid) = (Uid::from_raw(self.user.uid), Gid::from_raw(self.user.gid));
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?)
    }

    /// The filter first, as long as we may: without `no_new_privs` the kernel takes one only from somebody with
    /// `CAP_SYS_ADMIN`. Then everything is given up that was held for it.
    pub(super) fn confine(&self) -> io::Result<()> {
        let held = rustix::thread::capabilities(None)?;
        rustix::thread::set_capabilities(None, CapabilitySets { effective: held.permitted, ..held })?;
        if self.no_new {
            rustix::thread::set_no_new_privs(true)?;
        }
        seccomp::install(&self.filters)?;
        kernel::give_up(CapabilitySet::all().difference(self.kept))?;
        let kept = CapabilitySets {
            effective: held.permitted & self.kept,
            permitted: held.permitted & self.kept,
            inheritable: CapabilitySet::empty(),
        };
        Ok(rustix::thread::set_capabilities(None, kept)?)
    }
}

/// A privileged container gets what there is; one that names what it needs gets that or nothing.
fn granted(confinement: &Confinement, possible: CapabilitySet) -> io::Result<CapabilitySet> {
    let lacks = |name: &&String| !possible.contains(kernel::capabilities(std::slice::from_ref(*name)));
    match confinement.capabilities.iter().find(lacks) {
        Some(name) => Err(io::Error::other(format!("this node does not hold {name} itself, and cannot give it"))),
        None => Ok(kernel::capabilities(&confinement.capabilities)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn user() -> User {
        User { uid: 0, gid: 0, groups: Vec::new(), home: "/".to_owned() }
    }

    fn kept(privileged: bool, capabilities: &[&str]) -> Result<CapabilitySet, String> {
        let confinement =
            json!({ "container": "c", "root": "machine", "privileged": privileged, "capabilities": capabilities });
        let confinement = serde_json::from_value(confinement).expect("a confinement");
        let possible = CapabilitySet::CHOWN | CapabilitySet::SYS_ADMIN;
        let found = Privileges::new(&confinement, &user(), possible, &mut Filters::default());
        found.map(|privileges| privileges.kept).map_err(|error| error.to_string())
    }

    #[test]
    fn a_container_keeps_what_it_names_or_gets_nothing() {
        assert_eq!(kept(false, &[]), Ok(CapabilitySet::empty()));
        assert_eq!(kept(false, &["CAP_CHOWN"]), Ok(CapabilitySet::CHOWN));
        let denied = kept(false, &["CAP_CHOWN", "CAP_BPF"]);
        assert_eq!(denied, Err("this node does not hold CAP_BPF itself, and cannot give it".to_owned()));
        assert_eq!(kept(true, &["CAP_BPF"]), Ok(CapabilitySet::CHOWN | CapabilitySet::SYS_ADMIN));
    }

    #[test]
    fn containers_that_want_the_same_share_a_filter() {
        let mut filters = Filters::default();
        let mut of = |more: serde_json::Value| {
            let mut confinement = json!({ "container": "c", "root": "machine", "seccomp": true });
            confinement.as_object_mut().expect("an object").append(more.as_object().cloned().as_mut().expect("fields"));
            let confinement: Confinement = serde_json::from_value(confinement).expect("a confinement");
            filters.of(&confinement).expect("filters")
        };
        let usual = of(json!({}));
        assert!(Rc::ptr_eq(&usual, &of(json!({ "container": "other" }))));
        assert!(!Rc::ptr_eq(&usual, &of(json!({ "capabilities": ["CAP_SYS_ADMIN"] }))));
        assert!(of(json!({ "privileged": true })).is_empty() && of(json!({ "seccomp": false })).is_empty());
        assert_eq!(of(json!({ "seccompProfile": "{\"defaultAction\": \"SCMP_ACT_LOG\"}" })).len(), 1);
    }
}
