//! Reading what a client wrote: strict on types, lenient on fields that are not known.

use serde_json::{Map, Value};

use super::wire::{CommandId, Subscribe};
use crate::types::command::{ErrorCode, MAX_NAME, name_problem};
use crate::types::mask::CocoRle;
use crate::types::{Command, CommandError, Mask, Seed, TrackId};

/// Longest side of a mask in pixels, as of a camera's frame. What a few characters can unfold to is thereby bounded.
const MAX_SIDE: u64 = 8192;

/// The class of each line that a client may write.
pub const CLASSES: [&str; 16] = [
    "subscribe",
    "tag",
    "save",
    "untag",
    "rename",
    "reset",
    "list",
    "status",
    "snapshot",
    "reload",
    "gallery",
    "gallery_rename",
    "gallery_merge",
    "gallery_forget",
    "gallery_export",
    "gallery_import",
];

/// A line as far as it could be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    pub id: Option<CommandId>,
    /// One of [`CLASSES`].
    pub class: Option<&'static str>,
    pub request: Result<Request, CommandError>,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Subscribe(Subscribe),
    Command(CommandId, Command),
}

/// Reads one line, without its newline.
pub fn read(line: &[u8]) -> Incoming {
    let fields = match read_object(line) {
        Ok(fields) => fields,
        Err(error) => return Incoming { id: None, class: None, request: Err(error) },
    };
    let fields = Fields(&fields);
    let id = fields.id();
    let class = fields.class();
    let request = match (&id, class) {
        (Err(error), _) => Err(error.clone()),
        (_, Err(error)) => Err(error),
        (Ok(id), Ok(class)) => read_request(&fields, id.clone(), class),
    };
    Incoming { id: id.ok().flatten(), class: fields.class().ok(), request }
}

/// Whether `name` may name a track: 1 to 64 printable characters, and not blank.
///
/// # Errors
/// [`ErrorCode::TagNameInvalid`], with what is wrong.
pub fn check_name(name: &str) -> Result<(), CommandError> {
    check_named("name", name)
}

fn check_named(key: &str, name: &str) -> Result<(), CommandError> {
    let invalid = |problem| {
        CommandError::new(ErrorCode::TagNameInvalid, format!("`{key}` is {problem}; give 1 to 64 printable characters"))
    };
    name_problem(name).map(invalid).map_or(Ok(()), Err)
}

fn read_object(line: &[u8]) -> Result<Map<String, Value>, CommandError> {
    let text = std::str::from_utf8(line).map_err(|error| {
        CommandError::new(ErrorCode::LineNotUtf8, format!("the line is not UTF-8 after byte {}", error.valid_up_to()))
    })?;
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(CommandError::new(
            ErrorCode::LineNotAnObject,
            format!("the line is {}; send one JSON object a line", kind_of(&other)),
        )),
        Err(error) => Err(CommandError::new(ErrorCode::LineNotJson, format!("the line is not JSON: {error}"))),
    }
}

fn read_request(fields: &Fields, id: Option<CommandId>, class: &'static str) -> Result<Request, CommandError> {
    if class == "subscribe" {
        return Ok(Request::Subscribe(Subscribe {
            id,
            cameras: fields.cameras()?,
            masks: fields.boolean("masks")?.unwrap_or(false),
            max_rate: fields.max_rate()?,
        }));
    }
    let id = id.ok_or_else(|| missing("id", "a string or an integer that the answer repeats"))?;
    let command = match class {
        "tag" => match (fields.known()?, fields.proposal()?) {
            (Some(name), _) => Command::Recognise { camera: fields.camera()?, name },
            (None, Some(id)) => {
                Command::Accept { id, name: fields.name()?, save: fields.boolean("save")?.unwrap_or(false) }
            }
            (None, None) => Command::Tag {
                camera: fields.camera()?,
                seed: fields.seed()?,
                name: fields.name()?,
                seq: fields.unsigned("seq")?,
                save: fields.boolean("save")?.unwrap_or(false),
            },
        },
        "save" => Command::Save { id: fields.track()?, name: fields.name()? },
        "gallery" => Command::Gallery,
        "gallery_rename" => Command::GalleryRename { name: fields.known_name()?, to: fields.needed("to")? },
        "gallery_merge" => Command::GalleryMerge { name: fields.known_name()?, into: fields.needed("into")? },
        "gallery_forget" => Command::GalleryForget { name: fields.known_name()? },
        "gallery_export" => Command::GalleryExport { name: fields.known_name()? },
        "gallery_import" => Command::GalleryImport { object: fields.object()?, name: fields.name()? },
        "untag" => Command::Untag { id: fields.track()? },
        "rename" => Command::Rename {
            id: fields.track()?,
            name: fields.name()?.ok_or_else(|| missing("name", "the track's new name"))?,
        },
        "reset" => Command::Reset { camera: fields.camera()? },
        "list" => Command::List { camera: fields.camera()? },
        "status" => Command::Status,
        "snapshot" => Command::Snapshot { camera: fields.camera()? },
        "reload" => Command::Reload,
        _ => return Err(unknown_command(class)),
    };
    Ok(Request::Command(id, command))
}

