//! Who a container's user is: numbers and a home, by the container's own
//! `/etc/passwd` and `/etc/group`, as the engine itself looks them up.

use crate::archive::Owner;

/// A container's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) owner: Owner,
    pub(super) home: String,
}

/// Looks up `user`, which is `name-or-number[:group]` and root when it is empty.
///
/// # Errors
/// With the name that is in neither file.
pub(super) fn find(user: &str, passwd: &[u8], group: &[u8]) -> Result<Account, String> {
    let (name, in_group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let lines = lines(passwd);
    // A name goes over a number, as where the engine looks.
    let found = lines
        .iter()
        .find(|fields| fields[0] == name)
        .or_else(|| lines.iter().find(|fields| fields.get(2) == Some(&name)));
    let number = |fields: &Vec<&str>, n: usize| fields.get(n)?.parse::<u64>().ok();
    let uid = found
        .and_then(|fields| number(fields, 2))
        .or_else(|| name.parse().ok())
        .ok_or_else(|| format!("there is no user \"{name}\" in its /etc/passwd"))?;
    let gid = match in_group {
        Some(wanted) => gid_of(wanted, group)?,
        None => found.and_then(|fields| number(fields, 3)).unwrap_or(0),
    };
    let home = found
        .and_then(|fields| fields.get(5).copied())
        .filter(|home| home.starts_with('/'))
        .unwrap_or("/");
    Ok(Account {
        owner: Owner { uid, gid },
        home: home.to_owned(),
    })
}

fn gid_of(name: &str, group: &[u8]) -> Result<u64, String> {
    let lines = lines(group);
    let found = lines.iter().find(|fields| fields[0] == name);
    found
        .and_then(|fields| fields.get(2)?.parse().ok())
        .or_else(|| name.parse().ok())
        .ok_or_else(|| format!("there is no group \"{name}\" in its /etc/group"))
}

/// The fields of each line. A line that is no text names nobody.
fn lines(file: &[u8]) -> Vec<Vec<&str>> {
    file.split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(':').collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# node\nnode:x:1000:1001::/home/node:\n\xff\n1000:x:5:5::/odd:\n";
    const GROUP: &[u8] = b"root:x:0:\nstaff:x:50:node\n";

    fn at(user: &str) -> (u64, u64, String) {
        let account = find(user, PASSWD, GROUP).unwrap();
        (account.owner.uid, account.owner.gid, account.home)
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(at(""), (0, 0, "/root".to_owned()));
        assert_eq!(at("node"), (1000, 1001, "/home/node".to_owned()));
        assert_eq!(at("node:staff"), (1000, 50, "/home/node".to_owned()));
        assert_eq!(at("node:7"), (1000, 7, "/home/node".to_owned()));
        assert_eq!(at("1000").0, 5, "a name that looks like a number");
        assert_eq!(at("4242"), (4242, 0, "/".to_owned()));
        assert_eq!(at("4242:staff"), (4242, 50, "/".to_owned()));
        assert!(
            find("nobody", PASSWD, GROUP)
                .unwrap_err()
                .contains("\"nobody\"")
        );
        assert!(find("node:x", PASSWD, GROUP).unwrap_err().contains("\"x\""));
        let nobody = find("0", b"", b"").unwrap();
        assert_eq!((nobody.owner.uid, nobody.home.as_str()), (0, "/"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_some_file(user: String, passwd: Vec<u8>, group: Vec<u8>) {
            let _ = find(&user, &passwd, &group);
        }
    }
}
