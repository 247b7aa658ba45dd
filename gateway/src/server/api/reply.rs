//! What the API answers: results, error codes, and the HTTP around them.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};

use super::call::Method;
use super::diagnosis::{NodeInfo, Subscribers, Unanswered};
use super::history::{Kept, Member};
use crate::broker::{self, BrokerError};
use crate::cluster::Unheard;
use crate::model::Position;
use crate::node::PublishError;
use crate::presence::PresenceError;

/// Why an operation failed; the code and message are the API's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// The broker or the presence did not do it, or did not say that it did: try again, with the same idempotency
    /// key.
    #[error("broker unavailable")]
    Unavailable,
    /// The broker has no room to keep it; nothing was done.
    #[error("broker storage is full")]
    Full,
    /// The node has more to do than it should: try again later.
    #[error("internal server error")]
    Busy,
    /// The namespace is not configured.
    #[error("unknown channel")]
    UnknownChannel,
    /// The key is not good for this command of a batch.
    #[error("permission denied")]
    PermissionDenied,
    /// There is no such method.
    #[error("not found")]
    NotFound,
    /// A field is missing or has a value that it may not have.
    #[error("bad request")]
    BadRequest,
    /// The history that the caller knows is not the one there is.
    #[error("unrecoverable position")]
    UnrecoverablePosition,
    /// The feature is off.
    #[error("not available")]
    NotAvailable,
}

impl Failure {
    fn code(self) -> u16 {
        match self {
            Self::Busy | Self::Unavailable | Self::Full => 100,
            Self::UnknownChannel => 102,
            Self::PermissionDenied => 103,
            Self::NotFound => 104,
            Self::BadRequest => 107,
            Self::NotAvailable => 108,
            Self::UnrecoverablePosition => 112,
        }
    }

    /// The status in transport mode.
    fn status(self) -> StatusCode {
        match self {
            Self::Busy | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Full => StatusCode::INSUFFICIENT_STORAGE,
            Self::UnknownChannel | Self::NotFound => StatusCode::NOT_FOUND,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::BadRequest | Self::NotAvailable => StatusCode::BAD_REQUEST,
            Self::UnrecoverablePosition => StatusCode::RANGE_NOT_SATISFIABLE,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Full => "full",
            Self::UnknownChannel => "102",
            Self::PermissionDenied => "103",
            Self::NotFound => "104",
            Self::BadRequest => "107",
            Self::NotAvailable => "108",
            Self::UnrecoverablePosition => "112",
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Overloaded => Self::Busy,
            PublishError::Broker(error) => error.into(),
        }
    }
}

impl From<Unheard> for Failure {
    fn from(Unheard(error): Unheard) -> Self {
        error.into()
    }
}

impl From<PresenceError> for Failure {
    fn from(error: PresenceError) -> Self {
        // Whoever lost the broker logs it, once.
        match error {
            PresenceError::Unavailable | PresenceError::Refused => Self::Unavailable,
        }
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Unavailable | BrokerError::Refused => Self::Unavailable,
            BrokerError::Full => Self::Full,
        }
    }
}

impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut error = serializer.serialize_struct("Error", 2)?;
        error.serialize_field("code", &self.code())?;
        error.serialize_field("message", &self.to_string())?;
        error.end()
    }
}

/// What a method found or did.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Answer {
    /// It did it.
    Done {},
    /// It was published, and has this place in the history.
    Published { offset: u64, epoch: String },
    /// A part of a history, with its top.
    History { publications: Vec<Kept>, epoch: String, offset: u64 },
    /// Who is in a channel, by client.
    Presence { presence: BTreeMap<String, Member> },
    /// How many are in a channel.
    PresenceStats { num_clients: usize, num_users: usize },
    /// What became of each channel of a broadcast, in their order.
    Broadcast { responses: Vec<Wrapped> },
    /// Channels with subscribers.
    Channels {
        channels: BTreeMap<String, Subscribers>,
        /// Nodes whose subscribers are missing in the sums; ours.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        unanswered: Vec<Unanswered>,
    },
    /// The nodes.
    Info { nodes: Vec<NodeInfo> },
}