/// The fields of one line. Each reader names its field when it is wrong.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn class(&self) -> Result<&'static str, CommandError> {
        let class = self.string("class")?.ok_or_else(|| missing("class", "the name of a command"))?;
        CLASSES.into_iter().find(|known| *known == class).ok_or_else(|| unknown_command(class))
    }

    fn id(&self) -> Result<Option<CommandId>, CommandError> {
        let wants = "a string of 1 to 64 characters, or an integer of 64 bits";
        match self.0.get("id") {
            None => Ok(None),
            Some(Value::Number(number)) => {
                number.as_i64().map(CommandId::Number).map(Some).ok_or_else(|| invalid("id", wants, "this number"))
            }
            Some(Value::String(text)) if (1..=MAX_NAME).contains(&text.chars().count()) => {
                Ok(Some(CommandId::Text(text.clone())))
            }
            Some(other) => Err(invalid("id", wants, kind_of(other))),
        }
    }

    fn string(&self, key: &str) -> Result<Option<&str>, CommandError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(invalid(key, "a string", kind_of(other))),
        }
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>, CommandError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(invalid(key, "true or false", kind_of(other))),
        }
    }

    fn unsigned(&self, key: &str) -> Result<Option<u64>, CommandError> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        value.as_u64().map(Some).ok_or_else(|| invalid(key, "an integer that is not negative", kind_of(value)))
    }

    fn name(&self) -> Result<Option<String>, CommandError> {
        self.named("name")
    }

    fn named(&self, key: &str) -> Result<Option<String>, CommandError> {
        let name = self.string(key)?;
        name.map(|name| check_named(key, name)).transpose()?;
        Ok(name.map(str::to_owned))
    }

    fn needed(&self, key: &str) -> Result<String, CommandError> {
        self.named(key)?.ok_or_else(|| missing(key, "a name, 1 to 64 printable characters"))
    }

    /// The name of an object of the gallery.
    fn known_name(&self) -> Result<String, CommandError> {
        self.named("name")?.ok_or_else(|| missing("name", "the name of an object of the gallery"))
    }

    /// What `tag` takes out of the gallery, if that is what points at the object.
    fn known(&self) -> Result<Option<String>, CommandError> {
        let known = self.named("gallery")?;
        if known.is_some() {
            self.alone(
                "gallery",
                &["box", "point", "mask", "proposal", "name", "seq", "save"],
                "what the gallery knows has its name, and is looked for",
            )?;
        }
        Ok(known)
    }

    /// The proposal that `tag` accepts, if that is what points at the object.
    fn proposal(&self) -> Result<Option<TrackId>, CommandError> {
        let proposal = self.unsigned("proposal")?;
        if proposal.is_some() {
            self.alone(
                "proposal",
                &["box", "point", "mask", "camera", "seq"],
                "a proposal is followed already, on the camera that sees it",
            )?;
        }
        Ok(proposal.map(TrackId))
    }

    /// Refuses `others` beside `key`.
    fn alone(&self, key: &str, others: &[&str], why: &str) -> Result<(), CommandError> {
        let beside = others.iter().find(|other| self.0.contains_key(**other));
        let refuse = |other| format!("`{key}` and `{other}` cannot stand together: {why}");
        beside.map_or(Ok(()), |other| Err(CommandError::new(ErrorCode::FieldInvalid, refuse(other))))
    }

    fn object(&self) -> Result<Vec<u8>, CommandError> {
        use base64::Engine;
        let wants = "what `gallery_export` gave, in base64";
        let text = self.string("object_base64")?.ok_or_else(|| missing("object_base64", wants))?;
        let decoded = base64::engine::general_purpose::STANDARD.decode(text);
        decoded.map_err(|error| invalid("object_base64", wants, error))
    }

    fn camera(&self) -> Result<Option<String>, CommandError> {
        let name = self.string("camera")?;
        name.map(|name| check_camera("camera", name)).transpose()
    }

    fn cameras(&self) -> Result<Option<Vec<String>>, CommandError> {
        let wants = "a list of one or more cameras' names, or left out for every camera";
        match self.0.get("cameras") {
            None => Ok(None),
            Some(Value::Array(names)) if !names.is_empty() => names
                .iter()
                .map(|name| match name {
                    Value::String(name) => check_camera("cameras", name),
                    other => Err(invalid("cameras", wants, format!("a list with {}", kind_of(other)))),
                })
                .collect::<Result<_, _>>()
                .map(Some),
            Some(other) => Err(invalid("cameras", wants, kind_of(other))),
        }
    }

    fn max_rate(&self) -> Result<Option<f64>, CommandError> {
        let Some(value) = self.0.get("max_rate") else { return Ok(None) };
        let wants = "a number of reports a second, above 0 and at most 1000";
        match value.as_f64() {
            Some(rate) if rate >= f64::from(f32::MIN_POSITIVE) && rate <= 1000.0 => Ok(Some(rate)),
            Some(_) => Err(invalid("max_rate", wants, value)),
            None => Err(invalid("max_rate", wants, kind_of(value))),
        }
    }

    fn track(&self) -> Result<TrackId, CommandError> {
        let track = self.unsigned("track")?;
        track.map(TrackId).ok_or_else(|| missing("track", "the number that `list` gives as a track's id"))
    }

    fn seed(&self) -> Result<Seed, CommandError> {
        const SEEDS: [&str; 3] = ["box", "point", "mask"];
        let wants = "exactly one of `box` [x, y, width, height], `point` [x, y], `mask`, `gallery` and `proposal`";
        let given: Vec<&str> = SEEDS.into_iter().filter(|key| self.0.contains_key(*key)).collect();
        match given[..] {
            [] => Err(missing("box", wants)),
            ["box"] => {
                let bounds: [f32; 4] = self.numbers("box", "[x, y, width, height] in pixels")?;
                if bounds[2] > 0.0 && bounds[3] > 0.0 {
                    return Ok(Seed::Box(bounds));
                }
                Err(invalid("box", "a width and a height above 0", format!("{} by {}", bounds[2], bounds[3])))
            }
            ["point"] => self.numbers("point", "[x, y] in pixels").map(Seed::Point),
            ["mask"] => self.mask().map(Seed::Mask),
            _ => Err(CommandError::new(
                ErrorCode::FieldInvalid,
                format!("`{}` cannot stand together; `tag` takes {wants}", given.join("` and `")),
            )),
        }
    }

    /// `N` finite numbers, in a list.
    fn numbers<const N: usize>(&self, key: &str, wants: &str) -> Result<[f32; N], CommandError> {
        let value = self.0.get(key).unwrap_or(&Value::Null);
        let Value::Array(list) = value else { return Err(invalid(key, wants, kind_of(value))) };
        let read: Vec<f32> = list.iter().filter_map(Value::as_f64).map(|v| v as f32).collect();
        let all = read.len() == list.len() && read.iter().all(|v| v.is_finite());
        let found = || if all { format!("{} numbers", list.len()) } else { "a list of other things".into() };
        read[..].try_into().ok().filter(|_| all).ok_or_else(|| invalid(key, wants, found()))
    }

    fn mask(&self) -> Result<Mask, CommandError> {
        let wants = "COCO's compressed form, {\"size\": [height, width], \"counts\": string}";
        let value = self.0.get("mask").unwrap_or(&Value::Null);
        let Value::Object(fields) = value else { return Err(invalid("mask", wants, kind_of(value))) };
        let Some(Value::String(counts)) = fields.get("counts") else {
            return Err(invalid("mask.counts", "a string", fields.get("counts").map_or("nothing", kind_of)));
        };
        let size = match fields.get("size") {
            Some(Value::Array(size)) => size.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>(),
            _ => None,
        };
        let size = match size.as_deref() {
            Some(&[height, width]) if height.max(width) <= MAX_SIDE => [height as usize, width as usize],
            _ => {
                let wants = "[height, width] in pixels, each 1 to 8192";
                return Err(invalid("mask.size", wants, fields.get("size").map_or("nothing".into(), Value::to_string)));
            }
        };
        let mask = Mask::from_coco(&CocoRle { size, counts: counts.clone() })
            .map_err(|error| CommandError::new(ErrorCode::FieldInvalid, format!("`mask` cannot be read: {error}")))?;
        if mask.is_empty() {
            return Err(CommandError::new(ErrorCode::TagEmpty, "`mask` has no pixel set; mark the object's pixels"));
        }
        Ok(mask)
    }
}

