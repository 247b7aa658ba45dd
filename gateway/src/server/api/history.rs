//! What is kept of a channel, for back ends.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::Api;
use super::call::{History, OfChannel};
use super::reply::{Answer, Failure};
use crate::broker::{Range, Retention};
use crate::model::{Channel, ClientInfo, Publication, RawJson};

impl Api {
    pub(super) async fn history(&self, request: &History) -> Result<Answer, Failure> {
        let (channel, retention) = self.kept_channel(&request.channel)?;
        let history = self.node.history(&channel, range(request)?, retention.meta_ttl).await?;
        let epoch = request.since.as_ref().map_or("", |since| &since.epoch);
        if !epoch.is_empty() && epoch != history.top.epoch.as_str() {
            return Err(Failure::UnrecoverablePosition);
        }
        Ok(history.into())
    }

    pub(super) async fn remove_history(&self, request: &OfChannel) -> Result<Answer, Failure> {
        let (channel, _) = self.kept_channel(&request.channel)?;
        self.node.remove_history(&channel).await?;
        Ok(Answer::Done {})
    }

    fn kept_channel(&self, name: &str) -> Result<(Channel, Retention), Failure> {
        let channel = self.channel(name)?;
        let retention = self.context.authority.retention(&channel).ok_or(Failure::NotAvailable)?;
        Ok((channel, retention))
    }
}

/// # Errors
/// [`Failure::BadRequest`] for what lies before the first offset: nothing ever does.
fn range(request: &History) -> Result<Range, Failure> {
    let since = request.since.as_ref().map(|since| since.offset);
    if request.reverse && since == Some(0) {
        return Err(Failure::BadRequest);
    }
    // A negative number is for all.
    let limit = usize::try_from(request.limit).ok();
    Ok(Range { since, reverse: request.reverse, limit, bytes_max: None })
}

/// A publication of a history, as the API writes it.
#[derive(Debug)]
pub(super) struct Kept(pub(super) Arc<Publication>);

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Publication { data, info, tags, offset, exclude: _, trace: _ } = &*self.0;
        let mut publication = serializer.serialize_struct("Publication", 4)?;
        match data.json_line().map(|line| RawJson::parse(&line)) {
            Some(Ok(json)) => publication.serialize_field("data", raw(&json))?,
            // Bytes have no place in JSON: they come as they went in.
            _ if !data.is_empty() => {
                publication.serialize_field("b64data", &BASE64_STANDARD.encode(data.as_bytes()))?;
            }
            _ => {}
        }
        if let Some(info) = info {
            publication.serialize_field("info", &Info(info))?;
        }
        publication.serialize_field("offset", offset)?;
        if !tags.is_empty() {
            publication.serialize_field("tags", tags)?;
        }
        publication.end()
    }
}

/// A member of a channel's presence, as the API writes it.
#[derive(Debug)]
pub(super) struct Member(pub(super) Arc<ClientInfo>);

impl Serialize for Member {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Info(&self.0).serialize(serializer)
    }
}

struct Info<'a>(&'a ClientInfo);

impl Serialize for Info<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut info = serializer.serialize_struct("ClientInfo", 4)?;
        info.serialize_field("user", self.0.user.as_str())?;
        info.serialize_field("client", &self.0.client.to_string())?;
        if let Some(conn_info) = &self.0.conn_info {
            info.serialize_field("conn_info", raw(conn_info))?;
        }
        if let Some(chan_info) = &self.0.chan_info {
            info.serialize_field("chan_info", raw(chan_info))?;
        }
        info.end()
    }
}

fn raw(value: &RawJson) -> &RawValue {
    serde_json::from_slice(value.as_bytes()).expect("it was checked when it came")
}
