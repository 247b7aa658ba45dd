//! Whatever clients do, nothing of them stays behind.

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{Gateway, Raw, bare_path, upgrade_request, within};

const CLIENTS: usize = 500;
/// The different points at which a client goes away.
const STAGES: usize = 8;

/// Goes away at one of the [`STAGES`].
async fn visit(mut raw: Raw, token: String, bare_path: String, stage: usize) {
    const NATIVE: &str = "/connection/websocket";
    let connect = json!({"id": 1, "connect": {"token": token}}).to_string();
    let subscribe = json!({"id": 2, "subscribe": {"channel": format!("channel-{stage}")}}).to_string();
    match stage {
        0 => {}
        1 => raw.send("GET /ws HTTP/1.1\r\nhost").await,
        2 => raw.send(upgrade_request(NATIVE, "")).await,
        3 => raw.send(upgrade_request(&bare_path, "")).await,
        4 => {
            raw = raw.upgrade(&bare_path).await;
            raw.next_frame().await;
        }
        _ => {
            raw = raw.upgrade(NATIVE).await;
            raw.send_text(&format!("{connect}\n{subscribe}")).await;
            if stage > 5 {
                raw.next_frame().await;
            }
            if stage > 6 {
                raw.send_frame(0x88, 1000u16.to_be_bytes()).await;
                raw.rest().await;
            }
        }
    }
}

#[tokio::test]
async fn clients_that_go_away_at_any_point_leave_nothing_behind() {
    let gateway = Gateway::start().await;
    let mut speaker = gateway.connect("speaker").await.subscribe("channel-5").await;
    let mut visits = JoinSet::new();
    for index in 0..CLIENTS {
        let raw = Raw::open(gateway.public()).await;
        let path = bare_path(&gateway, "&channels=shared,channel-6");
        visits.spawn(visit(raw, gateway.token(&format!("user-{}", index % 50)), path, index % STAGES));
    }
    let talking = async {
        for index in 0..200 {
            speaker.publish("channel-5", index).await;
            assert_eq!(speaker.next_publication().await.data, index);
        }
    };
    let visiting = async {
        while let Some(visit) = visits.join_next().await {
            visit.expect("no visit fails");
        }
    };
    within("all visits", async { tokio::join!(talking, visiting) }).await;
    speaker.leave().await;
    for gauge in ["clarion_connections", "clarion_subscriptions", "clarion_channels", "clarion_outbox_bytes"]
    {
        gateway.metric_is(gauge, 0.0).await;
    }
    let metrics = gateway.metrics().await;
    let accepted = metrics.get("clarion_connections_accepted_total");
    assert!(accepted > (CLIENTS / 2) as f64, "{accepted}");
    assert_eq!(accepted, metrics.get("clarion_connections_closed_total"));
    let info = gateway.api("info", json!({})).await;
    assert_eq!(info["nodes"][0]["num_users"].as_u64().unwrap_or_default(), 0, "{info}");
    gateway.serves_honest_clients().await;
}

#[tokio::test]
async fn subscribing_and_unsubscribing_in_a_hurry_ends_with_nothing() {
    let gateway = Gateway::start().await;
    let mut clients = JoinSet::new();
    for index in 0..20 {
        let mut client = gateway.connect(&format!("user-{index}")).await;
        clients.spawn(async move {
            for _ in 0..50 {
                client = client.subscribe("contended").await;
                client.publish("contended", index).await;
                client.unsubscribe("contended").await;
            }
            client.leave().await;
        });
    }
    within("all clients", async {
        while let Some(client) = clients.join_next().await {
            client.expect("it works");
        }
    })
    .await;
    for gauge in ["clarion_connections", "clarion_subscriptions", "clarion_channels"] {
        gateway.metric_is(gauge, 0.0).await;
    }
}

#[tokio::test]
async fn a_connection_has_at_most_so_many_subscriptions() {
    let gateway = Gateway::start_with(|config| config.client.channels_max = 3).await;
    let mut bob = gateway.connect("bob").await;
    for channel in ["a", "b", "c"] {
        bob = bob.subscribe(channel).await;
    }
    for index in 0..100 {
        let reply = bob.call(json!({"subscribe": {"channel": format!("more-{index}")}})).await;
        assert_eq!(reply["error"]["code"], 106);
    }
    bob.unsubscribe("a").await;
    let bob = bob.subscribe("d").await;
    assert_eq!(gateway.metric("clarion_subscriptions").await, 3.0);
    let bare = gateway.bare("eve", "channels=a,b,c,d").await;
    assert_eq!(bare.welcome["subs"]["d"]["error"]["code"], 106);
    bob.leave().await;
    gateway.metric_is("clarion_subscriptions", 3.0).await;
}
