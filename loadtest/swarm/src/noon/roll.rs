//! A rolling deploy, as Kubernetes does it.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::facts::NodeEnd;
use super::scene::Scene;
use crate::mark::MarkKind;
use crate::stage::node::Node;
use crate::stage::{Endpoint, Member};

/// How much later than SIGTERM a load balancer hears of it: endpoints are told of by another way than processes.
const ENDPOINT_LAG: Duration = Duration::from_secs(1);
/// How long a node may take beyond its delay and its window. After that an orchestrator kills it.
const GRACE: Duration = Duration::from_secs(15);

/// Replaces every node in turn, the oldest first.
pub(super) async fn play(scene: &mut Scene<'_>) -> Result<()> {
    for _ in 0..scene.settings.nodes {
        scene.bring_in().await?;
        let old = scene.members.remove(0);
        replace(scene, old).await?;
    }
    Ok(())
}

/// Lets `old` go: it is told to end, and the load balancer hears of it only later.
async fn replace(scene: &mut Scene<'_>, mut old: Member) -> Result<()> {
    let endpoint = old.endpoint.clone();
    let node = endpoint.name.clone();
    let told_at = scene.journal.mark(MarkKind::Terminate, format!("SIGTERM {node}"));
    old.node.terminate()?;
    let (taken_out, (code, ended_at)) =
        tokio::join!(take_out_late(scene, &endpoint), exit(scene, &node, &mut old.node));
    taken_out?;
    scene.facts.ends.push(NodeEnd { node, told_at, ended_at, code });
    scene.stage.discard(old);
    Ok(())
}

/// Takes a node out of the load balancer when that hears of its end.
pub(super) async fn take_out_late(scene: &Scene<'_>, endpoint: &Endpoint) -> Result<()> {
    sleep(ENDPOINT_LAG).await;
    scene.take_out(endpoint).await
}

/// Waits for the end of a node; answers with its exit code, and when that was.
async fn exit(scene: &Scene<'_>, name: &str, node: &mut Node) -> (Option<i32>, Duration) {
    let patience = scene.settings.delay + scene.settings.window + GRACE;
    let code = node.exit(patience).await.map(|status| status.code());
    let text = match code {
        Some(Some(code)) => format!("exit {name} ({code})"),
        Some(None) => format!("exit {name} (by a signal)"),
        None => format!("{name} does not end and is killed"),
    };
    scene.has_ended(name);
    (code.flatten(), scene.journal.mark(MarkKind::Exit, text))
}
