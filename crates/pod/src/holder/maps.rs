//! Which users there are in the namespace: ours as root, and what the machine's administrator has given us besides.

use std::{fs, io, process::Command};

use rustix::process::{Pid, getegid, geteuid};

/// What the files of subordinate ids say of us: first id and how many.
type Range = (u32, u32);

/// Gives the namespace of `holder` its ids, and says how many users there are. Only the helper programs of the package
/// `uidmap` may give more than one.
pub(super) fn give(holder: Pid) -> io::Result<u32> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let name = user_name(&fs::read_to_string("/etc/passwd").unwrap_or_default(), uid);
    let ranges = |file| ranges(&fs::read_to_string(file).unwrap_or_default(), name.as_deref(), uid);
    let (users, groups) = (ranges("/etc/subuid"), ranges("/etc/subgid"));
    if !users.is_empty() && !groups.is_empty() {
        let given = help("newuidmap", holder, uid, &users).and_then(|()| help("newgidmap", holder, gid, &groups));
        if given.is_ok() {
            return Ok(1 + users.iter().map(|(_, count)| count).sum::<u32>());
        }
    }
    let file = |name| format!("/proc/{}/{name}", holder.as_raw_nonzero());
    // A helper may have given the users and not the groups: what is written once stays.
    let users = fs::read_to_string(file("uid_map"))?;
    if users.is_empty() {
        fs::write(file("uid_map"), format!("0 {uid} 1\n"))?;
    }
    // Whoever may leave groups could leave one that denies.
    fs::write(file("setgroups"), "deny")?;
    fs::write(file("gid_map"), format!("0 {gid} 1\n"))?;
    Ok(if users.is_empty() { 1 } else { count(&users) })
}

fn help(program: &str, holder: Pid, own: u32, ranges: &[Range]) -> io::Result<()> {
    let output = Command::new(program)
        .arg(holder.as_raw_nonzero().to_string())
        .args(arguments(own, ranges).iter().map(u32::to_string))
        .output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

/// Inside, outside, how many: ourselves as 0, the others in a row from 1.
fn arguments(own: u32, ranges: &[Range]) -> Vec<u32> {
    let mut all = vec![0, own, 1];
    let mut inside = 1;
    for (first, count) in ranges {
        all.extend([inside, *first, *count]);
        inside += count;
    }
    all
}

/// `NAME:FIRST:COUNT` in each line, the name possibly a number.
fn ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    let number = uid.to_string();
    let ours = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next().filter(|owner| Some(*owner) == name || *owner == number)?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (!owner.is_empty() && range.1 > 0).then_some(range)
    });
    ours.collect()
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    let entry = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()))?;
    entry.split(':').next().map(str::to_owned)
}

/// How many ids a map of the kernel has.
pub(super) fn count(map: &str) -> u32 {
    map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u32>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "root:1:1\nann:100000:65536\n# no range\n1000:300000:10\nann:bad:1\nbob:200000:65536\n";
        assert_eq!(ranges(text, Some("ann"), 1000), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(ranges(text, None, 1000), [(300_000, 10)]);
        assert_eq!(ranges(text, Some("eve"), 5), []);
    }

    #[test]
    fn ids_inside_are_in_a_row() {
        assert_eq!(arguments(1000, &[(100_000, 5), (7, 2)]), [0, 1000, 1, 1, 100_000, 5, 6, 7, 2]);
        assert_eq!(count("         0       1000          1\n         1     100000      65536\n"), 65_537);
    }

    #[test]
    fn users_have_names() {
        let passwd = "root:x:0:0::/:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(user_name(passwd, 5), None);
    }
}
