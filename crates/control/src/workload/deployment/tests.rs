//! Whole rollouts, decided pass by pass against pretended pods: of some templates they become available, of others never.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetStatus};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::decide::{Decision, Observed, decide};
use super::revision;
use super::status::{self, replicas};
use crate::template;

/// More passes than any rollout takes.
const PASSES: usize = 100;

struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    directed: Option<BTreeMap<String, i32>>,
    now: Timestamp,
    scalings: Vec<String>,
}

impl World {
    fn new(replicas: i32, strategy: &Value) -> Self {
        let deployment = json!({
            "metadata": {"name": "web", "uid": "d", "generation": 1},
            "spec": {"replicas": replicas, "strategy": strategy, "progressDeadlineSeconds": 60,
                     "selector": {"matchLabels": {"app": "web"}}, "template": {}},
        });
        Self {
            deployment: serde_json::from_value(deployment).unwrap(),
            sets: Vec::new(),
            directed: None,
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            scalings: Vec::new(),
        }
        .with_image("one")
    }

    fn rolling(replicas: i32, surge: &Value, unavailable: &Value) -> Self {
        let rolling = json!({"maxSurge": surge, "maxUnavailable": unavailable});
        Self::new(replicas, &json!({"type": "RollingUpdate", "rollingUpdate": rolling}))
    }

    /// Pods of images that begin with `bad` never become available.
    fn with_image(mut self, image: &str) -> Self {
        self.change(&json!({"template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "main", "image": image}]},
        }}));
        self
    }

    fn change(&mut self, spec: &Value) {
        let mut whole = serde_json::to_value(&self.deployment).unwrap();
        for (name, value) in spec.as_object().unwrap() {
            whole["spec"][name] = value.clone();
        }
        self.deployment = serde_json::from_value(whole).unwrap();
        *self.deployment.metadata.generation.get_or_insert(0) += 1;
    }

    fn pass(&mut self) -> Decision {
        let observed = Observed {
            deployment: Arc::new(self.deployment.clone()),
            sets: self.sets.iter().cloned().map(Arc::new).collect(),
            living_pods: BTreeMap::new(),
            directed: self.directed.clone(),
            now: self.now,
        };
        decide(&observed)
    }

    /// Decides and applies until nothing more is decided, the pods following each pass.
    fn settle(&mut self) {
        for _ in 0..PASSES {
            let decision = self.pass();
            let is_quiet = decision.create.is_none()
                && decision.update.is_empty()
                && decision.delete.is_empty()
                && self.deployment.status.as_ref() == Some(&decision.status);
            self.apply(decision);
            self.follow();
            if is_quiet {
                return;
            }
        }
        panic!("still moving after {PASSES} passes: {}", self.show());
    }

    fn apply(&mut self, decision: Decision) {
        self.scalings.extend(decision.scalings);
        for (before, after) in decision.update {
            let at = self.sets.iter().position(|set| *set == *before).expect("only known sets are changed");
            self.sets[at] = after;
        }
        self.sets.retain(|set| !decision.delete.iter().any(|gone| gone.uid() == set.uid()));
        if let Some(mut set) = decision.create {
            set.metadata.uid = set.metadata.name.clone();
            self.sets.push(set);
        }
        self.deployment.status = Some(decision.status);
    }

    fn follow(&mut self) {
        for set in &mut self.sets {
            let available = if image(set).starts_with("bad") { 0 } else { replicas(set) };
            set.status = Some(ReplicaSetStatus {
                replicas: replicas(set),
                ready_replicas: Some(available),
                available_replicas: Some(available),
                terminating_replicas: Some(0),
                ..ReplicaSetStatus::default()
            });
        }
    }

    fn show(&self) -> String {
        let mut text = String::new();
        for set in &self.sets {
            write!(text, "{} {}, ", image(set), replicas(set)).expect("text takes everything");
        }
        let status = self.deployment.status.clone().unwrap_or_default();
        let progressing = status::condition(&status, status::PROGRESSING).and_then(|it| it.reason.clone());
        text + &progressing.unwrap_or_default()
    }
}

fn image(set: &ReplicaSet) -> String {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    template.spec.unwrap_or_default().containers[0].image.clone().unwrap_or_default()
}

#[test]
fn a_stuck_rollout_keeps_what_may_not_be_missing() {
    // Replicas, surge, unavailable; old and new pods at rest. As recorded from a real cluster.
    let cases = [
        (1, json!("25%"), json!("25%"), (1, 1)),
        (1, json!(0), json!(1), (0, 1)),
        (3, json!("25%"), json!("25%"), (3, 1)),
        (3, json!(0), json!(1), (2, 1)),
        (3, json!(2), json!(1), (2, 3)),
        (3, json!("50%"), json!(0), (3, 2)),
        (3, json!("0%"), json!("100%"), (0, 3)),
        (10, json!("25%"), json!("25%"), (8, 5)),
    ];
    for (replicas, surge, unavailable, (old, new)) in cases {
        let mut world = World::rolling(replicas, &surge, &unavailable);
        world.settle();
        let mut world = world.with_image("bad");
        world.settle();
        assert_eq!(
            world.show(),
            format!("one {old}, bad {new}, ReplicaSetUpdated"),
            "{replicas} {surge} {unavailable}"
        );
    }
}

