//! Times that must fit together: pings and the patience of a proxy, the drain and the patience of the platform.

use std::time::Duration;

use super::finding::Finding;
use crate::config::{BrokerType, Config};

/// What a node needs after its window: requests of the API end, and the others are told.
const DRAIN_SLACK: Duration = Duration::from_secs(10);

/// What to say of `config` behind a proxy that closes what is idle for `idle_timeout`, on a platform that kills after
/// `grace`, if that is known.
pub(super) fn findings(config: &Config, idle_timeout: Duration, grace: Option<Duration>) -> Vec<Finding> {
    vec![ping(config, idle_timeout), drain(config, grace), drain_delay(config)]
}

fn ping(config: &Config, idle_timeout: Duration) -> Finding {
    let (interval, patience) = (config.client.ping_interval, config.client.pong_timeout);
    let found = format!(
        "every {interval:?}, before a proxy that closes what is idle for {idle_timeout:?} \
         (--proxy-idle-timeout; AWS ALB and nginx: 60s, HAProxy: its `timeout tunnel`)"
    );
    let finding = Finding::ok("ping", found);
    let finding = if interval >= idle_timeout {
        finding.fails("the proxy closes every quiet connection before its first ping")
    } else if interval + patience > idle_timeout {
        finding.warns("a pong that is a little late is too late for the proxy")
    } else {
        return finding;
    };
    let seconds = (idle_timeout.as_secs() / 2).max(1);
    let pong = if patience.as_secs() < seconds {
        String::new()
    } else {
        " # and a client.pong_timeout below it".into()
    };
    finding
        .remedy(format!("client.ping_interval: {seconds}s{pong}"))
        .remedy("nginx: proxy_read_timeout 3600s; proxy_send_timeout 3600s;")
        .remedy("HAProxy: timeout tunnel 1h")
        .remedy("AWS ALB: idle_timeout.timeout_seconds=3600")
}

fn drain(config: &Config, grace: Option<Duration>) -> Finding {
    let (delay, window) = (config.drain.delay, config.drain.window);
    let needed = delay + window + DRAIN_SLACK;
    let sum = format!("drain.delay {delay:?} + drain.window {window:?} + {DRAIN_SLACK:?} = {needed:?}");
    let Some(grace) = grace else {
        let found = format!("{sum}; how long the platform waits is not known: give --grace");
        return Finding::unknown("drain", found);
    };
    let finding = Finding::ok("drain", format!("{sum}, and the platform waits {grace:?}"));
    if grace >= needed {
        return finding;
    }
    let seconds = needed.as_secs() + u64::from(needed.subsec_nanos() > 0);
    let finding = finding
        .fails("the node would be killed before every client was told to go elsewhere")
        .remedy(format!("pod: terminationGracePeriodSeconds: {seconds}"))
        .remedy(format!("systemd: TimeoutStopSec={seconds}"));
    match grace.checked_sub(delay + DRAIN_SLACK) {
        Some(window) if !window.is_zero() => finding.remedy(format!("drain.window: {}s", window.as_secs())),
        _ => finding,
    }
}

fn drain_delay(config: &Config) -> Finding {
    let (delay, heartbeat) = (config.drain.delay, config.cluster.heartbeat_interval);
    let found = format!("drain.delay {delay:?}, cluster.heartbeat_interval {heartbeat:?}");
    let finding = Finding::ok("drain_delay", found);
    if config.broker.kind != BrokerType::Redis || delay >= heartbeat {
        return finding;
    }
    finding
        .warns("nodes that are stopped together do not know it of one another before they begin to close")
        .remedy(format!("drain.delay: {}s", heartbeat.as_secs() + u64::from(heartbeat.subsec_nanos() > 0)))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level::{Ok, Problem, Unknown, Warning};
    use super::super::finding::is;
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn pings_come_before_a_proxy_loses_patience() {
        let config = Config::default();
        is(&ping(&config, seconds(60)), Ok, &["every 25s", "ALB"]);
        is(&ping(&config, seconds(33)), Ok, &[]);
        is(&ping(&config, seconds(32)), Warning, &["client.ping_interval: 16s\n", "timeout tunnel"]);
        is(&ping(&config, seconds(25)), Problem, &["before its first ping", "proxy_read_timeout"]);
        is(&ping(&config, seconds(10)), Problem, &["ping_interval: 5s # and a client.pong_timeout below it"]);
    }

    #[test]
    fn a_drain_fits_into_the_grace_of_the_platform() {
        let mut config = Config::default();
        is(&drain(&config, Some(seconds(35))), Ok, &["5s + drain.window 20s + 10s = 35s"]);
        is(&drain(&config, None), Unknown, &["= 35s", "--grace"]);
        let words = ["killed", "terminationGracePeriodSeconds: 35", "TimeoutStopSec=35", "drain.window: 15s"];
        is(&drain(&config, Some(seconds(30))), Problem, &words);
        config.drain.window = Duration::from_millis(20_500);
        is(&drain(&config, Some(seconds(15))), Problem, &["terminationGracePeriodSeconds: 36"]);
        assert!(!drain(&config, Some(seconds(15))).text(false).contains("drain.window: 0s"));
    }

    #[test]
    fn a_drain_is_delayed_until_others_have_heard_of_it() {
        let mut config = Config::default();
        config.drain.delay = Duration::ZERO;
        is(&drain_delay(&config), Ok, &[]);
        config.broker.kind = BrokerType::Redis;
        is(&drain_delay(&config), Warning, &["drain.delay: 3s"]);
        config.drain.delay = seconds(3);
        is(&drain_delay(&config), Ok, &[]);
    }
}
