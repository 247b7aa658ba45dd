//! `clarion test`: one publication, the whole way.
//!
//! A client connects and subscribes, the server API publishes, and the client hears it. Each step is told with how long it
//! took, and of the first that fails what was heard instead, and what to look at.

mod advice;
mod heard;
mod socket;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::{Value, json};
use uuid::Uuid;

use self::heard::{Heard, Step};
use self::socket::Socket;
use super::call::Listener;
use super::output::Output;
use super::protected::{self, Trusted};
use super::target::{self, Target};
use super::{ConfigFile, Failure};
use crate::auth;
use crate::config::{Algorithm, Config, Scope, Token};
use crate::model::Secret;
use crate::tls::client::Connector;

/// Where a node has its native protocol.
const PATH: &str = "/connection/websocket";
/// How long the token of a test is good.
const TOKEN_LIFETIME: Duration = Duration::from_secs(300);
/// Width of the column of steps.
const STEP_WIDTH: usize = 10;

/// Send a publication the whole way: connect, subscribe, publish by the server API, receive
#[derive(Args)]
#[command(after_help = "Example:\n  clarion test --url ws://127.0.0.1:8000 --publish http://127.0.0.1:9000 \
    --config clarion.yaml\n  \
    clarion test --url ws://clarion:8000 --publish http://clarion-internal:9000 \\\n    \
    --token-secret-file /run/secrets/token --api-key-file /run/secrets/api-key\n  \
    clarion test --url wss://ws.example.com --publish https://10.0.0.7:9000 --ca-file ca.pem --config clarion.yaml\n\n\
    With several nodes behind both addresses the publication may go from one to another: that is the point.\n\
    Exit code 0: it came back. 1: a step failed. 2: used wrongly, or bad configuration.")]
pub(super) struct RoundTrip {
    /// The public listener of a node, or what is before it; by default where the configuration says.
    #[arg(long, value_name = "WS_URL")]
    url: Option<String>,
    /// The internal listener of a node; by default where the configuration says.
    #[arg(long, value_name = "HTTP_URL")]
    publish: Option<String>,
    #[command(flatten)]
    trusted: Trusted,
    /// A file with the API key; by default CLARION_API_KEY, or the first of the configuration that may publish.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// The API key itself, which the list of processes then shows.
    #[arg(long, value_name = "KEY", env = "CLARION_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// A file with the HMAC secret that signs a token for this test; by default that of the configuration.
    #[arg(long, value_name = "FILE")]
    token_secret_file: Option<PathBuf>,
    /// A connection token, instead of one that is signed for this test.
    #[arg(long, value_name = "JWT", env = "CLARION_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The channel to send it through.
    #[arg(long, default_value = "clarion-test")]
    channel: String,
    /// How long each step may take.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// How many publications to send, one after another.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: Output,
}

/// Where to go and what to show there.
struct Plan {
    target: Target,
    /// The method of the API, and who shakes hands with it.
    api: String,
    api_tls: Option<Connector>,
    api_key: Option<Secret>,
    token: Secret,
}

/// A step that was taken, and how long it took.
type Taken = (Step, Duration);

/// A step that was not.
#[derive(Debug)]
struct Failed(Step, Heard);

impl RoundTrip {
    pub(super) fn run(self) -> Result<(), Failure> {
        let plan = self.plan()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(anyhow::Error::from)?;
        let mut taken = Vec::new();
        let outcome = runtime.block_on(self.walk(&plan, &mut taken));
        // A request that hangs is not waited for.
        runtime.shutdown_background();
        self.report(&taken, outcome.err().as_ref())
    }

    fn plan(&self) -> Result<Plan, Failure> {
        let config = self.file.load_or_default()?;
        let public = Listener::public(self.url.as_deref(), &config);
        let internal = Listener::internal(self.publish.as_deref(), &config);
        let target = Target::new(&public, &self.trusted).context("--url").map_err(Failure::Usage)?;
        target::address(&internal.base, "http").context("--publish").map_err(Failure::Usage)?;
        let api_tls = internal.connector(&self.trusted).context("--publish").map_err(Failure::Usage)?;
        Ok(Plan {
            target,
            api: format!("{}/api/publish", internal.base),
            api_tls,
            api_key: self.api_key(&config).map_err(Failure::Usage)?,
            token: self.signed(&config).map_err(Failure::Usage)?,
        })
    }

