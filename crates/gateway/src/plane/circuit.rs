//! Whether a version gets requests at all, as one worker has found out by those that it sent.
//!
//! There are two circuits for two questions. Where requests can go to another version instead, a version is *sick* that fails many of
//! them, by errors or by silence: its share goes to the other one, so that users pay for a bad candidate with a few requests. Where
//! there is no other version, errors are answers and are passed on; only a version that is *silent*, request after request without a
//! single answer, is spared further ones, so that nobody waits for what will not come. Both go on asking with a few requests at a time,
//! and one who answers well is back: a sick version after some time and several good answers, a silent one with its first answer.
//!
//! A connection that a backend closed while it was idle says nothing about anybody, and never comes here.

use std::time::{Duration, Instant};

use super::limits;

#[derive(Debug)]
pub(crate) struct Circuit {
    sick: Breaker,
    silent: Breaker,
    in_flight: usize,
}

/// Where a request can go that this version does not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resort {
    OtherVersion,
    Nobody,
}

/// What a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Well,
    /// An answer that says that something is wrong.
    Error,
    Silence,
}

/// A request that is let through, until it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Of each circuit, whether this request is one of the few that it still lets through.
    probes: [bool; 2],
}

impl Circuit {
    pub(crate) fn new() -> Self {
        let sick = Manner {
            in_a_row: limits::SICK_IN_A_ROW,
            rate: Some(limits::SICK_RATE),
            pause: limits::SICK_PAUSE,
            doublings: limits::SICK_DOUBLINGS,
            good: limits::SICK_GOOD,
        };
        let silent = Manner {
            in_a_row: limits::SILENT_IN_A_ROW,
            rate: None,
            pause: limits::SILENT_PAUSE,
            doublings: 0,
            good: 1,
        };
        Self { sick: Breaker::new(sick), silent: Breaker::new(silent), in_flight: 0 }
    }

    /// Lets one more request through, or not.
    pub(crate) fn enter(&mut self, now: Instant, resort: Resort) -> Option<Pass> {
        if self.in_flight >= limits::VERSION_REQUESTS {
            return None;
        }
        let probes = match resort {
            Resort::OtherVersion => [self.sick.admit(now)?, false],
            Resort::Nobody => [false, self.silent.admit(now)?],
        };
        self.in_flight += 1;
        Some(Pass { probes })
    }

    /// One that is let through whatever is known: there is no way to do otherwise.
    pub(crate) fn force(&mut self) -> Pass {
        self.in_flight += 1;
        Pass { probes: [false; 2] }
    }

    /// True when a circuit opened by this.
    pub(crate) fn heard(&mut self, now: Instant, outcome: Outcome) -> bool {
        let sick = self.sick.heard(now, outcome == Outcome::Well);
        let silent = self.silent.heard(now, outcome != Outcome::Silence);
        sick || silent
    }

    /// The request is over, whether or not anything was heard.
    pub(crate) fn leave(&mut self, pass: Pass) {
        self.in_flight -= 1;
        for (breaker, is_probe) in [&mut self.sick, &mut self.silent].into_iter().zip(pass.probes) {
            breaker.probing -= u32::from(is_probe);
        }
    }
}

/// What opens a circuit, and for how long.
#[derive(Debug, Clone, Copy)]
struct Manner {
    /// So many failures in a row open it, ...
    in_a_row: u32,
    /// ... or this part of enough requests.
    rate: Option<f64>,
    pause: Duration,
    /// How often the pause doubles while it fails on probation.
    doublings: u32,
    /// So many good answers in a row end a probation.
    good: u32,
}

#[derive(Debug)]
struct Breaker {
    manner: Manner,
    state: State,
    row: u32,
    /// How often it opened since it was last closed.
    openings: u32,
    /// Requests that were let through on probation and are still under way.
    probing: u32,
    window: Window,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    // Closed => Open, when too much fails
    Closed,
    // Open => Probation, when the pause is over
    Open { until: Instant },
    // Probation => Open, when one fails; => Closed, when enough are well
    Probation { good: u32 },
}

impl Breaker {
    fn new(manner: Manner) -> Self {
        Self { manner, state: State::Closed, row: 0, openings: 0, probing: 0, window: Window::default() }
    }

