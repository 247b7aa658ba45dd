use futures_util::FutureExt as _;

use super::*;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));
const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

fn limits() -> Limits {
    Limits {
        connections_max: 100,
        connections_soft_max: 0,
        handshakes_per_second: 1_000,
        address_connections_max: 0,
        address_handshakes_per_second: 0,
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        requires_tls: false,
        memory: MemoryLimits { resident_bytes_max: usize::MAX, address_space_bytes_max: None },
        farewells_max: 1,
    }
}

fn admission(change: impl FnOnce(&mut Limits)) -> Arc<Admission> {
    let mut limits = limits();
    change(&mut limits);
    Admission::new(limits, Arc::default())
}

fn reason(entered: Result<Visit, Refusal>) -> Option<Reason> {
    entered.err().map(|refusal| refusal.reason)
}

fn forwarded(client: &str) -> HeaderMap {
    HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), client.parse().unwrap())])
}

#[test]
fn a_place_is_given_back_with_the_visit_or_with_its_permit() {
    let admission = admission(|limits| limits.connections_max = 2);
    let visit = admission.enter(PEER).unwrap();
    let permit = admission.enter(PEER).unwrap().take_permit();
    assert_eq!((admission.connections(), reason(admission.enter(PEER))), (2, Some(Reason::ConnectionsMax)));
    drop(visit);
    assert_eq!(admission.connections(), 1);
    drop(permit);
    assert_eq!(admission.connections(), 0);
}

#[test]
fn who_is_refused_holds_nothing_and_takes_no_turn() {
    let admission = admission(|limits| {
        limits.handshakes_per_second = 1;
        limits.address_connections_max = 1;
    });
    let first = admission.enter(PEER).unwrap();
    assert_eq!(reason(admission.enter(PEER)), Some(Reason::AddressConnectionsMax));
    admission.is_short_of_memory.store(true, Ordering::Relaxed);
    assert_eq!(reason(admission.enter(PEER)), Some(Reason::Memory));
    assert_eq!(admission.connections(), 1);
    admission.is_short_of_memory.store(false, Ordering::Relaxed);
    let second = admission.enter([198, 51, 100, 2].into()).unwrap();
    assert!(second.wait <= Duration::from_secs(1), "{:?}", second.wait);
    assert_eq!(reason(admission.enter([198, 51, 100, 3].into())), Some(Reason::Rate));
    drop((first, second));
    assert_eq!(admission.connections(), 0);
    assert!(admission.addresses.admit(PEER.into()).is_ok());
}

#[test]
fn a_herd_is_told_to_come_back_in_the_time_that_it_takes() {
    let admission = admission(|limits| limits.connections_max = 10_000);
    let comers: Vec<_> = (0..8_000).map(|_| admission.enter(PEER)).collect();
    let refused: Vec<u64> =
        comers.iter().filter_map(|comer| Some(comer.as_ref().err()?.retry_after)).collect();
    assert!((6_000..=6_900).contains(&refused.len()), "{}", refused.len());
    let mut told = [0; 61];
    refused.iter().for_each(|seconds| told[usize::try_from(*seconds).unwrap()] += 1);
    // Seven seconds' worth, and jitter: nobody is told 0, and in no second comes much more than there is room for.
    assert_eq!((told[0], told[12..].iter().sum::<u32>()), (0, 0), "{told:?}");
    assert!(told.iter().all(|count| *count <= 1_400), "{told:?}");
}

