//! What people ask for. Every verb gets an answer exactly once, and abort goes before everything else.

use sluice_model::rollout::{CheckState, CheckStatus, Phase, Revision, Verb};

use super::{Pass, name, short};
use crate::{Command, Outcome};

/// Commands answered in one pass; the rest waits for the next.
const MOST_AT_ONCE: usize = 64;

/// An answer to the person who asked.
type Answer = Result<String, String>;

impl Pass<'_> {
    pub(super) fn carry_out_verbs(&mut self) {
        let waiting = |uid: &String| self.observed.commands.iter().any(|command| command.uid == *uid);
        let mut carried_out = std::mem::take(&mut self.status.commands);
        carried_out.retain(waiting);
        let mut commands: Vec<&Command> = self.observed.commands.iter().collect();
        commands.sort_by_key(|command| (command.spec.verb != Verb::Abort, command.created, command.uid.clone()));
        let mut aborted = false;
        for command in commands.into_iter().take(MOST_AT_ONCE) {
            let known = carried_out.contains(&command.uid);
            let answer = match command.spec.verb {
                _ if known => Ok("carried out".to_owned()),
                Verb::Promote | Verb::Approve | Verb::Skip | Verb::Retry if aborted => {
                    Err("an abort came at the same time".to_owned())
                }
                _ => self.carry_out(command),
            };
            aborted |= command.spec.verb == Verb::Abort && !known && answer.is_ok();
            if !known {
                carried_out.push(command.uid.clone());
            }
            let done = answer.is_ok();
            let (Ok(message) | Err(message)) = answer;
            self.outcomes.push(Outcome { uid: command.uid.clone(), name: command.name.clone(), done, message });
        }
        self.status.commands = carried_out;
    }

    fn carry_out(&mut self, command: &Command) -> Answer {
        self.meant_for_this(command)?;
        let by = command.spec.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        match command.spec.verb {
            Verb::Abort if command.spec.revision.is_some() && self.status.candidate.is_some() => {
                self.begin_back(format!("aborted{by}"), true);
                Ok("going back to the stable version".to_owned())
            }
            Verb::Abort => Ok(self.abort(format!("aborted{by}"))),
            Verb::Promote => self.promote(),
            Verb::Approve => self.approve(),
            Verb::Pause => {
                self.status.paused = Some(format!("asked for{by}"));
                Ok("paused".to_owned())
            }
            Verb::Resume => self.resume(),
            Verb::Undo => self.undo(format!("undone{by}")),
            Verb::Skip => self.skip(command.spec.step),
            Verb::Retry => self.retry(),
        }
    }

    fn meant_for_this(&self, command: &Command) -> Result<(), String> {
        let Some(wanted) = &command.spec.revision else { return Ok(()) };
        let status = &self.status;
        let subject = match command.spec.verb {
            Verb::Retry => status.rejected.as_ref().map(|rejected| rejected.hash.clone()),
            Verb::Undo if status.candidate.is_none() => status.stable.as_ref().map(|stable| stable.hash.clone()),
            _ => status.candidate.clone().or_else(|| self.starting()).map(|candidate| candidate.hash),
        };
        match subject {
            Some(hash) if hash == *wanted => Ok(()),
            Some(hash) => Err(format!("it is meant for revision {wanted}, but by now {hash} is concerned")),
            None => Err(format!("it is meant for revision {wanted}, which is not being released")),
        }
    }

    /// Nothing new is released: neither what is out nor what the template names by now.
    fn abort(&mut self, reason: String) -> String {
        let next = self.unknown_yet();
        if self.status.rollback.is_none() && self.status.candidate.is_some() {
            self.begin_back(reason.clone(), true);
        }
        if let Some(rollback) = &mut self.status.rollback {
            if !rollback.rejects {
                rollback.reason.clone_from(&reason);
            }
            rollback.rejects = true;
        }
        let message = match (&self.status.rollback, &next) {
            (Some(_), _) => "going back to the stable version".to_owned(),
            (None, Some(next)) => format!("{} will not be released", name(next)),
            (None, None) => "nothing is being released".to_owned(),
        };
        if let Some(next) = next {
            self.reject(next, reason);
        }
        message
    }

    /// The version that the template names, if it is neither serving, nor out, nor turned down. The first version that
    /// ever serves is not released: there is nothing to go back to.
    fn unknown_yet(&self) -> Option<Revision> {
        if self.status.phase == Some(Phase::Starting) {
            return None;
        }
        let current = self.observed.current.clone()?;
        let stable = self.status.stable.as_ref()?;
        let known = |revision: &Revision| revision.hash == current.hash;
        let out = self.status.candidate.as_ref().is_some_and(known);
        (!known(stable) && !out && !self.is_rejected(&current.hash)).then_some(current)
    }

    fn promote(&mut self) -> Answer {
        self.not_going_back()?;
        if self.status.candidate.is_none() {
            let starting = self.starting().ok_or_else(|| self.nothing_out())?;
            self.begin(starting);
        }
        let last = self.desired.steps.len() - 1;
        if self.index() != last {
            self.enter(last);
        }
        self.status.promoting = true;
        self.status.paused = None;
        Ok("released without further holds and checks, as soon as the pods are ready".to_owned())
    }

    fn approve(&mut self) -> Answer {
        self.not_going_back()?;
        self.need_candidate()?;
        self.status.approved = true;
        Ok(format!("the hold of step {} is over", self.index() + 1))
    }

    fn resume(&mut self) -> Answer {
        if self.status.paused.take().is_none() {
            return Err("it is not paused".to_owned());
        }
        for check in self.status.checks.iter_mut().filter(|check| check.state == CheckState::Failed) {
            *check = CheckStatus { name: check.name.clone(), measured_at: check.measured_at, ..CheckStatus::default() };
        }
        self.status.progressed_at = self.status.progressed_at.map(|_| self.now);
        Ok("resumed".to_owned())
    }

    /// Back to the version before: the one that a release replaces, or the one that the last release replaced.
    fn undo(&mut self, reason: String) -> Answer {
        if self.status.candidate.is_some() {
            return Ok(self.abort(reason));
        }
        let previous = self.status.previous.clone().filter(|previous| Some(previous) != self.status.stable.as_ref());
        let previous = previous.ok_or("no version before the present one is known")?;
        if !self.observed.versions.contains_key(&previous.hash) {
            return Err(format!("{} does not exist any more", name(&previous)));
        }
        let message = format!("going back to {}", name(&previous));
        self.status.candidate = self.status.stable.replace(previous);
        self.status.previous = None;
        self.status.kept_until = None;
        self.begin_back(reason, true);
        Ok(message)
    }

    fn skip(&mut self, to: Option<u32>) -> Answer {
        self.not_going_back()?;
        self.need_candidate()?;
        let (present, count) = (self.index(), self.desired.steps.len());
        let wanted = to.map_or(present + 2, |step| step as usize);
        if wanted == 0 || wanted > count {
            return Err(match to {
                Some(step) => format!("there is no step {step}; the plan has {count}"),
                None => "this is the last step; promote to end it".to_owned(),
            });
        }
        self.enter(wanted - 1);
        Ok(format!("going to step {wanted}"))
    }

    fn retry(&mut self) -> Answer {
        let current = self.current();
        match self.status.rejected.clone() {
            Some(rejected) if current.is_some_and(|current| current.hash == rejected.hash) => {
                self.status.rejected = None;
                Ok(format!("{} starts again", short(&rejected.hash, rejected.number)))
            }
            Some(rejected) => {
                Err(format!("the template does not name {} any more", short(&rejected.hash, rejected.number)))
            }
            None => Err("no revision was turned down".to_owned()),
        }
    }

    /// A version that this pass would begin to release.
    fn starting(&self) -> Option<Revision> {
        self.unknown_yet().filter(|_| self.status.candidate.is_none())
    }

    fn not_going_back(&self) -> Result<(), String> {
        match &self.status.rollback {
            Some(rollback) => Err(format!("it is going back to the stable version ({})", rollback.reason)),
            None => Ok(()),
        }
    }

    fn need_candidate(&self) -> Result<(), String> {
        if self.status.candidate.is_some() { Ok(()) } else { Err(self.nothing_out()) }
    }

    fn nothing_out(&self) -> String {
        match &self.status.rejected {
            Some(rejected) => {
                format!(
                    "{} was turned down ({}); retry it first",
                    short(&rejected.hash, rejected.number),
                    rejected.reason
                )
            }
            None => "nothing is being released".to_owned(),
        }
    }
}