    /// Whether a request is let through, and whether as one of few.
    fn admit(&mut self, now: Instant) -> Option<bool> {
        match self.state {
            State::Closed => return Some(false),
            State::Open { until } if now < until => return None,
            State::Open { .. } => self.state = State::Probation { good: 0 },
            State::Probation { .. } => {}
        }
        (self.probing < limits::PROBES).then(|| {
            self.probing += 1;
            true
        })
    }

    /// True when it opened by this.
    fn heard(&mut self, now: Instant, well: bool) -> bool {
        self.row = if well { 0 } else { self.row + 1 };
        match (self.state, well) {
            (State::Closed, _) => {
                self.window.note(now, well);
                let by_rate = self.manner.rate.is_some_and(|most| self.window.fails(now, most));
                let opens = !well && (self.row >= self.manner.in_a_row || by_rate);
                if opens {
                    self.open(now);
                }
                opens
            }
            (State::Probation { .. }, false) => {
                self.open(now);
                true
            }
            (State::Probation { good }, true) if good + 1 >= self.manner.good => {
                let probing = self.probing;
                *self = Self { probing, ..Self::new(self.manner) };
                false
            }
            (State::Probation { good }, true) => {
                self.state = State::Probation { good: good + 1 };
                false
            }
            // From before it opened, or let through whatever was known: where one answer is enough, it is enough now.
            (State::Open { .. }, true) if self.manner.good == 1 => {
                let probing = self.probing;
                *self = Self { probing, ..Self::new(self.manner) };
                false
            }
            (State::Open { .. }, _) => false,
        }
    }

    fn open(&mut self, now: Instant) {
        let pause = self.manner.pause.saturating_mul(1 << self.openings.min(self.manner.doublings));
        (self.state, self.openings, self.window) =
            (State::Open { until: now + pause }, self.openings + 1, Window::default());
    }
}

/// What was heard in the last while, in parts of it.
#[derive(Debug, Default)]
struct Window {
    begun: Option<Instant>,
    /// Number of the newest part since then.
    newest: u64,
    parts: [Part; PARTS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    all: u32,
    bad: u32,
}

const PARTS: usize = 10;

impl Window {
    fn note(&mut self, now: Instant, well: bool) {
        let part = self.turn(now);
        part.all += 1;
        part.bad += u32::from(!well);
    }

    /// Whether this part, or more, of enough requests was bad.
    fn fails(&mut self, now: Instant, most: f64) -> bool {
        self.turn(now);
        let (all, bad) = self.parts.iter().fold((0, 0), |(all, bad), part| (all + part.all, bad + part.bad));
        all >= limits::SICK_LEAST && f64::from(bad) >= f64::from(all) * most
    }

