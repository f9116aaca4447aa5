//! Users and groups, as the guest's `/etc` names them.

use std::fs;
use std::io;

/// As whom a process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// The user of a text `USER[:GROUP]`, each a name or a number; an empty one is root.
pub(crate) fn resolve(text: &[u8]) -> io::Result<User> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let text = std::str::from_utf8(text).map_err(|_| unknown("user", "that is no UTF-8"))?;
    resolve_in(text, &read("/etc/passwd"), &read("/etc/group"))
}

fn resolve_in(text: &str, passwd: &str, group: &str) -> io::Result<User> {
    let (user, named) =
        text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok();
    let lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut known = lines.filter_map(|fields| match fields.as_slice() {
        [name, _, uid, gid, _, home, ..] => Some((
            (*name).to_owned(),
            uid.parse::<u32>().ok()?,
            gid.parse::<u32>().ok()?,
            (*home).to_owned(),
        )),
        _ => None,
    });
    let found = known.find(|(name, uid, ..)| name == user || number == Some(*uid));
    let (name, uid, gid, home) = match (found, number) {
        (Some(found), _) => found,
        (None, Some(uid)) => (String::new(), uid, 0, "/".to_owned()),
        (None, None) => return Err(unknown("user", user)),
    };
    let gid = named.map_or(Ok(gid), |named| group_of(named, group))?;
    let groups = groups(group)
        .filter(|(_, _, members)| members.split(',').any(|one| one == name && !name.is_empty()));
    let groups = groups.map(|(_, gid, _)| gid).chain([gid]).collect();
    Ok(User { uid, gid, groups, home })
}

fn groups(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.splitn(4, ':');
        let name = fields.next()?;
        // After the password.
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

fn group_of(named: &str, text: &str) -> io::Result<u32> {
    let number = named.parse::<u32>().ok();
    let found = groups(text).find(|(name, gid, _)| *name == named || number == Some(*gid));
    found.map(|(_, gid, _)| gid).or(number).ok_or_else(|| unknown("group", named))
}

fn unknown(what: &str, name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("the guest has no {what} {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:w:/var/www:/bin/false\nbad\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlog:x:4:web,syslog\n";

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let rows = [
            ("", Some((0, 0, "/root"))),
            ("root", Some((0, 0, "/root"))),
            ("web", Some((33, 34, "/var/www"))),
            ("33", Some((33, 34, "/var/www"))),
            ("33:log", Some((33, 4, "/var/www"))),
            ("web:7", Some((33, 7, "/var/www"))),
            ("1000", Some((1000, 0, "/"))),
            ("1000:1001", Some((1000, 1001, "/"))),
            ("nobody", None),
            ("web:nogroup", None),
        ];
        for (text, expected) in rows {
            let found = resolve_in(text, PASSWD, GROUP).ok();
            let found = found.as_ref().map(|user| (user.uid, user.gid, user.home.as_str()));
            assert_eq!(found, expected, "{text}");
        }
        assert_eq!(resolve_in("web", PASSWD, GROUP).expect("there").groups, [4, 34]);
    }
}
