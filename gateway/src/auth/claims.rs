//! What the claims of a token say, once its signature is known to be good.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;

use super::TokenError;
use super::members::{Members, WrongType};
use crate::model::{
    Capability, Channel, ChannelMatch, ClientId, ClientInfo, Overrides, Permission, RawJson,
    SubscriptionGrant, TokenGrants, TokenMark, UserId,
};

/// The last second of the year 9999: a later time is taken for this.
const SECONDS_MAX: u64 = 253_402_300_799;

/// What a good subscription token says.
#[derive(Clone, Debug)]
pub struct SubscriptionClaims {
    /// Whose it is; anonymous for clients without a user.
    pub user: UserId,
    /// The channel it is for, as it was written.
    pub channel: String,
    /// The one client that may use it, as it was written; `None` for each of the user.
    pub client: Option<String>,
    /// What it grants.
    pub grant: SubscriptionGrant,
    /// What it can be revoked by.
    pub mark: TokenMark,
}

impl SubscriptionClaims {
    /// Whether `client` of `user` may use the token for `channel`.
    pub(super) fn are_for(&self, user: &UserId, client: ClientId, channel: &Channel) -> bool {
        let is_the_client = |named: &String| ClientId::parse(named) == Some(client);
        self.channel == channel.as_str()
            && self.user == *user
            && self.client.as_ref().is_none_or(is_the_client)
    }
}

/// The claim `name`, `None` if there is none.
pub(super) fn read<T: DeserializeOwned>(
    claims: &Members<'_>,
    name: &'static str,
) -> Result<Option<T>, TokenError> {
    claims.read(name).map_err(|WrongType| TokenError::Claim(name))
}

/// A `NumericDate` (RFC 7519 §2): seconds, fractions allowed.
pub(super) fn date(claims: &Members<'_>, name: &'static str) -> Result<Option<SystemTime>, TokenError> {
    let Some(number) = read::<serde_json::Number>(claims, name)? else { return Ok(None) };
    let since_epoch = match number.as_u64() {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => number.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
    };
    let since_epoch = since_epoch.ok_or(TokenError::Claim(name))?.min(Duration::from_secs(SECONDS_MAX));
    Ok(Some(SystemTime::UNIX_EPOCH + since_epoch))
}

/// What is shown to others of a connection or of a subscription.
pub(super) fn info(claims: &Members<'_>) -> Result<Option<RawJson>, TokenError> {
    match json_or_encoded(claims, "info", "b64info")? {
        Some(info) if info.as_bytes().len() > ClientInfo::INFO_BYTES_MAX => Err(TokenError::Claim("info")),
        info => Ok(info),
    }
}

/// The JSON in the base64 of the claim `encoded`, which goes first, or the claim `plain`.
fn json_or_encoded(
    claims: &Members<'_>,
    plain: &'static str,
    encoded: &'static str,
) -> Result<Option<RawJson>, TokenError> {
    let Some(text) = read::<String>(claims, encoded)? else { return json(claims, plain) };
    let decoded = STANDARD.decode(text).map_err(|_| TokenError::Claim(encoded))?;
    RawJson::parse(&decoded).map(Some).map_err(|_| TokenError::Claim(encoded))
}

/// The claim `name` as it stands; `None` if there is none, or null.
fn json(claims: &Members<'_>, name: &'static str) -> Result<Option<RawJson>, TokenError> {
    let value = claims.raw(name).filter(|value| value.get() != "null");
    let value = value.map(|value| RawJson::parse(value.get().as_bytes()));
    value.transpose().map_err(|_| TokenError::Claim(name))
}

/// What a connection token grants beside the connection; `None` if nothing.
pub(super) fn grants(claims: &Members<'_>) -> Result<Option<Arc<TokenGrants>>, TokenError> {
    let grants = TokenGrants {
        meta: meta(claims)?,
        subscriptions: subscriptions(claims)?,
        capabilities: capabilities(claims).map_err(|WrongType| TokenError::Claim("caps"))?,
    };
    Ok((grants != TokenGrants::default()).then(|| Arc::new(grants)))
}