    /// Forgets what is too old, and gives the part that is now.
    fn turn(&mut self, now: Instant) -> &mut Part {
        let begun = *self.begun.get_or_insert(now);
        let length = (limits::SICK_WINDOW / PARTS as u32).as_millis().max(1);
        let since = now.saturating_duration_since(begun).as_millis() / length;
        let number = u64::try_from(since).unwrap_or(u64::MAX).max(self.newest);
        for passed in 1..=(number - self.newest).min(PARTS as u64) {
            self.parts[((self.newest + passed) % PARTS as u64) as usize] = Part::default();
        }
        self.newest = number;
        &mut self.parts[(number % PARTS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WELL: Outcome = Outcome::Well;
    const ERROR: Outcome = Outcome::Error;
    const SILENCE: Outcome = Outcome::Silence;

    struct Clock {
        circuit: Circuit,
        start: Instant,
        now: Instant,
    }

    impl Clock {
        fn new() -> Self {
            let start = Instant::now();
            Self { circuit: Circuit::new(), start, now: start }
        }

        fn at(&mut self, seconds: f64) -> &mut Self {
            self.now = self.start + Duration::from_secs_f64(seconds);
            self
        }

        /// So many requests one after the other, each with this outcome; gives how many were let through.
        fn ask(&mut self, times: u32, resort: Resort, outcome: Outcome) -> u32 {
            (0..times).map(|_| u32::from(self.one(resort, outcome))).sum()
        }

        fn one(&mut self, resort: Resort, outcome: Outcome) -> bool {
            let Some(pass) = self.circuit.enter(self.now, resort) else { return false };
            self.circuit.heard(self.now, outcome);
            self.circuit.leave(pass);
            true
        }
    }

    #[test]
    fn a_sick_version_is_spared_and_comes_back_by_good_answers() {
        let mut clock = Clock::new();
        let other = Resort::OtherVersion;
        assert_eq!(clock.ask(50, other, ERROR), limits::SICK_IN_A_ROW);
        assert_eq!(clock.at(4.9).ask(50, other, WELL), 0);
        // On probation, and out again for twice as long at the first failure.
        assert_eq!(clock.at(5.1).ask(1, other, WELL), 1);
        assert_eq!(clock.ask(50, other, ERROR), 1);
        assert_eq!(clock.at(15.0).ask(50, other, WELL), 0);
        assert_eq!(clock.at(15.2).ask(50, other, WELL), 50);
        assert_eq!(clock.ask(limits::SICK_IN_A_ROW - 1, other, ERROR), limits::SICK_IN_A_ROW - 1);
        assert_eq!(clock.ask(1, other, WELL), 1);
    }

    #[test]
    fn half_of_many_requests_are_too_many_to_fail() {
        for (bad_in, spared) in [(2, true), (3, false)] {
            let mut clock = Clock::new();
            let outcomes = (0..60).map(|n| if n % bad_in == 0 { ERROR } else { WELL });
            let let_through = outcomes
                .enumerate()
                .filter(|(at, outcome)| clock.at(*at as f64 * 0.1).one(Resort::OtherVersion, *outcome));
            assert_eq!(let_through.count() < 60, spared, "one in {bad_in}");
        }
        // What was long ago does not count.
        let mut clock = Clock::new();
        for minute in 0..20 {
            clock.at(f64::from(minute) * 60.0);
            assert_eq!(clock.ask(5, Resort::OtherVersion, ERROR) + clock.ask(4, Resort::OtherVersion, WELL), 9);
        }
    }

    #[test]
    fn without_another_version_errors_are_answers() {
        let mut clock = Clock::new();
        assert_eq!(clock.ask(1000, Resort::Nobody, ERROR), 1000);
        for _ in 0..100 {
            assert_eq!(clock.ask(limits::SILENT_IN_A_ROW - 1, Resort::Nobody, SILENCE), limits::SILENT_IN_A_ROW - 1);
            assert_eq!(clock.ask(1, Resort::Nobody, ERROR), 1);
        }
    }

    #[test]
    fn a_silent_version_is_asked_a_little_and_is_back_with_its_first_answer() {
        let mut clock = Clock::new();
        assert_eq!(clock.ask(100, Resort::Nobody, SILENCE), limits::SILENT_IN_A_ROW);
        assert_eq!(clock.at(0.06).ask(100, Resort::Nobody, SILENCE), 1);
        let probes: Vec<Pass> = {
            clock.at(0.12);
            std::iter::from_fn(|| clock.circuit.enter(clock.now, Resort::Nobody)).collect()
        };
        assert_eq!(probes.len(), limits::PROBES as usize);
        // Those who left without a word make room for others.
        probes.into_iter().for_each(|pass| clock.circuit.leave(pass));
        assert_eq!(clock.ask(100, Resort::Nobody, ERROR), 100);
    }

    proptest! {
        #[test]
        fn nobody_is_given_up_for_good(events in prop::collection::vec((0..3u8, 0..20_000u32, any::<bool>()), 0..300)) {
            let mut clock = Clock::new();
            let mut millis = 0;
            for (outcome, passed, has_other) in events {
                millis += passed;
                clock.at(f64::from(millis) / 1000.0);
                let resort = if has_other { Resort::OtherVersion } else { Resort::Nobody };
                clock.one(resort, [WELL, ERROR, SILENCE][usize::from(outcome)]);
            }
            prop_assert_eq!(clock.circuit.in_flight, 0);
            clock.at(f64::from(millis) / 1000.0 + 60.0);
            prop_assert!(clock.one(Resort::OtherVersion, WELL));
            prop_assert!(clock.one(Resort::Nobody, WELL));
            prop_assert_eq!(clock.ask(100, Resort::OtherVersion, WELL), 100);
        }

        #[test]
        fn who_answers_something_now_and_then_is_never_left_alone(silences in prop::collection::vec(0..limits::SILENT_IN_A_ROW, 1..50)) {
            let mut clock = Clock::new();
            for silence in silences {
                prop_assert_eq!(clock.ask(silence, Resort::Nobody, SILENCE), silence);
                prop_assert!(clock.one(Resort::Nobody, ERROR));
            }
        }
    }
}
