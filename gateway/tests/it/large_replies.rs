//! Replies that are larger than what may be queued for a connection.

use std::time::Duration;

use clarion::config::Config;
use serde_json::json;

use crate::support::{Client, Gateway};

/// More than fits into an outbox together.
const MEMBERS: usize = 400;
const OUTBOX_BYTES_MAX: usize = 32 << 10;

/// Small outboxes, and a namespace whose subscribers are listed.
fn crowded(config: &mut Config) {
    config.client.send_buffer_bytes = 16 << 10;
    config.client.outbox_bytes_max = OUTBOX_BYTES_MAX;
    config.client.ping_interval = Duration::from_secs(600);
    let section = json!({
        "name": "crowd", "presence": true, "allow_subscribe_for_client": true, "allow_publish_for_client": true,
        "allow_presence_for_client": true,
    });
    config.channel.namespaces.push(serde_json::from_value(section).expect("it is a namespace"));
}

#[tokio::test]
async fn a_presence_larger_than_the_outbox_comes_whole_and_pushes_wait_for_its_end() {
    let gateway = Gateway::start_with(crowded).await;
    let mut crowd: Vec<Client> = Vec::with_capacity(MEMBERS);
    for index in 0..MEMBERS {
        crowd.push(gateway.connect(&format!("user-{index}")).await.subscribe("crowd:a").await);
    }
    let mut asking = gateway.connect("asking").await.subscribe("crowd:b").await;
    // Twice in one frame: the second waits for the end of the first.
    let ask = |id| json!({"id": id, "presence": {"channel": "crowd:a"}}).to_string();
    asking.send([ask(101), ask(102)].join("\n")).await;
    for index in 0..3 {
        crowd[0].publish("crowd:b", index).await;
    }
    let (mut replies, mut pushes) = (Vec::new(), Vec::new());
    while replies.len() < 2 || pushes.len() < 3 {
        let mut message = asking.next_message().await;
        if let Some(push) = message.get_mut("push") {
            pushes.push(push["pub"]["data"].take());
            continue;
        }
        let members = message["presence"]["presence"].as_object().expect("it is a presence");
        assert_eq!(members.len(), MEMBERS);
        for client in &crowd {
            let id = client.welcome["client"].as_str().expect("a client has an id");
            assert_eq!(members[id]["client"], id);
        }
        assert!(message.to_string().len() > OUTBOX_BYTES_MAX);
        replies.push(message["id"].clone());
    }
    assert_eq!((replies, pushes), (vec![json!(101), json!(102)], vec![json!(0), json!(1), json!(2)]));
    assert_eq!(gateway.metric("clarion_outbox_bytes").await, 0.0);
}
