//! What an import has received and not taken over: held against order, chain and signature. Pure.
//!
//! Invariants: what `advance` gives continues the place that it is given, without gap, and ends with a place that the
//! owner has signed; what does not fit is taken out and named. Bounded. Does not know the bus or the log.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    limits::{IMPORT_PENDING_BYTES, IMPORT_PENDING_MESSAGES, IMPORT_RING},
    mesh::{
        envelope::{Envelope, HeadMark, Place, Signature, chain_after},
        state::StopReason,
        trust::TrustError,
    },
    sabotage::Sabotage,
};

/// Envelopes by number, and the newest signed place.
#[derive(Debug, Default)]
pub(super) struct Pending {
    envelopes: BTreeMap<u64, Envelope>,
    bytes: usize,
    /// Signed places by number.
    signed: BTreeMap<u64, (Place, [u8; 32], Signature)>,
    /// The chains of the newest numbers that were taken over.
    ring: VecDeque<(u64, [u8; 32])>,
}

/// What is wrong, and with which number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) reason: StopReason,
    pub(super) message: String,
    pub(super) place: Place,
}

/// How signatures are checked: `Err` with the node that made one which is not the owner's.
pub(super) type Verify<'a> =
    dyn Fn(&[u8; 32], &Place, &Signature) -> Result<(), (TrustError, Option<String>)> + 'a;

impl Pending {
    pub(super) fn has_room(&self) -> bool {
        self.envelopes.len() < IMPORT_PENDING_MESSAGES && self.bytes < IMPORT_PENDING_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.envelopes.is_empty()
    }

    /// The lowest number that is held.
    pub(super) fn first(&self) -> Option<&Place> {
        self.envelopes.first_key_value().map(|(_, envelope)| &envelope.place)
    }

    /// The highest place that is signed, as far as signatures were looked at.
    pub(super) fn highest_signed(&self) -> Option<&Place> {
        self.signed.last_key_value().map(|(_, (place, ..))| place)
    }

    /// Forgets everything that is not taken over.
    pub(super) fn clear(&mut self) {
        self.envelopes.clear();
        self.signed.clear();
        self.bytes = 0;
    }

    /// Forgets also what was taken over: the import begins elsewhere.
    pub(super) fn begin_anew(&mut self) {
        *self = Self::default();
    }

    /// Takes an event in, or says how it contradicts what was taken over.
    pub(super) fn add(
        &mut self,
        at: &Place,
        envelope: Envelope,
        sabotage: Option<Sabotage>,
    ) -> Option<Trouble> {
        let seq = envelope.place.seq;
        if seq <= at.seq && sabotage != Some(Sabotage::AcceptLowerSeq) {
            return self.contradiction(at, &envelope.place);
        }
        self.bytes += size(&envelope);
        if let Some(before) = self.envelopes.insert(seq, envelope) {
            self.bytes -= size(&before);
        }
        None
    }

    /// A head mark, whose signature holds.
    pub(super) fn add_head(&mut self, at: &Place, head: &HeadMark) -> Option<Trouble> {
        if head.place.seq <= at.seq {
            return self.contradiction(at, &head.place);
        }
        let signed = (head.place.clone(), head.definition, head.signature.clone());
        self.signed.insert(head.place.seq, signed);
        while self.signed.len() > IMPORT_RING {
            self.signed.pop_first();
        }
        None
    }

    /// How something at or below the import's place differs from what was taken over; a repeat does not.
    fn contradiction(&self, at: &Place, place: &Place) -> Option<Trouble> {
        if place.seq == 0 || at.seq == 0 {
            return None;
        }
        let known = self.ring.iter().rev().find(|(seq, _)| *seq == place.seq).map(|(_, chain)| chain);
        if place.log_id != at.log_id || known.is_some_and(|chain| *chain != place.chain) {
            let message =
                format!("event {} was taken over already, and another one came for it now", place.seq);
            return Some(Trouble { reason: StopReason::Fork, message, place: place.clone() });
        }
        if place.epoch > at.epoch {
            let message = format!(
                "event {} is of epoch {}, and the import has come to event {} of epoch {}",
                place.seq, place.epoch, at.seq, at.epoch
            );
            return Some(Trouble { reason: StopReason::Regression, message, place: place.clone() });
        }
        None
    }

