//! The server API.
use std::sync::Arc;
/// x
pub struct Api {
    /// x
    pub node: Arc<crate::node::Node>,
    /// x
    pub context: Arc<crate::protocol::Context>,
    /// x
    pub keys: crate::auth::ApiKeys,
    /// x
    pub config: crate::config::Api,
}
/// x
pub fn routes(_: Api) -> axum::Router {
    axum::Router::new()
}
