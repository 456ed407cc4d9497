//! What is said of bad configurations, to the letter.

use std::path::Path;

use tagalong::config::{Config, DEFAULT};

struct Case {
    text: &'static str,
    said: &'static [&'static str],
}

/// Each text with everything that must be said of it, in this order.
const CASES: &[Case] = &[
    Case {
        text: "[[camera]]\nwidht = 640",
        said: &["f.toml:2:1: camera[0].widht: unknown key; did you mean `width`?"],
    },
    Case {
        text: "[track]\nwidth = 640",
        said: &["f.toml:2:1: track.width: unknown key here; it belongs in [[camera]]"],
    },
    Case {
        text: "[[camera]]\nname = \"a\"\n  max_clients = 3\ntop_k = 1\nseed = 2",
        said: &[
            "f.toml:3:3: camera[0].max_clients: unknown key here; it belongs in [serve]",
            "f.toml:4:1: camera[0].top_k: unknown key here; it belongs in [presets.NAME]",
        ],
    },
    Case {
        text: "[log]\ncolour = 1",
        said: &["f.toml:2:1: log.colour: unknown key; known here are `level`, `summary_interval_s`"],
    },
    Case { text: "[trak]\nmin_score = 2", said: &["f.toml:1:2: trak: unknown key; did you mean `track`?"] },
    Case { text: "state_dir = 5", said: &["f.toml:1:13: state_dir: must be a path, not 5"] },
    Case {
        text: "[[camera]]\nwidth = \"640\"\nheight = 15\nfps = 0\ntimeout_ms = -1\nrepeat = 1\nseed = 4294967296\nobjects = 65",
        said: &[
            "f.toml:2:9: camera[0].width: must be a whole number, 16 to 8192, or 0, not \"640\"",
            "f.toml:3:10: camera[0].height: must be a whole number, 16 to 8192, or 0, not 15",
            "f.toml:4:7: camera[0].fps: must be a number, 0.1 to 1000, not 0",
            "f.toml:5:14: camera[0].timeout_ms: must be a whole number, 100 to 20000, not -1",
            "f.toml:6:10: camera[0].repeat: must be true or false, not 1",
            "f.toml:7:8: camera[0].seed: must be a whole number, 0 to 4294967295, not 4294967296",
            "f.toml:8:11: camera[0].objects: must be a whole number, 1 to 64, not 65",
        ],
    },
    Case {
        text: "[[camera]]\nname = \"\"\ndevice = \"\"\nformat = \"YUV\"",
        said: &[
            "f.toml:2:8: camera[0].name: must be 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit, not \"\"",
            "f.toml:3:10: camera[0].device: must be a path, a name or `auto`, not \"\"",
            "f.toml:4:10: camera[0].format: must be `auto`, `YUYV`, `UYVY`, `NV12`, `GREY`, `RGB3`, `BGR3` or `MJPG`, not \"YUV\"; did you mean `YUYV`?",
        ],
    },
    Case {
        text: "[[camera]]\nsource = \"image\"\nwidth = 0",
        said: &[
            "f.toml:2:10: camera[0].source: must be `v4l2`, `nokhwa`, `pipe`, `gstreamer`, `images` or `synthetic`, not \"image\"; did you mean `images`?",
        ],
    },
    Case {
        text: "[[camera]]\nwidth = 0",
        said: &["f.toml:2:9: camera[0].width: 0 is for `source = \"images\"` alone; ask for 16 to 8192 pixels"],
    },
    Case {
        text: "[[camera]]\nname = \"a\"\n[[camera]]\nname = \"b\"\nsource = \"synthetic\"\n[[camera]]\nname = \"a\"\nsource = \"synthetic\"",
        said: &["f.toml:7:8: camera[2].name: camera[0] is named `a` too; give each camera a name of its own"],
    },
    Case {
        text: "[[camera]]\n[[camera]]\nsource = \"synthetic\"",
        said: &["f.toml:2:1: camera[1].name: camera[0] is named `camera` too; give each camera a name of its own"],
    },
    Case {
        text: "[[camera]]\nname = \"a\"\ndevice = \"video0\"\n[[camera]]\nname = \"b\"\ndevice = \"video0\"\n[[camera]]\nname = \"c\"\ndevice = \"video0\"\nsource = \"nokhwa\"",
        said: &[
            "f.toml:6:10: camera[1].device: camera[0] has `video0` too; a device can be read once",
            "f.toml:9:10: camera[2].device: must be the camera's number or `auto` with `source = \"nokhwa\"`, not \"video0\"",
        ],
    },
    Case {
        text: "[[camera]]\nname = \"a\"\ndevice = \"video0\"\n[[camera]]\nname = \"b\"",
        said: &[
            "f.toml:4:1: camera[1].device: `auto` may find the device of another camera; with several, name the device of each (`tagalong devices` lists them)",
        ],
    },
    Case {
        text: "[[camera]]\nname = \"a\"\nsource = \"images\"\n[[camera]]\nname = \"b\"\nsource = \"images\"\nfolder = \"/nowhere/at-all\"",
        said: &[
            "f.toml:1:1: camera[0].folder: `source = \"images\"` needs the folder that they are in",
            "f.toml:7:10: camera[1].folder: there is no folder /nowhere/at-all",
        ],
    },
    Case {
        text: "[[camera]]\nname = \"a\"\nsource = \"pipe\"\n[[camera]]\nname = \"b\"\nsource = \"pipe\"\nformat = \"MJPG\"\ndevice = \"frames\"\ncommand = [\"\"]\n[[camera]]\nname = \"c\"\nsource = \"synthetic\"\ncommand = [\"ffmpeg\", 1]\n[[camera]]\nname = \"d\"\nsource = \"synthetic\"\ncommand = [\"ffmpeg\"]",
        said: &[
            "f.toml:1:1: camera[0].device: `source = \"pipe\"` needs the path of a named pipe, or a `command`",
            "f.toml:1:1: camera[0].format: `source = \"pipe\"` needs the format that is written: nothing tells it of raw pixels",
            "f.toml:8:10: camera[1].device: is not read where there is a `command`; leave one of them out",
            "f.toml:9:11: camera[1].command: must begin with a program",
            "f.toml:13:11: camera[2].command: must be an array of at most 64 strings, a program and its arguments, not [\"ffmpeg\", 1]",
            "f.toml:17:11: camera[3].command: is for `source = \"pipe\"` alone",
        ],
    },
    Case {
        text: "sandbox = \"required\"\n[[camera]]\nname = \"a\"\nsource = \"pipe\"\nformat = \"MJPG\"\ncommand = [\"ffmpeg\"]",
        said: &[
            "f.toml:1:11: sandbox: cannot be \"required\" with camera `a`: what is run for it needs system calls that nobody knows",
        ],
    },
    Case {
        text: "[[camera]]\nname = \"a\"\nsource = \"gstreamer\"\npipeline = \" \"\n[[camera]]\nname = \"b\"\nsource = \"synthetic\"\npipeline = \"videotestsrc ! appsink\"\n[[camera]]\nname = \"c\"\nsource = \"gstreamer\"\npipeline = \"a\\u0007\"",
        said: &[
            "f.toml:4:12: camera[0].pipeline: `source = \"gstreamer\"` needs a pipeline, such as \"videotestsrc is-live=true ! appsink\"",
            "f.toml:8:12: camera[1].pipeline: is for `source = \"gstreamer\"` alone",
            "f.toml:12:12: camera[2].pipeline: must be at most 4096 bytes of text, without control characters; it has 2 bytes",
        ],
    },
    Case {
        text: "[[camera]]\nname = \"a\"\nsource = \"pipe\"\nformat = \"GREY\"\ndevice = \"frames\"\n[[camera]]\nname = \"b\"\nsource = \"pipe\"\nformat = \"GREY\"\ndevice = \"frames\"",
        said: &["f.toml:10:10: camera[1].device: camera[0] has `frames` too; a device can be read once"],
    },
    Case {
        text: "[camera]\nname = \"a\"",
        said: &["f.toml:1:1: camera: must be written as [[camera]], once for each camera, not as a table"],
    },
    Case { text: "camera = []", said: &["f.toml:1:10: camera: there must be 1 to 64 cameras, not 0"] },
    Case {
        text: "[propagate]\npreset = \"sofd\"",
        said: &["f.toml:2:10: propagate.preset: there is no preset `sofd`; did you mean `soft`?"],
    },
    Case {
        text: "propagate = \"soft\"\npresets = 1",
        said: &[
            "f.toml:1:13: propagate: must be a table, [propagate], not \"soft\"",
            "f.toml:2:11: presets: must be a table, [presets], not 1",
        ],
    },
    Case {
        text: "propagate.preset = \"mine\"\n[presets]\nmine = 1\n\"ö\" = {}\n[presets.dino]\nwindow = \"squared\"\ntemperature = nan\ntop_k = 0",
        said: &[
            "f.toml:3:1: presets.mine: must be a table, [presets.mine], not 1",
            "f.toml:4:1: presets.\"ö\": a preset's name must be 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit",
            "f.toml:6:10: presets.dino.window: must be `square` or `circle`, not \"squared\"; did you mean `square`?",
            "f.toml:7:15: presets.dino.temperature: must be a number, 0.001 to 10, not nan",
            "f.toml:8:9: presets.dino.top_k: must be a whole number, 1 to 64, not 0",
        ],
    },
    Case {
        text: "[presets.dino]\nrefine_radius = 1\nrefine_epsilon = 0\n[presets.sharp]\nmin_max = true",
        said: &[
            "f.toml: presets.sharp.refine_radius: must be 0 with `min_max = true`: edges are looked for in labels as they are",
            "f.toml:2:17: presets.dino.refine_radius: must be 0 with `min_max = true`: edges are looked for in labels as they are",
            "f.toml:3:18: presets.dino.refine_epsilon: must be a number, 0.0001 to 1, not 0",
        ],
    },
    Case {
        text: "[serve]\ntracks_allow = \"robot\"\ncontrol_allow = [\"robot\", \"@\"]",
        said: &[
            "f.toml:2:16: serve.tracks_allow: must be an array of at most 64 names of users, and of groups with an `@` before them, not \"robot\"",
            "f.toml:3:17: serve.control_allow: must be an array of at most 64 names of users, and of groups with an `@` before them, not [\"robot\", \"@\"]",
        ],
    },
    Case {
        text: "[serve]\ntracks_mode = \"0888\"\ncontrol_mode = 0o600\ntracks_group = \"a b\"",
        said: &[
            "f.toml:2:15: serve.tracks_mode: must be an octal string, \"000\" to \"0777\", not \"0888\"",
            "f.toml:3:16: serve.control_mode: must be an octal string, \"000\" to \"0777\", not 0o600",
            "f.toml:4:16: serve.tracks_group: must be a name of a group or empty, not \"a b\"",
        ],
    },
    Case {
        text: "serve.directory = \"/run/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890\"",
        said: &["f.toml:1:19: serve.directory: is 96 bytes long; the path of a socket has room for 94"],
    },
    Case {
        text: "[model]\nmanifest = \"/nowhere/model.toml\"\ninput = \"640x\"\nthreads = 1.5",
        said: &[
            "f.toml:2:12: model.manifest: there is no file /nowhere/model.toml",
            "f.toml:3:9: model.input: must be HEIGHTxWIDTH in pixels or `auto`, not \"640x\"",
            "f.toml:4:11: model.threads: must be a whole number, 0 to 64, not 1.5",
        ],
    },
    Case {
        text: "[log]\nlevel = \"INFO\"\nsummary_interval_s = [60]\n[track]\nmin_score = 1979-05-27",
        said: &[
            "f.toml:2:9: log.level: must be `off`, `error`, `warn`, `info`, `debug` or `trace`, not \"INFO\"",
            "f.toml:3:22: log.summary_interval_s: must be a whole number, 0 to 86400, not [60]",
            "f.toml:5:13: track.min_score: must be a number, 0 to 1, not the date 1979-05-27",
        ],
    },
    // A column counts characters, and a line break or a long text cannot break the form of one problem a line.
    Case {
        text: "[serve]\n\"öö\\n\" = 1\nqueue = \"\"\"a\nb\"\"\"",
        said: &[
            "f.toml:2:1: serve.\"öö\\n\": unknown key; known here are `control_allow`, `control_group`, `control_mode`, `directory`, `max_clients`, `queue`, `tracks_allow`, `tracks_group`, `tracks_mode`, `write_timeout_ms`",
            "f.toml:3:9: serve.queue: must be a whole number, 1 to 1000, not \"a\\nb\"",
        ],
    },
    // Every line with a syntax error is told; of the rest nothing, for it may not mean what it says.
    Case {
        text: "[track\n[[camera]]\nfps = 0.5.5\nwidht = 64O\nheight = \nname = \"ö\u{0}\"",
        said: &[
            "f.toml:1:7: not TOML: unclosed table, expected `]`",
            "f.toml:3:10: not TOML: invalid float, expected nothing",
            "f.toml:4:9: not TOML: string values must be quoted, expected literal string",
            "f.toml:5:10: not TOML: string values must be quoted, expected literal string",
            "f.toml:6:10: not TOML: invalid basic string, expected non-double-quote visible characters, `\\`",
        ],
    },
    Case { text: "[log]\n[log]", said: &["f.toml:2:2: not TOML: duplicate key"] },
];