#[test]
fn a_rollout_goes_through_and_says_each_step() {
    let mut world = World::rolling(4, &json!(1), &json!(1));
    world.settle();
    assert_eq!(world.show(), "one 4, NewReplicaSetAvailable");
    world.scalings.clear();
    let mut world = world.with_image("two");
    world.settle();
    assert_eq!(world.show(), "one 0, two 4, NewReplicaSetAvailable");
    let steps: Vec<_> =
        world.scalings.iter().map(|step| step.split(' ').skip(5).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(steps[..3], ["from 0 to 1", "from 4 to 3", "from 1 to 2"]);
}

#[test]
fn an_update_in_the_middle_of_one_empties_what_is_stuck() {
    let mut world = World::rolling(4, &json!(1), &json!(1));
    world.settle();
    let mut world = world.with_image("bad-two");
    world.settle();
    let mut world = world.with_image("bad-three");
    world.settle();
    assert_eq!(world.show(), "one 3, bad-two 0, bad-three 2, ReplicaSetUpdated");
    let mut world = world.with_image("one");
    world.settle();
    assert_eq!(world.show(), "one 4, bad-two 0, bad-three 0, NewReplicaSetAvailable");
    assert_eq!(revision::number(&world.sets[0]), 4);
}

#[test]
fn a_scaling_is_shared_while_a_rollout_is_stuck() {
    let mut world = World::rolling(10, &json!(3), &json!(2));
    world.settle();
    let mut world = world.with_image("bad");
    world.settle();
    world.change(&json!({"replicas": 15}));
    world.settle();
    assert_eq!(world.show(), "one 11, bad 7, ReplicaSetUpdated");
}

#[test]
fn recreate_waits_until_the_old_pods_are_gone() {
    let mut world = World::new(2, &json!({"type": "Recreate"}));
    world.settle();
    let mut world = world.with_image("two");
    let decision = world.pass();
    assert!(decision.create.is_none(), "the old pods are still there");
    assert_eq!(decision.to_string().split(' ').skip(5).collect::<Vec<_>>().join(" "), "from 2 to 0");
    world.settle();
    assert_eq!(world.show(), "one 0, two 2, NewReplicaSetAvailable");
}

#[test]
fn a_deadline_ends_patience_and_a_new_template_gives_it_back() {
    let mut world = World::rolling(3, &json!(1), &json!(0));
    world.settle();
    let mut world = world.with_image("bad");
    world.settle();
    let wake = world.pass().wake.expect("a stuck rollout is looked at again");
    world.now += SignedDuration::try_from(wake).unwrap();
    world.settle();
    assert_eq!(world.show(), "one 3, bad 1, ProgressDeadlineExceeded");
    assert_eq!(world.pass().wake, None);
    let mut world = world.with_image("three");
    world.settle();
    assert_eq!(world.show(), "one 0, bad 0, three 3, NewReplicaSetAvailable");
}

#[test]
fn old_revisions_are_forgotten_beyond_the_limit() {
    let mut world = World::rolling(1, &json!(1), &json!(0));
    world.change(&json!({"revisionHistoryLimit": 1}));
    for image in ["one", "two", "three", "four"] {
        world = world.with_image(image);
        world.settle();
    }
    assert_eq!(world.show(), "three 0, four 1, NewReplicaSetAvailable");
}

#[test]
fn a_paused_deployment_is_scaled_but_not_rolled() {
    let mut world = World::rolling(2, &json!(1), &json!(0));
    world.settle();
    world.change(&json!({"paused": true, "replicas": 3}));
    let mut world = world.with_image("two");
    world.settle();
    assert_eq!(world.show(), "one 3, DeploymentPaused");
    world.change(&json!({"paused": false}));
    world.settle();
    assert_eq!(world.show(), "one 0, two 3, NewReplicaSetAvailable");
}

#[test]
fn a_rollout_decides_on_the_sizes() {
    let mut world = World::rolling(4, &json!(1), &json!(0));
    world.directed = Some(BTreeMap::new());
    world.settle();
    assert_eq!(world.show(), "one 4, NewReplicaSetAvailable", "the first revision has nothing to wait for");
    let mut world = world.with_image("two");
    world.settle();
    assert_eq!(world.show(), "one 4, two 0, NewReplicaSetCreated", "the next one waits for its size");

    let hash = |world: &World, at: usize| template::hash(&world.sets[at]).unwrap().to_owned();
    let sizes = [(hash(&world, 1), 1)];
    world.directed = Some(sizes.into_iter().collect());
    world.settle();
    assert_eq!(world.show(), "one 4, two 1, ReplicaSetUpdated", "a hash without size stays as it is");
    world.now += SignedDuration::from_hours(1);
    world.settle();
    assert_eq!(world.show(), "one 4, two 1, ReplicaSetUpdated", "a held step is no missed deadline");
    let sizes = [(hash(&world, 0), 0), (hash(&world, 1), 4)];
    world.directed = Some(sizes.into_iter().collect());
    world.settle();
    assert_eq!(world.show(), "one 0, two 4, NewReplicaSetAvailable");
}
