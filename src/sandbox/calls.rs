//! seccomp: which system calls are left. What is not on the list fails with "not permitted"; it ends nothing, so that a
//! C library that tries something new goes on with what it did before.

use std::collections::BTreeMap;

use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

use super::Needs;
use crate::types::command::Confinement;

/// What keeps the kernel from it, if anything does.
pub fn missing() -> Option<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let known = status.lines().any(|line| line.starts_with("Seccomp:"));
    (!known).then_some("the kernel has no seccomp (`CONFIG_SECCOMP_FILTER`)")
}

pub fn confine(needs: &Needs) -> Confinement {
    let detail = if needs.programs {
        "what the configuration has run may need any".into()
    } else {
        match filter(needs.gpu) {
            Ok(count) => {
                let code = if needs.gpu { "but the graphics driver's" } else { "made at run time" };
                let detail = format!("seccomp: {count} of them allowed; no program, no network, no code {code}");
                return Confinement { confined: true, detail };
            }
            Err(error) => format!("seccomp refused: {error}"),
        }
    };
    Confinement { confined: false, detail }
}

/// Installs the filter, and tells how many calls it lets through.
fn filter(gpu: bool) -> Result<usize, Error> {
    let arch = std::env::consts::ARCH.try_into()?;
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> = PLAIN.iter().map(|call| (*call, Vec::new())).collect();
    allowed.extend(OF_THIS_PROCESSOR.iter().map(|call| (*call, Vec::new())));
    let own_pid = u64::from(std::process::id());
    for (call, argument, length, operator, value) in [
        (libc::SYS_socket, 0, Dword, Eq, libc::AF_UNIX as u64),
        (libc::SYS_socketpair, 0, Dword, Eq, libc::AF_UNIX as u64),
        // Memory is written or run, never both, and what is run was there at the start.
        (libc::SYS_mmap, 2, Dword, MaskedEq(libc::PROT_EXEC as u64), 0),
        (libc::SYS_mprotect, 2, Dword, MaskedEq(libc::PROT_EXEC as u64), 0),
        // Threads, and no processes.
        (libc::SYS_clone, 0, Qword, MaskedEq(libc::CLONE_THREAD as u64), libc::CLONE_THREAD as u64),
        (libc::SYS_tgkill, 0, Dword, Eq, own_pid),
        (libc::SYS_prlimit64, 0, Dword, Eq, 0),
        (libc::SYS_prctl, 0, Dword, Eq, libc::PR_SET_NAME as u64),
        (libc::SYS_prctl, 0, Dword, Eq, libc::PR_GET_NAME as u64),
    ] {
        allowed.entry(call).or_default().push(rule(argument, length, operator, value)?);
    }
    if gpu {
        // Its libraries are loaded, and what it compiles is run.
        allowed.extend([libc::SYS_mmap, libc::SYS_mprotect].map(|call| (call, Vec::new())));
        allowed.extend(OF_DRIVERS.iter().map(|call| (*call, Vec::new())));
    }
    // What it would do lies in memory, where a filter cannot look. "Unknown" has the C library take the other, below.
    allowed.insert(libc::SYS_clone3, Vec::new());
    let count = allowed.len() - 1;
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    let list: BpfProgram = SeccompFilter::new(allowed, denied, SeccompAction::Allow, arch)?.try_into()?;
    let no_clone3: BpfProgram =
        SeccompFilter::new(unknown, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32), arch)?
            .try_into()?;
    // This one first: the list denies `prctl` for another.
    apply_filter(&no_clone3)?;
    apply_filter(&list)?;
    Ok(count)
}

fn rule(argument: u8, length: SeccompCmpArgLen, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, Error> {
    Ok(SeccompRule::new(vec![SeccompCondition::new(argument, length, operator, value)?])?)
}

/// Calls that are allowed whatever their arguments are.
const PLAIN: &[i64] = &[
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads, waiting, signals to itself.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_membarrier,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    // Clocks, and what the process and the system are.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_nanosleep,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    // Files: which ones is the other layer's business.
    libc::SYS_close,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat2,
    libc::SYS_sendfile,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
    // Sockets, of the kind that `socket` makes.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
];

/// What a graphics processor's driver uses beside them.
const OF_DRIVERS: &[i64] = &[
    libc::SYS_eventfd2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_kcmp,
    libc::SYS_mbind,
    libc::SYS_memfd_create,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_set_mempolicy,
    libc::SYS_get_mempolicy,
];

/// The older forms of some of them, and the permission to use the matrix unit.
#[cfg(target_arch = "x86_64")]
const OF_THIS_PROCESSOR: &[i64] = &[
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_dup2,
    libc::SYS_lchown,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_stat,
    libc::SYS_unlink,
];
/// `renameat`, for which the crate has no name.
#[cfg(target_arch = "aarch64")]
const OF_THIS_PROCESSOR: &[i64] = &[38];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OF_THIS_PROCESSOR: &[i64] = &[];
