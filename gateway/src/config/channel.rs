use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use regex::Regex;
use serde::de;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::{Channel, Payload};

/// Channels and what clients may do in them.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChannelSection {
    /// Longest channel name, in bytes; 1 to 65535.
    pub channel_bytes_max: usize,
    /// How long the epoch and top offset of a history are kept after the last publication; above 0.
    #[serde(with = "humantime_serde")]
    pub history_meta_ttl: Duration,
    /// How long an idempotency key is remembered; above 0.
    #[serde(with = "humantime_serde")]
    pub idempotency_ttl: Duration,
    /// How long a client stays present that is not heard of; above `client.presence_update_interval`.
    #[serde(with = "humantime_serde")]
    pub presence_ttl: Duration,
    /// What the data of publications must be where the namespace does not say.
    pub publication_data_format: DataFormat,
    /// Options of channels without `name:`.
    pub without_namespace: ChannelOptions,
    /// Options of channels whose name begins with the name of the namespace and a colon.
    pub namespaces: Vec<ChannelOptions>,
}

impl Default for ChannelSection {
    fn default() -> Self {
        Self {
            channel_bytes_max: 255,
            history_meta_ttl: Duration::from_secs(720 * 3600),
            idempotency_ttl: Duration::from_secs(5 * 60),
            presence_ttl: Duration::from_secs(30),
            publication_data_format: DataFormat::NotEmpty,
            without_namespace: ChannelOptions::default(),
            namespaces: Vec::new(),
        }
    }
}

/// Names a namespace among those that are configured, so that nobody has to look for it by its name again.
///
/// The default is that of channels without a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceId(u16);

impl NamespaceId {
    /// That of channels without a namespace.
    pub const NONE: Self = Self(0);
    /// Those that are not configured.
    pub const UNKNOWN: Self = Self(1);
    /// That of the first one that is.
    const FIRST: usize = 2;

    /// That of the one at `index` of `channel.namespaces`.
    fn of_configured(index: usize) -> Self {
        u16::try_from(Self::FIRST + index).map_or(Self::UNKNOWN, Self)
    }

    /// Its place among [`ChannelSection::labels`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl ChannelSection {
    /// What metrics call each namespace, at the [place](NamespaceId::index) of its id.
    ///
    /// One that is configured with the name of another is counted with it.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        let configured = self.namespaces.iter().map(|options| options.name.as_str());
        ["without_namespace", "other"].into_iter().chain(configured)
    }
}

