//! What a user sees happen, line by line: second, traffic | ready pods of all | the decision.

use sluice_model::rollout::{Phase, Verb};

use crate::world::{Health, World};

const CANARY: &str = r#"{"target": {"name": "shop"}, "routes": [{"name": "shop"}],
  "steps": [{"traffic": "10%", "hold": "5s", "checks": ["errors"]}, {"traffic": "50%", "hold": "5s", "checks": ["errors"]}],
  "checks": [{"name": "errors", "metric": {"name": "error-rate", "max": "1%"}}]}"#;
const BLUE_GREEN: &str = r#"{"target": {"name": "shop"}, "routes": [{"name": "shop"}], "strategy": "BlueGreen",
  "blueGreen": {"preview": [{"headers": [{"name": "x-preview", "value": "1"}]}], "before": "approval", "after": "5s"},
  "checks": [{"name": "smoke", "at": "before", "http": {}, "successes": 2}], "keepOld": {"for": "20s"}}"#;
const ROLLING: &str = r#"{"target": {"name": "shop"}, "strategy": "Rolling"}"#;
const RECREATE: &str = r#"{"target": {"name": "shop"}, "strategy": "Recreate"}"#;
const BAD: Health = Health { never_ready: false, bad: true };
const NEVER_READY: Health = Health { never_ready: true, bad: false };

fn told(world: &World) -> String {
    world.log.join("\n")
}

