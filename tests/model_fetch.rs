//! Downloads, from a server on this machine that misbehaves.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest, Sha256};
use tagalong::model::fetch::{Authorities, FetchError, Patience, Progress, Remote, fetch};

/// What the server does with a request; after the last, it does the last again.
#[derive(Clone)]
enum Act {
    /// Sends what is asked for.
    Send(Arc<Vec<u8>>),
    /// Promises all, and closes the connection after so many bytes.
    Cut(Arc<Vec<u8>>, usize),
    /// Sends so many bytes, and then nothing for so long.
    Stall(Arc<Vec<u8>>, usize, Duration),
    /// Answers with a status and no file.
    Refuse(&'static str),
    /// Sends the whole file, whatever part is asked for.
    Whole(Arc<Vec<u8>>),
}

struct Server {
    url: String,
    /// The `Range` of each request, empty where there was none.
    ranges: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(acts: Vec<Act>) -> Server {
        Server::listen(acts, None)
    }

    /// One that speaks TLS with the key of a certificate.
    fn start_encrypted(acts: Vec<Act>, certificate: &CertifiedKey<KeyPair>) -> Server {
        let key = PrivatePkcs8KeyDer::from(certificate.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.cert.der().clone()], key.into())
            .unwrap();
        Server::listen(acts, Some(Arc::new(config)))
    }

    fn listen(acts: Vec<Act>, encrypted: Option<Arc<ServerConfig>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scheme = if encrypted.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://localhost:{}/file.pth", listener.local_addr().unwrap().port());
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&ranges);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let act = acts[number.min(acts.len() - 1)].clone();
                let (seen, encrypted) = (Arc::clone(&seen), encrypted.clone());
                thread::spawn(move || match encrypted {
                    None => answer(stream.unwrap(), act, &seen),
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        answer(StreamOwned::new(connection, stream.unwrap()), act, &seen);
                    }
                });
            }
        });
        Server { url, ranges }
    }

    fn ranges(&self) -> Vec<String> {
        self.ranges.lock().unwrap().clone()
    }
}

fn answer(mut stream: impl Read + Write, act: Act, seen: &Mutex<Vec<String>>) {
    let (mut range, mut if_range) = (String::new(), String::new());
    for line in BufReader::new(&mut stream).lines() {
        // A client that does not trust the server hangs up.
        let Ok(line) = line else { return };
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "range" => range = value.to_owned(),
            "if-range" => if_range = value.to_owned(),
            _ => {}
        }
    }
    seen.lock().unwrap().push(range.clone());
    let (file, upto, pause, honest) = match act {
        Act::Refuse(status) => {
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            return;
        }
        Act::Send(file) => (Arc::clone(&file), file.len(), Duration::ZERO, true),
        Act::Cut(file, upto) => (file, upto, Duration::ZERO, true),
        Act::Stall(file, upto, pause) => (file, upto, pause, true),
        Act::Whole(file) => (Arc::clone(&file), file.len(), Duration::ZERO, false),
    };
    let tag = format!("\"{:x}\"", Sha256::digest(&file[..])[0]);
    let start = range.strip_prefix("bytes=").and_then(|rest| rest.strip_suffix('-')).and_then(|n| n.parse().ok());
    let start: usize = start.filter(|_| honest && (if_range.is_empty() || if_range == tag)).unwrap_or(0);
    let total = file.len();
    if start >= total {
        let _ = write!(
            stream,
            "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\n\r\n"
        );
        return;
    }
    let length = total - start;
    let head = match start {
        0 => "200 OK\r\n".to_owned(),
        start => format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{total}\r\n", total - 1),
    };
    let _ = write!(stream, "HTTP/1.1 {head}ETag: {tag}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(&file[start..upto.max(start)]);
    let _ = stream.flush();
    thread::sleep(pause);
}

fn file(length: usize, seed: u32) -> Arc<Vec<u8>> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    Arc::new((0..length).map(|_| next()).collect())
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

