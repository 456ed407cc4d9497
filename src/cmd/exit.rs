//! What a command leaves behind for scripts: exit codes after `sysexits.h`, and one sentence on standard error.

use std::io;
use std::process::ExitCode;

use crate::capture::SourceError;
use crate::config::Problems;
use crate::eval::{DavisError, EvalError};
use crate::serve::ServeError;
use crate::serve::client::ClientError;
use crate::state::StateError;
use crate::study::StudyError;
use crate::types::command::ErrorCode;

/// The kinds of failure that a script can tell apart, with their numbers in `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The command line makes no sense.
    Usage = 64,
    /// What was given is not what it should be: a damaged picture, an unknown camera.
    Data = 65,
    /// A file that was named is not there or cannot be read.
    NoInput = 66,
    /// No daemon is running, or no processor that was asked for can be used.
    Unavailable = 69,
    /// A mistake in this program.
    Internal = 70,
    /// A file cannot be written.
    CantCreate = 73,
    /// Reading or writing failed midway.
    Io = 74,
    /// It may work later.
    Temporary = 75,
    /// The daemon speaks another protocol.
    Protocol = 76,
    /// This user may not.
    Permission = 77,
    /// The configuration is bad.
    Config = 78,
}

/// A failure whose kind the command itself knows.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: Kind,
    pub message: String,
}

/// A failure of that kind, as an error to return.
pub fn failure(kind: Kind, message: impl ToString) -> anyhow::Error {
    Failure { kind, message: message.to_string() }.into()
}

/// The reader of standard output has closed it, as `head` does. Nothing failed.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub struct StdoutClosed;

/// Tells the user what went wrong, and makes an exit code of it.
pub fn conclude(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    if error.is::<StdoutClosed>() {
        return ExitCode::SUCCESS;
    }
    eprintln!("tagalong: {}", sentence(&error));
    ExitCode::from(kind_of(&error) as u8)
}

/// Prints what clap has to say: help and version to standard output, a mistake to standard error.
pub fn parse_error(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell when even this cannot be printed.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(Kind::Usage as u8) } else { ExitCode::SUCCESS }
}

/// The kind of the first error in the chain that has one.
pub fn kind_of(error: &anyhow::Error) -> Kind {
    error.chain().find_map(kind_of_cause).unwrap_or(Kind::Internal)
}

fn kind_of_cause(error: &(dyn std::error::Error + 'static)) -> Option<Kind> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        Some(failure.kind)
    } else if let Some(error) = error.downcast_ref::<ClientError>() {
        Some(kind_of_client(error))
    } else if error.is::<Problems>() {
        Some(Kind::Config)
    } else if let Some(error) = error.downcast_ref::<SourceError>() {
        Some(kind_of_source(error))
    } else if let Some(error) = error.downcast_ref::<DavisError>() {
        Some(kind_of_davis(error))
    } else if let Some(EvalError::Davis(error)) = error.downcast_ref() {
        Some(kind_of_davis(error))
    } else if let Some(StudyError::Davis(error)) = error.downcast_ref() {
        Some(kind_of_davis(error))
    } else if let Some(EvalError::Masks { .. }) = error.downcast_ref() {
        Some(Kind::Internal)
    } else if error.is::<StudyError>() {
        Some(Kind::Data)
    } else if let Some(error) = error.downcast_ref::<StateError>() {
        Some(if matches!(error, StateError::InUse { .. }) { Kind::Temporary } else { Kind::CantCreate })
    } else if let Some(error) = error.downcast_ref::<ServeError>() {
        Some(kind_of_serve(error))
    } else {
        error.downcast_ref::<io::Error>().map(kind_of_io)
    }
}

fn kind_of_davis(error: &DavisError) -> Kind {
    if let DavisError::Io { source, .. } = error { kind_of_io(source) } else { Kind::Data }
}

fn kind_of_serve(error: &ServeError) -> Kind {
    match error {
        // What only another configuration mends: the service manager does not start it again.
        ServeError::Mode { .. }
        | ServeError::Group { .. }
        | ServeError::User { .. }
        | ServeError::NotASocket { .. } => Kind::Config,
        ServeError::InUse { .. } => Kind::Temporary,
        ServeError::Folder { source, .. } | ServeError::Socket { source, .. } => match kind_of_io(source) {
            Kind::Permission => Kind::Permission,
            _ => Kind::CantCreate,
        },
        ServeError::Activation(_) => Kind::Protocol,
        ServeError::Start(error) => kind_of_io(error),
    }
}