#[test]
fn the_first_version_goes_straight_to_everything() {
    let mut world = World::new(CANARY, 2);
    world.template("v1", Health::default());
    world.run(20);
    insta::assert_snapshot!(told(&world), @r"
    1 even | v1 0/2 | revision 1 (v1) is coming up: 0 of 2 pods ready
    3 v1 100 | v1 2/2 | waiting until every gateway serves revision 1 (v1)
    4 v1 100 | v1 2/2 | revision 1 (v1) serves all traffic
    ");
}

#[test]
fn a_canary_is_released_step_by_step() {
    let mut world = World::serving_v1(CANARY, 4);
    world.template("v2", Health::default());
    world.run(60);
    insta::assert_snapshot!(told(&world), @r"
     1 v1 100 | v1 4/4 | step 1/3 (10%): 0 of 1 pods of revision 2 (v2) ready
     4 v1 90 v2 10 | v1 4/4 v2 1/1 | step 1/3 (10%): waiting until every gateway serves this split
     5 v1 90 v2 10 | v1 4/4 v2 1/1 | step 1/3 (10%): holding until 2026-01-01T00:00:20Z
    10 v1 90 v2 10 | v1 4/4 v2 1/1 | step 2/3 (50%): 1 of 2 pods of revision 2 (v2) ready
    13 v1 50 v2 50 | v1 4/4 v2 2/2 | step 2/3 (50%): waiting until every gateway serves this split
    14 v1 50 v2 50 | v1 4/4 v2 2/2 | step 2/3 (50%): holding until 2026-01-01T00:00:29Z
    19 v1 50 v2 50 | v1 4/4 v2 2/2 | step 3/3 (full): 2 of 4 pods of revision 2 (v2) ready
    22 v1 0 v2 100 | v1 4/4 v2 4/4 | step 3/3 (full): waiting until every gateway serves this split
    23 v2 100 | v1 4/4 v2 4/4 | waiting until every gateway serves revision 2 (v2)
    24 v2 100 | v1 4/4 v2 4/4 | revision 2 (v2) serves all traffic
    ");
}

#[test]
fn a_bad_canary_is_caught_and_not_tried_again() {
    let mut world = World::serving_v1(CANARY, 4);
    world.template("v2", BAD);
    world.run(60);
    world.template("v1", Health::default());
    world.run(10);
    world.template("v2", BAD);
    world.run(10);
    insta::assert_snapshot!(told(&world), @r"
     1 v1 100 | v1 4/4 | step 1/3 (10%): 0 of 1 pods of revision 2 (v2) ready
     4 v1 90 v2 10 | v1 4/4 v2 1/1 | step 1/3 (10%): waiting until every gateway serves this split
     5 v1 90 v2 10 | v1 4/4 v2 1/1 | step 1/3 (10%): holding until 2026-01-01T00:00:20Z
     6 v1 100 | v1 4/4 v2 1/1 | going back to revision 1 (v1) (check `errors`: Fail): waiting until every gateway serves it alone
     7 v1 100 | v1 4/4 v2 1/1 | revision 2 (v2) was turned down: check `errors`: Fail; revision 1 (v1) serves all traffic
    16 v1 100 | v1 4/4 | revision 1 (v1) serves all traffic
    23 v1 100 | v1 4/4 | revision 2 (v2) was turned down: check `errors`: Fail; revision 1 (v1) serves all traffic
    ");
}

#[test]
fn a_blue_green_switch_waits_for_a_person_and_keeps_the_old_version() {
    let mut world = World::serving_v1(BLUE_GREEN, 2);
    world.template("v2", Health::default());
    world.run(10);
    world.ask(Verb::Approve);
    world.run(60);
    insta::assert_snapshot!(told(&world), @r"
     1 v1 100 | v1 2/2 | step 1/2 (preview): 0 of 2 pods of revision 2 (v2) ready
     4 v1 100 | v1 2/2 v2 2/2 | step 1/2 (preview): check `smoke`: Pass
     6 v1 100 v2 0+match | v1 2/2 v2 2/2 | step 1/2 (preview): waiting until every gateway serves this split
     7 v1 100 v2 0+match | v1 2/2 v2 2/2 | step 1/2 (preview): waiting for approval
    11 v1 0 v2 100 | v1 2/2 v2 2/2 | step 2/2 (switch): waiting until every gateway serves this split
    12 v1 0 v2 100 | v1 2/2 v2 2/2 | step 2/2 (switch): holding until 2026-01-01T00:00:27Z
    17 v2 100 | v1 2/2 v2 2/2 | waiting until every gateway serves revision 2 (v2)
    18 v2 100 | v1 2/2 v2 2/2 | revision 2 (v2) serves all traffic; the version before it is kept until 2026-01-01T00:00:47Z
    37 v2 100 | v1 2/2 v2 2/2 | revision 2 (v2) serves all traffic
    ");
}

#[test]
fn undo_within_the_kept_time_needs_no_new_pod() {
    let mut world = World::serving_v1(BLUE_GREEN, 2);
    world.template("v2", Health::default());
    world.ask(Verb::Promote);
    (0..9).for_each(|_| world.tick(true));
    assert_eq!(world.status.phase, Some(Phase::Promoted), "{}", told(&world));
    world.log.clear();
    world.ask(Verb::Undo);
    world.run(20);
    insta::assert_snapshot!(told(&world), @r"
    10 v1 100 | v1 2/2 v2 2/2 | going back to revision 1 (v1) (undone): waiting until every gateway serves it alone
    11 v1 100 | v1 2/2 v2 2/2 | revision 2 (v2) was turned down: undone; revision 1 (v1) serves all traffic
    ");
}

#[test]
fn rolling_moves_pods_between_the_fences() {
    let mut world = World::serving_v1(ROLLING, 3);
    world.template("v2", Health::default());
    world.run(60);
    insta::assert_snapshot!(told(&world), @r"
     1 even | v1 3/3 | step 1/1 (roll): 0 of 3 pods of revision 2 (v2) ready
     4 even | v1 3/3 v2 1/1 | step 1/1 (roll): 1 of 3 pods of revision 2 (v2) ready
     8 even | v1 2/2 v2 2/2 | step 1/1 (roll): 2 of 3 pods of revision 2 (v2) ready
    12 even | v1 1/1 v2 3/3 | revision 2 (v2) serves all traffic
    ");
}

#[test]
fn recreate_never_runs_both() {
    let mut world = World::serving_v1(RECREATE, 2);
    world.template("v2", Health::default());
    world.run(60);
    insta::assert_snapshot!(told(&world), @r"
    1 even | v1 2/2 | step 1/2 (stop): waiting until 0 pods of revision 1 (v1) are left
    3 even |  | step 2/2 (start): 0 of 2 pods of revision 2 (v2) ready
    6 even | v2 2/2 | revision 2 (v2) serves all traffic
    ");
}

#[test]
fn a_third_version_finds_the_first_one_stable() {
    let mut world = World::serving_v1(CANARY, 4);
    world.template("v2", Health::default());
    (0..5).for_each(|_| world.tick(true));
    world.template("v3", Health::default());
    world.run(60);
    insta::assert_snapshot!(told(&world), @r"
     1 v1 100 | v1 4/4 | step 1/3 (10%): 0 of 1 pods of revision 2 (v2) ready
     4 v1 90 v2 10 | v1 4/4 v2 1/1 | step 1/3 (10%): waiting until every gateway serves this split
     5 v1 90 v2 10 | v1 4/4 v2 1/1 | step 1/3 (10%): holding until 2026-01-01T00:00:20Z
     6 v1 100 | v1 4/4 v2 1/1 | going back to revision 1 (v1) (revision 3 (v3) replaces it): waiting until every gateway serves it alone
     7 v1 100 | v1 4/4 v2 1/1 | step 1/3 (10%): 0 of 1 pods of revision 3 (v3) ready
    10 v1 90 v3 10 | v1 4/4 v3 1/1 | step 1/3 (10%): waiting until every gateway serves this split
    11 v1 90 v3 10 | v1 4/4 v3 1/1 | step 1/3 (10%): holding until 2026-01-01T00:00:26Z
    16 v1 90 v3 10 | v1 4/4 v3 1/1 | step 2/3 (50%): 1 of 2 pods of revision 3 (v3) ready
    19 v1 50 v3 50 | v1 4/4 v3 2/2 | step 2/3 (50%): waiting until every gateway serves this split
    20 v1 50 v3 50 | v1 4/4 v3 2/2 | step 2/3 (50%): holding until 2026-01-01T00:00:35Z
    25 v1 50 v3 50 | v1 4/4 v3 2/2 | step 3/3 (full): 2 of 4 pods of revision 3 (v3) ready
    28 v1 0 v3 100 | v1 4/4 v3 4/4 | step 3/3 (full): waiting until every gateway serves this split
    29 v3 100 | v1 4/4 v3 4/4 | waiting until every gateway serves revision 3 (v3)
    30 v3 100 | v1 4/4 v3 4/4 | revision 3 (v3) serves all traffic
    ");
}

#[test]
fn a_template_changed_back_is_a_quiet_return() {
    let mut world = World::serving_v1(CANARY, 4);
    world.template("v2", Health::default());
    (0..5).for_each(|_| world.tick(true));
    world.template("v1", Health::default());
    world.run(60);
    assert_eq!((world.status.phase, &world.status.rejected), (Some(Phase::Idle), &None));
    insta::assert_snapshot!(told(&world), @r"
    1 v1 100 | v1 4/4 | step 1/3 (10%): 0 of 1 pods of revision 2 (v2) ready
    4 v1 90 v2 10 | v1 4/4 v2 1/1 | step 1/3 (10%): waiting until every gateway serves this split
    5 v1 90 v2 10 | v1 4/4 v2 1/1 | step 1/3 (10%): holding until 2026-01-01T00:00:20Z
    6 v1 100 | v1 4/4 v2 1/1 | going back to revision 1 (v1) (the template is back at revision 1 (v1)): waiting until every gateway serves it alone
    7 v1 100 | v1 4/4 v2 1/1 | revision 1 (v1) serves all traffic
    ");
}

#[test]
fn a_candidate_that_never_gets_ready_is_turned_down() {
    let mut world = World::serving_v1(CANARY, 4);
    world.template("v2", NEVER_READY);
    world.run(100);
    insta::assert_snapshot!(told(&world), @r"
     1 v1 100 | v1 4/4 | step 1/3 (10%): 0 of 1 pods of revision 2 (v2) ready
    61 v1 100 | v1 4/4 v2 0/1 | revision 2 (v2) was turned down: 0 of 1 pods ready, and no progress for 1m; revision 1 (v1) serves all traffic
    ");
}

#[test]
fn a_sick_stable_version_does_not_block_a_good_candidate() {
    for spec in [CANARY, ROLLING] {
        let mut world = World::serving_v1(spec, 4);
        world.pace.start = 1000;
        (0..4).for_each(|pod| world.crash("v1", pod));
        world.tick(true);
        world.pace.start = 2;
        world.template("v2", Health::default());
        assert!(world.run(80), "{}", told(&world));
        assert_eq!(world.status.stable.as_ref().map(|stable| stable.hash.as_str()), Some("v2"), "{}", told(&world));
    }
}

#[test]
fn manual_releases_stop_before_any_exposure() {
    let mut world = World::serving_v1(&CANARY.replacen("\"steps\"", "\"release\": \"Manual\", \"steps\"", 1), 4);
    world.template("v2", Health::default());
    world.run(60);
    insta::assert_snapshot!(told(&world), @r"
    1 v1 100 | v1 4/4 | step 1/4 (deployed): 0 of 1 pods of revision 2 (v2) ready
    4 v1 100 | v1 4/4 v2 1/1 | step 1/4 (deployed): waiting for approval
    ");
}

#[test]
fn abort_beats_promote() {
    let mut world = World::serving_v1(CANARY, 4);
    world.template("v2", Health::default());
    (0..5).for_each(|_| world.tick(true));
    world.ask(Verb::Promote);
    world.ask(Verb::Abort);
    world.run(30);
    insta::assert_snapshot!(world.answers.join("\n"), @r"
    Abort: done: going back to the stable version
    Promote: refused: an abort came at the same time
    ");
    assert_eq!(world.status.phase, Some(Phase::Rejected));
}

#[test]
fn verbs_answer_what_they_did() {
    let mut world = World::serving_v1(CANARY, 4);
    for verb in [Verb::Abort, Verb::Promote, Verb::Approve, Verb::Resume, Verb::Undo, Verb::Skip, Verb::Retry] {
        world.ask(verb);
        world.tick(true);
    }
    world.template("v2", Health::default());
    world.ask_with(Verb::Abort, Some("v9"), None);
    (0..5).for_each(|_| world.tick(true));
    world.ask(Verb::Pause);
    (0..10).for_each(|_| world.tick(true));
    world.ask(Verb::Resume);
    world.ask_with(Verb::Skip, None, Some(7));
    world.ask(Verb::Skip);
    world.tick(true);
    world.ask(Verb::Abort);
    (0..10).for_each(|_| world.tick(true));
    world.ask(Verb::Promote);
    world.tick(true);
    world.ask(Verb::Retry);
    world.run(60);
    insta::assert_snapshot!(world.answers.join("\n"), @r"
    Abort: done: nothing is being released
    Promote: refused: nothing is being released
    Approve: refused: nothing is being released
    Resume: refused: it is not paused
    Undo: refused: no version before the present one is known
    Skip: refused: nothing is being released
    Retry: refused: no revision was turned down
    Abort: refused: it is meant for revision v9, but by now v2 is concerned
    Pause: done: paused
    Skip: refused: there is no step 7; the plan has 3
    Skip: done: going to step 2
    Resume: done: resumed
    Abort: done: going back to the stable version
    Promote: refused: revision 2 (v2) was turned down (aborted); retry it first
    Retry: done: revision 2 (v2) starts again
    ");
    insta::assert_snapshot!(told(&world), @r"
     8 v1 100 | v1 4/4 | step 1/3 (10%): 0 of 1 pods of revision 2 (v2) ready
    11 v1 90 v2 10 | v1 4/4 v2 1/1 | step 1/3 (10%): waiting until every gateway serves this split
    12 v1 90 v2 10 | v1 4/4 v2 1/1 | step 1/3 (10%): holding until 2026-01-01T00:00:27Z
    13 v1 90 v2 10 | v1 4/4 v2 1/1 | step 1/3 (10%): paused: asked for
    23 v1 90 v2 10 | v1 4/4 v2 1/1 | step 2/3 (50%): 1 of 2 pods of revision 2 (v2) ready
    24 v1 100 | v1 4/4 v2 1/2 | going back to revision 1 (v1) (aborted): waiting until every gateway serves it alone
    25 v1 100 | v1 4/4 v2 1/2 | revision 2 (v2) was turned down: aborted; revision 1 (v1) serves all traffic
    35 v1 100 | v1 4/4 | step 1/3 (10%): 0 of 1 pods of revision 2 (v2) ready
    38 v1 90 v2 10 | v1 4/4 v2 1/1 | step 1/3 (10%): waiting until every gateway serves this split
    39 v1 90 v2 10 | v1 4/4 v2 1/1 | step 1/3 (10%): holding until 2026-01-01T00:00:54Z
    44 v1 90 v2 10 | v1 4/4 v2 1/1 | step 2/3 (50%): 1 of 2 pods of revision 2 (v2) ready
    47 v1 50 v2 50 | v1 4/4 v2 2/2 | step 2/3 (50%): waiting until every gateway serves this split
    48 v1 50 v2 50 | v1 4/4 v2 2/2 | step 2/3 (50%): holding until 2026-01-01T00:01:03Z
    53 v1 50 v2 50 | v1 4/4 v2 2/2 | step 3/3 (full): 2 of 4 pods of revision 2 (v2) ready
    56 v1 0 v2 100 | v1 4/4 v2 4/4 | step 3/3 (full): waiting until every gateway serves this split
    57 v2 100 | v1 4/4 v2 4/4 | waiting until every gateway serves revision 2 (v2)
    58 v2 100 | v1 4/4 v2 4/4 | revision 2 (v2) serves all traffic
    ");
}

#[test]
fn too_little_traffic_is_its_own_outcome() {
    let with =
        |no_data: &str| CANARY.replace("\"max\": \"1%\"}", &format!("\"max\": \"1%\"}}, \"noData\": \"{no_data}\""));
    for (no_data, phase) in [("Wait", Phase::Progressing), ("Pass", Phase::Idle), ("Fail", Phase::Rejected)] {
        let mut world = World::serving_v1(&with(no_data), 4);
        world.no_traffic = true;
        world.template("v2", Health::default());
        world.run(60);
        assert_eq!(world.status.phase, Some(phase), "{no_data}: {}", told(&world));
    }
}

#[test]
fn a_failed_check_may_pause_and_be_overruled() {
    let spec = CANARY.replace("\"max\": \"1%\"}", "\"max\": \"1%\"}, \"onFail\": \"Pause\"");
    let mut world = World::serving_v1(&spec, 4);
    world.template("v2", BAD);
    world.run(20);
    assert_eq!(world.status.phase, Some(Phase::Paused), "{}", told(&world));
    world.heal("v2");
    world.ask(Verb::Resume);
    world.run(60);
    insta::assert_snapshot!(told(&world), @r"
     1 v1 100 | v1 4/4 | step 1/3 (10%): 0 of 1 pods of revision 2 (v2) ready
     4 v1 90 v2 10 | v1 4/4 v2 1/1 | step 1/3 (10%): waiting until every gateway serves this split
     5 v1 90 v2 10 | v1 4/4 v2 1/1 | step 1/3 (10%): holding until 2026-01-01T00:00:20Z
     6 v1 90 v2 10 | v1 4/4 v2 1/1 | step 1/3 (10%): paused: check `errors`: Fail
    13 v1 90 v2 10 | v1 4/4 v2 1/1 | step 2/3 (50%): 1 of 2 pods of revision 2 (v2) ready
    16 v1 50 v2 50 | v1 4/4 v2 2/2 | step 2/3 (50%): waiting until every gateway serves this split
    17 v1 50 v2 50 | v1 4/4 v2 2/2 | step 2/3 (50%): holding until 2026-01-01T00:00:32Z
    22 v1 50 v2 50 | v1 4/4 v2 2/2 | step 3/3 (full): 2 of 4 pods of revision 2 (v2) ready
    25 v1 0 v2 100 | v1 4/4 v2 4/4 | step 3/3 (full): waiting until every gateway serves this split
    26 v2 100 | v1 4/4 v2 4/4 | waiting until every gateway serves revision 2 (v2)
    27 v2 100 | v1 4/4 v2 4/4 | revision 2 (v2) serves all traffic
    ");
}