const QUICK: Patience = Patience { stall: Duration::from_millis(300), retries: 2 };

/// What came of a download: the result, how far it told to have come, and the file.
fn download(server: &Server, expected: Option<&[u8]>, folder: &Path) -> (Result<String, FetchError>, Vec<Progress>) {
    let remote = Remote { url: server.url.clone(), sha256: expected.map(digest), authorities: None };
    let mut told = Vec::new();
    let result = fetch(&remote, &folder.join("file"), QUICK, &mut |progress| told.push(progress));
    (result, told)
}

#[test]
fn a_file_comes_whole_and_verified() {
    let whole = file(300_000, 1);
    for expected in [Some(&whole[..]), None] {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(vec![Act::Send(Arc::clone(&whole))]);
        let (result, told) = download(&server, expected, folder.path());
        assert_eq!(result.unwrap(), digest(&whole));
        assert_eq!(fs::read(folder.path().join("file")).unwrap(), whole[..]);
        assert_eq!(told.last().unwrap(), &Progress { bytes: 300_000, total: Some(300_000) });
        assert!(told.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }
}

#[test]
fn a_connection_that_is_cut_is_resumed() {
    let whole = file(300_000, 2);
    let folder = tempfile::tempdir().unwrap();
    let cut = |upto| Act::Cut(Arc::clone(&whole), upto);
    let server = Server::start(vec![cut(100_000), Act::Refuse("503 Busy"), cut(200_000), cut(300_000)]);
    let (result, _) = download(&server, Some(&whole), folder.path());
    assert_eq!(result.unwrap(), digest(&whole));
    assert_eq!(server.ranges(), ["", "bytes=100000-", "bytes=100000-", "bytes=200000-"]);
}

#[test]
fn a_stall_is_noticed_and_resumed() {
    let whole = file(50_000, 3);
    let folder = tempfile::tempdir().unwrap();
    let stall = Act::Stall(Arc::clone(&whole), 20_000, Duration::from_secs(20));
    let server = Server::start(vec![stall.clone(), Act::Send(Arc::clone(&whole))]);
    let start = Instant::now();
    assert_eq!(download(&server, Some(&whole), folder.path()).0.unwrap(), digest(&whole));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());

    // One that never ends is given up, and what came is kept for the next time.
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(vec![stall]);
    let error = download(&server, Some(&whole), folder.path()).0.unwrap_err();
    assert!(error.to_string().contains("nothing came any more, 20000 bytes had come"), "{error}");
    assert_eq!(server.ranges().len(), 4, "one try and three that bring nothing");
    let server = Server::start(vec![Act::Send(Arc::clone(&whole))]);
    assert_eq!(download(&server, Some(&whole), folder.path()).0.unwrap(), digest(&whole));
    assert_eq!(server.ranges(), ["bytes=20000-"]);
}

