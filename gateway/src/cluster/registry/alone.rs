use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Heard, Lapsed, Registry, RegistryError};
use crate::cluster::REVOCATIONS_MAX;
use crate::cluster::roster::Report;
use crate::model::{NodeEpoch, Revocation, UserId, Whose};

/// The registry of a node that stands alone: what is to be known of others is nothing, and what is remembered ends with
/// the process.
#[derive(Debug, Default)]
pub struct Alone {
    revocations: Mutex<HashMap<Whose, SystemTime>>,
}

#[cfg(test)]
impl Alone {
    /// Loses everything.
    pub(in crate::cluster) fn forget(&self) {
        self.revocations.lock().clear();
    }
}

#[async_trait]
impl Registry for Alone {
    fn is_shared(&self) -> bool {
        false
    }

    async fn beat(&self, _: &Report, _: Duration) -> Result<Result<Heard, Lapsed>, RegistryError> {
        let now = SystemTime::now();
        self.revocations.lock().retain(|_, forget_at| *forget_at > now);
        Ok(Ok(Heard::default()))
    }

    async fn leave(&self, _: NodeEpoch) -> Result<(), RegistryError> {
        Ok(())
    }

    async fn bury(&self, _: NodeEpoch) -> Result<(), RegistryError> {
        Ok(())
    }

    async fn remember(&self, revocation: &Revocation) -> Result<(), RegistryError> {
        let mut revocations = self.revocations.lock();
        if revocations.len() >= REVOCATIONS_MAX && !revocations.contains_key(&revocation.whose) {
            return Err(RegistryError::Full);
        }
        let until = revocations.entry(revocation.whose.clone()).or_insert(revocation.forget_at);
        *until = revocation.forget_at.max(*until);
        Ok(())
    }

    async fn remember_all(&self, revocations: &[Revocation]) -> Result<(), RegistryError> {
        for revocation in revocations {
            self.remember(revocation).await?;
        }
        Ok(())
    }

    async fn revocations(&self) -> Result<Vec<Revocation>, RegistryError> {
        let revocations = self.revocations.lock();
        let known = revocations.iter().map(|(whose, forget_at)| (whose.clone(), *forget_at));
        Ok(known.map(|(whose, forget_at)| Revocation { whose, forget_at }).collect())
    }

    async fn count(
        &self,
        _: NodeEpoch,
        _: &[NodeEpoch],
        connections: &[(UserId, usize)],
    ) -> Result<Vec<usize>, RegistryError> {
        Ok(connections.iter().map(|(_, count)| *count).collect())
    }
}
