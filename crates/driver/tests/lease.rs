//! Leases of the work that several requests want done once.

use edge_net_driver::lease::{Attempt, Lease, Leases, Pauses, Terms};

const TERMS: Terms = Terms { expiry: 100, max_leases: 2, max_failures: 2 };

fn granted(leases: &Leases<&'static str>, key: &str, now: u64) -> Lease<&'static str> {
    match leases.attempt(key, now) {
        Attempt::Granted(lease) => lease,
        other => panic!("{key} at {now}: {other:?}"),
    }
}

fn waits(leases: &Leases<&'static str>, key: &str, now: u64) -> bool {
    matches!(leases.attempt(key, now), Attempt::Wait)
}

fn failure(leases: &Leases<&'static str>, key: &str, now: u64) -> Option<&'static str> {
    match leases.attempt(key, now) {
        Attempt::Failed(error) => Some(error),
        _ => None,
    }
}

#[test]
fn a_key_has_one_holder_until_the_lease_is_dropped() {
    let leases = Leases::new(TERMS);
    let lease = granted(&leases, "a", 0);
    assert!(waits(&leases, "a", 99));
    assert!(leases.is_held("a", 99));
    drop(lease);
    assert!(!leases.is_held("a", 99));
    drop(granted(&leases, "a", 99));
}

#[test]
fn the_number_of_leases_is_limited_over_all_keys() {
    let leases = Leases::new(TERMS);
    let (_a, b) = (granted(&leases, "a", 0), granted(&leases, "b", 0));
    assert!(waits(&leases, "c", 1));
    drop(b);
    drop(granted(&leases, "c", 1));
}

#[test]
fn an_expired_lease_counts_for_nothing_and_cannot_end_its_successor() {
    let leases = Leases::new(TERMS);
    let lost = granted(&leases, "a", 0);
    let renew = lost.renewal();
    assert!(!leases.is_held("a", 100));
    let successor = granted(&leases, "a", 100);
    renew(190);
    assert!(!lost.fail("late", 190, 1000));
    assert!(leases.is_held("a", 199), "the successor holds it still");
    assert!(!leases.is_held("a", 200), "the lost lease renewed nothing");
    assert!(successor.succeed());
    assert_eq!(failure(&leases, "a", 200), None);
}

#[test]
fn an_expired_lease_that_nobody_took_over_ends_as_usual() {
    let leases = Leases::new(TERMS);
    assert!(granted(&leases, "a", 0).fail("late", 500, 600));
    assert_eq!(failure(&leases, "a", 599), Some("late"));
}

#[test]
fn a_renewal_extends_its_lease_and_no_other() {
    let leases = Leases::new(TERMS);
    let lease = granted(&leases, "artifact/1", 0);
    let _other = granted(&leases, "artifact/2", 0);
    lease.renewal()(60);
    assert!(waits(&leases, "artifact/1", 159));
    assert!(!leases.is_held("artifact/2", 159));
    assert!(!leases.is_held("artifact/1", 160));
}

#[test]
fn a_failure_answers_attempts_until_its_time_is_over() {
    let leases = Leases::new(TERMS);
    assert!(granted(&leases, "a", 0).fail("broken", 10, 30));
    assert_eq!(failure(&leases, "a", 29), Some("broken"));
    assert_eq!(failure(&leases, "b", 29), None);
    assert!(granted(&leases, "a", 30).succeed());
    assert_eq!(failure(&leases, "a", 0), None, "a success clears the failure");
}

#[test]
fn the_failure_that_ends_first_makes_room() {
    let leases = Leases::new(TERMS);
    for (key, until) in [("long", 900), ("short", 800), ("new", 700)] {
        assert!(granted(&leases, key, 0).fail("broken", 0, until));
    }
    assert_eq!(failure(&leases, "long", 1), Some("broken"));
    assert_eq!(failure(&leases, "short", 1), None);
    assert_eq!(failure(&leases, "new", 1), Some("broken"));
}

#[test]
fn pauses_double_up_to_the_longest_and_stop_at_the_deadline() {
    let mut pauses = Pauses::new(5, 30, 100);
    let taken: Vec<_> = (0..4).map(|_| pauses.next(99)).collect();
    assert_eq!(taken, [Some(5), Some(10), Some(20), Some(30)]);
    assert_eq!(pauses.next(100), None);
}
