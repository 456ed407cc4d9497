//! Downloads of checkpoints: resumed, timed out and verified.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 16;

/// How patient a download is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// To connect, to be answered, and for the next bytes to come.
    pub stall: Duration,
    /// How often it goes on after nothing came for so long, or the connection was lost.
    pub retries: usize,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { stall: Duration::from_secs(30), retries: 5 }
    }
}

/// A file on a server.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Over HTTPS; over HTTP from this machine alone.
    pub url: String,
    /// 64 hexadecimal digits, where it is known what the file must be.
    pub sha256: Option<String>,
    /// Who vouches for the server; `None` for the authorities that browsers trust.
    pub authorities: Option<Authorities>,
}

/// Certificates that are trusted in the place of the usual ones, as a mirror inside a factory's own network needs.
#[derive(Clone, Debug)]
pub struct Authorities(RootCerts);

impl Authorities {
    /// Reads certificates in PEM.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_pem(pem: &[u8]) -> Result<Authorities, String> {
        let certificates = parse_pem(pem).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
            Ok(_) => None,
            Err(error) => Some(Err(format!("its certificates cannot be read: {error}"))),
        });
        let certificates = certificates.collect::<Result<Vec<_>, String>>()?;
        if certificates.is_empty() {
            return Err("it holds no certificate in PEM, as `-----BEGIN CERTIFICATE-----` begins one".into());
        }
        Ok(Authorities(certificates.into()))
    }
}

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{0}: only https:// is fetched, and http:// from this machine alone")]
    Scheme(String),
    #[error("{url}: {problem}")]
    Server { url: String, problem: String },
    /// What has come so far is kept for the next try.
    #[error("{url}: {problem}, {got} bytes had come; run it again to go on from there")]
    Interrupted { url: String, problem: String, got: u64 },
    #[error(
        "{url}: its sha256 is {got}, and {expected} was expected: the file on the server is another one, or was \
         damaged on its way; it was not kept"
    )]
    Digest { url: String, expected: String, got: String },
    #[error("{}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    pub bytes: u64,
    /// Where the server says so.
    pub total: Option<u64>,
}

/// Downloads a file to `target`, and returns its digest. A part that is there already, `target` and `.part`, is gone on
/// from where the server still has the same file.
///
/// # Errors
/// [`FetchError`]; the part stays, unless it is known to be wrong.
pub fn fetch(
    remote: &Remote,
    target: &Path,
    patience: Patience,
    tell: &mut dyn FnMut(Progress),
) -> Result<String, FetchError> {
    check_scheme(&remote.url)?;
    let mut download = Download::new(remote, target, patience);
    let resumed = download.length()? > 0;
    download.run(tell)?;
    let mut digest = download.digest()?;
    if resumed && remote.sha256.as_ref().is_some_and(|expected| !digest.eq_ignore_ascii_case(expected)) {
        // The part may have been of another file: once more, from the start.
        download.discard()?;
        download.run(tell)?;
        digest = download.digest()?;
    }
    if let Some(expected) = remote.sha256.as_ref().filter(|expected| !digest.eq_ignore_ascii_case(expected)) {
        download.discard()?;
        return Err(FetchError::Digest { url: remote.url.clone(), expected: expected.clone(), got: digest });
    }
    let failed = |source| FetchError::Write { path: target.to_owned(), source };
    fs::rename(&download.part, target).map_err(failed)?;
    let _ = fs::remove_file(&download.tag);
    Ok(digest)
}

/// The SHA-256 of a file of any size, in hexadecimal digits.
///
/// # Errors
/// When it cannot be read.
pub fn digest_of(file: &Path) -> io::Result<String> {
    let mut digest = Sha256::new();
    io::copy(&mut File::open(file)?, &mut HashWriter(&mut digest))?;
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Nothing that is fetched crosses a network unencrypted.
fn check_scheme(url: &str) -> Result<(), FetchError> {
    let refused = || FetchError::Scheme(url.to_owned());
    let uri: ureq::http::Uri = url.parse().map_err(|_| refused())?;
    let local = matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if local => Ok(()),
        _ => Err(refused()),
    }
}

/// What a try came to.
enum Try {
    Done,
    /// The connection was lost, or nothing came any more.
    Lost(String),
}

struct Download<'a> {
    remote: &'a Remote,
    patience: Patience,
    /// What has come so far.
    part: PathBuf,
    /// What the server called the file when the part was begun, to know whether it is still the same.
    tag: PathBuf,
    agent: Agent,
}

