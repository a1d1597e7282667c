//! Thousands of seeds: random strategies, versions, verbs and faults. The invariants are checked inside every decision; here
//! the world itself is looked at, and that it always comes to rest in the right place. A seed reproduces its run.

use sluice_model::amount::Share;
use sluice_model::rollout::{Phase, Verb};
use sluice_release::Shift;

use crate::world::{Health, Pace, World};

/// Runs of one test; `SLUICE_SEEDS` asks for more.
const SEEDS: u64 = 4000;
/// Seconds in which things happen, and seconds to come to rest afterwards.
const BUSY: u32 = 80;
const CALM: u32 = 1500;

const SPECS: [&str; 9] = [
    r#"{"target": {"name": "a"}, "routes": [{"name": "a"}], "keepOld": {"for": "20s"},
        "steps": [{"traffic": "10%", "hold": "3s", "checks": ["errors"]}, {"traffic": "50%", "hold": "2s", "checks": ["errors"]}],
        "checks": [{"name": "errors", "metric": {"name": "error-rate", "max": "1%"}}]}"#,
    r#"{"target": {"name": "a"}, "routes": [{"name": "a"}], "drain": "3s", "release": "Manual",
        "steps": [{"candidate": 2, "match": [{"headers": [{"name": "x", "value": "1"}]}], "hold": "approval"},
                  {"traffic": "30%", "stable": "80%"}, {"traffic": "60%", "stable": "50%", "hold": "2s"}]}"#,
    r#"{"target": {"name": "a"}, "routes": [{"name": "a"}], "strategy": "BlueGreen", "keepOld": {"for": "10s"},
        "blueGreen": {"before": "approval", "after": "3s"},
        "checks": [{"name": "smoke", "at": "before", "http": {}, "successes": 2, "failures": 2},
                   {"name": "errors", "metric": {"name": "error-rate", "max": "1%"}, "failures": 3, "onFail": "Pause"}]}"#,
    r#"{"target": {"name": "a"}, "strategy": "Rolling", "rolling": {"surge": "25%", "unavailable": 0}}"#,
    r#"{"target": {"name": "a"}, "strategy": "Rolling", "rolling": {"surge": 0, "unavailable": 1},
        "checks": [{"name": "errors", "metric": {"name": "error-rate", "max": "1%"}}]}"#,
    r#"{"target": {"name": "a"}, "strategy": "Canary", "canary": {"weights": ["20%", "50%"], "hold": "4s"},
        "checks": [{"name": "errors", "metric": {"name": "error-rate", "max": "1%"}}]}"#,
    r#"{"target": {"name": "a"}, "strategy": "Recreate"}"#,
    r#"{"target": {"name": "a"}, "routes": [{"name": "a"}], "strategy": "Canary", "canary": {"hold": "2s"}}"#,
    r#"{"target": {"name": "a"}, "routes": [{"name": "a"}], "drain": "2s",
        "steps": [{"mirror": "50%", "hold": "3s"}, {"traffic": "20%", "mirror": "10%", "hold": "2s"}, {"traffic": "60%"}]}"#,
];
const VERBS: [Verb; 8] =
    [Verb::Promote, Verb::Approve, Verb::Abort, Verb::Pause, Verb::Resume, Verb::Undo, Verb::Skip, Verb::Retry];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn small(&mut self, bound: u32) -> u32 {
        u32::try_from(self.below(bound as usize)).expect("below a u32")
    }

    fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }
}

/// Which faults a run has. Without pods that crash or are missing, traffic must never meet a version that cannot take it.
struct Faults {
    crashes: bool,
    scales: bool,
}

#[test]
fn releases_settle_and_keep_their_promises() {
    let seeds = std::env::var("SLUICE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    for seed in 0..seeds {
        let run = std::panic::catch_unwind(|| simulate(seed));
        if let Err(cause) = run {
            let text = cause.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".to_owned());
            panic!("seed {seed}: {text}");
        }
    }
}

fn simulate(seed: u64) {
    let mut random = Random(seed);
    let spec = SPECS[random.below(SPECS.len())];
    let mut world = World::serving_v1(spec, 1 + random.small(8));
    world.pace = Pace { start: 1 + random.small(5), stop: 1 + random.small(4), acknowledge: 1 + random.small(5) };
    let faults = Faults { crashes: random.one_in(2), scales: random.one_in(3) };
    let mut versions = 1;
    for _ in 0..BUSY {
        disturb(&mut world, &mut random, &faults, &mut versions);
        let lost = random.one_in(6);
        world.tick(!lost);
        look(&world, &faults);
    }
    world.no_traffic = false;
    bring_to_rest(&mut world, &faults);
    judge(&world);
}