    fn api_key(&self, config: &Config) -> anyhow::Result<Option<Secret>> {
        if let Some(file) = &self.api_key_file {
            return read_secret(file).context("--api-key-file").map(Some);
        }
        let given = self.api_key.as_deref().map(Secret::new);
        let of_config =
            || config.api.keys.iter().find(|key| key.allows(Scope::Publish)).map(|key| key.key.clone());
        Ok(given.or_else(of_config))
    }

    fn signed(&self, config: &Config) -> anyhow::Result<Secret> {
        if let Some(token) = self.token.as_ref().filter(|_| self.token_secret_file.is_none()) {
            return Ok(Secret::new(token.as_str()));
        }
        let mut rules = config.client.token.clone();
        if let Some(file) = &self.token_secret_file {
            rules.hmac_secret_key = read_secret(file).context("--token-secret-file")?;
        }
        if !rules.algorithms.iter().any(|algorithm| algorithm.is_hmac()) {
            rules.algorithms.push(Algorithm::Hs256);
        }
        let claims = self.claims(&rules)?;
        auth::sign(&rules, &claims).context(
            "no token: give --token-secret-file, CLARION_TOKEN or a --config with client.token.hmac_secret_key",
        )
    }

    /// Of a token that lets its user subscribe to the channel, whatever the namespace says, and do nothing else.
    fn claims(&self, rules: &Token) -> anyhow::Result<Value> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let limit = rules.lifetime_max;
        let lifetime = if limit.is_zero() { TOKEN_LIFETIME } else { TOKEN_LIFETIME.min(limit) };
        let mut claims = json!({
            "sub": "clarion-test",
            "exp": now + lifetime.as_secs(),
            "caps": [{"channels": [self.channel], "allow": ["sub"]}],
        });
        for (name, value) in [("aud", &rules.audience), ("iss", &rules.issuer)] {
            if let Some(value) = value {
                claims[name] = value.as_str().into();
            }
        }
        Ok(claims)
    }

    async fn walk(&self, plan: &Plan, taken: &mut Vec<Taken>) -> Result<(), Failed> {
        let reaching = async { Ok(plan.target.reach().await?) };
        let stream = self.take(Step::Reach, reaching, taken).await?;
        let protecting = async { Ok(plan.target.protect(stream).await?) };
        let stream = match plan.target.is_protected() {
            true => self.take(Step::Protect, protecting, taken).await?,
            false => protecting.await.map_err(|heard| Failed(Step::Protect, heard))?,
        };
        let url = plan.target.url(PATH);
        let mut socket = self.take(Step::Upgrade, Socket::upgrade(stream, &url), taken).await?;
        let connect = json!({"connect": {"token": plan.token.expose(), "name": "clarion-test"}});
        self.take(Step::Connect, socket.call(connect), taken).await?;
        let subscribe = json!({"subscribe": {"channel": self.channel}});
        self.take(Step::Subscribe, socket.call(subscribe), taken).await?;
        let nonce = Uuid::new_v4().to_string();
        for number in 1..=self.count {
            let data = json!({"test": nonce, "number": number});
            // Both at once: it may be here before the answer is.
            let mut received = Vec::new();
            let receiving = self.take(Step::Receive, socket.publication(&self.channel, &data), &mut received);
            let publishing = self.take(Step::Publish, self.publish(plan, &data), taken);
            let (published, heard) = first_failure(publishing, receiving).await;
            published?;
            heard?;
            taken.append(&mut received);
        }
        Ok(())
    }

    /// Takes a step in time, and tells how long it took.
    async fn take<T>(
        &self,
        step: Step,
        doing: impl Future<Output = Result<T, Heard>>,
        taken: &mut Vec<Taken>,
    ) -> Result<T, Failed> {
        let began = Instant::now();
        let done = tokio::time::timeout(self.timeout, doing).await.unwrap_or(Err(Heard::Nothing));
        let done = done.map_err(|heard| Failed(step, heard))?;
        taken.push((step, began.elapsed()));
        Ok(done)
    }

    async fn publish(&self, plan: &Plan, data: &Value) -> Result<(), Heard> {
        let request = json!({"channel": self.channel, "data": data}).to_string();
        let (url, key, timeout) = (plan.api.clone(), plan.api_key.clone(), self.timeout);
        let tls = plan.api_tls.clone();
        let posting = tokio::task::spawn_blocking(move || post(&url, tls, key.as_ref(), request, timeout));
        posting.await.unwrap_or(Err(Heard::Nonsense))
    }

    fn report(&self, taken: &[Taken], failed: Option<&Failed>) -> Result<(), Failure> {
        self.output.report(&text(taken, failed), &as_json(taken, failed))?;
        if failed.is_none() { Ok(()) } else { Err(Failure::Reported(1)) }
    }
}

