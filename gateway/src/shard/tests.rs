//! Alarms of connections, one by one.

use super::fanout::bench::Bench;
use super::*;
use crate::model::ClientId;

fn connect(shard: &Shard) -> (Key, Rc<Link>) {
    let link = Rc::new(Link::new(ClientId::random()));
    let entry = Entry { sink: Sink::Protected, blocked: true.into(), link: Rc::clone(&link) };
    (shard.table.borrow_mut().insert(entry), link)
}

#[tokio::test]
async fn a_deadline_that_a_client_keeps_moving_does_not_fill_the_wheel() {
    let shard = Bench::new().shard;
    let (key, link) = connect(&shard);
    for millis in (1..10_000).rev() {
        for after in
            [Some(Duration::from_millis(3_600_000 + millis)), None, Some(Duration::from_millis(millis))]
        {
            shard.move_deadline(&link.expiry, key, Alarm::Expiry, after);
        }
    }
    let alarms = shard.wheel.borrow().len();
    assert!(alarms <= 101, "{alarms}: one a tick and no more");
    // As if its time had come.
    link.expiry.at.set(shard.ticks());
    shard.on_alarm(key, Alarm::Expiry, false);
    assert_eq!(link.closing(), Some(&CloseReason::Expired));
}

#[tokio::test]
async fn a_deadline_that_moved_on_is_watched_on() {
    let shard = Bench::new().shard;
    let (key, link) = connect(&shard);
    let mut now = Instant::now();
    shard.move_deadline(&link.expiry, key, Alarm::Expiry, Some(Duration::from_millis(1)));
    shard.move_deadline(&link.expiry, key, Alarm::Expiry, Some(Duration::from_secs(3_600)));
    for _ in 0..3 {
        let mut due = Vec::new();
        now += DEADLINE_LOOK + TICK;
        shard.wheel.borrow_mut().turn(now, &mut due);
        assert_eq!(due, [(key, Alarm::Expiry)]);
        // As if that time had passed.
        link.expiry.looked_at.set(0);
        shard.on_alarm(key, Alarm::Expiry, false);
        assert_eq!(link.closing(), None);
        assert_eq!(shard.wheel.borrow().len(), 1);
    }
}

#[tokio::test]
async fn a_client_that_is_still_taking_what_is_before_the_ping_is_not_gone() {
    let shard = Bench::new().shard;
    let (key, link) = connect(&shard);
    shard.on_alarm(key, Alarm::Ping, false);
    assert!(link.blocked_since.get().is_some(), "the ping waits");
    shard.on_alarm(key, Alarm::Pong, false);
    assert_eq!(link.closing(), None);
    // It took all, and does not answer.
    link.outbox.borrow_mut().clear(&shard.budget);
    link.blocked_since.set(None);
    shard.on_alarm(key, Alarm::Pong, false);
    assert_eq!(link.closing(), Some(&CloseReason::NoPong));
}

#[tokio::test]
async fn a_client_whose_pong_was_not_read_yet_is_not_gone() {
    let shard = Bench::new().shard;
    let (stream, client) = connected().await;
    let stream = Rc::new(stream);
    a_pong_is_read_late(
        &shard,
        Link::new(ClientId::random()),
        Sink::Direct(Rc::clone(&stream)),
        &stream,
        &client,
    )
    .await;
    let (stream, client) = connected().await;
    let socket = Socket::before_handshake(stream);
    let link = Link::new(ClientId::random());
    link.protect(Rc::clone(socket.session().unwrap()));
    a_pong_is_read_late(&shard, link, Sink::Protected, socket.stream(), &client).await;
}

/// Both ends of a connection.
async fn connected() -> (TcpStream, TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (listener.accept().await.unwrap().0, client)
}

async fn a_pong_is_read_late(shard: &Shard, link: Link, sink: Sink, stream: &TcpStream, client: &TcpStream) {
    let link = Rc::new(link);
    let alarms = shard.wheel.borrow().len();
    let key = shard.table.borrow_mut().insert(Entry { sink, blocked: false.into(), link: Rc::clone(&link) });
    shard.on_alarm(key, Alarm::Ping, false);
    // The ping has left.
    link.outbox.borrow_mut().clear(&shard.budget);
    link.blocked_since.set(None);
    client.writable().await.unwrap();
    client.try_write(b"pong").unwrap();
    stream.readable().await.unwrap();
    shard.on_alarm(key, Alarm::Pong, false);
    assert_eq!(link.closing(), None);
    assert!(shard.wheel.borrow().len() >= alarms + 2, "it is looked at again");
    assert_eq!(stream.try_read(&mut [0; 9]).unwrap(), 4);
    shard.on_alarm(key, Alarm::Pong, false);
    assert_eq!(link.closing(), Some(&CloseReason::NoPong), "what it said was no pong");
}
