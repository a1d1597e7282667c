mod recorded;
mod tables;
