//! Landlock: which files may be read, written and run, and that there is no network.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};

use super::Needs;
use crate::types::command::Confinement;

/// The newest interface that we know; of an older kernel's, what it has is used.
const KNOWN: ABI = ABI::V6;

/// What the system tells of itself and of its cameras.
const SYSTEM: [&str; 2] = ["/proc", "/sys"];

/// Cameras are opened again under names that are not known yet. Whose they are is up to their permissions.
const DEVICES: &str = "/dev";

/// Where a graphics processor's driver, its libraries, and what says which there are lie.
const DRIVERS: [&str; 8] =
    ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share", "/lib", "/lib64", "/etc", "/run/opengl-driver"];

/// What keeps the kernel from it, if anything does.
pub fn missing() -> Option<&'static str> {
    /// `LANDLOCK_CREATE_RULESET_VERSION`.
    const VERSION: u32 = 1;
    // SAFETY: with this flag the call makes nothing and reads no memory: it tells a version, or why there is none.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) };
    let error = std::io::Error::last_os_error().raw_os_error().unwrap_or_default();
    match (version, error) {
        (1.., _) => None,
        (_, libc::EOPNOTSUPP) => {
            Some("Landlock is in the kernel, but not enabled: add `landlock` to its parameter `lsm=`")
        }
        (_, libc::ENOSYS) => Some("the kernel has no Landlock, which came with Linux 5.13"),
        _ => {
            Some("Landlock is denied to the process: does `SystemCallFilter=` of its unit name the `landlock_` calls?")
        }
    }
}

pub fn confine(needs: &Needs) -> Confinement {
    match restrict(needs) {
        Ok(status) if status.ruleset == RulesetStatus::NotEnforced => {
            let detail = missing().unwrap_or("the kernel refused Landlock");
            Confinement { confined: false, detail: detail.into() }
        }
        Ok(status) => {
            let version = match status.landlock {
                LandlockStatus::Available { effective_abi, .. } => format!("Landlock {}", effective_abi as i32),
                _ => "Landlock".into(),
            };
            let what = if needs.programs {
                "writes only to its state; what the configuration has run may read and run all else"
            } else if needs.gpu {
                "reads its model, configuration, cameras and the graphics driver, writes to its state, runs nothing"
            } else {
                "reads its model, configuration and cameras, writes to its state, runs nothing"
            };
            Confinement { confined: true, detail: format!("{version}: {what}") }
        }
        Err(error) => Confinement { confined: false, detail: format!("Landlock refused: {error}") },
    }
}

fn restrict(needs: &Needs) -> Result<landlock::RestrictionStatus, RulesetError> {
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = read
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir;
    let sockets = read | AccessFs::MakeSock | AccessFs::RemoveFile;
    let devices = read | AccessFs::WriteFile | AccessFs::IoctlDev;

    let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(KNOWN))?;
    if !needs.programs {
        ruleset = ruleset.handle_access(AccessNet::from_all(KNOWN))?;
        ruleset = ruleset.scope(Scope::Signal)?;
        if !notified_by_name() {
            ruleset = ruleset.scope(Scope::AbstractUnixSocket)?;
        }
    }
    let mut created = ruleset
        .create()?
        .add_rules(path_beneath_rules(SYSTEM, read))?
        // The lines of a panic come from the program's own file.
        .add_rules(path_beneath_rules(std::env::current_exe(), read))?
        .add_rules(path_beneath_rules([DEVICES], devices))?
        .add_rules(path_beneath_rules(&needs.reads, read))?
        .add_rules(path_beneath_rules(&needs.writes, write))?
        .add_rules(path_beneath_rules(&needs.sockets, sockets))?;
    if needs.gpu {
        created = created.add_rules(path_beneath_rules(DRIVERS, read))?;
    }
    if needs.programs {
        created = created.add_rules(path_beneath_rules([Path::new("/")], read | AccessFs::Execute))?;
    }
    created.restrict_self()
}

/// Whether the service manager listens on an abstract socket, as those of containers may.
fn notified_by_name() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|name| name.as_encoded_bytes().starts_with(b"@"))
}
