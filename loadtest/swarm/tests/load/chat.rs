//! Rooms in which a server does something wrong.

use std::time::Duration;

use swarm::outcome::Outcome;
use swarm::plays::chat::score::{Act, Plan};
use swarm::plays::chat::{Chat, Through};
use swarm::plays::{Play, play};

use super::server::{Fault, Server};
use super::{figure, said, settings};

const CHAT: Chat = Chat {
    plan: Plan { rooms: 1, members: 6, churn: 0.0, talk: 40.0, time: Duration::from_secs(1), seed: 3 },
    through: Through::Socket,
    is_hearing: false,
};
const MEMBERS: u64 = 6;
const SAID: u64 = 40;

async fn chat(fault: Fault, chat: Chat) -> Outcome {
    let server = Server::start(fault).await;
    let mut settings = settings(&server, chat.plan.rooms);
    settings.clients = chat.plan.clients();
    settings.load.patience = Duration::from_secs(1);
    play(&Play::Chat(chat), settings).await.unwrap()
}

#[tokio::test]
async fn everybody_in_a_room_hears_everything() {
    for through in [Through::Socket, Through::Api] {
        let outcome = chat(Fault::Nothing, Chat { through, ..CHAT }).await;
        assert!(outcome.passed() && outcome.wrong.total == 0, "{:?} {:?}", outcome.verdict, outcome.wrong);
        assert_eq!((outcome.counts["things said"], outcome.counts["deliveries"]), (SAID, SAID * MEMBERS));
        assert_eq!(outcome.distributions["delay"].len(), SAID * MEMBERS);
        assert!(figure(&outcome, "CPU of the server per delivery").is_some());
    }
}

#[tokio::test]
async fn people_come_and_go_as_the_score_says_and_miss_nothing_where_they_are() {
    let plan = Plan { rooms: 3, churn: 20.0, time: Duration::from_secs(3), ..CHAT.plan };
    let outcome = chat(Fault::Nothing, Chat { plan, is_hearing: true, ..CHAT }).await;
    assert!(outcome.passed() && outcome.wrong.total == 0, "{:?} {:?}", outcome.verdict, outcome.wrong);
    let joins = plan.score().filter(|cue| cue.act == Act::Join).count() as u64;
    assert!(joins > 20, "{joins}");
    assert_eq!(outcome.counts["subscribed"], 3 * MEMBERS + joins);
    assert!(outcome.counts["joins heard"] >= joins);
    // Two are always away, and whoever comes is not owed what was said before.
    let said = outcome.counts["things said"];
    assert!(
        (said * (MEMBERS - 2)..=said * MEMBERS).contains(&outcome.counts["deliveries"]),
        "{:?}",
        outcome.counts
    );
}

#[tokio::test]
async fn what_a_room_does_not_hear_is_lost() {
    for (which, through) in [(20, Through::Socket), (SAID, Through::Socket), (20, Through::Api)] {
        let outcome = chat(Fault::Lose(which), Chat { through, ..CHAT }).await;
        assert_eq!((outcome.passed(), outcome.verdict.lost), (false, MEMBERS), "{:?}", outcome.wrong);
        assert!(said(&outcome, "did not hear publication"), "{:?}", outcome.wrong);
    }
}

#[tokio::test]
async fn a_speaker_that_is_heard_twice_is_found() {
    let outcome = chat(Fault::Repeat(20), CHAT).await;
    assert_eq!((outcome.passed(), outcome.verdict.repeated, outcome.verdict.lost), (false, MEMBERS, 0));
    assert!(said(&outcome, "came again"), "{:?}", outcome.wrong);
}

/// Each of the two things was said by somebody else, so that every speaker is in order for everybody.
#[tokio::test]
async fn members_that_hear_another_order_are_found_by_the_places_of_the_history() {
    let speakers: Vec<u32> = CHAT.plan.score().map(|cue| cue.client).collect();
    let which = (20..).find(|index| speakers[*index] != speakers[index + 1]).unwrap() + 1;
    let outcome = chat(Fault::Fork(which as u64), CHAT).await;
    assert!(!outcome.passed() && outcome.verdict.forked > 0, "{:?}", outcome.verdict);
    assert_eq!((outcome.verdict.lost, outcome.verdict.reordered), (0, 0));
}

#[tokio::test]
async fn what_a_server_refuses_to_publish_nobody_need_hear() {
    // The fake one says it all the same; others do not.
    let outcome = chat(Fault::Deny(20), CHAT).await;
    assert_eq!((outcome.passed(), outcome.verdict.lost), (false, 0));
    assert_eq!(outcome.errors["publish was answered with error 100 (internal server error)"], 1);
}
