//! Who a container runs as: ids of the manifest, or a name that only the image's own files can explain.

use std::{io, os::fd::BorrowedFd, sync::LazyLock};

use super::{privileges::User, rootfs::read_inside};
use crate::{confinement::Confinement, plan::Command};

pub(super) fn resolve(command: &Command, confinement: &Confinement, root: BorrowedFd<'_>) -> io::Result<User> {
    let read = |path| read_inside(root, path).unwrap_or_default();
    let user = choose(command, confinement, &read("/etc/passwd"), &read("/etc/group")).map_err(io::Error::other)?;
    if confinement.non_root && user.uid == 0 {
        return Err(io::Error::other("container has runAsNonRoot and image will run as root"));
    }
    settle(user)
}

/// The map of the machine itself.
const ALL: &str = "0 0 4294967295";

/// The ids that there are here, as the kernel maps them. Nobody leaves the namespace of users in which this is asked first.
struct Ids {
    users: String,
    groups: String,
    /// Nobody may say which groups beside the first one a process is in.
    groups_denied: bool,
}

static IDS: LazyLock<Ids> = LazyLock::new(|| {
    // A kernel without such namespaces has no such files, and all ids.
    let read = |name| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_else(|_| ALL.to_owned());
    Ids { users: read("uid_map"), groups: read("gid_map"), groups_denied: read("setgroups").trim() == "deny" }
});

/// Whether our ids are not the machine's: without root, pods run in a user namespace.
pub(super) fn in_namespace() -> bool {
    !is_whole(&IDS.users)
}

fn is_whole(map: &str) -> bool {
    map.split_whitespace().eq(ALL.split(' '))
}

/// Whether a map of the kernel knows an id.
pub(super) fn knows(map: &str, id: u32) -> bool {
    let ranges = map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (first, _, count) = (numbers.next()?.ok()?, numbers.next()?, numbers.next()?.ok()?);
        Some((first, count))
    });
    ranges.into_iter().any(|(first, count)| id >= first && id - first < count)
}

/// Whether there is the group that terminals belong to.
pub(super) fn terminal_group() -> bool {
    const TTY: u32 = 5;
    knows(&IDS.groups, TTY)
}

/// Leaves out groups that there are none of here, and refuses users that there are none of.
fn settle(mut user: User) -> io::Result<User> {
    if !knows(&IDS.users, user.uid) || !knows(&IDS.groups, user.gid) {
        return Err(io::Error::other(format!(
            "there is no user {}:{} here: without root, a node has as many as /etc/subuid and /etc/subgid give it",
            user.uid, user.gid
        )));
    }
    user.groups.retain(|group| !IDS.groups_denied && knows(&IDS.groups, *group));
    Ok(user)
}