/// What one namespace allows. Everything is off by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChannelOptions {
    /// Given by [`Channels::new`].
    #[serde(skip)]
    pub id: NamespaceId,
    /// The namespace: two or more of `A-Z a-z 0-9 . _ -`, unique. Empty for `without_namespace`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Who is subscribed is known: each subscriber is listed while it is there.
    pub presence: bool,
    /// That a client joins or leaves is announced to the subscribers that hear of it.
    pub join_leave: bool,
    /// Every subscriber hears of it, without asking.
    pub force_push_join_leave: bool,
    /// Publications kept of each channel; 0 = no history. Goes with `history_ttl`.
    pub history_size: usize,
    /// How long they are kept after the last one; 0 = no history. Goes with `history_size`.
    #[serde(with = "humantime_serde")]
    pub history_ttl: Duration,
    /// How long epoch and top offset are kept; 0 = `channel.history_meta_ttl`. At least `history_ttl`.
    #[serde(with = "humantime_serde")]
    pub history_meta_ttl: Duration,
    /// Every subscriber is told when it missed something. Needs a history.
    pub force_positioning: bool,
    /// A subscriber that asks for it is told.
    pub allow_positioning: bool,
    /// Every subscriber can catch up with what it missed. Needs a history.
    pub force_recovery: bool,
    /// A subscriber that asks for it can catch up.
    pub allow_recovery: bool,
    /// How subscribers catch up.
    pub force_recovery_mode: RecoveryMode,
    /// Every subscriber gets the newest publication at once. Needs `force_recovery` and the mode `cache`.
    pub auto_cache_recover: bool,
    /// Clients with a user may subscribe.
    pub allow_subscribe_for_client: bool,
    /// Anonymous clients may do so as well.
    pub allow_subscribe_for_anonymous: bool,
    /// Clients with a user may publish.
    pub allow_publish_for_client: bool,
    /// Subscribers of the channel may publish to it.
    pub allow_publish_for_subscriber: bool,
    /// Anonymous clients may do so as well, where one of the two options before lets them.
    pub allow_publish_for_anonymous: bool,
    /// Clients with a user may see who is present.
    pub allow_presence_for_client: bool,
    /// Subscribers of the channel may see it.
    pub allow_presence_for_subscriber: bool,
    /// Anonymous clients may do so as well, where one of the two options before lets them.
    pub allow_presence_for_anonymous: bool,
    /// Clients with a user may read the history.
    pub allow_history_for_client: bool,
    /// Subscribers of the channel may read it.
    pub allow_history_for_subscriber: bool,
    /// Anonymous clients may do so as well, where one of the two options before lets them.
    pub allow_history_for_anonymous: bool,
    /// The users listed after the last `#` of a channel may subscribe, and nobody else.
    pub allow_user_limited_channels: bool,
    /// What the name after the first `:` must match, anywhere unless anchored; names may then hold
    /// more than ASCII. `None` = any ASCII name.
    pub channel_regex: Option<Pattern>,
    /// What the data of publications must be; `NotEmpty` = as `channel.publication_data_format` says.
    pub publication_data_format: DataFormat,
    /// What happens to a subscriber that does not keep up.
    pub slow_consumer: SlowConsumer,
    /// How long a user whose connection was lost stays present, so that one who comes back neither leaves nor joins;
    /// at most 1h, 0 = not at all.
    pub leave_grace: LeaveGrace,
}

impl ChannelOptions {
    /// Whether what is published is kept.
    pub fn has_history(&self) -> bool {
        self.history_size > 0 && !self.history_ttl.is_zero()
    }

    /// Whether a channel of this namespace may have the name of `channel`.
    pub fn admits(&self, channel: &Channel) -> bool {
        match &self.channel_regex {
            Some(pattern) => pattern.0.is_match(channel.after_namespace()),
            None => channel.as_str().is_ascii(),
        }
    }
}

/// How long a user whose connection was lost stays present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaveGrace(#[serde(with = "humantime_serde")] pub Duration);

impl Default for LeaveGrace {
    fn default() -> Self {
        Self(Duration::from_secs(5))
    }
}

/// How a subscriber catches up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecoveryMode {
    /// With everything that it missed; `""` or `stream`.
    #[default]
    #[serde(rename = "", alias = "stream")]
    Stream,
    /// With the newest publication alone.
    #[serde(rename = "cache")]
    Cache,
}

/// What the data of a publication must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataFormat {
    /// Anything but nothing; `""`. In a namespace: what the channel section says.
    #[default]
    #[serde(rename = "")]
    NotEmpty,
    /// One JSON value (RFC 8259).
    #[serde(rename = "json")]
    Json,
    /// One JSON object.
    #[serde(rename = "json_object")]
    JsonObject,
    /// Any bytes, also none.
    #[serde(rename = "binary")]
    Binary,
}

impl DataFormat {
    /// Whether `data` may be published.
    pub fn admits(self, data: &Payload) -> bool {
        match self {
            Self::NotEmpty => !data.is_empty(),
            Self::Json => data.json_line().is_some(),
            Self::JsonObject => {
                data.json_line().is_some_and(|text| text.trim_ascii_start().starts_with(b"{"))
            }
            Self::Binary => true,
        }
    }
}