#[test]
fn whoever_comes_from_a_proxy_is_counted_where_the_proxy_says() {
    let admission = admission(|limits| limits.address_connections_max = 1);
    let enter = || admission.enter(PROXY).unwrap();
    let (one, same, other) = (enter(), enter(), enter());
    assert_eq!(one.identify(&forwarded("203.0.113.1"), false), Ok(()));
    let refused = same.identify(&forwarded("203.0.113.1"), false).unwrap_err();
    assert_eq!(refused.reason, Reason::AddressConnectionsMax);
    assert_eq!(other.identify(&forwarded("203.0.113.2"), false), Ok(()));
    assert_eq!(
        one.identify(&forwarded("203.0.113.1"), false),
        Ok(()),
        "its second request is no second connection"
    );
    assert_eq!(
        other.identify(&forwarded("203.0.113.1"), false).unwrap_err().reason,
        Reason::AddressConnectionsMax
    );
    let permit = one.take_permit();
    drop(one);
    assert!(same.identify(&forwarded("203.0.113.1"), false).is_err(), "the connection has it");
    drop(permit);
    assert_eq!(same.identify(&forwarded("203.0.113.1"), false), Ok(()));
}

#[test]
fn who_is_no_trusted_proxy_is_counted_itself_whatever_it_says() {
    let admission = admission(|limits| limits.address_connections_max = 1);
    let visit = admission.enter(PEER).unwrap();
    assert_eq!(visit.identify(&forwarded("203.0.113.1"), false), Ok(()));
    assert_eq!(reason(admission.enter(PEER)), Some(Reason::AddressConnectionsMax));
    assert!(admission.addresses.admit("203.0.113.1".parse::<IpAddr>().unwrap().into()).is_ok());
}

#[test]
fn a_crowded_node_is_ready_again_below_95_percent() {
    let admission = admission(|limits| limits.connections_soft_max = 40);
    let mut visits: Vec<Visit> = (0..40).map(|_| admission.enter(PEER).unwrap()).collect();
    assert!(admission.has_room(), "as many as it should have");
    visits.push(admission.enter(PEER).unwrap());
    assert!(!admission.has_room());
    visits.truncate(38);
    assert!(!admission.has_room(), "95 percent");
    visits.truncate(37);
    assert!(admission.has_room());
    assert!(!is_crowded(1_000, 0, true), "without a limit it never is");
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_counted_until_its_turn_or_until_it_is_gone() {
    let metrics: Arc<Metrics> = Arc::default();
    let limits = Limits { handshakes_per_second: 2, ..limits() };
    let admission = Admission::new(limits, Arc::clone(&metrics));
    let waiting = || {
        let text = String::from_utf8(metrics.render(0)).unwrap();
        let line = text.lines().find(|line| line.starts_with("clarion_handshakes_waiting ")).unwrap();
        line.rsplit_once(' ').unwrap().1.parse::<u32>().unwrap()
    };
    let visits: Vec<Visit> = (0..3).map(|_| admission.enter(PEER).unwrap()).collect();
    assert_eq!(visits[0].turn().await, Ok(()));
    let mut turns: Vec<_> = visits[1..].iter().map(|visit| Box::pin(visit.turn())).collect();
    for turn in &mut turns {
        assert!(turn.now_or_never().is_none());
    }
    assert_eq!(waiting(), 2);
    turns.pop();
    assert_eq!(waiting(), 1);
    admission.is_short_of_memory.store(true, Ordering::Relaxed);
    assert_eq!(turns.pop().unwrap().await.unwrap_err().reason, Reason::Memory, "it ran short meanwhile");
    assert_eq!(waiting(), 0);
}

#[test]
fn who_comes_to_a_node_that_stops_is_told_to_try_another_at_once() {
    let admission = admission(|_| {});
    (0..100).for_each(|_| assert!((1..=2).contains(&admission.refuse(Reason::Stopping).retry_after)));
}

#[test]
fn every_reason_is_a_series_that_starts_at_zero() {
    let text = String::from_utf8(Metrics::new().render(0)).unwrap();
    for reason in [
        Reason::Stopping,
        Reason::Rate,
        Reason::ConnectionsMax,
        Reason::Memory,
        Reason::Files,
        Reason::AddressRate,
        Reason::AddressConnectionsMax,
        Reason::InternalConnectionsMax,
    ] {
        let line = format!("clarion_handshakes_rejected_total{{reason=\"{}\"}} 0", reason.code());
        assert!(text.lines().any(|known| known == line), "{line}");
    }
}
