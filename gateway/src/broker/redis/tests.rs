use super::super::contract;
use super::*;
use crate::redis::testing;

contract::suite!(|receiver: Arc<contract::Record>| async move {
    let redis = testing::redis().await;
    RedisBroker::new(redis, receiver, Arc::new(Metrics::new()), &Handle::current())
});

mod damage;
mod herd;
