//! Whether those who are present are those who are connected.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::facts::PresenceCheck;

/// How long a node may take to say who is present.
const ANSWER: Duration = Duration::from_secs(5);

/// Asks the node at `internal` who is present in each channel, and compares it with `connected`: ids by channel.
///
/// # Errors
/// It does not say.
pub(super) async fn check(
    internal: SocketAddr,
    api_key: &str,
    connected: &HashMap<String, Vec<String>>,
) -> Result<PresenceCheck> {
    let http = reqwest::Client::builder().timeout(ANSWER).no_proxy().build()?;
    let mut sum = PresenceCheck::default();
    for (channel, connected) in connected {
        let request = http
            .post(format!("http://{internal}/api/presence"))
            .header("X-API-Key", api_key)
            .json(&json!({ "channel": channel }));
        let answer: Value = request.send().await?.error_for_status()?.json().await?;
        let found = compare(&answer, connected).with_context(|| format!("asking who is in {channel}"))?;
        sum.ghosts += found.ghosts;
        sum.missing += found.missing;
    }
    Ok(sum)
}

fn compare(answer: &Value, connected: &[String]) -> Result<PresenceCheck> {
    let present = answer["result"]["presence"].as_object();
    let present: HashSet<&String> = present.with_context(|| format!("it says {answer}"))?.keys().collect();
    let connected: HashSet<&String> = connected.iter().collect();
    Ok(PresenceCheck {
        ghosts: present.difference(&connected).count() as u64,
        missing: connected.difference(&present).count() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_present_and_not_connected_is_a_ghost_and_the_other_way_round_is_missing() {
        let answer = json!({"result": {"presence": {"a": {}, "b": {}, "c": {}}}});
        let found = compare(&answer, &["b".into(), "d".into()]).unwrap();
        assert_eq!(found, PresenceCheck { ghosts: 2, missing: 1 });
        assert!(compare(&json!({"error": {"code": 108}}), &[]).is_err());
    }
}
