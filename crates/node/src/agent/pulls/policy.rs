//! When an image is pulled: what the container asks for, what is here, what was tried. Pure.

use std::time::{Duration, Instant};

use sluice_image::Reference;

use super::Withheld;

/// Pauses between tries, as any kubelet makes them.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    /// The API sets it for every object; what has none yet gets what the API would set.
    pub(super) fn of(said: Option<&str>, image: &Reference) -> Self {
        match said {
            Some("Always") => Self::Always,
            Some("Never") => Self::Never,
            Some("IfNotPresent") => Self::IfNotPresent,
            _ if image.digest().is_none() && image.tag() == Some("latest") => Self::Always,
            _ => Self::IfNotPresent,
        }
    }
}

/// How far a pod's image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    Running { failures: u32 },
    Failed { message: String, failures: u32, next: Instant },
    Done,
}

impl Attempt {
    pub(super) fn failed(message: String, failures: u32, now: Instant) -> Self {
        let pause = FIRST_PAUSE * 2u32.saturating_pow(failures.saturating_sub(1).min(10));
        Self::Failed { message, failures, next: now + pause.min(LONGEST_PAUSE) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Use,
    /// After so many failures.
    Pull {
        failures: u32,
    },
    Wait,
    Never,
}

pub(super) fn decide(policy: PullPolicy, present: bool, attempt: Option<&Attempt>, now: Instant) -> Step {
    match (policy, present, attempt) {
        (PullPolicy::Never | PullPolicy::IfNotPresent, true, _) => Step::Use,
        (PullPolicy::Never, false, _) => Step::Never,
        // Pulled for this pod: its containers start again without another look at the registry.
        (PullPolicy::Always, true, Some(Attempt::Done)) => Step::Use,
        (_, _, Some(Attempt::Running { .. })) => Step::Wait,
        (_, _, Some(Attempt::Failed { next, .. })) if now < *next => Step::Wait,
        (_, _, Some(Attempt::Failed { failures, .. })) => Step::Pull { failures: *failures },
        (_, _, Some(Attempt::Done) | None) => Step::Pull { failures: 0 },
    }
}

/// What a status says meanwhile.
pub(super) fn waiting(attempt: Option<&Attempt>) -> Withheld {
    match attempt {
        Some(Attempt::Failed { message, .. }) => ("ErrImagePull", message.clone()),
        _ => ("ContainerCreating", String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_says_when_a_registry_is_asked() {
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let failed = |failures| Attempt::failed("why".to_owned(), failures, now);
        let check = |policy, present, attempt: Option<Attempt>, at, expected| {
            assert_eq!(decide(policy, present, attempt.as_ref(), at), expected, "{policy:?} {present} {attempt:?}");
        };
        use PullPolicy::{Always, IfNotPresent, Never};
        check(IfNotPresent, true, None, now, Step::Use);
        check(IfNotPresent, false, None, now, Step::Pull { failures: 0 });
        check(IfNotPresent, true, Some(failed(1)), now, Step::Use);
        check(IfNotPresent, false, Some(Attempt::Done), now, Step::Pull { failures: 0 });
        check(Always, true, None, now, Step::Pull { failures: 0 });
        check(Always, true, Some(Attempt::Done), now, Step::Use);
        check(Always, true, Some(Attempt::Running { failures: 0 }), now, Step::Wait);
        check(Always, true, Some(failed(1)), later(9), Step::Wait);
        check(Always, true, Some(failed(1)), later(10), Step::Pull { failures: 1 });
        check(Always, false, Some(failed(2)), later(19), Step::Wait);
        check(Always, false, Some(failed(20)), later(299), Step::Wait);
        check(Always, false, Some(failed(20)), later(300), Step::Pull { failures: 20 });
        check(Never, true, None, now, Step::Use);
        check(Never, false, Some(Attempt::Done), now, Step::Never);
    }

    #[test]
    fn an_image_of_the_latest_tag_is_always_looked_for() {
        let of = |said: Option<&str>, image: &str| PullPolicy::of(said, &image.parse().expect(image));
        assert_eq!(of(None, "a"), PullPolicy::Always);
        assert_eq!(of(None, "a:1"), PullPolicy::IfNotPresent);
        assert_eq!(of(Some("Never"), "a"), PullPolicy::Never);
        assert_eq!(of(Some("IfNotPresent"), "a"), PullPolicy::IfNotPresent);
    }
}