/// What becomes of a subscriber that does not take publications as fast as they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlowConsumer {
    /// Its connection is closed.
    #[default]
    Disconnect,
    /// The oldest publications that wait for it make room for the newest.
    DropOldest,
    /// Of what waits for it the newest publication of each `key` tag is kept; those without one share a place.
    Latest,
}

/// A regular expression; equal to another of the same text.
#[derive(Clone)]
pub struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0.as_str(), formatter)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Regex::new(&text).map(Self).map_err(|error| {
            // The library draws the expression over several lines; the last one says what is wrong.
            let message = error.to_string();
            let reason = message.lines().last().unwrap_or_default().trim_start_matches("error: ");
            de::Error::custom(format_args!("is not a regular expression: {reason}"))
        })
    }
}

/// Finds the options of a channel: one hash lookup.
#[derive(Clone, Debug)]
pub struct Channels {
    history_meta_ttl: Duration,
    idempotency_ttl: Duration,
    publication_data_format: DataFormat,
    without_namespace: ChannelOptions,
    namespaces: HashMap<String, ChannelOptions>,
    /// Of namespaces that are not configured; `None` if there may be none.
    unknown: Option<ChannelOptions>,
}

/// The channel names a namespace that is not configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown namespace")]
pub struct UnknownNamespace;

impl Channels {
    /// Indexes a section that has been validated; of two namespaces with one name the last would win.
    pub fn new(section: &ChannelSection) -> Self {
        let by_name = |(index, options): (usize, &ChannelOptions)| {
            let id = NamespaceId::of_configured(index);
            (options.name.clone(), ChannelOptions { id, ..options.clone() })
        };
        Self {
            history_meta_ttl: section.history_meta_ttl,
            idempotency_ttl: section.idempotency_ttl,
            publication_data_format: section.publication_data_format,
            without_namespace: section.without_namespace.clone(),
            namespaces: section.namespaces.iter().enumerate().map(by_name).collect(),
            unknown: None,
        }
    }

    /// Treats a namespace that is not configured like none, as development wants it.
    #[must_use]
    pub fn with_unknown_namespaces_allowed(self) -> Self {
        let unknown = ChannelOptions { id: NamespaceId::UNKNOWN, ..self.without_namespace.clone() };
        Self { unknown: Some(unknown), ..self }
    }

    /// How long an idempotency key is remembered.
    pub fn idempotency_ttl(&self) -> Duration {
        self.idempotency_ttl
    }

    /// How long the epoch and top offset of a channel with `options` are kept after the last publication.
    pub fn history_meta_ttl(&self, options: &ChannelOptions) -> Duration {
        if options.history_meta_ttl.is_zero() { self.history_meta_ttl } else { options.history_meta_ttl }
    }

    /// What the data of publications to a channel with `options` must be.
    pub fn data_format(&self, options: &ChannelOptions) -> DataFormat {
        match options.publication_data_format {
            DataFormat::NotEmpty => self.publication_data_format,
            format => format,
        }
    }

