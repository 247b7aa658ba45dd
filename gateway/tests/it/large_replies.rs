//! Replies that are larger than what may be queued for a connection.

use std::collections::HashSet;
use std::time::Duration;

use clarion::config::Config;
use serde_json::{Value, json};

use crate::support::{Client, Gateway, Raw, bare_path, eventually, now};

const MEMBERS: usize = 400;
const OUTBOX_BYTES_MAX: usize = 64 << 10;
/// Of a large reply no more is held than a piece that waits, the next one, and the list.
const HELD_BYTES_MAX: f64 = 40_000.0;

/// Small buffers, and a namespace whose subscribers are listed.
fn crowded(config: &mut Config) {
    config.client.send_buffer_bytes = 16 << 10;
    config.client.outbox_bytes_max = OUTBOX_BYTES_MAX;
    config.client.ping_interval = Duration::from_secs(600);
    config.client.write_timeout = Duration::from_secs(600);
    let section = json!({
        "name": "crowd", "presence": true, "allow_subscribe_for_client": true, "allow_publish_for_client": true,
        "allow_presence_for_client": true,
    });
    config.channel.namespaces.push(serde_json::from_value(section).expect("it is a namespace"));
}

/// Members of `crowd:a` that together are more than an outbox and a socket hold.
async fn crowd(gateway: &Gateway) -> Vec<Client> {
    let mut crowd = Vec::with_capacity(MEMBERS);
    for index in 0..MEMBERS {
        let claims = json!({"sub": format!("user-{index}"), "exp": now() + 600, "info": "x".repeat(1_000)});
        let client = Client::native(gateway.open().await, &gateway.sign(&claims)).await;
        crowd.push(client.subscribe("crowd:a").await);
    }
    crowd
}

/// The next message, which may come in fragments.
async fn next_message(raw: &mut Raw) -> (Value, usize) {
    let (mut text, mut fragments) = (Vec::new(), 0);
    loop {
        let frame = raw.next_frame().await.expect("the connection stays open");
        assert_eq!(frame.opcode, if fragments == 0 { 1 } else { 0 }, "nothing comes between the fragments");
        text.extend_from_slice(&frame.payload);
        fragments += 1;
        if let Ok(message) = serde_json::from_slice(&text) {
            return (message, fragments);
        }
    }
}

#[tokio::test]
async fn a_presence_larger_than_the_outbox_comes_whole_and_pushes_wait_for_its_end() {
    let gateway = Gateway::start_with(crowded).await;
    let mut crowd = crowd(&gateway).await;
    let path = bare_path(&gateway, "&channels=crowd:b");
    let mut asking = Raw::open_narrow(gateway.public()).await.upgrade(&path).await;
    next_message(&mut asking).await;
    // Twice in one frame: the second waits for the end of the first.
    let ask = |id| json!({"id": id, "presence": {"channel": "crowd:a"}}).to_string();
    asking.send_text(&[ask(101), ask(102)].join("\n")).await;
    eventually("the reply to wait", async || gateway.metric("clarion_outbox_bytes").await > 0.0).await;
    let waiting = gateway.metric("clarion_outbox_bytes").await;
    assert!(waiting <= HELD_BYTES_MAX, "{waiting} bytes wait");
    for index in 0..3 {
        crowd[0].publish("crowd:b", index).await;
    }
    let expected: HashSet<&str> =
        crowd.iter().map(|client| client.welcome["client"].as_str().expect("it has an id")).collect();
    let (mut replies, mut pushes) = (Vec::new(), Vec::new());
    while replies.len() < 2 || pushes.len() < 3 {
        let (message, fragments) = next_message(&mut asking).await;
        if let Some(push) = message.get("push") {
            pushes.push(push["pub"]["data"].clone());
            continue;
        }
        let members = message["presence"]["presence"].as_object().expect("it is a presence");
        assert_eq!(members.keys().map(String::as_str).collect::<HashSet<_>>(), expected);
        assert!(fragments > MEMBERS / 20, "{fragments} fragments");
        replies.push(message["id"].clone());
    }
    assert_eq!((replies, pushes), (vec![json!(101), json!(102)], vec![json!(0), json!(1), json!(2)]));
    gateway.metric_is("clarion_outbox_bytes", 0.0).await;
}