/// `USER[:GROUP]` of the image, each a name or a number, under what the manifest says.
fn choose(command: &Command, confinement: &Confinement, passwd: &str, group: &str) -> Result<User, String> {
    let (user, named_group) = confinement.image_user.split_once(':').unwrap_or((&confinement.image_user, ""));
    let wanted = command.uid.map_or_else(|| user.to_owned(), |uid| uid.to_string());
    let entry = passwd.lines().map(fields).find(|entry| {
        let key = if wanted.parse::<u32>().is_ok() { 2 } else { 0 };
        entry.get(key) == Some(&wanted.as_str())
    });
    let number = |entry: &[&str], place: usize| entry.get(place).and_then(|text| text.parse::<u32>().ok());
    let uid = match (wanted.as_str(), &entry) {
        ("", _) => 0,
        (_, Some(entry)) => number(entry, 2).unwrap_or(0),
        (text, None) => {
            text.parse().map_err(|_| format!("unable to find user {text}: no matching entries in passwd file"))?
        }
    };
    let primary = match (command.gid, named_group) {
        (Some(gid), _) => gid,
        (None, "") => entry.as_ref().and_then(|entry| number(entry, 3)).unwrap_or(0),
        (None, name) => match name.parse() {
            Ok(gid) => gid,
            Err(_) => group
                .lines()
                .map(fields)
                .find(|line| line.first() == Some(&name))
                .and_then(|line| number(&line, 2))
                .ok_or_else(|| format!("unable to find group {name}: no matching entries in group file"))?,
        },
    };
    let own_name = entry.as_ref().and_then(|entry| entry.first().copied()).unwrap_or_default();
    let memberships = group.lines().map(fields).filter(|line| {
        !confinement.own_groups_only
            && !own_name.is_empty()
            && line.get(3).is_some_and(|members| members.split(',').any(|member| member == own_name))
    });
    let mut groups: Vec<u32> =
        memberships.filter_map(|line| number(&line, 2)).chain(confinement.groups.clone()).collect();
    groups.sort_unstable();
    groups.dedup();
    let same = passwd.lines().map(fields).find(|entry| number(entry, 2) == Some(uid));
    let home = same.as_ref().and_then(|entry| entry.get(5).copied()).filter(|home| !home.is_empty()).unwrap_or("/");
    Ok(User { uid, gid: primary, groups, home: home.to_owned() })
}

fn fields(line: &str) -> Vec<&str> {
    line.trim_end().split(':').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnginx:x:101:102:web:/web:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\nssl:x:103:nginx,other\n";

    fn check(image_user: &str, uid: Option<u32>, expected: Result<(u32, u32, &[u32], &str), &str>) {
        let command = serde_json::json!({ "argv": ["a"], "env": [], "dir": "/", "uid": uid });
        let confinement =
            serde_json::json!({ "container": "c", "root": "machine", "imageUser": image_user, "groups": [7] });
        let command = serde_json::from_value(command).expect("a command");
        let confinement = serde_json::from_value(confinement).expect("a confinement");
        let found = choose(&command, &confinement, PASSWD, GROUP);
        let expected =
            expected.map(|(uid, gid, groups, home)| User { uid, gid, groups: groups.to_vec(), home: home.to_owned() });
        assert_eq!(found, expected.map_err(str::to_owned), "{image_user} {uid:?}");
    }

    #[test]
    fn a_strict_pod_has_the_groups_of_its_manifest_alone() {
        let command = serde_json::json!({ "argv": ["a"], "env": [], "dir": "/" });
        let confinement = serde_json::json!({
            "container": "c", "root": "machine", "imageUser": "nginx", "groups": [7], "ownGroupsOnly": true,
        });
        let command = serde_json::from_value(command).expect("a command");
        let confinement = serde_json::from_value(confinement).expect("a confinement");
        let found = choose(&command, &confinement, PASSWD, GROUP).expect("a user");
        assert_eq!(found, User { uid: 101, gid: 102, groups: vec![7], home: "/web".to_owned() });
    }

    #[test]
    fn a_namespace_knows_some_ids() {
        let map = "         0       1000          1\n         1     100000        10\n";
        assert!(knows(map, 0) && knows(map, 10) && !knows(map, 11));
        assert!(!is_whole(map) && is_whole("         0          0 4294967295\n"));
    }

    #[test]
    fn names_are_the_images_own() {
        check("", None, Ok((0, 0, &[7], "/root")));
        check("nginx", None, Ok((101, 102, &[7, 103], "/web")));
        check("nginx:ssl", None, Ok((101, 103, &[7, 103], "/web")));
        check("1000", None, Ok((1000, 0, &[7], "/")));
        check("1000:5", None, Ok((1000, 5, &[7], "/")));
        check("101", None, Ok((101, 102, &[7, 103], "/web")));
        check("nginx", Some(33), Ok((33, 0, &[7], "/")));
        check("nobody", None, Err("unable to find user nobody: no matching entries in passwd file"));
        check("nginx:none", None, Err("unable to find group none: no matching entries in group file"));
    }
}
