//! Talking to what runs: commands with streams of their own, and readers and writers of a container's.
//!
//! A session is a connection of its own. Its streams are descriptors that the agent is handed at the start, so no byte of it
//! passes through this loop but the output of attached containers, which the log needs as well. When the agent goes away its
//! ends close with it: a command sees the end of its input, or its terminal hangs up, and runs on if it likes.

use std::{io, os::fd::OwnedFd};

use super::{
    calls::MAX_SIDES,
    run::Supervisor,
    side::{Purpose, Side, Work},
    streams::{Ends, Wanted, pipes, terminal},
    taps::{Sink, Tap},
};
use crate::{
    kernel,
    wire::{End, ExecOutcome, Family, Message, Outcome, Streams},
};

/// Attached readers at one time in one pod.
const MAX_TAPS: usize = 64;

impl Supervisor {
    /// Starts a command and hands its streams out. The outcome follows when it has ended.
    pub(super) fn run_session(
        &mut self,
        (connection, call): (u64, u64),
        index: usize,
        argv: &[String],
        streams: Streams,
    ) -> io::Result<()> {
        if self.sides.len() >= MAX_SIDES {
            return Err(io::Error::other(format!("{MAX_SIDES} commands run in this pod already")));
        }
        let command = self.command(index)?;
        let (ends, far) = if streams.tty {
            let (near, far) = terminal(self.driver.terminal(&command)?)?;
            (vec![(End::Terminal, near)], far)
        } else {
            let (Ends { stdin, stdout, stderr }, far) = pipes(wanted(streams))?;
            (named([(End::Stdin, stdin), (End::Stdout, stdout), (End::Stderr, stderr)]), far)
        };
        let pid = self.driver.exec(&command, argv, far, None)?.pid;
        // Its ends are the agent's alone: there is nothing here to read or to write.
        let work = Work::Process { pid, pipes: [None, None], output: Vec::new() };
        let purpose = Purpose::Session { connection, call };
        self.sides.push(Side { container: index, purpose, work, deadline_ms: None });
        self.hand_out(connection, call, ends);
        Ok(())
    }

    /// Hands out the streams of a container that runs. The outcome follows when it has ended.
    pub(super) fn attach(&mut self, (connection, call): (u64, u64), index: usize, streams: Streams) -> io::Result<()> {
        if self.taps.len() >= MAX_TAPS {
            return Err(io::Error::other(format!("{MAX_TAPS} readers are attached to this pod already")));
        }
        let (tty, once) = {
            let plan = &self.machine.plan().containers[index];
            (plan.tty, plan.stdin_once)
        };
        let outputs = Wanted { stdin: false, stdout: streams.stdout, stderr: streams.stderr && !tty };
        let (mut sinks, mut readers) = ([None, None], [None, None]);
        for (which, wanted) in [outputs.stdout, outputs.stderr].into_iter().enumerate() {
            if wanted {
                let (read, write) = kernel::pipe()?;
                kernel::set_nonblocking(&read)?;
                kernel::set_nonblocking(&write)?;
                (sinks[which], readers[which]) = (Some(Sink::new(write)), Some(read));
            }
        }
        let input = &mut self.containers[index].input;
        let writer = match input {
            Some(terminal) if tty => Some((End::Terminal, terminal.try_clone()?)),
            // The only writer there will be: when it is closed, the container sees the end of its input.
            Some(_) if streams.stdin && once => input.take().map(|pipe| (End::Stdin, pipe)),
            Some(pipe) if streams.stdin => Some((End::Stdin, pipe.try_clone()?)),
            _ => None,
        };
        self.taps.push(Tap { container: index, connection, call, sinks, ended: false });
        let [stdout, stderr] = readers;
        let mut ends = named([(End::Stdout, stdout), (End::Stderr, stderr)]);
        ends.extend(writer);
        self.hand_out(connection, call, ends);
        Ok(())
    }

    /// Hands out a socket of the pod's own network, where it has one.
    pub(super) fn hand_out_socket(&mut self, (connection, call): (u64, u64), family: Family) -> io::Result<()> {
        match self.driver.socket(family)? {
            Some(socket) => self.hand_out(connection, call, vec![(End::Socket, socket)]),
            None => self.reply(connection, call, Outcome::Opened { ends: Vec::new() }),
        }
        Ok(())
    }

    fn hand_out(&mut self, connection: u64, call: u64, ends: Vec<(End, OwnedFd)>) {
        let (names, ends): (Vec<End>, Vec<OwnedFd>) = ends.into_iter().unzip();
        let message = Message::Reply { id: call, outcome: Outcome::Opened { ends: names } };
        if let Some(connection) = self.connections.iter_mut().find(|candidate| candidate.id == connection) {
            connection.send_with(&message, &ends);
        }
    }

    /// The run of a container is over: whoever is attached gets the rest and is told.
    pub(super) fn end_taps(&mut self, index: usize, code: i32) {
        let mut told = Vec::new();
        for tap in self.taps.iter_mut().filter(|tap| tap.container == index && !tap.ended) {
            tap.ended = true;
            told.push((tap.connection, tap.call));
        }
        for (connection, call) in told {
            let outcome = Outcome::Exec(ExecOutcome::Exited { code, output: String::new() });
            self.reply(connection, call, outcome);
        }
    }

    /// Lets go of readers that have everything, have left, or take nothing.
    pub(super) fn tend_taps(&mut self) {
        let now_ms = kernel::now().mono_ms;
        let connections = &self.connections;
        self.taps.retain(|tap| {
            !tap.is_dry()
                && tap.deadline_ms().is_none_or(|at| at > now_ms)
                && connections.iter().any(|connection| connection.id == tap.connection)
        });
    }
}

fn wanted(streams: Streams) -> Wanted {
    Wanted { stdin: streams.stdin, stdout: streams.stdout, stderr: streams.stderr }
}

fn named<const N: usize>(ends: [(End, Option<OwnedFd>); N]) -> Vec<(End, OwnedFd)> {
    ends.into_iter().filter_map(|(name, end)| Some((name, end?))).collect()
}