    /// The options that apply to `channel`.
    ///
    /// # Errors
    /// [`UnknownNamespace`] if its namespace is not configured.
    pub fn resolve(&self, channel: &Channel) -> Result<&ChannelOptions, UnknownNamespace> {
        let Some(name) = channel.namespace() else { return Ok(&self.without_namespace) };
        self.namespaces.get(name).or(self.unknown.as_ref()).ok_or(UnknownNamespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::parse(name, 255).unwrap()
    }

    fn channels() -> Channels {
        let section = serde_json::json!({
            "without_namespace": {"allow_publish_for_client": true},
            "namespaces": [
                {"name": "chat", "allow_subscribe_for_client": true},
                {"name": "room", "channel_regex": "^[a-zé]+$"},
            ],
        });
        Channels::new(&serde_json::from_value(section).unwrap())
    }

    #[test]
    fn a_channel_gets_the_options_of_its_namespace() {
        let channels = channels();
        assert!(channels.resolve(&channel("chat:a:b")).unwrap().allow_subscribe_for_client);
        assert!(channels.resolve(&channel("$chat:a")).unwrap().allow_subscribe_for_client);
        assert!(channels.resolve(&channel("chat")).unwrap().allow_publish_for_client);
        assert!(channels.resolve(&channel(":chat")).unwrap().allow_publish_for_client);
        assert_eq!(channels.resolve(&channel("other:a")), Err(UnknownNamespace));
        assert_eq!(channels.resolve(&channel("Chat:a")), Err(UnknownNamespace));
        let lenient = channels.with_unknown_namespaces_allowed();
        assert!(lenient.resolve(&channel("other:a")).unwrap().allow_publish_for_client);
    }

    #[test]
    fn metrics_have_a_name_for_each_namespace() {
        let section: ChannelSection =
            serde_json::from_value(serde_json::json!({"namespaces": [{"name": "chat"}, {"name": "room"}]}))
                .unwrap();
        let labels: Vec<_> = section.labels().collect();
        let channels = Channels::new(&section).with_unknown_namespaces_allowed();
        for (name, label) in
            [("a", "without_namespace"), ("no:a", "other"), ("$chat:a", "chat"), ("room:a", "room")]
        {
            assert_eq!(labels[channels.resolve(&channel(name)).unwrap().id.index()], label);
        }
        assert_eq!(NamespaceId::of_configured(usize::from(u16::MAX)), NamespaceId::UNKNOWN);
    }

    #[test]
    fn a_history_needs_a_size_and_a_lifetime() {
        let section = serde_json::json!({
            "history_meta_ttl": "1h",
            "namespaces": [
                {"name": "on", "history_size": 10, "history_ttl": "5m"},
                {"name": "long", "history_size": 10, "history_ttl": "5m", "history_meta_ttl": "2h"},
            ],
        });
        let channels = Channels::new(&serde_json::from_value(section).unwrap());
        let resolve = |name| channels.resolve(&channel(name)).unwrap();
        assert!(resolve("on:a").has_history());
        assert!(!resolve("a").has_history());
        assert_eq!(channels.history_meta_ttl(resolve("on:a")), Duration::from_secs(3600));
        assert_eq!(channels.history_meta_ttl(resolve("long:a")), Duration::from_secs(7200));
        assert_eq!(channels.idempotency_ttl(), Duration::from_secs(300));
    }

    #[test]
    fn a_namespace_without_a_data_format_has_that_of_the_section() {
        let section = serde_json::json!({
            "publication_data_format": "json",
            "without_namespace": {"publication_data_format": ""},
            "namespaces": [{"name": "chat", "publication_data_format": "json_object"}],
        });
        let channels = Channels::new(&serde_json::from_value(section).unwrap());
        let format = |name| channels.data_format(channels.resolve(&channel(name)).unwrap());
        assert_eq!(format("news"), DataFormat::Json);
        assert_eq!(format("chat:news"), DataFormat::JsonObject);
    }

    #[test]
    fn data_must_be_what_the_namespace_says() {
        let row = |format: DataFormat| {
            let samples = ["", "{", " {\"a\":1}", "[1]", "\u{0}"];
            let admits = |text: &&str| format.admits(&Payload::of_bytes(text.as_bytes().to_vec().into()));
            samples.iter().map(|text| if admits(text) { '1' } else { '0' }).collect::<String>()
        };
        assert_eq!(row(DataFormat::NotEmpty), "01111");
        assert_eq!(row(DataFormat::Json), "00110");
        assert_eq!(row(DataFormat::JsonObject), "00100");
        assert_eq!(row(DataFormat::Binary), "11111");
    }

    #[test]
    fn a_name_beyond_ascii_needs_a_pattern() {
        let channels = channels();
        let admits = |name| channels.resolve(&channel(name)).unwrap().admits(&channel(name));
        assert!(admits("chat:abc"));
        assert!(!admits("chat:é"));
        assert!(admits("room:é"));
        assert!(!admits("room:B"));
        assert!(!admits("room:a:b"));
    }
}
