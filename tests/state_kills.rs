//! The state directory, written by a process that is killed at any moment, 500 times over.
//!
//! What was acknowledged is there afterwards, whole; what was under way is there, or is not; no id is given twice.

use std::collections::BTreeMap;
use std::env;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tagalong::embed::{Backend, ModelConfig, load_kept, probe_features};
use tagalong::model::import::{Import, import};
use tagalong::model::vit::Hints;
use tagalong::state::{ModelIdentity, State};
use tagalong::types::{Exemplars, Features, PatchGrid, TrackId};

const KILLS: u64 = 500;
const DIM: usize = 64;
const CAMERA: &str = "front";
/// Tells the writing process where to write, and what.
const FOLDER: &str = "TAGALONG_TEST_STATE";
const SEED: &str = "TAGALONG_TEST_SEED";

/// Numbers that follow from a seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn identity() -> ModelIdentity {
    ModelIdentity { name: "small".into(), features: "abc".into(), dim: DIM }
}

/// Exemplars that tell from which content they are: by how many they are, and by their labels.
fn exemplars(content: u64) -> Exemplars {
    let count = 40 + (content % 200) as usize;
    let mut patches = Features::new(PatchGrid { rows: 1, cols: count, patch: 1 }, DIM, vec![0.5; count * DIM]);
    patches.normalise();
    let labels = (0..count).map(|i| if i == 0 { 1.0 } else { (content % 1009) as f32 / 2018.0 }).collect();
    Exemplars { patches, labels, given: count, share: 0.125 }
}

/// What is done to the gallery. As text it is what the writing process tells of it.
#[derive(Clone, Debug, PartialEq)]
enum Deed {
    Save(String, u64),
    Update(String, u64),
    Rename(String, String),
    Forget(String),
    Give,
    Pack,
}

impl Deed {
    /// One that can be done to what there is.
    fn choose(numbers: &mut Numbers, known: &BTreeMap<String, u64>) -> Deed {
        let fresh = format!("object-{}", numbers.below(1 << 40));
        let content = numbers.below(1 << 20);
        let any = known.keys().nth(numbers.below(known.len().max(1) as u64) as usize).cloned();
        match (numbers.below(20), any) {
            (0, _) => Deed::Pack,
            (1..=6, _) => Deed::Give,
            (7..=11, Some(name)) => Deed::Update(name, content),
            (12..=13, Some(name)) => Deed::Rename(name, fresh),
            (14..=15, Some(name)) => Deed::Forget(name),
            (_, Some(name)) if known.len() > 20 => Deed::Forget(name),
            _ => Deed::Save(fresh, content),
        }
    }

    fn apply(&self, known: &mut BTreeMap<String, u64>) {
        match self {
            Deed::Save(name, content) | Deed::Update(name, content) => {
                known.insert(name.clone(), *content);
            }
            Deed::Rename(name, to) => {
                let content = known.remove(name).unwrap();
                known.insert(to.clone(), content);
            }
            Deed::Forget(name) => {
                known.remove(name);
            }
            Deed::Give | Deed::Pack => {}
        }
    }

    fn to_line(&self) -> String {
        match self {
            Deed::Save(name, content) => format!("save {name} {content}"),
            Deed::Update(name, content) => format!("update {name} {content}"),
            Deed::Rename(name, to) => format!("rename {name} {to}"),
            Deed::Forget(name) => format!("forget {name}"),
            Deed::Give => "give".into(),
            Deed::Pack => "pack".into(),
        }
    }

    fn from_line(line: &str) -> Deed {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["save", name, content] => Deed::Save(name.into(), content.parse().unwrap()),
            ["update", name, content] => Deed::Update(name.into(), content.parse().unwrap()),
            ["rename", name, to] => Deed::Rename(name.into(), to.into()),
            ["forget", name] => Deed::Forget(name.into()),
            ["give"] => Deed::Give,
            ["pack"] => Deed::Pack,
            _ => panic!("{line:?}"),
        }
    }
}

/// The content of each object that the gallery has, all of which can be used.
fn read(state: &State) -> BTreeMap<String, u64> {
    let content = |name: &str| {
        let found = state.gallery.get(name, CAMERA).unwrap().exemplars;
        let content = (0..1 << 20).find(|content| {
            40 + content % 200 == found.labels.len() as u64 && (content % 1009) as f32 / 2018.0 == found.labels[1]
        });
        content.unwrap_or_else(|| panic!("{name}: what was never written"))
    };
    let listed = state.gallery.list();
    let named = |object: &tagalong::types::command::GalleryObject| {
        assert_eq!(object.problem, None, "{}", object.name);
        (object.name.clone(), content(&object.name))
    };
    listed.iter().map(named).collect()
}

/// The same where contents are: of those of one file any may stand for another.
fn same(content: u64) -> (u64, u64) {
    (content % 200, content % 1009)
}

fn alike(one: &BTreeMap<String, u64>, other: &BTreeMap<String, u64>) -> bool {
    one.len() == other.len()
        && one.iter().all(|(name, content)| other.get(name).map(|c| same(*c)) == Some(same(*content)))
}

