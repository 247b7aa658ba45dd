//! The example configuration of a cluster, started as it is.

use serde_json::json;
use tokio::net::TcpStream;

use crate::support::{
    Client, Process, SECRET, Server, config, documented_redis_user, eventually, get, post, sign,
};

const API_KEY: &str = "the-api-key-of-the-example";
const PASSWORD: &str = "canary-9cQ2";

fn start(server: &Server) -> Process {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/cluster.yaml");
    let variables = [
        ("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", SECRET),
        ("CLARION__API__KEYS", &format!("[\"{API_KEY}\"]")),
        ("CLARION__BROKER__REDIS__ADDRESS", server.address()),
        ("CLARION__BROKER__REDIS__PASSWORD", PASSWORD),
        // Three of them are on one machine.
        ("CLARION__PUBLIC__PORT", "0"),
        ("CLARION__INTERNAL__PORT", "0"),
    ];
    Process::start(&["serve", "--config", file], &variables)
}

#[tokio::test]
async fn three_nodes_of_the_example_are_one_gateway() {
    let server = Server::start(&["--requirepass", "of-the-default-user"]);
    server.ask::<()>(":of-the-default-user@", &documented_redis_user(PASSWORD)).await;
    let mut nodes = [start(&server), start(&server), start(&server)];
    let mut subscribers = Vec::new();
    let mut internals = Vec::new();
    for node in &mut nodes {
        let (public, internal) = node.addresses().await;
        eventually("the node to be ready", async || get(internal, "/readyz").await.status == 200).await;
        let stream = TcpStream::connect(public).await.expect("it listens");
        subscribers.push(Client::native(stream, &sign(&config(), "ann")).await.subscribe("chat:a").await);
        internals.push(internal);
    }
    let body = json!({"channel": "chat:a", "data": "hi"}).to_string();
    let answer = post(internals[2], "/api/publish", &[("x-api-key", API_KEY)], &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    subscribers[0].publish("chat:a", "there").await;
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.next_publication().await.data, "hi");
        assert_eq!(subscriber.next_publication().await.data, "there");
    }
    for node in &nodes {
        assert!(!node.output().contains(PASSWORD));
    }
}
