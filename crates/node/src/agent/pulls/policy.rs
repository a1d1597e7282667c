//! When an image is pulled: what the container asks for, what is here, what was tried. Pure.

use std::time::{Duration, Instant};

use sluice_image::Reference;

use super::Withheld;

/// Pauses between tries, as any kubelet makes them.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How long a failure is shown as such.
pub(in crate::agent) const FAILURE_SHOWN: Duration = Duration::from_secs(2);

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
    /// With the last failure, if it is not the first.
    Running {
        failures: u32,
        message: Option<String>,
    },
    Failed {
        message: String,
        failures: u32,
        since: Instant,
        next: Instant,
    },
    /// It was pulled for the container of this name.
    Pulled {
        container: String,
    },
    /// It was here before.
    Present,
}

impl Attempt {
    pub(super) fn failed(message: String, failures: u32, now: Instant) -> Self {
        let pause = FIRST_PAUSE * 2u32.saturating_pow(failures.saturating_sub(1).min(10));
        Self::Failed { message, failures, since: now, next: now + pause.min(LONGEST_PAUSE) }
    }

    /// The next try, after what became of the one before.
    pub(super) fn again(before: Option<&Self>, failures: u32) -> Self {
        let message = match before {
            Some(Self::Failed { message, .. }) => Some(message.clone()),
            _ => None,
        };
        Self::Running { failures, message }
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
        (PullPolicy::Always, true, Some(Attempt::Pulled { .. } | Attempt::Present)) => Step::Use,
        (_, _, Some(Attempt::Running { .. })) => Step::Wait,
        (_, _, Some(Attempt::Failed { next, .. })) if now < *next => Step::Wait,
        (_, _, Some(Attempt::Failed { failures, .. })) => Step::Pull { failures: *failures },
        (_, _, Some(Attempt::Pulled { .. } | Attempt::Present) | None) => Step::Pull { failures: 0 },
    }
}

/// What a status says meanwhile: the failure itself for a moment, then that it is tried less often.
pub(super) fn waiting(image: &str, attempt: Option<&Attempt>, now: Instant) -> Withheld {
    match attempt {
        Some(Attempt::Failed { message, since, .. }) if now < *since + FAILURE_SHOWN => {
            ("ErrImagePull", message.clone())
        }
        Some(Attempt::Failed { message, .. } | Attempt::Running { message: Some(message), .. }) => {
            ("ImagePullBackOff", back_off_message(image, message))
        }
        _ => ("ContainerCreating", String::new()),
    }
}

pub(in crate::agent) fn back_off_message(image: &str, message: &str) -> String {
    format!("Back-off pulling image \"{image}\": ErrImagePull: {message}")
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
        check(IfNotPresent, false, Some(Attempt::Present), now, Step::Pull { failures: 0 });
        check(Always, true, None, now, Step::Pull { failures: 0 });
        check(Always, true, Some(Attempt::Pulled { container: "c".to_owned() }), now, Step::Use);
        check(Always, true, Some(Attempt::again(None, 0)), now, Step::Wait);
        check(Always, true, Some(failed(1)), later(9), Step::Wait);
        check(Always, true, Some(failed(1)), later(10), Step::Pull { failures: 1 });
        check(Always, false, Some(failed(2)), later(19), Step::Wait);
        check(Always, false, Some(failed(20)), later(299), Step::Wait);
        check(Always, false, Some(failed(20)), later(300), Step::Pull { failures: 20 });
        check(Never, true, None, now, Step::Use);
        check(Never, false, Some(Attempt::Present), now, Step::Never);
    }

    #[test]
    fn a_failure_turns_into_a_pause_and_stays_one_while_it_is_tried_again() {
        let now = Instant::now();
        let later = now + FAILURE_SHOWN;
        let check = |attempt: Option<&Attempt>, at, expected: (&str, &str)| {
            let (reason, message) = waiting("a:1", attempt, at);
            assert_eq!((reason, message.as_str()), expected);
        };
        let failed = Attempt::failed("no such tag".to_owned(), 1, now);
        let pause = ("ImagePullBackOff", "Back-off pulling image \"a:1\": ErrImagePull: no such tag");
        check(None, now, ("ContainerCreating", ""));
        check(Some(&Attempt::again(None, 0)), now, ("ContainerCreating", ""));
        check(Some(&failed), now, ("ErrImagePull", "no such tag"));
        check(Some(&failed), later, pause);
        check(Some(&Attempt::again(Some(&failed), 1)), later, pause);
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
