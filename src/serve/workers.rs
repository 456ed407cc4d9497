//! The threads that carry out commands, so that a slow one keeps nobody from reading tracks.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::Controller;
use super::peers::Peer;
use super::socket::{Finished, Shared};
use super::wire::{AnswerLine, CommandId, ErrorLine, MAX_LINE_OUT, ServerLine};
use crate::types::command::ErrorCode;
use crate::types::{Answer, Command, CommandError};

/// Commands that are carried out at once, each of another client. More than one, so that `status` answers
/// while something else is slow.
const WORKERS: usize = 4;

/// A command to carry out. There is at most one of each client.
pub struct Job {
    pub client: u64,
    pub peer: Peer,
    pub id: CommandId,
    pub class: &'static str,
    pub command: Command,
}

/// Starts the threads. They end when the sender that is returned is dropped.
pub fn start(controller: Arc<dyn Controller>, shared: &Arc<Shared>) -> io::Result<Sender<Job>> {
    let (sender, jobs) = crossbeam_channel::unbounded();
    for index in 0..WORKERS {
        let (jobs, controller, shared) = (jobs.clone(), controller.clone(), shared.clone());
        std::thread::Builder::new()
            .name(format!("control-{index}"))
            .spawn(move || work(&jobs, &*controller, &shared))?;
    }
    Ok(sender)
}

fn work(jobs: &Receiver<Job>, controller: &dyn Controller, shared: &Shared) {
    for job in jobs {
        let Job { client, peer, id, class, command } = job;
        let changes = changes_something(&command);
        let mut result = catch_unwind(AssertUnwindSafe(|| controller.execute(command))).unwrap_or_else(|_| {
            log::error!("`{class}` of {peer} panicked");
            Err(CommandError::new(ErrorCode::Failed, format!("`{class}` failed; the daemon's log says more")))
        });
        if let Ok(Answer::Status(status)) = &mut result {
            // Only the server knows its clients.
            status.clients = shared.counters.status();
        }
        if changes {
            match &result {
                Ok(_) => log::info!("`{class}` of {peer}: done"),
                Err(error) => log::info!("`{class}` of {peer}: refused, {error}"),
            }
        }
        let line = answer_bytes(id, class, result);
        shared.change(|inbox| inbox.answers.push(Finished { client, line: line.into() }));
    }
}

fn answer_bytes(id: CommandId, class: &'static str, result: Result<Answer, CommandError>) -> Vec<u8> {
    let error = match result {
        Err(error) => error,
        Ok(answer) => {
            let line = AnswerLine { id: id.clone(), command: class.to_owned(), answer };
            let bytes = ServerLine::Answer(line).to_bytes();
            if bytes.len() <= MAX_LINE_OUT {
                return bytes;
            }
            let message = format!("the answer has {} bytes, and a line at most {MAX_LINE_OUT}", bytes.len());
            CommandError::new(ErrorCode::AnswerTooLong, message)
        }
    };
    let CommandError { code, message } = error;
    ServerLine::Error(ErrorLine { id: Some(id), command: Some(class.to_owned()), code, message }).to_bytes()
}

fn changes_something(command: &Command) -> bool {
    match command {
        Command::Tag { .. } | Command::Untag { .. } | Command::Rename { .. } | Command::Reset { .. } => true,
        Command::Reload | Command::Recognise { .. } | Command::Accept { .. } | Command::Save { .. } => true,
        Command::GalleryRename { .. } | Command::GalleryMerge { .. } => true,
        Command::GalleryForget { .. } | Command::GalleryImport { .. } => true,
        Command::Gallery | Command::GalleryExport { .. } => false,
        Command::List { .. } | Command::Status | Command::Snapshot { .. } => false,
    }
}