fn meta(claims: &Members<'_>) -> Result<Option<RawJson>, TokenError> {
    let is_object = |meta: &RawJson| meta.as_bytes().starts_with(b"{");
    match json(claims, "meta")? {
        Some(meta) if !is_object(&meta) => Err(TokenError::Claim("meta")),
        meta => Ok(meta),
    }
}

/// The channels of `subs` or else of `channels`, each once, in order of their names.
fn subscriptions(claims: &Members<'_>) -> Result<Vec<(String, SubscriptionGrant)>, TokenError> {
    let channels = read::<Option<BTreeSet<String>>>(claims, "channels")?.flatten().unwrap_or_default();
    let subscriptions = claims.object("subs").map_err(|WrongType| TokenError::Claim("subs"))?;
    let Some(subscriptions) = subscriptions.filter(|subscriptions| !subscriptions.is_empty()) else {
        return Ok(channels.into_iter().map(|channel| (channel, SubscriptionGrant::default())).collect());
    };
    let grant = |channel: &String| {
        let options = subscriptions.object(channel).map_err(|WrongType| TokenError::Claim("subs"))?;
        Ok((channel.clone(), subscription_grant(&options.unwrap_or_default())?))
    };
    subscriptions.names().map(grant).collect()
}

/// The options of a subscription, all but its end: claims of a subscription token, or members of an entry of `subs`.
pub(super) fn subscription_grant(options: &Members<'_>) -> Result<SubscriptionGrant, TokenError> {
    Ok(SubscriptionGrant {
        info: info(options)?,
        data: json_or_encoded(options, "data", "b64data")?,
        overrides: overrides(options).map_err(|WrongType| TokenError::Claim("override"))?,
        expires_at: None,
    })
}

/// The member `override`. A name that is not known is not looked at, as among claims.
fn overrides(options: &Members<'_>) -> Result<Overrides, WrongType> {
    let claim = options.object("override")?.unwrap_or_default();
    let value = |name| -> Result<Option<bool>, WrongType> {
        let option = claim.object(name)?;
        // Encoders of Protocol Buffers leave out a value that is false.
        option.map(|option| Ok(option.read("value")?.unwrap_or(false))).transpose()
    };
    Ok(Overrides {
        presence: value("presence")?,
        join_leave: value("join_leave")?,
        force_push_join_leave: value("force_push_join_leave")?,
        force_positioning: value("force_positioning")?,
        force_recovery: value("force_recovery")?,
    })
}

fn capabilities(claims: &Members<'_>) -> Result<Vec<Capability>, WrongType> {
    let entries = claims.objects("caps")?;
    entries.iter().map(capability).collect()
}

/// An entry of `caps`. Here a name that is not known is refused: it could be meant to restrict.
fn capability(entry: &Members<'_>) -> Result<Capability, WrongType> {
    if entry.names().any(|name| !["channels", "match", "allow"].contains(&name.as_str())) {
        return Err(WrongType);
    }
    let allow = entry.read::<Vec<String>>("allow")?.ok_or(WrongType)?;
    Ok(Capability {
        channels: entry.read("channels")?.ok_or(WrongType)?,
        matching: match entry.read::<String>("match")?.as_deref() {
            None | Some("") => ChannelMatch::Exact,
            Some("wildcard") => ChannelMatch::Wildcard,
            Some(_) => return Err(WrongType),
        },
        permissions: allow.iter().map(|name| permission(name)).collect::<Result<_, _>>()?,
    })
}

fn permission(name: &str) -> Result<Permission, WrongType> {
    match name {
        "sub" => Ok(Permission::Subscribe),
        "pub" => Ok(Permission::Publish),
        "prs" => Ok(Permission::Presence),
        "hst" => Ok(Permission::History),
        _ => Err(WrongType),
    }
}

#[cfg(test)]
mod tests;