fn model(folder: &Path) -> ModelConfig {
    let manifest = folder.join("small.toml");
    if !manifest.exists() {
        let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints/dinov2-reg.pth");
        let hints = Hints { heads: Some(2), ..Hints::default() };
        let wanted = Import { hints, input_sizes: vec![[70, 98]], name: "small".into(), ..Import::default() };
        assert_eq!(import(&checkpoint, &wanted, folder).unwrap().manifest, manifest);
    }
    ModelConfig { threads: 1, backend: Backend::Int8, ..ModelConfig::new(manifest.to_string_lossy()) }
}

#[test]
#[ignore = "run by the test below, in a process that it kills"]
fn write_until_killed() {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let mut numbers = Numbers(env::var(SEED).unwrap().parse().unwrap());
    let mut state = State::open(&folder.join("state"), identity()).unwrap();
    let mut known = read(&state);
    let mut out = std::io::stdout();
    let mut tell = |line: String| {
        out.write_all(format!("\n@ {line}\n").as_bytes()).unwrap();
        out.flush().unwrap();
    };
    loop {
        let deed = Deed::choose(&mut numbers, &known);
        tell(format!("try {}", deed.to_line()));
        match &deed {
            Deed::Save(name, content) => {
                state.gallery.save(name, exemplars(*content), None, CAMERA, TrackId(1 + content)).unwrap();
            }
            Deed::Update(name, content) => {
                let id = state.gallery.get(name, CAMERA).unwrap().id.unwrap();
                state.gallery.update(CAMERA, id, exemplars(*content)).unwrap();
            }
            Deed::Rename(name, to) => drop(state.gallery.rename(name, to).unwrap()),
            Deed::Forget(name) => drop(state.gallery.forget(name).unwrap()),
            Deed::Give => tell(format!("gave {}", state.ids.give().unwrap().0)),
            Deed::Pack => {
                let packed = folder.join("packed");
                let _ = std::fs::remove_dir_all(&packed);
                load_kept(&model(&folder), &packed).unwrap();
            }
        }
        tell("did".into());
        deed.apply(&mut known);
    }
}

#[test]
fn whenever_the_daemon_is_killed_nothing_that_was_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (config, packed) = (model(folder.path()), folder.path().join("packed"));
    let features = || {
        let mut model = load_kept(&config, &packed).unwrap();
        let grid = model.spec().grids[0];
        probe_features(model.as_mut(), grid).unwrap().data
    };
    let expected = features();
    let (mut known, mut last_id, mut numbers) = (BTreeMap::new(), 0, Numbers(1));
    let (mut deeds, mut cut, mut packs, mut halves) = (0, 0, 0, [0, 0]);
    for kill in 0..KILLS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["write_until_killed", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .env(SEED, kill.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut pipe = child.stdout.take().unwrap();
        let mut told = Vec::new();
        // Not before it writes, and then at any moment.
        let mut buffer = [0; 4096];
        while !told.windows(5).any(|bytes| bytes == b"@ try") {
            let read = pipe.read(&mut buffer).unwrap();
            assert!(read > 0, "it ended: {}", String::from_utf8_lossy(&told));
            told.extend_from_slice(&buffer[..read]);
        }
        let until = Instant::now() + Duration::from_micros(numbers.below(12_000));
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        pipe.read_to_end(&mut told).unwrap();
        let told = String::from_utf8(told).unwrap();
        let mut tried = None;
        for line in told.lines().filter_map(|line| line.strip_prefix("@ ")) {
            match line.split_once(' ') {
                Some(("try", deed)) => tried = Some(Deed::from_line(deed)),
                Some(("gave", id)) => {
                    let id: u64 = id.parse().unwrap();
                    assert!(id > last_id, "id {id} was given before, after {last_id}");
                    last_id = id;
                }
                _ => {
                    tried.take().unwrap().apply(&mut known);
                    deeds += 1;
                }
            }
        }
        // A telling that was cut off in the middle of a line has told nothing.
        let state = State::open(&folder.path().join("state"), identity()).unwrap();
        let found = read(&state);
        let mut done = known.clone();
        if let Some(deed) = &tried {
            cut += 1;
            deed.apply(&mut done);
        }
        assert!(alike(&found, &known) || alike(&found, &done), "kill {kill}: {tried:?}:\n{found:?}\n{known:?}");
        if !alike(&known, &done) {
            halves[usize::from(alike(&found, &done))] += 1;
        }
        known = found;
        if tried == Some(Deed::Pack) {
            packs += 1;
            assert_eq!(features(), expected, "kill {kill}");
        }
    }
    let [undone, done] = halves;
    eprintln!(
        "{KILLS} kills, {deeds} deeds done, {cut} cut off: {packs} of the weights, {undone} and {done} of the gallery, not done and done"
    );
    // Else the kills came where nothing was written.
    assert!(cut > KILLS / 2 && undone > KILLS / 20 && packs > KILLS / 50, "{cut} {packs} {halves:?} {deeds}");
}
