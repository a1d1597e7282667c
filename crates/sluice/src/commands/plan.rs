//! `sluice plan`: what a Rollout will do, before anything runs.

use crate::exit::Exit;
use crate::flags::Plan;

pub fn run(_flags: &Plan) -> anyhow::Result<Exit> {
    unreachable!()
}
