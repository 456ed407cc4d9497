//! Graphics processors: whether there is one, and if not, what is missing.

use std::fs;
use std::path::{Path, PathBuf};

use super::Finding;
use crate::embed::{Adapter, ModelConfig, Runtime, adapters};

/// Where distributions have the loader, which finds the drivers.
const LIBRARIES: [&str; 6] =
    ["usr/lib", "usr/lib64", "usr/local/lib", "lib", "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu"];
/// Where drivers say that they are there.
const MANIFESTS: [&str; 3] = ["usr/share/vulkan/icd.d", "etc/vulkan/icd.d", "usr/local/share/vulkan/icd.d"];

pub(super) fn graphics(config: &ModelConfig) -> Option<Finding> {
    const SUBJECT: &str = "graphics";
    if config.runtime == Runtime::Cpu {
        return None;
    }
    let told = match adapters() {
        // The program is without them, and nobody asked.
        Err(_) if config.runtime == Runtime::Auto => return None,
        Err(problem) => problem,
        Ok(found) => match found.first() {
            Some(adapter) if serves(adapter, config.runtime) => {
                return Some(Finding::good(SUBJECT, format!("{}, {}", adapter.name, adapter.driver)));
            }
            Some(Adapter { name, unfit: Some(unfit), .. }) => format!("{name} cannot run the model: {unfit}"),
            Some(adapter) => {
                format!("{} is a program on the CPU: `runtime = \"wgpu\"` takes it all the same", adapter.name)
            }
            None => missing(Path::new("/")),
        },
    };
    // Where it is left to the program, a board without one is as it should be.
    Some(match config.runtime {
        Runtime::Wgpu => Finding::warning(SUBJECT, format!("the CPU computes: {told}")),
        _ => Finding::good(SUBJECT, format!("the CPU computes: {told}")),
    })
}

fn serves(adapter: &Adapter, runtime: Runtime) -> bool {
    adapter.unfit.is_none() && (runtime == Runtime::Wgpu || !adapter.is_software())
}

/// What keeps Vulkan from finding a processor, below `root`.
fn missing(root: &Path) -> String {
    let nodes = entries(&root.join("dev/dri"), "renderD");
    let has = |folders: &[&str], name: &str| folders.iter().any(|folder| !entries(&root.join(folder), name).is_empty());
    if !has(&LIBRARIES, "libvulkan.so.1") {
        return "Vulkan's loader is not there: install the package libvulkan1".into();
    }
    if !has(&MANIFESTS, "") {
        return "Vulkan has no driver: install that of your graphics processor, such as mesa-vulkan-drivers; some images of Jetsons \
                have one for OpenGL alone"
            .into();
    }
    let closed = nodes.iter().find(|node| fs::OpenOptions::new().read(true).write(true).open(node).is_err());
    match closed {
        Some(node) => format!(
            "{} may not be opened: add this user to the group `render`; the service gets it by the drop-in gpu.conf",
            node.display()
        ),
        None if nodes.is_empty() => {
            "no driver of the kernel serves a graphics processor: there is no /dev/dri/renderD*".into()
        }
        None => "no Vulkan driver serves the graphics processor: is its version that of the kernel's driver?".into(),
    }
}

/// What begins with a name in a folder.
fn entries(folder: &Path, name: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).into_iter().flatten().flatten();
    all.filter(|entry| entry.file_name().to_string_lossy().starts_with(name)).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_one_after_the_other() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            path
        };
        assert!(missing(root.path()).contains("libvulkan1"));
        make("usr/lib/aarch64-linux-gnu/libvulkan.so.1");
        assert!(missing(root.path()).contains("has no driver"));
        make("etc/vulkan/icd.d/nvidia_icd.json");
        assert!(missing(root.path()).contains("there is no /dev/dri/renderD*"));
        let node = make("dev/dri/renderD128");
        assert!(missing(root.path()).contains("serves the graphics processor"));
        // As one that is another user's; root may open anything but a folder.
        fs::remove_file(&node).unwrap();
        fs::create_dir(&node).unwrap();
        assert!(missing(root.path()).contains("group `render`"));
    }
}