fn check_camera(key: &str, name: &str) -> Result<String, CommandError> {
    let fits = (1..=MAX_NAME).contains(&name.chars().count());
    if fits && name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c)) {
        return Ok(name.to_owned());
    }
    Err(invalid(key, "a camera's name, 1 to 64 letters, digits, `-`, `_` and `.`", format!("{name:?}")))
}

fn unknown_command(class: &str) -> CommandError {
    let short: String = class.chars().take(MAX_NAME).collect();
    let distance = |known: &str| strsim::damerau_levenshtein(known, &short);
    let nearest = CLASSES.into_iter().min_by_key(|known| distance(known));
    let hint = match nearest.filter(|known| distance(known) <= 1 + known.len() / 4) {
        Some(known) => format!("is it `{known}`?"),
        None => format!("there are {}", CLASSES.join(", ")),
    };
    CommandError::new(ErrorCode::CommandUnknown, format!("there is no command {short:?}; {hint}"))
}

fn missing(key: &str, wants: &str) -> CommandError {
    CommandError::new(ErrorCode::FieldMissing, format!("`{key}` is missing; give {wants}"))
}

fn invalid(key: &str, wants: &str, found: impl std::fmt::Display) -> CommandError {
    let found: String = found.to_string().chars().take(80).collect();
    CommandError::new(ErrorCode::FieldInvalid, format!("`{key}` should be {wants}, not {found}"))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null (leave the field out instead)",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(number) if number.is_i64() && !number.is_u64() => "a negative number",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(list) if list.is_empty() => "an empty list",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::ClientLine;
    use super::*;
    use proptest::prelude::*;

    fn error_of(line: &str) -> (&'static str, String) {
        let error = read(line.as_bytes()).request.expect_err(line);
        (error.code.as_str(), error.message)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mask = Mask::from_fn(7, 5, |x, y| x > 2 && y < 3);
        let (camera, name) = (Some("front".to_owned()), Some("Küche \u{1f600}".to_owned()));
        let tag =
            |seed| Command::Tag { camera: camera.clone(), seed, name: name.clone(), seq: Some(u64::MAX), save: true };
        let commands = [
            tag(Seed::Mask(mask)),
            tag(Seed::Box([-3.5, 0.1, 1e-3, 8192.0])),
            tag(Seed::Point([0.0, 719.999])),
            Command::Tag { camera: None, seed: Seed::Point([1.0, 2.0]), name: None, seq: None, save: false },
            Command::Untag { id: TrackId(u64::MAX) },
            Command::Rename { id: TrackId(0), name: "x".repeat(64) },
            Command::Reset { camera: None },
            Command::List { camera: camera.clone() },
            Command::Status,
            Command::Snapshot { camera },
            Command::Reload,
        ];
        for (command, id) in
            commands.into_iter().zip([CommandId::Number(i64::MIN), CommandId::Text("é".into())].iter().cycle())
        {
            let line = ClientLine::command(id.clone(), &command).to_bytes();
            let incoming = read(&line[..line.len() - 1]);
            assert_eq!(incoming.id.as_ref(), Some(id));
            assert_eq!(incoming.request, Ok(Request::Command(id.clone(), command)));
        }
        let wants = Subscribe {
            id: Some(CommandId::Number(3)),
            cameras: Some(vec!["a".into(), "b".into()]),
            masks: true,
            max_rate: Some(2.5),
        };
        let line = ClientLine::Subscribe(wants.clone()).to_bytes();
        assert_eq!(read(&line).request, Ok(Request::Subscribe(wants)));
        assert_eq!(read(br#"{"class":"subscribe"}"#).request, Ok(Request::Subscribe(Subscribe::default())));
    }

    #[test]
    fn what_is_not_known_is_passed_over() {
        let incoming = read(br#" { "later": [null, {}], "id" : "a", "class" : "untag", "track" : 3 } "#);
        assert_eq!(
            incoming.request,
            Ok(Request::Command(CommandId::Text("a".into()), Command::Untag { id: TrackId(3) }))
        );
    }

    #[test]
    fn each_error_names_its_field() {
        let long = "x".repeat(65);
        for (line, code, names) in [
            ("nonsense", "line.not_json", "JSON"),
            (r#"{"class":"status","id":1"#, "line.not_json", "JSON"),
            (r#"{"class":"tag","id":1,"point":[1e999,0]}"#, "line.not_json", "JSON"),
            ("[1]", "line.not_an_object", "a list"),
            ("null", "line.not_an_object", "null"),
            ("{}", "command.field_missing", "`class`"),
            (r#"{"class":7}"#, "command.field_invalid", "`class`"),
            (r#"{"class":"tga","id":1}"#, "command.unknown", "`tag`"),
            (r#"{"class":"zzz","id":1}"#, "command.unknown", "snapshot"),
            (r#"{"class":"status"}"#, "command.field_missing", "`id`"),
            (r#"{"class":"status","id":null}"#, "command.field_invalid", "`id`"),
            (r#"{"class":"status","id":1.5}"#, "command.field_invalid", "`id`"),
            (r#"{"class":"status","id":""}"#, "command.field_invalid", "`id`"),
            (r#"{"class":"status","id":9223372036854775808}"#, "command.field_invalid", "`id`"),
            (r#"{"class":"untag","id":1}"#, "command.field_missing", "`track`"),
            (r#"{"class":"untag","id":1,"track":-1}"#, "command.field_invalid", "`track`"),
            (r#"{"class":"untag","id":1,"track":"1"}"#, "command.field_invalid", "`track`"),
            (r#"{"class":"untag","id":1,"track":1.0}"#, "command.field_invalid", "`track`"),
            (r#"{"class":"rename","id":1,"track":1}"#, "command.field_missing", "`name`"),
            (r#"{"class":"rename","id":1,"track":1,"name":5}"#, "command.field_invalid", "`name`"),
            (r#"{"class":"rename","id":1,"track":1,"name":" "}"#, "tag.name_invalid", "`name`"),
            (r#"{"class":"rename","id":1,"track":1,"name":"a\u001b[2J"}"#, "tag.name_invalid", "`name`"),
            (r#"{"class":"rename","id":1,"track":1,"name":"a\u202eb"}"#, "tag.name_invalid", "`name`"),
            (r#"{"class":"list","id":1,"camera":""}"#, "command.field_invalid", "`camera`"),
            (r#"{"class":"list","id":1,"camera":"a\nb"}"#, "command.field_invalid", "`camera`"),
            (r#"{"class":"list","id":1,"camera":["a"]}"#, "command.field_invalid", "`camera`"),
            (r#"{"class":"tag","id":1}"#, "command.field_missing", "`box`"),
            (r#"{"class":"tag","id":1,"gallery":7}"#, "command.field_invalid", "`gallery`"),
            (
                r#"{"class":"tag","id":1,"gallery":"mug","box":[0,0,1,1]}"#,
                "command.field_invalid",
                "`gallery` and `box`",
            ),
            (r#"{"class":"tag","id":1,"gallery":"mug","save":true}"#, "command.field_invalid", "`gallery` and `save`"),
            (r#"{"class":"tag","id":1,"box":[0,0,1,1],"save":1}"#, "command.field_invalid", "`save`"),
            (r#"{"class":"gallery_rename","id":1,"name":"mug"}"#, "command.field_missing", "`to`"),
            (r#"{"class":"gallery_rename","id":1,"name":"mug","to":" "}"#, "tag.name_invalid", "`to`"),
            (r#"{"class":"gallery_merge","id":1,"into":"mug"}"#, "command.field_missing", "`name`"),
            (r#"{"class":"gallery_import","id":1}"#, "command.field_missing", "`object_base64`"),
            (r#"{"class":"gallery_import","id":1,"object_base64":"*"}"#, "command.field_invalid", "`object_base64`"),
            (r#"{"class":"tag","id":1,"box":[0,0,1,1],"point":[0,0]}"#, "command.field_invalid", "`box` and `point`"),
            (r#"{"class":"tag","id":1,"box":[0,0,1]}"#, "command.field_invalid", "`box`"),
            (r#"{"class":"tag","id":1,"box":{"x":0}}"#, "command.field_invalid", "`box`"),
            (r#"{"class":"tag","id":1,"box":[0,0,0,1]}"#, "command.field_invalid", "`box`"),
            (r#"{"class":"tag","id":1,"box":[0,0,1,-2]}"#, "command.field_invalid", "`box`"),
            (r#"{"class":"tag","id":1,"box":[0,0,1e-60,1]}"#, "command.field_invalid", "`box`"),
            (r#"{"class":"tag","id":1,"point":[1e300,0]}"#, "command.field_invalid", "`point`"),
            (r#"{"class":"tag","id":1,"point":["1",0]}"#, "command.field_invalid", "`point`"),
            (r#"{"class":"tag","id":1,"point":null}"#, "command.field_invalid", "`point`"),
            (r#"{"class":"tag","id":1,"point":[1,2],"seq":-1}"#, "command.field_invalid", "`seq`"),
            (r#"{"class":"tag","id":1,"mask":"x"}"#, "command.field_invalid", "`mask`"),
            (r#"{"class":"tag","id":1,"mask":{"size":[4,5]}}"#, "command.field_invalid", "`mask.counts`"),
            (r#"{"class":"tag","id":1,"mask":{"counts":"d0"}}"#, "command.field_invalid", "`mask.size`"),
            (
                r#"{"class":"tag","id":1,"mask":{"size":[4,9999],"counts":"d0"}}"#,
                "command.field_invalid",
                "`mask.size`",
            ),
            (r#"{"class":"tag","id":1,"mask":{"size":[4,5],"counts":"d"}}"#, "command.field_invalid", "`mask`"),
            (r#"{"class":"tag","id":1,"mask":{"size":[4,5],"counts":"d0"}}"#, "tag.empty", "`mask`"),
            (r#"{"class":"subscribe","cameras":[]}"#, "command.field_invalid", "`cameras`"),
            (r#"{"class":"subscribe","cameras":["a",1]}"#, "command.field_invalid", "`cameras`"),
            (r#"{"class":"subscribe","masks":1}"#, "command.field_invalid", "`masks`"),
            (r#"{"class":"subscribe","max_rate":0}"#, "command.field_invalid", "`max_rate`"),
            (r#"{"class":"subscribe","max_rate":1001}"#, "command.field_invalid", "`max_rate`"),
            (r#"{"class":"subscribe","max_rate":"5"}"#, "command.field_invalid", "`max_rate`"),
            (&format!(r#"{{"class":"rename","id":1,"track":1,"name":"{long}"}}"#), "tag.name_invalid", "`name`"),
            (&format!(r#"{{"class":"status","id":"{long}"}}"#), "command.field_invalid", "`id`"),
            (&format!(r#"{{"class":"{long}{long}","id":1}}"#), "command.unknown", "xxx"),
            (&"[".repeat(10_000), "line.not_json", "JSON"),
            (&r#"{"class":"#.repeat(5_000), "line.not_json", "JSON"),
        ] {
            let (read, message) = error_of(line);
            assert_eq!(read, code, "{line}: {message}");
            assert!(message.contains(names), "{line}: {message}");
            assert!(message.len() < 300, "{message}");
        }
        assert_eq!(read(b"{\"class\":\"\xff\"}").request.unwrap_err().code, ErrorCode::LineNotUtf8);
    }

    #[test]
    fn an_error_repeats_the_id_where_it_can_be_read() {
        let incoming = read(br#"{"class":"untag","id":"seven"}"#);
        assert_eq!((incoming.id, incoming.class), (Some(CommandId::Text("seven".into())), Some("untag")));
        let incoming = read(br#"{"class":"fly","id":7}"#);
        assert_eq!((incoming.id, incoming.class), (Some(CommandId::Number(7)), None));
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&line);
        }

        #[test]
        fn no_field_makes_the_reader_panic(
            class in prop::sample::select(&CLASSES[..]),
            key in prop::sample::select(&["id", "camera", "cameras", "box", "point", "mask", "name", "seq", "track", "masks", "max_rate", "gallery", "to", "into", "object_base64"][..]),
            value in prop::sample::select(&["null", "true", "-1", "1e38", "1e39", "\"\"", "[]", "[[]]", "{}", "[1,2]", "[1,2,3,4]",
                r#"{"size":[0,0],"counts":""}"#, r#"{"size":[1,1],"counts":"1"}"#, r#"{"size":[8192,8192],"counts":"PPPPPPPPPPP"}"#][..]),
        ) {
            let _ = read(format!(r#"{{"class":"{class}","id":1,"{key}":{value}}}"#).as_bytes());
        }
    }
}
