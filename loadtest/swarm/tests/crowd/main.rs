//! Clients of a crowd against a server that does what it is told.

#![expect(clippy::unwrap_used, reason = "what does not work here fails the test, as it should")]

mod server;

use std::sync::{Arc, RwLock};
use std::time::Duration;

use serde_json::json;
use swarm::clock::Clock;
use swarm::crowd::{Crowd, CrowdSettings, Plant, TokenPlace};

use server::{CHANNEL, PATIENCE, Server};

fn settings(server: &Server, clients: usize) -> CrowdSettings {
    CrowdSettings {
        targets: Arc::new(RwLock::new(vec![server.address])),
        path: "/connection/websocket".to_owned(),
        clients,
        channels: vec![CHANNEL.to_owned()],
        connects_per_second: 1_000,
        secret: "a secret of thirty-two characters".to_owned(),
        token: TokenPlace::Query,
        sources: Vec::new(),
        plant: None,
    }
}

fn start(server: &Server, settings: CrowdSettings) -> Crowd {
    Crowd::start(settings, Clock::start(), Arc::clone(&server.published))
}

/// Clients that are live.
async fn crowd(server: &Server, clients: usize) -> Crowd {
    let crowd = start(server, settings(server, clients));
    crowd.all_live(PATIENCE).await.expect("all come");
    crowd
}

/// Waits until all are back: they have subscribed `count` times, all together, and are live.
async fn all_back(server: &Server, crowd: &Crowd, count: usize) {
    server.heard("subscribe", count).await;
    crowd.all_live(PATIENCE).await.expect("all come back");
}

#[tokio::test]
async fn clients_that_get_everything_are_content() {
    let server = Server::start().await;
    let crowd = crowd(&server, 3).await;
    server.publish();
    // Two in one message, a line each.
    let (second, third) = (server.publication(true), server.publication(true));
    server.say_text(&format!("{second}\n{third}\n"));
    assert_eq!(crowd.present()[CHANNEL].len(), 3);
    let findings = crowd.finish().await;
    assert!(findings.verdict.is_clean(), "{findings:?}");
    assert_eq!((findings.clients, findings.live_at_end, findings.opened.len()), (3, 3, 3));
    assert!(findings.opened.iter().all(|opening| opening.attempt == 1 && !opening.was_return));
    assert_eq!((findings.closed.len(), findings.refused.len(), findings.failures_total), (0, 0, 0));
    assert_eq!(findings.openings_per_tenth().iter().sum::<u32>(), 3);
    assert!(findings.returns_per_tenth().is_empty());
    server.gone(3).await;
    assert_eq!(server.goodbyes(), [1000; 3]);
}

#[tokio::test]
async fn tokens_are_shown_where_the_settings_say() {
    let server = Server::start().await;
    let _crowd = crowd(&server, 1).await;
    assert!(server.targets()[0].starts_with("/connection/websocket?token=ey"), "{:?}", server.targets());
    assert_eq!(server.heard("connect", 1).await[0], json!({"name": "swarm"}));

    let server = Server::start().await;
    let crowd = start(&server, CrowdSettings { token: TokenPlace::Command, ..settings(&server, 1) });
    crowd.all_live(PATIENCE).await.unwrap();
    assert_eq!(server.targets(), ["/connection/websocket"]);
    assert!(server.heard("connect", 1).await[0]["token"].as_str().unwrap().starts_with("ey"));
}

#[tokio::test]
async fn clients_connect_from_the_sources_of_the_settings_in_turn() {
    let server = Server::start().await;
    let sources = ["127.0.1.1", "127.0.1.2"].map(|source| source.parse().unwrap());
    let crowd = start(&server, CrowdSettings { sources: sources.to_vec(), ..settings(&server, 4) });
    crowd.all_live(PATIENCE).await.unwrap();
    let mut seen = server.sources();
    seen.sort();
    assert_eq!(seen, [sources[0], sources[0], sources[1], sources[1]]);
}

#[tokio::test]
async fn who_loses_its_connection_comes_back_and_gets_what_it_missed() {
    let server = Server::start().await;
    let crowd = crowd(&server, 1).await;
    server.publish();
    server.say(&json!({}));
    server.pongs(1).await;
    server.drop_all();
    server.publish_in_secret();
    server.publish_in_secret();
    all_back(&server, &crowd, 2).await;
    server.publish();
    let findings = crowd.finish().await;
    assert!(findings.verdict.is_clean(), "{:?}", findings.verdict);
    let asked = &server.heard("subscribe", 2).await[1];
    assert_eq!(
        (&asked["recover"], &asked["offset"], &asked["epoch"]),
        (&json!(true), &json!(1), &json!("first"))
    );
    assert_eq!(findings.closed.iter().map(|closing| closing.code).collect::<Vec<_>>(), [None]);
    assert_eq!((findings.notices.recovered, findings.notices.not_recovered), (1, 0));
    let [blackout] = findings.blackouts[..] else { panic!("one client was away once: {findings:?}") };
    assert!(blackout.own_backoff >= Duration::from_millis(500), "{blackout:?}");
    assert!(blackout.own_backoff <= blackout.live_at - blackout.closed_at, "{blackout:?}");
    assert_eq!(findings.returns_per_tenth().iter().sum::<u32>(), 1);
    assert_eq!((findings.opened[1].attempt, findings.opened[1].was_return), (1, true));
}

