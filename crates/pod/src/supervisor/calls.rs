//! What agents ask of a supervisor, and what they are told.

use std::io;

use super::{
    connection::Connection,
    run::Supervisor,
    side::{Purpose, Side},
};
use crate::{
    kernel,
    lifecycle::{Input, Machine},
    pod_dir::write_json,
    wire::{Call, ExecOutcome, Message, Outcome, Request, WIRE_VERSION},
};

/// Agents and sessions at one time; more are turned away.
const MAX_CONNECTIONS: usize = 80;
/// Hooks, probes and sessions at one time; more are refused.
pub(super) const MAX_SIDES: usize = 64;

impl Supervisor {
    pub(super) fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.connections.len() == MAX_CONNECTIONS {
                continue;
            }
            if let Ok(mut connection) = Connection::new(self.next_connection, stream) {
                connection.send(&Message::Hello { version: WIRE_VERSION, pid: std::process::id() });
                self.next_connection += 1;
                self.connections.push(connection);
            }
        }
    }

    pub(super) fn serve_connection(&mut self, id: u64) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else { return };
        match connection.read() {
            Ok(calls) => calls.into_iter().for_each(|call| self.answer(id, call)),
            Err(_) => self.connections.retain(|connection| connection.id != id),
        }
    }

    fn answer(&mut self, connection: u64, call: Call) {
        if let Some(outcome) = self.handle(connection, call.id, call.request) {
            self.reply(connection, call.id, outcome);
        }
    }

    pub(super) fn reply(&mut self, connection: u64, call: u64, outcome: Outcome) {
        if let Some(connection) = self.connections.iter_mut().find(|candidate| candidate.id == connection) {
            connection.send(&Message::Reply { id: call, outcome });
        }
    }

    /// `None`: the reply comes later.
    fn handle(&mut self, connection: u64, call: u64, request: Request) -> Option<Outcome> {
        let find = |machine: &Machine, name: &str| machine.plan().containers.iter().position(|plan| plan.name == name);
        let unknown = |name: &str| Some(Outcome::Refused(format!("no container `{name}`")));
        match request {
            Request::Status => return Some(Outcome::State(self.published.clone())),
            Request::Watch => {
                if let Some(connection) = self.connections.iter_mut().find(|candidate| candidate.id == connection) {
                    connection.watching = true;
                    connection.owe_state();
                }
            }
            Request::Stop { grace_seconds } => self.feed(Input::Stop { grace_ms: grace_seconds.saturating_mul(1000) }),
            Request::End { container, id, grace_seconds, message } => {
                let Some(index) = find(&self.machine, &container) else { return unknown(&container) };
                self.feed(Input::End { index, id, grace_ms: grace_seconds.saturating_mul(1000), message });
            }
            Request::Started { container, id } => {
                let Some(index) = find(&self.machine, &container) else { return unknown(&container) };
                self.feed(Input::StartupPassed { index, id });
            }
            Request::Provide { container, launch, image } => {
                let Some(index) = find(&self.machine, &container) else { return unknown(&container) };
                self.feed(Input::Provide { index, launch: *launch, image });
                if let Err(error) = write_json(&self.dir.plan(), self.machine.plan()) {
                    return Some(Outcome::Refused(format!("plan not written: {error}")));
                }
            }
            Request::Exec { container, command, timeout_ms } => {
                let Some(index) = find(&self.machine, &container) else { return unknown(&container) };
                let purpose = Purpose::Probe { connection, call };
                return self
                    .probe(index, purpose, &command, timeout_ms)
                    .err()
                    .map(|error| Outcome::Exec(ExecOutcome::Failed(error.to_string())));
            }
            Request::Run { container, command, streams } => {
                let Some(index) = find(&self.machine, &container) else { return unknown(&container) };
                if self.containers[index].pid.is_none() {
                    return Some(Outcome::Refused(format!("container `{container}` does not run")));
                }
                let started = self.run_session((connection, call), index, &command, streams);
                return started.err().map(|error| Outcome::Exec(ExecOutcome::Failed(error.to_string())));
            }
            Request::Attach { container, streams } => {
                let Some(index) = find(&self.machine, &container) else { return unknown(&container) };
                if self.containers[index].pid.is_none() {
                    return Some(Outcome::Refused(format!("container `{container}` does not run")));
                }
                let attached = self.attach((connection, call), index, streams);
                return attached.err().map(|error| Outcome::Exec(ExecOutcome::Failed(error.to_string())));
            }
            Request::Socket { family } => {
                let handed = self.hand_out_socket((connection, call), family);
                return handed.err().map(|error| Outcome::Exec(ExecOutcome::Failed(error.to_string())));
            }
        }
        Some(Outcome::Done)
    }

    fn probe(&mut self, index: usize, purpose: Purpose, command: &[String], timeout_ms: u64) -> io::Result<()> {
        if self.containers[index].pid.is_none() {
            return Err(io::Error::other("the container does not run"));
        }
        if self.sides.len() >= MAX_SIDES {
            return Err(io::Error::other(format!("{MAX_SIDES} commands run in this pod already")));
        }
        let work = self.beside(index, command)?;
        let deadline_ms = Some(kernel::now().mono_ms.saturating_add(timeout_ms));
        self.sides.push(Side { container: index, purpose, work, deadline_ms });
        Ok(())
    }
}