/// Waits for both; but once the first failed, the second is not waited for.
async fn first_failure(
    publishing: impl Future<Output = Result<(), Failed>>,
    receiving: impl Future<Output = Result<(), Failed>>,
) -> (Result<(), Failed>, Result<(), Failed>) {
    let (mut publishing, mut receiving) = (std::pin::pin!(publishing), std::pin::pin!(receiving));
    tokio::select! {
        published = &mut publishing => match published {
            Ok(()) => (Ok(()), receiving.await),
            Err(failed) => (Err(failed), Ok(())),
        },
        received = &mut receiving => (publishing.await, received),
    }
}

fn read_secret(file: &Path) -> anyhow::Result<Secret> {
    let text = fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let text = text.trim_end();
    if text.is_empty() { Err(anyhow!("{} is empty", file.display())) } else { Ok(Secret::new(text)) }
}

/// Publishes; blocks the thread.
fn post(
    url: &str,
    tls: Option<Connector>,
    key: Option<&Secret>,
    request: String,
    timeout: Duration,
) -> Result<(), Heard> {
    let config = ureq::Agent::config_builder().timeout_global(Some(timeout)).http_status_as_error(false);
    let agent = protected::agent(config.build(), tls);
    let mut posting = agent.post(url);
    if let Some(key) = key {
        posting = posting.header("X-API-Key", key.expose());
    }
    let mut response = posting.send(request)?;
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_vec()?;
    if status != 200 {
        return Err(Heard::Status(status, heard::reason_in(&body)));
    }
    let reply: Value = serde_json::from_slice(&body).map_err(|_| Heard::Nonsense)?;
    let error = &reply["error"];
    match error["code"].as_u64() {
        Some(code) => Err(Heard::Error(code, error["message"].as_str().unwrap_or_default().to_owned())),
        None if reply["result"].is_object() => Ok(()),
        None => Err(Heard::Nonsense),
    }
}

fn text(taken: &[Taken], failed: Option<&Failed>) -> String {
    let took =
        |(step, took): &Taken| format!("{:<STEP_WIDTH$} {:>9.3} ms", step.name(), took.as_secs_f64() * 1e3);
    let mut lines: Vec<_> = taken.iter().map(took).collect();
    match failed {
        None => lines.push("ok".into()),
        Some(Failed(step, heard)) => {
            lines.push(format!("{:<STEP_WIDTH$} failed: {heard}", step.name()));
            let advice = advice::advice(*step, heard);
            lines.extend(advice.into_iter().map(|advice| format!("{:<STEP_WIDTH$} look at: {advice}", "")));
        }
    }
    lines.join("\n")
}

fn as_json(taken: &[Taken], failed: Option<&Failed>) -> Value {
    let step = |(step, took): &Taken| json!({"step": step.name(), "seconds": took.as_secs_f64()});
    let failed = failed.map(|Failed(step, heard)| {
        json!({"step": step.name(), "heard": heard.to_string(), "look_at": advice::advice(*step, heard)})
    });
    json!({"ok": failed.is_none(), "steps": taken.iter().map(step).collect::<Vec<_>>(), "failed": failed})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_told_and_what_to_look_at() {
        let taken = [(Step::Reach, Duration::from_micros(1_500))];
        assert_eq!(text(&taken, None), "reach          1.500 ms\nok");
        let failed = Failed(Step::Upgrade, Heard::Status(403, "bad origin".into()));
        let text = text(&taken, Some(&failed));
        assert!(text.contains("\nupgrade    failed: HTTP status 403: bad origin\n"), "{text}");
        assert!(text.contains("look at: client.allow_no_origin"), "{text}");
        let json = as_json(&taken, Some(&failed));
        assert_eq!((&json["ok"], &json["failed"]["step"]), (&json!(false), &json!("upgrade")));
        assert_eq!(json["steps"][0]["step"], "reach");
    }
}