fn kind_of_io(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => Kind::NoInput,
        io::ErrorKind::PermissionDenied => Kind::Permission,
        _ => Kind::Io,
    }
}

fn kind_of_client(error: &ClientError) -> Kind {
    match error {
        ClientError::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Kind::Permission,
        ClientError::Connect { .. } | ClientError::Closed => Kind::Unavailable,
        ClientError::Io(_) => Kind::Io,
        ClientError::Timeout => Kind::Temporary,
        ClientError::Malformed(_) | ClientError::Version { .. } => Kind::Protocol,
        ClientError::Refused(refused) => kind_of_code(refused.code),
    }
}

fn kind_of_code(code: ErrorCode) -> Kind {
    use ErrorCode::{
        Busy, CameraAmbiguous, CameraNoFrame, ConfigInvalid, GalleryNotSeen, StateUnwritable, Stopping, TagFrameGone,
        TagTooMany, TooManyClients, TooSlow,
    };
    match code {
        CameraAmbiguous => Kind::Usage,
        CameraNoFrame | TagFrameGone | TagTooMany | TooManyClients | TooSlow | Busy | GalleryNotSeen => Kind::Temporary,
        Stopping => Kind::Unavailable,
        ConfigInvalid => Kind::Config,
        StateUnwritable => Kind::CantCreate,
        _ => Kind::Data,
    }
}

pub fn kind_of_source(error: &SourceError) -> Kind {
    match error {
        SourceError::Timeout(_) | SourceError::Busy(_) => Kind::Temporary,
        SourceError::NotFound(_) | SourceError::Unreadable { .. } => Kind::NoInput,
        SourceError::Permission(_) => Kind::Permission,
        SourceError::Disconnected(_) | SourceError::Ended(_) | SourceError::Io { .. } => Kind::Io,
        SourceError::Unsupported(_) => Kind::Data,
    }
}

/// The chain of errors as one text. Most errors here name their cause themselves: it is not said twice.
pub fn sentence(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| match (text.is_empty(), cause.to_string()) {
        (true, cause) => cause,
        (false, cause) if text.contains(&cause) => text,
        (false, cause) => format!("{text}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;
    use crate::types::CommandError;

    fn io_error(kind: io::ErrorKind) -> io::Error {
        kind.into()
    }

    #[test]
    fn every_failure_has_its_number() {
        let connect = |kind| ClientError::Connect { path: "control.sock".into(), source: io_error(kind) };
        let refused = |code| ClientError::Refused(CommandError::new(code, "no"));
        // The numbers are those of sysexits.h.
        let cases: [(anyhow::Error, u8); 12] = [
            (failure(Kind::Usage, "x"), 64),
            (refused(ErrorCode::CameraUnknown).into(), 65),
            (io_error(io::ErrorKind::NotFound).into(), 66),
            (connect(io::ErrorKind::NotFound).into(), 69),
            (anyhow::anyhow!("what"), 70),
            (failure(Kind::CantCreate, "x"), 73),
            (ClientError::Io(io_error(io::ErrorKind::ConnectionReset)).into(), 74),
            (ClientError::Timeout.into(), 75),
            (ClientError::Version { theirs: 2, ours: 1 }.into(), 76),
            (connect(io::ErrorKind::PermissionDenied).into(), 77),
            (refused(ErrorCode::ConfigInvalid).into(), 78),
            (DavisError::Io { path: "x".into(), source: io_error(io::ErrorKind::PermissionDenied) }.into(), 77),
        ];
        for (error, number) in cases {
            assert_eq!(kind_of(&error) as u8, number, "{error:?}");
        }
    }

    #[test]
    fn context_does_not_hide_the_kind() {
        let error = Err::<(), _>(io_error(io::ErrorKind::NotFound)).context("reading it").context("checking");
        assert_eq!(kind_of(&error.unwrap_err()), Kind::NoInput);
    }

    #[test]
    fn no_cause_is_told_twice() {
        let source = io::Error::other("the disk is on fire");
        let error = anyhow::Error::from(DavisError::Io { path: "a".into(), source }).context("while saving");
        assert_eq!(sentence(&error), "while saving: a: the disk is on fire");
    }
}
