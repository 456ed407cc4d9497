//! The gallery: objects that are known by name, each in a file of its own in the state directory. Under its name a file is
//! whole, whenever the power fails; one that cannot be read or is of another model stays where it is, and is told of.

mod file;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub use file::ModelIdentity;
use file::{Entry, MAX_BYTES};

use super::{StateError, write_atomically};
use crate::clock;
use crate::types::command::{ErrorCode, GalleryObject};
use crate::types::{CommandError, Exemplars, TrackId};

/// Objects in a gallery, at most.
const MAX_OBJECTS: usize = 256;
/// Exemplars of a merged object, at most; those of the second that are learnt go first.
const MAX_MERGED: usize = 1024;
const EXTENSION: &str = "safetensors";

/// The objects that are known.
pub struct Gallery {
    /// `None` for one that is not kept.
    folder: Option<PathBuf>,
    model: ModelIdentity,
    /// By the number that names the file.
    objects: BTreeMap<u64, Result<Entry, String>>,
}

/// Why the gallery does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum GalleryError {
    #[error("the gallery has nothing called {0:?}; `gallery list` tells what it has")]
    Unknown(String),
    #[error("the gallery has a {0:?} already; choose another name, or `gallery merge` afterwards")]
    Exists(String),
    #[error("the gallery has {MAX_OBJECTS} objects, which is the most; forget one first")]
    Full,
    #[error("{name:?} cannot be used: {problem}")]
    Unusable { name: String, problem: String },
    #[error("what was given is no object of a gallery: {0}")]
    Garbled(String),
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

impl From<GalleryError> for CommandError {
    fn from(error: GalleryError) -> CommandError {
        let code = match error {
            GalleryError::Unknown(_) => ErrorCode::GalleryUnknown,
            GalleryError::Exists(_) => ErrorCode::GalleryExists,
            GalleryError::Full => ErrorCode::GalleryFull,
            GalleryError::Unusable { .. } => ErrorCode::GalleryUnusable,
            GalleryError::Garbled(_) => ErrorCode::FieldInvalid,
            GalleryError::Io { .. } => ErrorCode::StateUnwritable,
        };
        CommandError::new(code, error.to_string())
    }
}

/// An object as a camera is to know it.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownObject {
    pub name: String,
    /// Under which id that camera follows it; `None` where it has never known it.
    pub id: Option<TrackId>,
    pub exemplars: Exemplars,
    /// Pixels of the pictures that it was saved from, width and height, where that is known.
    pub size: Option<[usize; 2]>,
}

