//! How many threads compute best: one a core. Two on one core share what multiplies.

use std::collections::BTreeSet;
use std::path::Path;

/// Physical cores among the processors that this process may use, and no more than its share of time allows.
pub fn physical() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    match distinct(&allowed_processors(), Path::new("/sys/devices/system/cpu")) {
        0 => allowed,
        cores => cores.min(allowed),
    }
}

/// Cores of these processors; 0 where the system does not tell of all of them.
fn distinct(processors: &[usize], folder: &Path) -> usize {
    let siblings = |processor: &usize| {
        let file = folder.join(format!("cpu{processor}/topology/thread_siblings_list"));
        std::fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
    };
    processors.iter().map(siblings).collect::<Option<BTreeSet<String>>>().map_or(0, |cores| cores.len())
}

#[cfg(target_os = "linux")]
fn allowed_processors() -> Vec<usize> {
    // SAFETY: the set is plain bits, all zero at first, and the call writes no more than its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
            return Vec::new();
        }
        set
    };
    // SAFETY: each processor lies within the set.
    (0..libc::CPU_SETSIZE as usize).filter(|processor| unsafe { libc::CPU_ISSET(*processor, &set) }).collect()
}

#[cfg(not(target_os = "linux"))]
fn allowed_processors() -> Vec<usize> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_a_core_count_once() {
        let folder = tempfile::tempdir().unwrap();
        for (processor, siblings) in ["0,4", "1,5", "2", "3", "0,4", "1,5"].iter().enumerate() {
            let topology = folder.path().join(format!("cpu{processor}/topology"));
            std::fs::create_dir_all(&topology).unwrap();
            std::fs::write(topology.join("thread_siblings_list"), format!("{siblings}\n")).unwrap();
        }
        assert_eq!(distinct(&[0, 1, 2, 3, 4, 5], folder.path()), 4);
        assert_eq!(distinct(&[0, 4], folder.path()), 1, "of those that it may use");
        assert_eq!(distinct(&[1, 2], folder.path()), 2);
        assert_eq!(distinct(&[0, 9], folder.path()), 0, "one that nothing is known of");
    }

    #[test]
    fn this_machine_has_some() {
        let cores = physical();
        assert!((1..=std::thread::available_parallelism().unwrap().get()).contains(&cores), "{cores}");
    }
}
