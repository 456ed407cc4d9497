//! What an operator should know that no command failed for: sentences in the daemon's status.

use std::sync::PoisonError;

use super::Daemon;
use crate::capture::CameraConfig;
use crate::embed::Runtime;
use crate::sandbox::SandboxMode;
use crate::state::{AMPLE, free_bytes};

/// What of the configuration's file is not in force.
pub(super) enum Unread {
    /// It has mistakes, which are these.
    Invalid(String),
    /// These keys wait for a restart.
    Later(Vec<String>),
}

impl Daemon {
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let config = self.config();
        if config.sandbox != SandboxMode::Off
            && let Some(sandbox) = self.sandbox.get()
        {
            // System calls are left open where others' code needs them, as the configuration wants it.
            let wanted = !config.camera.iter().any(CameraConfig::runs_others);
            for (what, layer, wanted) in
                [("files", &sandbox.files, true), ("system calls", &sandbox.system_calls, wanted)]
            {
                if wanted && !layer.confined {
                    warnings.push(format!("{what} are not confined: {}", layer.detail));
                }
            }
        }
        // Where it is left to the program, a board without one is as it should be.
        let running = self.running();
        if let Some(why) = running.instead.filter(|_| config.model.runtime == Runtime::Wgpu) {
            warnings.push(format!("no graphics processor computes the model, the CPU does: {why}"));
        }
        match &*self.unread.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Unread::Invalid(problems)) => {
                warnings.push(format!("the configuration's file is wrong, and the one before it in force: {problems}"));
            }
            Some(Unread::Later(keys)) => {
                warnings.push(format!("changed, and in force after a restart: {}", keys.join(", ")))
            }
            None => {}
        }
        let objects = self.gallery.lock().unwrap_or_else(PoisonError::into_inner).list();
        match objects.iter().filter(|object| object.problem.is_some()).count() {
            0 => {}
            1 => warnings.push("an object of the gallery cannot be used; `tagalong gallery list` says why".into()),
            several => {
                let told = format!("{several} objects of the gallery cannot be used; `tagalong gallery list` says why");
                warnings.push(told);
            }
        }
        if let Some(free) = free_bytes(&config.state_dir)
            && free < AMPLE
        {
            let here = config.state_dir.display();
            warnings.push(format!("the disk of {here} has {} MiB left; make room", free >> 20));
        }
        warnings
    }
}