#[tokio::test]
async fn who_comes_back_without_recovery_has_lost_silently() {
    let server = Server::start().await;
    let crowd = start(&server, CrowdSettings { plant: Some(Plant::Forget), ..settings(&server, 1) });
    crowd.all_live(PATIENCE).await.unwrap();
    server.drop_all();
    server.publish_in_secret();
    server.publish_in_secret();
    all_back(&server, &crowd, 2).await;
    let verdict = crowd.finish().await.verdict;
    assert_eq!((verdict.lost_silent, verdict.lost_declared), (2, 0));
    assert_eq!(verdict.examples, ["client 0 in noon:0: after 0 came nothing up to 2, and nobody said so"]);
}

#[tokio::test]
async fn a_planted_repeat_is_found() {
    let server = Server::start().await;
    let crowd = start(&server, CrowdSettings { plant: Some(Plant::Repeat), ..settings(&server, 2) });
    crowd.all_live(PATIENCE).await.unwrap();
    server.publish();
    server.publish();
    let verdict = crowd.finish().await.verdict;
    assert_eq!((verdict.duplicated, verdict.lost_silent), (1, 0), "{verdict:?}");
}

#[tokio::test]
async fn a_publication_that_never_comes_is_lost() {
    let server = Server::start().await;
    let crowd = crowd(&server, 2).await;
    server.publish_in_secret();
    server.publish();
    let verdict = crowd.finish().await.verdict;
    assert_eq!((verdict.lost_silent, verdict.behind_at_end), (2, 0), "one of two, each: {verdict:?}");
}

#[tokio::test]
async fn another_publication_than_was_acknowledged_is_a_fork() {
    let server = Server::start().await;
    let crowd = crowd(&server, 1).await;
    let mut push = server.publication(true);
    push["push"]["pub"]["data"]["seq"] = json!(99);
    server.say(&push);
    let verdict = crowd.finish().await.verdict;
    assert_eq!((verdict.forked, verdict.lost_silent), (1, 0), "{verdict:?}");
}

#[tokio::test]
async fn a_new_epoch_is_a_loss_that_was_declared() {
    let server = Server::start().await;
    let crowd = crowd(&server, 1).await;
    server.publish();
    server.say(&json!({}));
    server.pongs(1).await;
    server.drop_all();
    server.publish_in_secret();
    server.begin_anew("second");
    all_back(&server, &crowd, 2).await;
    server.publish();
    let findings = crowd.finish().await;
    assert!(findings.verdict.is_clean(), "{:?}", findings.verdict);
    assert_eq!(findings.verdict.lost_declared, 1);
    assert_eq!((findings.notices.recovered, findings.notices.not_recovered), (0, 1));
}

#[tokio::test]
async fn a_refused_handshake_is_an_attempt_that_failed() {
    let server = Server::start().await;
    server.refuse(503, Some(7));
    server.refuse(429, None);
    let crowd = crowd(&server, 1).await;
    let findings = crowd.finish().await;
    let answers: Vec<_> =
        findings.refused.iter().map(|refused| (refused.status, refused.retry_after)).collect();
    assert_eq!(answers, [(Some(503), Some(7)), (Some(429), None)]);
    assert_eq!((findings.opened.len(), findings.opened[0].attempt), (1, 3));
    assert!(findings.blackouts.is_empty(), "it had not been there before");
}

#[tokio::test]
async fn where_nobody_listens_there_is_no_status() {
    let server = Server::start().await;
    let nobody = settings(&server, 1);
    nobody.targets.write().unwrap().clear();
    let targets = Arc::clone(&nobody.targets);
    let crowd = start(&server, nobody);
    assert_eq!(crowd.all_live(Duration::from_millis(50)).await, Err(0));
    targets.write().unwrap().push(server.address);
    crowd.all_live(PATIENCE).await.unwrap();
    let findings = crowd.finish().await;
    assert!(findings.refused.iter().all(|refused| refused.status.is_none()) && !findings.refused.is_empty());
}