fn disturb(world: &mut World, random: &mut Random, faults: &Faults, versions: &mut u32) {
    if random.one_in(25) {
        *versions += 1;
        let health = Health { never_ready: random.one_in(6), bad: random.one_in(4) };
        world.template(&format!("v{versions}"), health);
    } else if random.one_in(60) {
        let known = world.hashes();
        let again = known[random.below(known.len())].clone();
        world.template(&again, Health::default());
    }
    if random.one_in(8) {
        let verb = VERBS[random.below(VERBS.len())];
        world.ask_with(verb, None, None);
    }
    if random.one_in(20) {
        world.no_traffic = !world.no_traffic;
    }
    if faults.crashes && random.one_in(6) {
        let known = world.hashes();
        let hash = known[random.below(known.len())].clone();
        world.crash(&hash, random.below(6));
    }
    if faults.scales && random.one_in(20) {
        world.replicas = random.small(9);
    }
}

/// The world itself, apart from what the decisions say about it.
fn look(world: &World, faults: &Faults) {
    if faults.crashes || faults.scales {
        return;
    }
    match world.desired().shift {
        Shift::Routes => {
            let Some(served) = &world.served else { return };
            let candidate = Share::from_hundredths(served.candidate_weight);
            let parts = [(Some(&served.stable), candidate.rest()), (served.candidate.as_ref(), candidate)];
            for (hash, share) in parts.into_iter().filter(|(_, share)| *share > Share::NONE) {
                let ready = hash.map_or(0, |hash| world.ready(hash));
                assert!(ready > 0, "{share} of the traffic meets no pod of {hash:?}\n{}", world.log.join("\n"));
            }
        }
        Shift::Replicas => {
            let ready: u32 = world.hashes().iter().map(|hash| world.ready(hash)).sum();
            let least = world.replicas - world.fences().unavailable;
            assert!(ready >= least, "{ready} pods ready, {least} needed\n{}", world.log.join("\n"));
        }
        Shift::Recreate => {
            let pods = world.observe().versions;
            let running = pods.values().filter(|version| version.pods > 0).count();
            assert!(running <= 1, "versions overlap: {pods:?}\n{}", world.log.join("\n"));
        }
    }
}

/// People resume and approve what waits for them, and give up what pauses again and again.
fn bring_to_rest(world: &mut World, faults: &Faults) {
    if world.replicas == 0 {
        world.replicas = 2;
    }
    for attempt in 0..12 {
        let settled = world.run(CALM / 12);
        look(world, faults);
        let waits = world.status.message.contains("approval");
        if world.status.phase == Some(Phase::Paused) || world.status.paused.is_some() {
            world.ask(if attempt < 4 { Verb::Resume } else { Verb::Abort });
        } else if waits {
            world.ask(Verb::Approve);
        } else if settled {
            return;
        }
    }
    panic!("does not settle: {:?} {}\n{}", world.status.phase, world.status.message, world.log.join("\n"));
}

/// At rest: one version with all its pods, which is the wanted one unless that is sick or was turned down.
fn judge(world: &World) {
    let status = &world.status;
    let story = || format!("{status:#?}\n{}\n{}", world.log.join("\n"), world.answers.join("\n"));
    let stable = status.stable.as_ref().map(|stable| stable.hash.clone()).expect("a stable version");
    if status.phase == Some(Phase::Starting) {
        assert!(world.health(&stable).never_ready, "{}", story());
        return;
    }
    assert!(matches!(status.phase, Some(Phase::Idle | Phase::Rejected)), "{}", story());
    for (hash, version) in world.observe().versions {
        let wanted = if hash == stable { world.replicas } else { 0 };
        assert_eq!(version.pods, wanted, "pods of {hash}\n{}", story());
    }
    let rejected = status.rejected.as_ref().is_some_and(|rejected| rejected.hash == world.current());
    assert!(stable == world.current() || rejected, "{}", story());
    assert_eq!(rejected, status.phase == Some(Phase::Rejected), "{}", story());
}
