//! TODO
use crate::catalogue::Fault;
pub(crate) const FAULTS: &[Fault] = &[];
