use std::sync::Arc;

use super::check::{self, Unsuitable};
use super::connect::Connector;
use super::{Instance, Names};
use crate::config;
use crate::metrics::Metrics;
use crate::model::{Channel, NodeId};

/// The Redis that a cluster of nodes shares: which channel lives where.
///
/// One server now. Whoever uses it must not rely on that: what belongs to one channel is in one place, nothing else
/// is said.
pub struct Redis {
    names: Names,
    instances: Vec<Arc<Instance>>,
}

impl Redis {
    /// Looks whether the server can be used, and starts to connect, on the current runtime. A server that is away
    /// is waited for in the background, for ever.
    ///
    /// # Errors
    /// [`Unsuitable`] when a server answers that cannot be used, or the settings cannot.
    pub async fn start(
        settings: &config::Redis,
        node: NodeId,
        metrics: &Arc<Metrics>,
    ) -> Result<Arc<Self>, Unsuitable> {
        install_crypto();
        let names = Names::new(&settings.prefix);
        let connector = Connector::new(settings.clone());
        check::at_start(&connector, &names).await?;
        let instance = Instance::start(connector, &names, node, Arc::clone(metrics));
        Ok(Arc::new(Self { names, instances: vec![instance] }))
    }

    /// Where `channel` lives.
    pub fn instance_of(&self, _channel: &Channel) -> &Arc<Instance> {
        &self.instances[0]
    }

    /// Where what belongs to no channel lives.
    pub fn home(&self) -> &Arc<Instance> {
        &self.instances[0]
    }

    /// All of them.
    pub fn instances(&self) -> &[Arc<Instance>] {
        &self.instances
    }

    /// What things are called there.
    pub fn names(&self) -> &Names {
        &self.names
    }
}

/// The client library picks none by itself, and panics at the first `rediss://` without one.
pub(super) fn install_crypto() {
    // Another gateway of this process may have been first: then it is the same one.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