#[test]
fn every_problem_is_told_with_its_place() {
    let mut wrong = Vec::new();
    for case in CASES {
        let said = match Config::parse(case.text, Path::new("f.toml")) {
            Ok(_) => "nothing".to_string(),
            Err(problems) => problems.to_string(),
        };
        if said != case.said.join("\n") {
            wrong.push(format!(
                "{}\n--- is said to have\n{said}\n--- but should\n{}\n",
                case.text,
                case.said.join("\n")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_that_are_no_text_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let said = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let said = Config::load(&path).unwrap_err().to_string();
        said.strip_prefix(&format!("{}: ", path.display())).unwrap_or(&said).to_string()
    };
    assert_eq!(
        said("latin1.toml", b"# ok\nname = \"\xe9\""),
        "is not UTF-8: line 2 has a byte that no character begins with or goes on with"
    );
    assert_eq!(said("huge.toml", &vec![b'#'; 300_000]), "is larger than 262144 bytes, and so no configuration");
    let missing = folder.path().join("none.toml");
    assert_eq!(
        Config::load(&missing).unwrap_err().to_string(),
        format!("{}: cannot be read: No such file or directory (os error 2)", missing.display())
    );
    assert!(Config::load(folder.path()).unwrap_err().to_string().ends_with("Is a directory (os error 21)"));
}

#[test]
fn deep_and_crowded_texts_end_in_a_message() {
    let folder = Path::new("f.toml");
    let deep = ["[".repeat(100_000), format!("a = {}", "[".repeat(100_000)), format!("a{} = 1", ".a".repeat(100_000))];
    for text in deep {
        let said = Config::parse(&text, folder).unwrap_err().to_string();
        assert!(said.lines().count() == 1 && said.len() < 300, "{said}");
    }
    let crowded: String = (0..30_000).map(|i| format!("k{i}=1\n")).collect();
    let said = Config::parse(&crowded, folder).unwrap_err().to_string();
    assert_eq!(said.lines().count(), 101);
    assert!(said.ends_with("and 29900 more problems"), "{said}");
    let said = Config::parse(&"=\n".repeat(100_000), folder).unwrap_err().to_string();
    assert!(said.starts_with("f.toml:1:1: not TOML: "), "{said}");
    let cameras: String = (0..20_000).map(|_| "[[camera]]\n").collect();
    let said = Config::parse(&cameras, folder).unwrap_err().to_string();
    assert_eq!(said, "f.toml:1:1: camera: there must be 1 to 64 cameras, not 20000");
}

mod mutated {
    use super::*;
    use proptest::prelude::*;

    /// What a slip of the keyboard or a broken editor may put into a file.
    fn scrap() -> impl Strategy<Value = String> {
        prop_oneof![
            "[\\[\\]{}=\"'#.,\n\t -]{1,3}",
            "[a-z_]{1,4}",
            "-?[0-9]{1,25}",
            Just("nan".into()),
            Just("1e999".into()),
            Just("\"\"\"".into()),
            Just("\u{0}".into()),
            Just("é\r".into()),
            any::<char>().prop_map(String::from),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        /// The default file with pieces cut out and put in is read, or refused with one line a problem, each with
        /// its place in the file.
        #[test]
        fn default_file_never_panics(edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, scrap()), 1..6)) {
            let mut text = DEFAULT.to_string();
            for (at, cut, put) in edits {
                let start = text.floor_char_boundary(at.index(text.len()));
                let end = text.floor_char_boundary((start + cut).min(text.len()));
                text.replace_range(start..end, &put);
            }
            if let Err(problems) = Config::parse(&text, Path::new("f.toml")) {
                prop_assert!(!problems.list.is_empty());
                prop_assert_eq!(problems.to_string().lines().count(), problems.list.len() + usize::from(problems.left_out > 0));
                for problem in &problems.list {
                    let place = problem.place.unwrap();
                    prop_assert!(place.line <= text.split('\n').count() && place.column >= 1);
                }
            }
        }
    }
}
