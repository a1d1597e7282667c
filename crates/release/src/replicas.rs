//! How many pods of each version stand for a weight when no route splits the traffic.

use sluice_model::amount::Share;

/// Pods of both versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    pub candidate: u32,
    pub stable: u32,
}

/// The split of `replicas` pods (one more if `may_surge`) whose ratio is nearest to `weight`.
///
/// The rounding is that of Argo Rollouts, whose users know it, except where theirs leaves the candidate without any
/// pod at a weight above zero: then the candidate gets its share rounded up, and each version keeps at least one pod.
pub fn by_replicas(replicas: u32, weight: Share, may_surge: bool) -> Split {
    if weight == Share::NONE {
        return Split { candidate: 0, stable: replicas };
    }
    if weight == Share::ALL {
        return Split { candidate: replicas, stable: 0 };
    }
    let nearest = candidates(replicas, weight, may_surge).into_iter().min_by_key(|split| distance(*split, weight));
    nearest.unwrap_or_else(|| {
        let candidate = weight.of_rounded_up(replicas).clamp(1, replicas.saturating_sub(1).max(1));
        Split { candidate, stable: replicas.saturating_sub(candidate) }
    })
}

/// The splits to choose from, the preferred one first where two are equally near.
fn candidates(replicas: u32, weight: Share, may_surge: bool) -> Vec<Split> {
    let (up, down) = (weight.of_rounded_up(replicas), weight.of_rounded_down(replicas));
    let exactly_half = u64::from(weight.hundredths()) * u64::from(replicas) * 2 % 20_000 == 10_000;
    let counts = [Some(up), (!exactly_half).then_some(down)];
    let totals = [Some(replicas), may_surge.then_some(replicas + 1)];
    let all_or_nothing_allowed = replicas == 1 && !may_surge;
    let mut splits = Vec::new();
    for total in totals.into_iter().flatten() {
        for candidate in counts.into_iter().flatten() {
            let mixed = candidate > 0 && candidate < total;
            if mixed || all_or_nothing_allowed {
                splits.push(Split { candidate, stable: total - candidate });
            }
        }
    }
    splits
}

/// How far the split is from the weight: the difference of the two ratios, scaled so that whole numbers compare exactly.
fn distance(split: Split, weight: Share) -> Ratio {
    let total = u128::from(split.candidate + split.stable).max(1);
    let wanted = u128::from(weight.hundredths()) * total;
    let got = u128::from(split.candidate) * u128::from(Share::ALL.hundredths());
    Ratio { part: wanted.abs_diff(got), whole: total }
}

#[derive(Debug, Clone, Copy)]
struct Ratio {
    part: u128,
    whole: u128,
}

impl PartialEq for Ratio {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ratio {}

impl PartialOrd for Ratio {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ratio {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.part * other.whole).cmp(&(other.part * self.whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHTS: [u32; 10] = [1, 10, 20, 25, 33, 50, 67, 75, 90, 99];

    fn percent(weight: u32) -> Share {
        Share::from_hundredths(weight * 100)
    }

    /// One row of the published behaviour: candidate/stable per weight.
    fn check(replicas: u32, may_surge: bool, expected: &str) {
        let row: Vec<String> = WEIGHTS
            .iter()
            .map(|weight| by_replicas(replicas, percent(*weight), may_surge))
            .map(|split| format!("{}/{}", split.candidate, split.stable))
            .collect();
        assert_eq!(row.join(" "), expected, "replicas {replicas}, may surge {may_surge}");
    }

    #[test]
    fn the_splits_are_those_users_know() {
        check(1, false, "0/1 0/1 0/1 0/1 0/1 1/0 1/0 1/0 1/0 1/0");
        check(1, true, "1/1 1/1 1/1 1/1 1/1 1/1 1/1 1/1 1/1 1/1");
        check(3, false, "1/2 1/2 1/2 1/2 1/2 2/1 2/1 2/1 2/1 2/1");
        check(3, true, "1/3 1/3 1/3 1/3 1/2 2/2 2/1 3/1 3/1 3/1");
        // The ninth cell differs on purpose: Argo gives 0/5 at 90 %.
        check(5, false, "1/4 1/4 1/4 1/4 2/3 3/2 3/2 4/1 4/1 4/1");
        check(5, true, "1/5 1/5 1/4 1/4 2/4 3/3 4/2 4/1 5/1 5/1");
        check(10, false, "1/9 1/9 2/8 3/7 3/7 5/5 7/3 8/2 9/1 9/1");
        check(10, true, "1/10 1/9 2/8 3/8 3/7 5/5 7/3 8/3 9/1 10/1");
    }

    #[test]
    fn a_high_weight_never_leaves_the_candidate_without_pods() {
        for (replicas, weight, candidate) in [(2, 75, 1), (5, 90, 4), (10, 95, 9), (25, 98, 24), (50, 99, 49)] {
            let split = by_replicas(replicas, percent(weight), false);
            assert_eq!(split, Split { candidate, stable: 1 }, "{weight}% of {replicas}");
        }
    }

    #[test]
    fn every_weight_between_leaves_both_versions_running() {
        for replicas in 2..=60 {
            for weight in 1..100 {
                for may_surge in [false, true] {
                    let split = by_replicas(replicas, percent(weight), may_surge);
                    assert!(split.candidate >= 1 && split.stable >= 1, "{weight}% of {replicas}: {split:?}");
                    let total = split.candidate + split.stable;
                    assert!(
                        total == replicas || (may_surge && total == replicas + 1),
                        "{weight}% of {replicas}: {split:?}"
                    );
                }
            }
        }
    }
}
