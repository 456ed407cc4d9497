//! Who clients are, as the kernel tells, and who of them is let in.

use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::net::UnixStream;

use nix::unistd::{User, geteuid};

use super::ServeConfig;
use super::listeners::{ServeError, check_mode, find_group};

/// Groups of one client that are looked at, at most.
#[cfg(target_os = "linux")]
const MOST_GROUPS: usize = 1024;

/// Who may come to each socket: the configuration's names, looked up. That reads the system's databases, and may load code
/// for it, so it comes before the daemon confines itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub tracks: Entrance,
    pub control: Entrance,
}

/// Who may come to one socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrance {
    /// Permissions of its file, and the group that owns it; None for the daemon's own.
    pub mode: u32,
    pub group: Option<u32>,
    /// None where the file's permissions alone decide.
    allowed: Option<Allowed>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Allowed {
    users: BTreeSet<u32>,
    groups: BTreeSet<u32>,
}

impl Access {
    /// # Errors
    /// When a name is not one of this machine's, or permissions cannot be read.
    pub fn of(config: &ServeConfig) -> Result<Access, ServeError> {
        let entrance = |mode_key, mode: &str, group_key, group: &str, allow_key, allow: &[String]| {
            Ok(Entrance {
                mode: check_mode(mode_key, mode)?,
                group: find_group(group_key, group)?,
                allowed: Allowed::find(allow_key, allow)?,
            })
        };
        let ServeConfig { tracks_mode, tracks_group, tracks_allow, control_mode, control_group, control_allow, .. } =
            config;
        Ok(Access {
            tracks: entrance("tracks_mode", tracks_mode, "tracks_group", tracks_group, "tracks_allow", tracks_allow)?,
            control: entrance(
                "control_mode",
                control_mode,
                "control_group",
                control_group,
                "control_allow",
                control_allow,
            )?,
        })
    }

    /// Every name that is not one of this machine's.
    pub fn problems(config: &ServeConfig) -> Vec<ServeError> {
        let groups = [("tracks_group", &config.tracks_group), ("control_group", &config.control_group)];
        let allow = [("tracks_allow", &config.tracks_allow), ("control_allow", &config.control_allow)];
        let groups = groups.into_iter().filter_map(|(key, name)| find_group(key, name).err());
        let named = allow.into_iter().flat_map(|(key, names)| names.iter().map(move |name| (key, name)));
        groups.chain(named.filter_map(|(key, name)| Allowed::find(key, std::slice::from_ref(name)).err())).collect()
    }
}

impl Entrance {
    /// Whether a client is let in, whose stream this is.
    pub fn admits(&self, peer: Peer, stream: &UnixStream) -> bool {
        let Some(allowed) = &self.allowed else { return true };
        let Some((user, group, _)) = peer.0 else { return false };
        allowed.users.contains(&user)
            || allowed.groups.contains(&group)
            || groups(stream).iter().any(|group| allowed.groups.contains(group))
    }
}

impl Allowed {
    /// Users by their names, groups by theirs with an `@` before it. Root and the daemon's own user are always among them:
    /// neither could be kept out.
    fn find(key: &'static str, names: &[String]) -> Result<Option<Allowed>, ServeError> {
        if names.is_empty() {
            return Ok(None);
        }
        let mut allowed = Allowed { users: BTreeSet::from([0, geteuid().as_raw()]), groups: BTreeSet::new() };
        for name in names {
            match name.strip_prefix('@') {
                Some(group) => allowed.groups.extend(find_group(key, group)?),
                None => match User::from_name(name) {
                    Ok(Some(found)) => allowed.users.extend([found.uid.as_raw()]),
                    _ => return Err(ServeError::User { key, name: name.clone() }),
                },
            }
        }
        Ok(Some(allowed))
    }
}

/// User, group and process of a client at the moment when it connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer(Option<(u32, u32, i32)>);

impl Peer {
    #[cfg(target_os = "linux")]
    pub fn of(stream: &UnixStream) -> Peer {
        let credentials = nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerCredentials);
        Peer(credentials.ok().map(|who| (who.uid(), who.gid(), who.pid())))
    }

    #[cfg(not(target_os = "linux"))]
    pub fn of(_: &UnixStream) -> Peer {
        Peer(None)
    }

    pub fn is_of_the_user_of(self, other: Peer) -> bool {
        self.0.map(|(user, ..)| user) == other.0.map(|(user, ..)| user)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((uid, gid, pid)) => write!(f, "uid {uid}, gid {gid}, pid {pid}"),
            None => f.write_str("an unknown peer"),
        }
    }
}

/// The further groups that a client had when it connected.
#[cfg(target_os = "linux")]
fn groups(stream: &UnixStream) -> Vec<u32> {
    use std::os::fd::AsRawFd;

    let mut groups = vec![0_u32; MOST_GROUPS];
    let mut bytes = libc::socklen_t::try_from(size_of_val(&groups[..])).expect("a few thousand");
    // SAFETY: the kernel writes at most `bytes` bytes to `groups`, which has as many, and says in `bytes` how many it wrote.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    groups.truncate(if result == 0 { bytes as usize / size_of::<u32>() } else { 0 });
    groups
}

#[cfg(not(target_os = "linux"))]
fn groups(_: &UnixStream) -> Vec<u32> {
    Vec::new()
}