impl From<broker::Published> for Answer {
    fn from(published: broker::Published) -> Self {
        match published.position {
            Some(Position { epoch, offset }) => Self::Published { offset, epoch: epoch.as_str().to_owned() },
            None => Self::Done {},
        }
    }
}

impl From<broker::History> for Answer {
    fn from(history: broker::History) -> Self {
        let Position { epoch, offset } = history.top;
        let publications = history.publications.into_iter().map(Kept).collect();
        Self::History { publications, epoch: epoch.as_str().to_owned(), offset }
    }
}

/// `{"result":{…}}` or `{"error":{…}}`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Wrapped {
    Result(Answer),
    Error(Failure),
}

impl From<Result<Answer, Failure>> for Wrapped {
    fn from(result: Result<Answer, Failure>) -> Self {
        result.map_or_else(Self::Error, Self::Result)
    }
}

/// One reply of a batch: `{"<method>":{…}}` or `{"error":{…}}`, without a `result` around it.
#[derive(Debug)]
pub(super) enum Reply {
    Done(Method, Answer),
    Failed(Failure),
}

impl Serialize for Reply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut reply = serializer.serialize_map(Some(1))?;
        match self {
            Self::Done(method, answer) => reply.serialize_entry(method.name(), answer)?,
            Self::Failed(failure) => reply.serialize_entry("error", failure)?,
        }
        reply.end()
    }
}

/// How failures are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorMode {
    /// Status 200 with `{"error":{…}}`.
    Default,
    /// A status for each code, with the bare error.
    Transport,
}

impl ErrorMode {
    /// What the caller asks for in `X-Centrifugo-Error-Mode`.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match headers.get("x-centrifugo-error-mode") {
            Some(mode) if mode == "transport" => Self::Transport,
            _ => Self::Default,
        }
    }
}

/// How requests end when all is well, and when what is behind this node is not.
pub(super) const LABELS_TO_WATCH: [&str; 4] = ["ok", "busy", "unavailable", "full"];

/// How a request ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Turned away at the door.
    Refused(StatusCode),
    /// The body is not the request of the method.
    BadRequest,
    /// One method succeeded.
    Done(Answer),
    /// One method, or a batch as a whole, failed.
    Failed(Failure, ErrorMode),
    /// The replies of a batch, in the order of its commands.
    Batch(Vec<Reply>),
}

impl Outcome {
    /// For metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Refused(StatusCode::UNAUTHORIZED) => "unauthorized",
            Self::Refused(StatusCode::FORBIDDEN) => "forbidden",
            Self::Refused(StatusCode::PAYLOAD_TOO_LARGE) => "too_large",
            Self::Refused(StatusCode::REQUEST_TIMEOUT) => "timeout",
            Self::Refused(_) | Self::BadRequest => "malformed",
            Self::Done(_) | Self::Batch(_) => "ok",
            Self::Failed(failure, _) => failure.label(),
        }
    }
}

impl IntoResponse for Outcome {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(status) => refusal(status),
            Self::BadRequest => (StatusCode::BAD_REQUEST, "Bad Request").into_response(),
            Self::Done(answer) => json(StatusCode::OK, &Wrapped::Result(answer)),
            Self::Failed(failure, mode) => failed(failure, mode),
            Self::Batch(replies) => json(StatusCode::OK, &BTreeMap::from([("replies", replies)])),
        }
    }
}

fn refusal(status: StatusCode) -> Response {
    let mut response = status.into_response();
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110 §11.6.1 asks for it.
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("apikey"));
    }
    response
}

fn failed(failure: Failure, mode: ErrorMode) -> Response {
    let mut response = match mode {
        ErrorMode::Default => json(StatusCode::OK, &Wrapped::Error(failure)),
        ErrorMode::Transport => json(failure.status(), &failure),
    };
    if matches!(failure, Failure::Busy | Failure::Unavailable | Failure::Full) {
        // In both modes: what a proxy or a client does by itself depends on the status.
        *response.status_mut() = failure.status();
    }
    if matches!(failure, Failure::Busy | Failure::Unavailable) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let text = serde_json::to_vec(value).expect("answers have string keys only");
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