#[tokio::test]
async fn codes_say_who_comes_back() {
    let server = Server::start().await;
    let crowd = crowd(&server, 2).await;
    server.close(3001);
    all_back(&server, &crowd, 4).await;
    server.close(3503);
    let all_gone = async {
        while crowd.live() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, all_gone).await.expect("both go");
    let findings = crowd.finish().await;
    let codes: Vec<_> = findings.closed.iter().map(|closing| closing.code).collect();
    assert_eq!(codes, [Some(3001), Some(3001), Some(3503), Some(3503)]);
    assert_eq!((findings.terminal, findings.live_at_end), (2, 0));
    assert_eq!(findings.blackouts.len(), 2, "only who came back has a blackout that ended");
}

#[tokio::test]
async fn who_is_cut_comes_back_and_no_server_is_blamed() {
    let server = Server::start().await;
    let crowd = crowd(&server, 5).await;
    server.publish();
    crowd.cut_all();
    all_back(&server, &crowd, 10).await;
    let findings = crowd.finish().await;
    assert!(findings.verdict.is_clean(), "{:?}", findings.verdict);
    assert_eq!((findings.cut, findings.closed.len(), findings.blackouts.len()), (5, 0, 5));
}

#[tokio::test]
async fn who_is_unsubscribed_for_want_of_state_subscribes_again() {
    let server = Server::start().await;
    let crowd = crowd(&server, 1).await;
    server.publish();
    server.publish_in_secret();
    let code = json!({"code": 2500, "reason": "insufficient state"});
    server.say(&json!({"push": {"channel": CHANNEL, "unsubscribe": code}}));
    all_back(&server, &crowd, 2).await;
    let findings = crowd.finish().await;
    assert!(findings.verdict.is_clean(), "{:?}", findings.verdict);
    assert_eq!((findings.notices.unsubscribed, findings.opened.len(), findings.closed.len()), (1, 1, 0));
    assert_eq!(server.heard("subscribe", 2).await[1]["recover"], true);
}

#[tokio::test]
async fn a_subscription_refused_for_now_is_tried_again_and_one_for_good_is_not() {
    let server = Server::start().await;
    server.refuse_subscription(json!({"code": 100, "message": "internal server error", "temporary": true}));
    let crowd = crowd(&server, 1).await;
    assert_eq!(server.heard("connect", 1).await.len(), 1, "on the same connection");
    let findings = crowd.finish().await;
    assert_eq!((findings.failures_total, findings.terminal), (1, 0));
    assert!(findings.failures[0].contains("subscribe was answered by error 100"), "{:?}", findings.failures);

    server.refuse_subscription(json!({"code": 103, "message": "permission denied"}));
    let crowd = start(&server, settings(&server, 1));
    server.gone(2).await;
    let findings = crowd.finish().await;
    assert_eq!((findings.failures_total, findings.terminal, findings.live_at_end), (1, 1, 0), "{findings:?}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let server = Server::start().await;
    server.be_silent();
    let crowd = crowd(&server, 1).await;
    let findings = crowd.finish().await;
    assert_eq!(findings.closed.iter().map(|closing| closing.code).collect::<Vec<_>>(), [None]);
    assert!(findings.failures[0].contains("said nothing for too long"), "{:?}", findings.failures);
    assert_eq!(findings.opened[0].attempt, 2);
}

#[tokio::test]
async fn garbage_ends_the_connection_and_is_told() {
    let server = Server::start().await;
    let crowd = crowd(&server, 1).await;
    server.say_text("{}\nnonsense");
    all_back(&server, &crowd, 2).await;
    let findings = crowd.finish().await;
    assert_eq!(findings.failures_total, 1);
    assert!(findings.failures[0].contains("the server sent what it should not"), "{:?}", findings.failures);
}

#[tokio::test]
async fn one_client_hears_who_leaves_and_that_nobody_leaves_twice() {
    let server = Server::start().await;
    let crowd = crowd(&server, 2).await;
    let leave = |client: &str| {
        let info = json!({"user": "u", "client": client});
        json!({"push": {"channel": CHANNEL, "leave": {"info": info}}})
    };
    for client in ["a", "b", "a"] {
        server.say(&leave(client));
    }
    server.say(&json!({"push": {"channel": CHANNEL, "join": {"info": {"user": "u", "client": "d"}}}}));
    server.say(&json!({}));
    server.pongs(2).await;
    let notices = crowd.finish().await.notices;
    assert_eq!((notices.joins, notices.leaves, notices.leaves_twice), (1, 3, 1));
    let asked = server.heard("subscribe", 2).await;
    assert_eq!(asked.iter().filter(|asked| asked["join_leave"] == true).count(), 1);
}