impl Gallery {
    /// What the files of `folder` hold, for a daemon that runs `model`. It is made if it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(folder: &Path, model: ModelIdentity) -> Result<Gallery, StateError> {
        let failed = |source| StateError::Io { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let mut objects = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            let Some(number) = number.filter(|_| path.extension().is_some_and(|e| e == EXTENSION)) else { continue };
            let read = read(&path);
            if let Err(problem) = &read {
                log::warn!("{}: not used, and left as it is: {problem}", path.display());
            }
            objects.insert(number, read);
        }
        let gallery = Gallery { folder: Some(folder.to_owned()), model, objects };
        for object in gallery.list() {
            if let Some(problem) = &object.problem {
                log::warn!("the gallery's {:?} is not looked for: {problem}", object.name);
            }
        }
        Ok(gallery)
    }

    /// Empty, and not kept.
    pub fn ephemeral() -> Gallery {
        Gallery { folder: None, model: ModelIdentity::default(), objects: BTreeMap::new() }
    }

    /// Every object, by name.
    pub fn list(&self) -> Vec<GalleryObject> {
        let mut listed: Vec<GalleryObject> =
            self.objects.iter().map(|(number, read)| self.describe(*number, read)).collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        listed
    }

    fn describe(&self, number: u64, read: &Result<Entry, String>) -> GalleryObject {
        match read {
            Ok(entry) => GalleryObject {
                name: entry.manifest.name.clone(),
                model: entry.manifest.model.name.clone(),
                exemplars: entry.exemplars.counts(),
                size: entry.manifest.size,
                tracks: entry.manifest.tracks.clone(),
                saved_ns: entry.manifest.saved_ns,
                changed_ns: entry.manifest.changed_ns,
                problem: self.mismatch(entry),
                remark: None,
            },
            Err(problem) => GalleryObject {
                name: file_name(number),
                model: String::new(),
                exemplars: [0, 0],
                size: None,
                tracks: BTreeMap::new(),
                saved_ns: 0,
                changed_ns: 0,
                problem: Some(problem.clone()),
                remark: None,
            },
        }
    }

    /// Why an object that could be read means nothing to the model that runs.
    fn mismatch(&self, entry: &Entry) -> Option<String> {
        let (theirs, ours) = (&entry.manifest.model, &self.model);
        (theirs.features != ours.features || theirs.dim != ours.dim).then(|| {
            format!(
                "it was saved with the model {}, and {} runs now, to which it means nothing",
                theirs.name, ours.name
            )
        })
    }

    /// What a camera is to look for: all that the model that runs understands.
    pub fn known(&self, camera: &str) -> Vec<KnownObject> {
        let usable =
            self.objects.values().filter_map(|read| read.as_ref().ok()).filter(|entry| self.mismatch(entry).is_none());
        usable.map(|entry| known(entry, camera)).collect()
    }

    /// One object, as a camera is to know it.
    ///
    /// # Errors
    /// When there is none of that name that can be used.
    pub fn get(&self, name: &str, camera: &str) -> Result<KnownObject, GalleryError> {
        let number = self.number(name)?;
        Ok(known(self.usable(number)?, camera))
    }

    /// Whether another object may have this name.
    ///
    /// # Errors
    /// When one has it.
    pub fn check_free(&self, name: &str) -> Result<(), GalleryError> {
        self.number(name).map_or(Ok(()), |_| Err(GalleryError::Exists(name.to_owned())))
    }

    /// Saves an object that a camera follows, whose pictures have `size` pixels, width and height.
    ///
    /// # Errors
    /// When the name is taken, there is no room, or the disk does not take it.
    pub fn save(
        &mut self,
        name: &str,
        exemplars: Exemplars,
        size: Option<[usize; 2]>,
        camera: &str,
        id: TrackId,
    ) -> Result<(), GalleryError> {
        let mut entry = Entry::new(name, self.model.clone(), exemplars, clock::now().real_ns);
        entry.manifest.size = size;
        entry.manifest.tracks.insert(camera.to_owned(), id);
        self.add(entry)
    }

    /// Notes under which id a camera knows an object, for its next start.
    ///
    /// # Errors
    /// When there is no such object, or the disk does not take it.
    pub fn assign(&mut self, name: &str, camera: &str, id: TrackId) -> Result<(), GalleryError> {
        self.change(name, |entry| {
            entry.manifest.tracks.insert(camera.to_owned(), id);
        })
    }

    /// Takes in what was learnt of an object that a camera follows; nothing where that is of no object of the gallery.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn update(&mut self, camera: &str, id: TrackId, exemplars: Exemplars) -> Result<(), GalleryError> {
        let followed = |entry: &&Entry| entry.manifest.tracks.get(camera) == Some(&id);
        let names = self.objects.values().filter_map(|read| read.as_ref().ok());
        let Some(name) = names.filter(followed).map(|entry| entry.manifest.name.clone()).next() else { return Ok(()) };
        self.change(&name, |entry| {
            entry.exemplars = exemplars;
            entry.manifest.changed_ns = clock::now().real_ns;
        })
    }

    /// Gives an object another name. Returns under which id each camera knows it.
    ///
    /// # Errors
    /// When there is no such object, the name is taken, or the disk does not take it.
    pub fn rename(&mut self, name: &str, to: &str) -> Result<BTreeMap<String, TrackId>, GalleryError> {
        self.check_free(to)?;
        self.change(name, |entry| to.clone_into(&mut entry.manifest.name))?;
        Ok(self.usable(self.number(to)?)?.manifest.tracks.clone())
    }

    /// Makes one object of two that are the same thing: `into` is then known by what both were. Returns under which id each
    /// camera knew the one that is no more, and the other.
    ///
    /// # Errors
    /// When either is not there or cannot be used, or the disk does not take it.
    pub fn merge(&mut self, name: &str, into: &str) -> Result<[BTreeMap<String, TrackId>; 2], GalleryError> {
        let (from, to) = (self.number(name)?, self.number(into)?);
        if from == to {
            return Err(GalleryError::Exists(into.to_owned()));
        }
        let (theirs, entry) = (self.usable(from)?.clone(), self.usable(to)?.clone());
        let merged = merge(&entry.exemplars, &theirs.exemplars);
        self.change(into, |entry| {
            entry.exemplars = merged;
            entry.manifest.changed_ns = clock::now().real_ns;
        })?;
        self.remove(from)?;
        Ok([theirs.manifest.tracks, entry.manifest.tracks])
    }

    /// Removes an object, one that cannot be used too. Returns under which id each camera knew it.
    ///
    /// # Errors
    /// When there is no such object, or the disk does not let it go.
    pub fn forget(&mut self, name: &str) -> Result<BTreeMap<String, TrackId>, GalleryError> {
        let number = self.number(name)?;
        let tracks = self.objects.get(&number).and_then(|read| read.as_ref().ok());
        let tracks = tracks.map(|entry| entry.manifest.tracks.clone()).unwrap_or_default();
        self.remove(number)?;
        Ok(tracks)
    }

    /// An object's file, for another gallery. Under which ids it is known here stays here.
    ///
    /// # Errors
    /// When there is no such object, or it cannot be read.
    pub fn export(&self, name: &str) -> Result<Vec<u8>, GalleryError> {
        let unusable = |problem: &String| GalleryError::Unusable { name: name.to_owned(), problem: problem.clone() };
        let mut entry = self.objects[&self.number(name)?].as_ref().map_err(unusable)?.clone();
        entry.manifest.tracks.clear();
        Ok(entry.to_bytes())
    }

    /// Takes in what [`Gallery::export`] gave, under another name if one is given. Returns its name, and why it cannot be used
    /// here if it cannot.
    ///
    /// # Errors
    /// When it is no object's file, its name is taken, there is no room, or the disk does not take it.
    pub fn import(&mut self, bytes: &[u8], name: Option<&str>) -> Result<GalleryObject, GalleryError> {
        let mut entry = Entry::from_bytes(bytes).map_err(GalleryError::Garbled)?;
        entry.manifest.tracks.clear();
        if let Some(name) = name {
            name.clone_into(&mut entry.manifest.name);
        }
        let told = self.describe(0, &Ok(entry.clone()));
        self.add(entry)?;
        Ok(told)
    }

    fn add(&mut self, entry: Entry) -> Result<(), GalleryError> {
        self.check_free(&entry.manifest.name)?;
        if self.objects.len() >= MAX_OBJECTS {
            return Err(GalleryError::Full);
        }
        let number = self.objects.last_key_value().map_or(1, |(last, _)| last + 1);
        self.write(number, entry)
    }

    /// Changes an object, on the disk first.
    fn change(&mut self, name: &str, change: impl FnOnce(&mut Entry)) -> Result<(), GalleryError> {
        let number = self.number(name)?;
        let mut entry = self.usable(number)?.clone();
        change(&mut entry);
        self.write(number, entry)
    }

    fn write(&mut self, number: u64, entry: Entry) -> Result<(), GalleryError> {
        if let Some(path) = self.path(number) {
            write_atomically(&path, &entry.to_bytes()).map_err(|source| GalleryError::Io { path, source })?;
        }
        self.objects.insert(number, Ok(entry));
        Ok(())
    }

    fn remove(&mut self, number: u64) -> Result<(), GalleryError> {
        if let Some(path) = self.path(number) {
            fs::remove_file(&path).map_err(|source| GalleryError::Io { path, source })?;
        }
        self.objects.remove(&number);
        Ok(())
    }

    fn path(&self, number: u64) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(file_name(number)))
    }

    /// One that cannot be read goes by its file's name.
    fn number(&self, name: &str) -> Result<u64, GalleryError> {
        let named = |(number, read): (&u64, &Result<Entry, String>)| match read {
            Ok(entry) => entry.manifest.name == name,
            Err(_) => file_name(*number) == name,
        };
        let found = self.objects.iter().find(|object| named(*object)).map(|(number, _)| *number);
        found.ok_or_else(|| GalleryError::Unknown(name.to_owned()))
    }

    fn usable(&self, number: u64) -> Result<&Entry, GalleryError> {
        let unusable = |name: String, problem: String| GalleryError::Unusable { name, problem };
        let entry = self.objects[&number].as_ref().map_err(|problem| unusable(file_name(number), problem.clone()))?;
        match self.mismatch(entry) {
            Some(problem) => Err(unusable(entry.manifest.name.clone(), problem)),
            None => Ok(entry),
        }
    }
}

fn known(entry: &Entry, camera: &str) -> KnownObject {
    let id = entry.manifest.tracks.get(camera).copied();
    let (name, size) = (entry.manifest.name.clone(), entry.manifest.size);
    KnownObject { name, id, exemplars: entry.exemplars.clone(), size }
}

fn file_name(number: u64) -> String {
    format!("{number:04}.{EXTENSION}")
}

fn read(path: &Path) -> Result<Entry, String> {
    let length = fs::metadata(path).map_err(|e| e.to_string())?.len();
    if length > MAX_BYTES {
        return Err(format!("it has {length} bytes, and an object's file at most {MAX_BYTES}"));
    }
    Entry::from_bytes(&fs::read(path).map_err(|e| e.to_string())?)
}

/// The exemplars of both: those of the first that were given stay those, and all others count as learnt.
fn merge(first: &Exemplars, second: &Exemplars) -> Exemplars {
    let mut merged = first.clone();
    let room = MAX_MERGED.saturating_sub(first.labels.len()).min(second.labels.len());
    merged.labels.extend(&second.labels[..room]);
    merged.patches.data.extend(&second.patches.data[..room * second.patches.dim]);
    merged.patches.grid.cols = merged.labels.len();
    merged
}

#[cfg(test)]
mod tests;
