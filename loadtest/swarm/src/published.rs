//! What was published, and where: the common knowledge of publisher and clients.

/// The place of every publication, as publishers were told and as clients saw it.
#[derive(Debug, Default)]
pub struct Published {}

impl Published {
    /// Nothing is published yet, and only these channels will be.
    pub fn new(_channels: &[String]) -> Self {
        Self {}
    }
}
