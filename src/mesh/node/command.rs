//! Commands: what somebody wants of the mesh becomes a decision in the log, and takes effect once it is durable.
//!
//! Invariant: a command is answered once; its decision is refused if another one of the same stream comes first. Does
//! not know who commands.

use tokio::sync::oneshot;

use super::Mesh;
use crate::{
    append::{Answer, Request},
    event::Position,
    limits::MESH_COMMANDS_MAX,
    mesh::{
        answer,
        decisions::{ExportDecision, ImportDecision, export_request, import_request},
        inbox::Inbox,
        outbox::Outbox,
        quarantine::ErrorPage,
        state::{Command, CommandAnswer, CommandError},
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
    pub fn command(&mut self, command: Command, to: oneshot::Sender<CommandAnswer>) {
        if self.deciding.len() >= MESH_COMMANDS_MAX {
            let why = format!("{MESH_COMMANDS_MAX} commands wait already");
            return reply(to, Err(CommandError::Unavailable(why)));
        }
        let decided = match command {
            Command::ResyncNode { reason } => self.resync_node(reason).map(|request| (None, request)),
            Command::Pause { import, reason } => self.import_decision(import, |inbox| inbox.pause(reason)),
            Command::Resume { import, reason } => self.import_decision(import, |inbox| inbox.resume(reason)),
            Command::Retry { import, reason } => self.import_decision(import, |inbox| inbox.retry(reason)),
            Command::Skip { import, expect_position, reason } => {
                self.import_decision(import, |inbox| inbox.skip(expect_position, reason))
            }
            Command::ResyncImport { import, reason } => {
                self.import_decision(import, |inbox| inbox.resync(reason))
            }
        };
        match decided {
            Err(error) => reply(to, Err(error)),
            Ok((import, request)) => match self.parts.appender.submit(request) {
                Ok(recording) => self.deciding.push(Deciding { import, recording, reply: to }),
                Err(error) => reply(to, Err(CommandError::Append(error.to_string()))),
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
        let refreshed = refreshed.and_then(|()| inbox.quarantine.refresh(&self.parts.events, &import));
        refreshed.map_err(|error| CommandError::Append(error.to_string()))?;
        let decision = decide(inbox)?;
        let (revision, random) = (inbox.decisions.revision, self.parts.clock.random());
        Ok((Some(import.clone()), import_request(&import, &decision, revision, random)))
    }

    /// What an import could not map: a page of it.
    pub(super) fn errors(
        &mut self,
        import: &str,
        after: Option<Position>,
        count_max: usize,
    ) -> Result<ErrorPage, CommandError> {
        let inbox = self.inboxes.values_mut().find(|inbox| inbox.import().name() == import);
        let inbox = inbox.ok_or_else(|| CommandError::NoImport(import.to_owned()))?;
        let events = &self.parts.events;
        let read = inbox.quarantine.refresh(events, import);
        let read = read.and_then(|()| inbox.errors(events, after, count_max));
        read.map_err(|error| CommandError::Unavailable(format!("the log cannot be read: {error}")))
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
            let Some(recorded) = answer::poll(&mut deciding.recording, &self.waker) else {
                self.deciding.push(deciding);
                continue;
            };
            let recorded = recorded.map(|appended| appended.position);
            let recorded = recorded.map_err(|error| CommandError::Append(error.to_string()));
            if recorded.is_ok() {
                self.take_effect(deciding.import.as_deref());
            }
            reply(deciding.reply, recorded);
        }
    }

    fn take_effect(&mut self, import: Option<&str>) {
        if let Some(import) = import {
            let named = self.inboxes.values_mut().filter(|inbox| inbox.import().name() == import);
            return named.for_each(Inbox::restart);
        }
        if let Err(error) = self.decisions.refresh(&self.parts.events) {
            tracing::error!(%error, "decisions about exports cannot be read");
        }
        self.given_up.clear();
        self.rewound = None;
        self.parts.appender.refuse(None);
        self.outboxes.values_mut().for_each(Outbox::restart);
    }
}

/// Whoever asked may be gone.
fn reply(to: oneshot::Sender<CommandAnswer>, answer: CommandAnswer) {
    drop(to.send(answer));
}