#[test]
fn a_wrong_digest_is_refused_and_not_kept() {
    let (wanted, other) = (file(5_000, 4), file(5_000, 5));
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(vec![Act::Send(other)]);
    let error = download(&server, Some(&wanted), folder.path()).0.unwrap_err();
    assert!(matches!(&error, FetchError::Digest { expected, .. } if *expected == digest(&wanted)), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_part_of_another_file_is_not_built_on() {
    let (old, new) = (file(9_000, 6), file(8_000, 7));
    for expected in [Some(&new[..]), None] {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(vec![Act::Cut(Arc::clone(&old), 4_000)]);
        assert!(download(&server, expected, folder.path()).0.is_err());
        let server = Server::start(vec![Act::Send(Arc::clone(&new))]);
        assert_eq!(download(&server, expected, folder.path()).0.unwrap(), digest(&new));
        assert_eq!(fs::read(folder.path().join("file")).unwrap(), new[..]);
    }
    // A part of which the server's name is not known, and that is even longer than the file.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file.part"), &old[..]).unwrap();
    let server = Server::start(vec![Act::Send(Arc::clone(&new))]);
    assert_eq!(download(&server, Some(&new), folder.path()).0.unwrap(), digest(&new));
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let whole = file(30_000, 8);
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(vec![Act::Cut(Arc::clone(&whole), 10_000), Act::Whole(Arc::clone(&whole))]);
    assert_eq!(download(&server, Some(&whole), folder.path()).0.unwrap(), digest(&whole));
}

#[test]
fn what_is_not_there_or_not_safe_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(vec![Act::Refuse("404 Not Found")]);
    let error = download(&server, None, folder.path()).0.unwrap_err().to_string();
    assert!(error.contains("404 Not Found") && error.contains(&server.url), "{error}");
    assert_eq!(server.ranges().len(), 1, "it is not tried again");
    for url in ["http://example.com/file", "ftp://localhost/file", "file:///etc/passwd", "nonsense"] {
        let remote = Remote { url: url.into(), sha256: None, authorities: None };
        let error = fetch(&remote, &folder.path().join("file"), QUICK, &mut |_| {}).unwrap_err();
        assert!(matches!(error, FetchError::Scheme(_)), "{error}");
    }
    let closed = Remote { url: "http://127.0.0.1:1/file".into(), sha256: None, authorities: None };
    let error = fetch(&closed, &folder.path().join("file"), QUICK, &mut |_| {}).unwrap_err();
    assert!(matches!(error, FetchError::Interrupted { got: 0, .. }), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_server_is_trusted_when_somebody_vouches_for_it() {
    let certificate = generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let other = generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let authorities = |of: &CertifiedKey<KeyPair>| Some(Authorities::from_pem(of.cert.pem().as_bytes()).unwrap());
    let whole = file(300_000, 9);
    let folder = tempfile::tempdir().unwrap();
    // Encrypted downloads are resumed as others are.
    let server = Server::start_encrypted(
        vec![Act::Cut(Arc::clone(&whole), 100_000), Act::Send(Arc::clone(&whole))],
        &certificate,
    );
    let sha256 = Some(digest(&whole));
    let remote = Remote { url: server.url.clone(), sha256, authorities: authorities(&certificate) };
    assert_eq!(fetch(&remote, &folder.path().join("file"), QUICK, &mut |_| {}).unwrap(), digest(&whole));
    assert_eq!(server.ranges(), ["", "bytes=100000-"]);
    // Neither the usual authorities nor another one vouch for it: that is told at once, and nothing is asked for.
    for authorities in [None, authorities(&other)] {
        let server = Server::start_encrypted(vec![Act::Send(Arc::clone(&whole))], &certificate);
        let remote = Remote { url: server.url.clone(), sha256: None, authorities };
        let error = fetch(&remote, &folder.path().join("other"), QUICK, &mut |_| {}).unwrap_err();
        assert!(matches!(&error, FetchError::Server { problem, .. } if problem.contains("certificate")), "{error}");
        assert_eq!(server.ranges(), [""; 0]);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    for wrong in ["", "nonsense", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
        assert!(Authorities::from_pem(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

/// A checkpoint of DINO's layout, small, with one head.
fn checkpoint() -> Vec<u8> {
    let dim = 64;
    let mut shapes = vec![
        ("cls_token".to_owned(), vec![1, 1, dim]),
        ("pos_embed".into(), vec![1, 26, dim]),
        ("patch_embed.proj.weight".into(), vec![dim, 3, 8, 8]),
        ("patch_embed.proj.bias".into(), vec![dim]),
        ("norm.weight".into(), vec![dim]),
        ("norm.bias".into(), vec![dim]),
    ];
    for (name, shape) in [
        ("attn.qkv.weight", vec![3 * dim, dim]),
        ("attn.qkv.bias", vec![3 * dim]),
        ("attn.proj.weight", vec![dim, dim]),
        ("attn.proj.bias", vec![dim]),
        ("mlp.fc1.weight", vec![2 * dim, dim]),
        ("mlp.fc1.bias", vec![2 * dim]),
        ("mlp.fc2.weight", vec![dim, 2 * dim]),
        ("mlp.fc2.bias", vec![dim]),
        ("norm1.weight", vec![dim]),
        ("norm1.bias", vec![dim]),
        ("norm2.weight", vec![dim]),
        ("norm2.bias", vec![dim]),
    ] {
        shapes.push((format!("blocks.0.{name}"), shape));
    }
    let mut state = 9u32;
    let mut numbers = |count: usize| -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
        };
        (0..count).flat_map(|_| (next() * 0.2).to_le_bytes()).collect()
    };
    let data: Vec<Vec<u8>> = shapes.iter().map(|(_, shape)| numbers(shape.iter().product())).collect();
    let views = shapes.iter().zip(&data).map(|((name, shape), bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    safetensors::serialize(views, None).unwrap()
}

/// The whole command: downloaded, pinned, imported, quantized; and a file in the place of the network.
#[test]
fn a_fetched_checkpoint_becomes_models() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tagalong"))
            .args(["model", "fetch"])
            .args(arguments)
            .args(["--stall", "1", "--out"])
            .arg(at("models"))
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let bytes = Arc::new(checkpoint());
    let server = Server::start(vec![Act::Send(Arc::clone(&bytes))]);
    let small = ["--input-sizes", "48x64"];
    let (code, out, errors) = run(&[&["dino-vits8", "--mirror", &server.url][..], &small].concat());
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    assert!(out.contains(&format!("pinned {}", digest(&bytes))), "{out}");
    assert!(out.contains("DINO (") && out.contains("licence Apache-2.0") && out.contains("mean cosine"), "{out}");
    let names = |folder: &Path| {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let models = ["-int8.onnx", "-int8.probe", "-int8.toml", ".onnx", ".probe", ".sha256", ".toml"];
    assert_eq!(names(&at("models")), models.map(|kind| format!("dino-vits8{kind}")));
    // The pin is in the format of `sha256sum --check`.
    let pin = fs::read_to_string(at("models/dino-vits8.sha256")).unwrap();
    assert_eq!(pin, format!("{}  dino-vits8.checkpoint\n", digest(&bytes)));

    let mut other = bytes.to_vec();
    *other.last_mut().unwrap() ^= 1;
    fs::write(at("other"), &other).unwrap();
    fs::write(at("same"), &bytes[..]).unwrap();
    let server = Server::start(vec![Act::Send(Arc::new(other))]);
    let gone = Server::start(vec![Act::Refuse("404 Not Found")]);
    let (same, changed) = (at("same").display().to_string(), at("other").display().to_string());
    for (arguments, expected, problem) in [
        (&["dino-vits8", "--mirror", &server.url][..], 73, "--force"),
        (&["dino-vits8", "--mirror", &server.url, "--force"], 65, "was expected"),
        (&["dino-vits8", "--file", &changed, "--force"], 65, "was expected"),
        (&["dino-vits8", "--file", &same, "--force", "--no-quantize"], 0, ""),
        (&["dinov2-vits14", "--file", &same], 65, "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9"),
        (&["dino-vitb8", "--mirror", &gone.url], 66, "404 Not Found"),
        (&["dino-vitb8", "--mirror", "http://example.com/"], 64, "only https://"),
        (&["dino-vitb8", "--file", "not-there"], 66, "not-there"),
        (&["dinov2-vits-14"], 64, "did you mean `dinov2-vits14`?"),
    ] {
        let (code, out, errors) = run(&[arguments, &small].concat());
        assert_eq!(code, expected, "{arguments:?}: {out}{errors}");
        assert!(errors.contains(problem), "{arguments:?}: {errors}");
    }
    assert_eq!(names(&at("models")).len(), 7, "{:?}", names(&at("models")));
}
