//! Several commands in one request, carried out in their order.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Api;
use super::call::{Call, Malformed, Method, Publish, object};
use super::reply::{Answer, Failure, Reply};
use crate::server::access::Caller;

/// A command, or why it is not carried out.
pub(super) type Command<'a> = Result<Call<'a>, Failure>;

/// `parallel` is among the fields that are ignored: commands in their order are what it allows too.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Request<'a> {
    #[serde(borrow)]
    commands: Option<Vec<&'a RawValue>>,
}

/// Reads a batch of at most `count_max` commands, with the rights of `caller`.
///
/// # Errors
/// [`Malformed`] if the batch as a whole or the request of a known method in it cannot be read. Then nothing
/// of it is carried out.
pub(super) fn decode<'a>(
    caller: &Caller<'_>,
    text: &'a str,
    count_max: usize,
) -> Result<Vec<Command<'a>>, Malformed> {
    let commands = object::<Request<'_>>(text)?.commands.unwrap_or_default();
    if commands.len() > count_max {
        return Err(Malformed);
    }
    let commands = commands.into_iter().map(|command| {
        let call = command_of(command.get())?;
        Ok(call.and_then(|call| match caller.may(call.method().scope()) {
            true => Ok(call),
            false => Err(Failure::PermissionDenied),
        }))
    });
    commands.collect()
}

fn command_of(text: &str) -> Result<Command<'_>, Malformed> {
    if text == "null" {
        return Ok(Err(Failure::BadRequest));
    }
    match object::<Methods<'_>>(text)?.0.as_slice() {
        [] => Ok(Err(Failure::NotFound)),
        [(method, request)] => Call::decode(*method, request.get()).map(Ok),
        _ => Ok(Err(Failure::BadRequest)),
    }
}

/// The methods that an element names, with their requests. `null` is absent; other members are ignored.
struct Methods<'a>(Vec<(Method, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Methods<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MethodsVisitor)
    }
}

struct MethodsVisitor;

impl<'de> Visitor<'de> for MethodsVisitor {
    type Value = Methods<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut methods = Vec::with_capacity(1);
        while let Some(name) = map.next_key::<String>()? {
            let Ok(method) = name.parse() else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let request: &RawValue = map.next_value()?;
            if request.get() != "null" {
                methods.push((method, request));
            }
        }
        Ok(Methods(methods))
    }
}

impl Api {
    /// Carries out `commands`; an error stops none of those that follow.
    ///
    /// Publications that follow one another go to the node together.
    pub(super) async fn run_batch(&self, commands: &[Command<'_>]) -> Vec<Reply> {
        let mut replies = Vec::with_capacity(commands.len());
        for run in commands.chunk_by(|left, right| as_publish(left).is_some() && as_publish(right).is_some())
        {
            let publishes: Vec<_> = run.iter().filter_map(as_publish).collect();
            if publishes.is_empty() {
                for command in run {
                    replies.push(self.reply(command).await);
                }
                continue;
            }
            let results = self.publish_all(&publishes).await.into_iter();
            replies.extend(results.map(|result| reply(Method::Publish, result)));
        }
        replies
    }

    async fn reply(&self, command: &Command<'_>) -> Reply {
        match command {
            Ok(call) => reply(call.method(), self.execute(call).await),
            Err(failure) => Reply::Failed(*failure),
        }
    }
}

fn reply(method: Method, result: Result<Answer, Failure>) -> Reply {
    result.map_or_else(Reply::Failed, |answer| Reply::Done(method, answer))
}

fn as_publish<'a, 'b>(command: &'b Command<'a>) -> Option<&'b Publish<'a>> {
    match command {
        Ok(Call::Publish(request)) => Some(request),
        _ => None,
    }
}
