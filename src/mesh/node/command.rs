//! Commands: what somebody wants of the mesh becomes a decision in the log, and takes effect once it is durable.
//!
//! Invariant: a command is answered once; its decision is refused if another one of the same stream comes first. Does
//! not know who commands.

use tokio::sync::oneshot::{self, error::TryRecvError};

use super::Mesh;
use crate::{
    append::{Answer, Request},
    limits::MESH_COMMANDS_MAX,
    mesh::{
        decisions::{ExportDecision, ImportDecision, export_request, import_request},
        inbox::Inbox,
        state::{Command, CommandAnswer, CommandError, StopReason},
    },
};

/// A decision that is being recorded.
#[derive(Debug)]
pub(super) struct Deciding {
    /// The import that it concerns; none: the node.
    import: Option<String>,
    recording: oneshot::Receiver<Answer>,
    reply: oneshot::Sender<CommandAnswer>,
}

impl Mesh {
    /// Takes a command; its answer comes when its decision is durable or refused.
    pub fn command(&mut self, command: Command, reply: oneshot::Sender<CommandAnswer>) {
        if self.deciding.len() >= MESH_COMMANDS_MAX {
            let why = format!("{MESH_COMMANDS_MAX} commands wait already");
            return answer(reply, Err(CommandError::Unavailable(why)));
        }
        let decided = match command {
            Command::ResyncNode { reason } => self.resync_node(reason).map(|request| (None, request)),
            Command::Pause { import, reason } => {
                self.import_decision(import, |_| Ok(ImportDecision::Paused { reason }))
            }
            Command::Resume { import, reason } => {
                self.import_decision(import, |_| Ok(ImportDecision::Resumed { reason }))
            }
            Command::Skip { import, expect_position, reason } => self.import_decision(import, |inbox| {
                let stop = inbox.stopped().filter(|stop| stop.reason == StopReason::MappingFailed);
                let actual = stop.map(|stop| stop.position).unwrap_or_default();
                let (Some(_), true) = (stop, actual == expect_position) else {
                    return Err(CommandError::OtherPosition { expected: expect_position, actual });
                };
                let log_id = inbox.owner_log().map(|log_id| log_id.to_string()).unwrap_or_default();
                Ok(ImportDecision::Skipped { log_id, position: actual.get(), reason })
            }),
            Command::ResyncImport { import, reason } => {
                self.import_decision(import, |inbox| inbox.resync(reason))
            }
        };
        match decided {
            Err(error) => answer(reply, Err(error)),
            Ok((import, request)) => match self.parts.appender.submit(request) {
                Ok(recording) => self.deciding.push(Deciding { import, recording, reply }),
                Err(error) => answer(reply, Err(CommandError::Append(error.to_string()))),
            },
        }
    }

    fn import_decision(
        &mut self,
        import: String,
        decide: impl FnOnce(&Inbox) -> Result<ImportDecision, CommandError>,
    ) -> Result<(Option<String>, Request), CommandError> {
        let inbox = self.inboxes.values_mut().find(|inbox| inbox.import().name() == import);
        let inbox = inbox.ok_or_else(|| CommandError::NoImport(import.clone()))?;
        let refreshed = inbox.decisions.refresh(&self.parts.events, &import);
        refreshed.map_err(|error| CommandError::Append(error.to_string()))?;
        let decision = decide(inbox)?;
        let (revision, random) = (inbox.decisions.revision, self.parts.clock.random());
        Ok((Some(import.clone()), import_request(&import, &decision, revision, random)))
    }

    fn resync_node(&mut self, reason: String) -> Result<Request, CommandError> {
        if self.given_up.is_empty() {
            let what = "nothing is to be given up: this node has met neither its own past above its log nor \
                        another log under its name";
            return Err(CommandError::Precondition(what.into()));
        }
        let refreshed = self.decisions.refresh(&self.parts.events);
        refreshed.map_err(|error| CommandError::Append(error.to_string()))?;
        let decision = ExportDecision::Resynced { given_up: self.given_up.clone(), reason };
        Ok(export_request(&decision, self.decisions.revision, self.parts.clock.random()))
    }

    /// Decisions that are durable take effect.
    pub(super) fn answer_commands(&mut self) {
        for mut deciding in std::mem::take(&mut self.deciding) {
            let recorded = match deciding.recording.try_recv() {
                Err(TryRecvError::Empty) => {
                    self.deciding.push(deciding);
                    continue;
                }
                Ok(Ok(appended)) => Ok(appended.position),
                Ok(Err(error)) => Err(CommandError::Append(error.to_string())),
                Err(TryRecvError::Closed) => Err(CommandError::Append("the node is stopping".into())),
            };
            if recorded.is_ok() {
                self.take_effect(deciding.import.as_deref());
            }
            answer(deciding.reply, recorded);
        }
    }

    fn take_effect(&mut self, import: Option<&str>) {
        match import {
            Some(import) => {
                let named = self.inboxes.values_mut().filter(|inbox| inbox.import().name() == import);
                named.for_each(Inbox::restart);
            }
            None => {
                if let Err(error) = self.decisions.refresh(&self.parts.events) {
                    tracing::error!(%error, "decisions about exports cannot be read");
                }
                self.given_up.clear();
                self.rewound = None;
                self.parts.appender.refuse(None);
                for outbox in self.outboxes.values_mut() {
                    outbox.restart();
                }
            }
        }
    }
}

/// Whoever asked may be gone.
fn answer(reply: oneshot::Sender<CommandAnswer>, answer: CommandAnswer) {
    drop(reply.send(answer));
}
