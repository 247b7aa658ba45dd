use super::super::contract::{self, channel, holding, listed, member, owner};
use super::*;

contract::suite!(|| async { MemoryPresence::new() });

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(30);

/// Channels, members, users and leases in memory.
fn weight(presence: &MemoryPresence) -> [usize; 4] {
    let weights = presence.stripes.iter().map(|stripe| stripe.lock().weight());
    weights.fold([0; 4], |sum, one| std::array::from_fn(|index| sum[index] + one[index]))
}

fn lease(ttl: Duration) -> Lease {
    Lease { owner: owner(0), ttl }
}

async fn clients(presence: &MemoryPresence, name: &str) -> usize {
    let stats = presence.stats(&channel(name)).await.unwrap();
    assert_eq!(presence.members(&channel(name)).await.unwrap().len(), stats.clients);
    stats.clients
}

async fn pass(duration: Duration) {
    tokio::time::advance(duration).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_on_time_unless_it_is_renewed() {
    let presence = MemoryPresence::new();
    let (ann, bob) = (member("ann"), member("bob"));
    for info in [&ann, &bob] {
        presence.add(&channel("a"), listed(info), lease(TTL)).await.unwrap();
    }
    pass(TTL - SECOND).await;
    presence.add(&channel("a"), listed(&bob), lease(TTL)).await.unwrap();
    pass(SECOND - Duration::from_millis(1)).await;
    assert_eq!(clients(&presence, "a").await, 2);
    pass(Duration::from_millis(1)).await;
    assert_eq!(presence.members(&channel("a")).await.unwrap(), [Arc::clone(&bob)]);
    assert_eq!(clients(&presence, "a").await, 1);
    pass(TTL).await;
    assert_eq!(clients(&presence, "a").await, 0);
    presence.refresh(&[holding("a", &[&ann])], lease(TTL)).await.unwrap();
    assert_eq!(clients(&presence, "a").await, 1);
}

#[tokio::test(start_paused = true)]
async fn leases_of_different_lengths_end_each_at_its_time() {
    let presence = MemoryPresence::new();
    for seconds in [30, 10, 20] {
        presence.add(&channel("a"), listed(&member("ann")), lease(SECOND * seconds)).await.unwrap();
    }
    presence.add(&channel("a"), listed(&member("ann")), lease(Duration::MAX)).await.unwrap();
    for left in [3, 2, 1, 1] {
        pass(SECOND * 10).await;
        assert_eq!(clients(&presence, "a").await, left);
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_gone_leaves_no_memory() {
    let presence = MemoryPresence::new();
    let infos: Vec<_> = (0..1_000).map(|number| member(&number.to_string())).collect();
    for (number, info) in infos.iter().enumerate() {
        presence.add(&channel(&(number / 2).to_string()), listed(info), lease(TTL)).await.unwrap();
    }
    assert_eq!(weight(&presence), [500, 1_000, 1_000, 1_000]);
    for _ in 0..10 {
        pass(SECOND).await;
        let ten: Vec<_> = infos.iter().take(10).collect();
        presence.refresh(&[holding("x", &ten)], lease(TTL)).await.unwrap();
    }
    assert_eq!(weight(&presence), [501, 1_010, 1_010, 1_010], "a renewed lease is one lease");
    for (number, info) in infos.iter().enumerate().take(500) {
        presence.remove(&channel(&(number / 2).to_string()), info.client, owner(0)).await.unwrap();
    }
    assert_eq!(weight(&presence), [251, 510, 510, 510]);
    pass(TTL - SECOND * 10).await;
    presence.sweep();
    assert_eq!(weight(&presence), [1, 10, 10, 10]);
    pass(SECOND * 10).await;
    presence.sweep();
    assert_eq!(weight(&presence), [0; 4]);
}

#[tokio::test(start_paused = true)]
async fn who_lingers_stays_for_its_grace_and_leaves_no_memory() {
    let presence = MemoryPresence::new();
    let grace = |lasts| Grace { lasts, is_known: true };
    let name = channel("a");
    for seconds in 1..=3 {
        let info = member("ann");
        presence.add(&name, listed(&info), lease(TTL)).await.unwrap();
        let leaving = [(listed(&info), grace(SECOND * seconds))];
        assert_eq!(presence.linger(&name, &leaving, owner(0)).await, Ok(vec![true]));
    }
    assert_eq!(presence.expire(owner(0)).await, Ok(Some(SECOND)));
    presence.enter(&name, listed(&member("ann")), lease(TTL)).await.unwrap();
    pass(SECOND).await;
    assert_eq!(presence.expire(owner(0)).await, Ok(Some(SECOND)), "it has come back");
    assert_eq!(clients(&presence, "a").await, 3);
    pass(SECOND * 2).await;
    assert_eq!(presence.expire(owner(0)).await, Ok(None));
    assert_eq!(contract::departed(&presence, 2).await.len(), 2);
    pass(TTL).await;
    presence.sweep();
    assert_eq!(weight(&presence), [0; 4]);
    assert!(presence.graces.lock().is_empty());
}