    /// The events that continue `at` up to the highest place that the owner has signed, in order; or what keeps them
    /// from it.
    pub(super) fn advance(
        &mut self,
        at: &Place,
        definition: Option<&[u8; 32]>,
        verify: &Verify<'_>,
        sabotage: Option<Sabotage>,
    ) -> Result<Vec<Envelope>, Trouble> {
        let (run, mut trouble) = self.run(at, sabotage);
        let mut taken = 0;
        for (length, envelope) in
            run.iter().enumerate().map(|(index, seq)| (index + 1, &self.envelopes[seq])).rev()
        {
            let place = &envelope.place;
            let mark = self.signed.get(&place.seq).filter(|(signed, ..)| signed == place);
            let signature = envelope.signature.as_ref().or(mark.map(|(.., signature)| signature));
            if sabotage == Some(Sabotage::SkipSignature) {
                taken = length;
                break;
            }
            let Some(signature) = signature else { continue };
            match verify(&envelope.definition, place, signature) {
                Ok(()) => {
                    taken = length;
                    break;
                }
                Err((error, signer)) => {
                    let reason = match (&error, &signer) {
                        (_, Some(_)) if sabotage == Some(Sabotage::AcceptForeignKey) => {
                            taken = length;
                            break;
                        }
                        (_, Some(_)) => StopReason::NotOwner,
                        (TrustError::UnknownOwner { .. }, _)
                            if sabotage == Some(Sabotage::AcceptUnknownOwner) =>
                        {
                            taken = length;
                            break;
                        }
                        (TrustError::UnknownOwner { .. }, _) => StopReason::UnknownOwner,
                        _ => StopReason::BadSignature,
                    };
                    let signer =
                        signer.map(|node| format!(" (it is of the node {node})")).unwrap_or_default();
                    let message = format!("{error}{signer}");
                    trouble = Some(Trouble { reason, message, place: place.clone() });
                }
            }
        }
        let taken = &run[..taken];
        if let Some(changed) = taken.iter().find(|seq| {
            definition.is_some_and(|known| self.envelopes[seq].definition != *known)
                && sabotage != Some(Sabotage::IgnoreDefinition)
        }) && definition.is_some()
        {
            let place = self.envelopes[changed].place.clone();
            let message = format!(
                "from event {} on the owner publishes another definition under this version",
                place.seq
            );
            return Err(Trouble { reason: StopReason::DefinitionChanged, message, place });
        }
        if taken.is_empty()
            && let Some(trouble) = trouble
        {
            // Whoever repairs puts something better in its place.
            self.remove_from(
                trouble.place.seq.min(run.first().copied().unwrap_or(trouble.place.seq)),
                trouble.place.seq,
            );
            return Err(trouble);
        }
        let taken = taken.to_vec();
        Ok(taken.into_iter().filter_map(|seq| self.take(seq)).collect())
    }

    /// The numbers that continue `at` one by one, and what breaks the row.
    fn run(&self, at: &Place, sabotage: Option<Sabotage>) -> (Vec<u64>, Option<Trouble>) {
        let mut run = Vec::new();
        let mut before = at;
        for (seq, envelope) in &self.envelopes {
            let place = &envelope.place;
            let is_next = *seq == before.seq + 1;
            let ignores_gap = sabotage == Some(Sabotage::IgnoreGap) && !is_next;
            let takes_lower = sabotage == Some(Sabotage::AcceptLowerSeq) && *seq <= before.seq;
            if !is_next && !ignores_gap && !takes_lower {
                break;
            }
            if let Some((reason, message)) = breaks(before, envelope, sabotage)
                && !ignores_gap
                && !takes_lower
            {
                return (run, Some(Trouble { reason, message, place: place.clone() }));
            }
            run.push(*seq);
            before = place;
        }
        (run, None)
    }

    fn take(&mut self, seq: u64) -> Option<Envelope> {
        let envelope = self.envelopes.remove(&seq)?;
        self.bytes -= size(&envelope);
        self.ring.push_back((seq, envelope.place.chain));
        if self.ring.len() > IMPORT_RING {
            self.ring.pop_front();
        }
        self.signed.retain(|signed, _| *signed > seq);
        Some(envelope)
    }

    fn remove_from(&mut self, first: u64, last: u64) {
        let seqs: Vec<u64> = self.envelopes.range(first..=last.max(first)).map(|(seq, _)| *seq).collect();
        for seq in seqs {
            let envelope = self.envelopes.remove(&seq).expect("it was listed");
            self.bytes -= size(&envelope);
        }
    }
}

/// How an event does not continue a place with the number before its own.
fn breaks(before: &Place, envelope: &Envelope, sabotage: Option<Sabotage>) -> Option<(StopReason, String)> {
    let place = &envelope.place;
    let is_first = before.seq == 0;
    if !is_first && place.log_id != before.log_id {
        let message =
            format!("event {} is of log {}, the one before of {}", place.seq, place.log_id, before.log_id);
        return Some((StopReason::Fork, message));
    }
    let is_old = place.epoch < before.epoch && sabotage != Some(Sabotage::AcceptOldEpoch);
    if !is_first && (place.position <= before.position || is_old) {
        let message = format!(
            "event {} is of epoch {} at position {}, and the one before of epoch {} at position {}",
            place.seq, place.epoch, place.position, before.epoch, before.position
        );
        return Some((StopReason::Regression, message));
    }
    if chain_after(&before.chain, envelope) != place.chain && sabotage != Some(Sabotage::IgnoreFork) {
        let message = format!("event {} does not continue the chain of event {}", place.seq, before.seq);
        return Some((StopReason::Fork, message));
    }
    None
}

fn size(envelope: &Envelope) -> usize {
    const ENVELOPE_BYTES: usize = 512;
    let event = &envelope.event;
    let tags: usize = event.tags.iter().map(|tag| tag.as_str().len()).sum();
    ENVELOPE_BYTES + event.data.len() + event.stream.as_str().len() + tags
}
