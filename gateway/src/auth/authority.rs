//! Temporary
use super::TokenError;
use crate::model::{Channel, Identity, Secret};
/// x
#[derive(Debug)]
pub struct Authority;
/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// x
    BadChannel,
    /// x
    UnknownNamespace,
    /// x
    Denied,
}
impl Authority {
    /// x
    pub fn authenticate(&self, _: &Secret) -> Result<Identity, TokenError> {
        todo!()
    }
    /// x
    pub fn anonymous(&self) -> Option<Identity> {
        todo!()
    }
    /// x
    pub fn channel(&self, _: &str) -> Result<Channel, Refusal> {
        todo!()
    }
    /// x
    pub fn may_subscribe(&self, _: &Identity, _: &Channel) -> Result<(), Refusal> {
        todo!()
    }
    /// x
    pub fn may_publish(&self, _: &Identity, _: &Channel, _: bool) -> Result<(), Refusal> {
        todo!()
    }
}
