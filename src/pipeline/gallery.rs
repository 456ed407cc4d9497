//! What commands do with the gallery: objects go from sessions into it, and from it to the sessions of every camera.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;

use super::daemon::{COMMAND_PATIENCE, Camera, Daemon, no_track};
use super::track::Tracker;
use crate::state::Gallery;
use crate::state::gallery::KnownObject;
use crate::track::Session;
use crate::types::command::ErrorCode;
use crate::types::report::TrackId;
use crate::types::{Answer, Command, CommandError};

impl Daemon {
    /// Makes what the gallery knows a track, where it is seen now.
    pub(super) fn recognise(&self, camera: Option<&str>, name: &str) -> Result<Answer, CommandError> {
        let camera = self.camera_with_frames(camera)?;
        let KnownObject { name, id, exemplars, .. } = self.gallery().get(name, &camera.name)?;
        let id = match id {
            Some(id) => id,
            None => self.assign(&name, &camera.name)?,
        };
        self.begin(camera, None, move |session, _| session.recognise(id, name.clone(), &exemplars))
    }

    pub(super) fn gallery(&self) -> MutexGuard<'_, Gallery> {
        self.gallery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id under which a camera is to know an object of the gallery, now and after a restart.
    fn assign(&self, name: &str, camera: &str) -> Result<TrackId, CommandError> {
        let id = self.give_id()?;
        self.gallery().assign(name, camera, id)?;
        Ok(id)
    }

    /// What a session is to know from its start on, of the gallery. What cannot be noted is told, and not known there.
    pub(super) fn known(&self, camera: &str) -> Vec<(TrackId, KnownObject)> {
        let known = self.gallery().known(camera).into_iter();
        let identified = |object: KnownObject| match object.id.map_or_else(|| self.assign(&object.name, camera), Ok) {
            Ok(id) => Some((id, object)),
            Err(error) => {
                log::error!("camera {camera}: {:?} of the gallery is not looked for: {error}", object.name);
                None
            }
        };
        known.filter_map(identified).collect()
    }

    /// Puts a track into the gallery, and lets the other cameras know it.
    pub(super) fn save(&self, id: TrackId, name: Option<String>) -> Result<Answer, CommandError> {
        let unknown = || CommandError::new(ErrorCode::TrackUnknown, no_track(id));
        for camera in &self.cameras {
            let named = move |tracker: &mut Tracker| tracker.session.list("").into_iter().find(|track| track.id == id);
            let Some(track) = self.visit(camera, named)? else { continue };
            let name = name.unwrap_or(track.name);
            self.gallery().check_free(&name)?;
            let keep = move |tracker: &mut Tracker| tracker.session.keep(id).map(|kept| (kept, tracker.size()));
            let (kept, size) = self.visit(camera, keep)?.ok_or_else(unknown)?;
            let saved = self.gallery().save(&name, kept, size, &camera.name, id);
            if let Err(error) = saved {
                self.visit(camera, move |tracker| tracker.session.forget(id))?;
                return Err(error.into());
            }
            log::info!("camera {}: saved track {id} as {name:?} in the gallery", camera.name);
            self.make_known(&name)?;
            return Ok(self.told());
        }
        Err(unknown())
    }

    /// Lets every camera know an object as the gallery now has it.
    fn make_known(&self, name: &str) -> Result<(), CommandError> {
        for camera in &self.cameras {
            let KnownObject { name, id, exemplars, .. } = self.gallery().get(name, &camera.name)?;
            let id = id.map_or_else(|| self.assign(&name, &camera.name), Ok)?;
            self.visit(camera, move |tracker| tracker.session.know(id, name, &exemplars))?;
        }
        Ok(())
    }

    /// Lets every camera do something to the object that it knows under its id.
    fn of_known(
        &self,
        tracks: &BTreeMap<String, TrackId>,
        act: impl Fn(&mut Session, TrackId) + Clone + Send + 'static,
    ) -> Result<(), CommandError> {
        for camera in &self.cameras {
            let (Some(id), act) = (tracks.get(&camera.name).copied(), act.clone()) else { continue };
            self.visit(camera, move |tracker| act(&mut tracker.session, id))?;
        }
        Ok(())
    }

    /// The gallery, with a remark on what was saved from pictures of another size than a camera gives now.
    fn told(&self) -> Answer {
        let mut gallery = self.gallery().list();
        for camera in &self.cameras {
            let Ok(Some(size)) = self.visit(camera, |tracker| tracker.size()) else { continue };
            for object in gallery.iter_mut().filter(|object| object.problem.is_none() && object.remark.is_none()) {
                object.remark = object.size.and_then(|saved| resized(saved, size, &camera.name));
            }
        }
        Answer::Gallery { gallery }
    }

    /// Writes what sessions have learnt of the gallery's objects. What a busy camera does not tell in `patience` is written the
    /// next time.
    pub fn keep_learnt(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let ask = |camera: &&Camera| {
            let (told, name) = (self.learnt.0.clone(), camera.name.clone());
            let visit = move |tracker: &mut Tracker| drop(told.send((name, tracker.session.learnt())));
            camera.visits.try_send(Box::new(visit)).is_ok()
        };
        let mut awaited = self.cameras.iter().filter(ask).count() + self.learnt.1.len();
        while awaited > 0 {
            let Ok((camera, learnt)) = self.learnt.1.recv_deadline(deadline) else { return };
            awaited -= 1;
            for (id, exemplars) in learnt {
                if let Err(error) = self.gallery().update(&camera, id, exemplars) {
                    log::error!("camera {camera}: what was learnt of track {id} is not kept: {error}");
                }
            }
        }
    }

    pub(super) fn change_gallery(&self, command: Command) -> Result<Answer, CommandError> {
        match command {
            Command::GalleryRename { name, to } => {
                let tracks = self.gallery().rename(&name, &to)?;
                self.of_known(&tracks, move |session, id| {
                    session.rename(id, to.clone());
                })?;
            }
            Command::GalleryMerge { name, into } => {
                self.keep_learnt(COMMAND_PATIENCE);
                let [gone, _] = self.gallery().merge(&name, &into)?;
                self.of_known(&gone, |session, id| session.forget(id))?;
                self.make_known(&into)?;
            }
            Command::GalleryForget { name } => {
                let gone = self.gallery().forget(&name)?;
                self.of_known(&gone, |session, id| session.forget(id))?;
            }
            Command::GalleryImport { object, name } => {
                let imported = self.gallery().import(&object, name.as_deref())?;
                if imported.problem.is_none() {
                    self.make_known(&imported.name)?;
                }
            }
            Command::GalleryExport { name } => {
                self.keep_learnt(COMMAND_PATIENCE);
                let object = self.gallery().export(&name)?;
                let object_base64 = base64::engine::general_purpose::STANDARD.encode(object);
                return Ok(Answer::Exported { name, object_base64 });
            }
            _ => {}
        }
        Ok(self.told())
    }
}

/// What is to be said of an object that was saved from pictures of the size `saved`, where a camera's are of `size`.
pub(super) fn resized(saved: [usize; 2], size: [usize; 2], camera: &str) -> Option<String> {
    let [[from_width, from_height], [width, height]] = [saved, size];
    (saved != size).then(|| {
        format!(
            "it was saved from pictures of {from_width}x{from_height} pixels, and those of camera {camera} have \
             {width}x{height}: where it is not recognised, tag and save it anew"
        )
    })
}
