mod recorded;
pub(crate) mod tables;