impl<'a> Download<'a> {
    fn new(remote: &'a Remote, target: &Path, patience: Patience) -> Download<'a> {
        let beside = |kind: &str| {
            let mut name = target.file_name().unwrap_or_default().to_owned();
            name.push(kind);
            target.with_file_name(name)
        };
        let roots = remote.authorities.as_ref().map_or(RootCerts::WebPki, |authorities| authorities.0.clone());
        let config = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .https_only(remote.url.starts_with("https:"))
            .http_status_as_error(false)
            .user_agent(concat!("tagalong/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(patience.stall))
            .timeout_recv_response(Some(patience.stall))
            .timeout_per_read(Some(patience.stall))
            .build();
        Download { remote, patience, part: beside(".part"), tag: beside(".part.tag"), agent: config.into() }
    }

    fn wrote<T>(&self, result: io::Result<T>) -> Result<T, FetchError> {
        result.map_err(|source| FetchError::Write { path: self.part.clone(), source })
    }

    /// Bytes that have come.
    fn length(&self) -> Result<u64, FetchError> {
        match fs::metadata(&self.part) {
            Ok(about) => Ok(about.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => self.wrote(Err(error)),
        }
    }

    fn discard(&self) -> Result<(), FetchError> {
        for file in [&self.part, &self.tag] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return self.wrote(Err(error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn digest(&self) -> Result<String, FetchError> {
        self.wrote(digest_of(&self.part))
    }

    /// Tries until all is there, or nothing came in as many tries as the patience allows.
    fn run(&mut self, tell: &mut dyn FnMut(Progress)) -> Result<(), FetchError> {
        let mut fruitless = 0;
        loop {
            let before = self.length()?;
            let problem = match self.attempt(tell)? {
                Try::Done => return Ok(()),
                Try::Lost(problem) => problem,
            };
            let got = self.length()?;
            fruitless = if got > before { 0 } else { fruitless + 1 };
            if fruitless > self.patience.retries {
                return Err(FetchError::Interrupted { url: self.remote.url.clone(), problem, got });
            }
            log::debug!("{}: {problem}; going on from byte {got}", self.remote.url);
        }
    }

    fn attempt(&mut self, tell: &mut dyn FnMut(Progress)) -> Result<Try, FetchError> {
        let known = fs::read_to_string(&self.tag).ok();
        // Without either, nothing would tell a file that is put together from two.
        let have = if known.is_some() || self.remote.sha256.is_some() { self.length()? } else { 0 };
        let mut request = self.agent.get(&self.remote.url).header(header::ACCEPT_ENCODING, "identity");
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
            if let Some(tag) = &known {
                // The server sends the whole file if it is not the same any more.
                request = request.header(header::IF_RANGE, tag);
            }
        }
        let response = match request.call() {
            Ok(response) => response,
            Err(error) => return self.failed(error),
        };
        let (have, total) = match response.status() {
            StatusCode::PARTIAL_CONTENT => (have, total_of_range(response.headers())),
            StatusCode::OK => (0, length_of(response.headers())),
            // All is there already, or more than all.
            StatusCode::RANGE_NOT_SATISFIABLE if total_of_range(response.headers()) == Some(have) => {
                return Ok(Try::Done);
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.discard()?;
                return Ok(Try::Lost("the part that was there is longer than the file".into()));
            }
            status if status.is_server_error() => return Ok(Try::Lost(format!("the server answered {status}"))),
            status => {
                let url = self.remote.url.clone();
                return Err(FetchError::Server { url, problem: format!("the server answered {status}") });
            }
        };
        self.receive(response, have, total, tell)
    }

    /// Writes what comes behind the first `have` bytes.
    fn receive(
        &self,
        response: Response<Body>,
        have: u64,
        total: Option<u64>,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Try, FetchError> {
        let mut file = self.wrote(OpenOptions::new().create(true).write(true).truncate(false).open(&self.part))?;
        self.wrote(file.set_len(have))?;
        self.wrote(io::Seek::seek(&mut file, io::SeekFrom::End(0)))?;
        if have == 0 {
            match tag_of(response.headers()) {
                Some(tag) => self.wrote(fs::write(&self.tag, tag))?,
                None => drop(fs::remove_file(&self.tag)),
            }
        }
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut bytes = have;
        let mut chunk = vec![0; CHUNK];
        loop {
            tell(Progress { bytes, total });
            match body.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => {
                    self.wrote(file.write_all(&chunk[..length]))?;
                    bytes += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Ok(Try::Lost(sentence(&error))),
            }
        }
        self.wrote(file.sync_all())?;
        match total {
            Some(total) if bytes < total => Ok(Try::Lost(format!("the connection ended before byte {total}"))),
            _ => Ok(Try::Done),
        }
    }

    /// A request that got no answer.
    fn failed(&self, error: ureq::Error) -> Result<Try, FetchError> {
        match error {
            // A certificate that is not trusted will not be the next time.
            ureq::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
                Err(FetchError::Server { url: self.remote.url.clone(), problem: source.to_string() })
            }
            ureq::Error::Timeout(_) | ureq::Error::Io(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => {
                Ok(Try::Lost(sentence(&error)))
            }
            error => Err(FetchError::Server { url: self.remote.url.clone(), problem: error.to_string() }),
        }
    }
}

fn sentence(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    if text.contains("timeout") || text.contains("timed out") { "nothing came any more".into() } else { text }
}

/// What tells this version of the file from another: a strong entity tag, or the time of its last change.
fn tag_of(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let tag = text(header::ETAG).filter(|tag| !tag.starts_with("W/"));
    tag.or_else(|| text(header::LAST_MODIFIED)).map(str::to_owned)
}

fn length_of(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Of `bytes 100-199/1000`, or `bytes */1000`, the last number.
fn total_of_range(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_RANGE)?.to_str().ok()?.rsplit_once('/')?.1.parse().ok()
}

/// Takes a digest of what is written.
struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
