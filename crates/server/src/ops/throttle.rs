//! Guessing is slowed down, by account and address; whoever has logged in before is not locked out by it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use filebell_core::time::TimestampMs;

/// Wrong passwords for one account from one address before no more are looked at.
const WRONG_MAX: u32 = 10;
/// How long they count.
const WINDOW: Duration = Duration::from_secs(30 * 60);
/// At most so many pairs of account and address are counted, and as many right credentials remembered.
const REMEMBERED_MAX: usize = 10_000;

/// Counts wrong passwords.
#[derive(Default)]
pub(super) struct Throttle(Mutex<State>);

#[derive(Default)]
struct State {
    wrong: HashMap<(String, Option<IpAddr>), Wrong>,
    /// Marks of names and passwords that have been right since the start.
    right: HashSet<[u8; 32]>,
}

struct Wrong {
    count: u32,
    since: TimestampMs,
}

impl Throttle {
    /// Whether a password may be looked at. `mark` stands for the name and the password.
    pub(super) fn allows(&self, name: &str, from: Option<IpAddr>, mark: &[u8; 32], now: TimestampMs) -> bool {
        self.spent_for(name, from, now).is_none() || self.lock().right.contains(mark)
    }

    /// How long no password is looked at that was not right before; `None` if any is.
    pub(super) fn spent_for(&self, name: &str, from: Option<IpAddr>, now: TimestampMs) -> Option<Duration> {
        let state = self.lock();
        let wrong = state.wrong.get(&(name.to_owned(), from.map(network)))?;
        let until = wrong.since.after(WINDOW);
        (wrong.count > WRONG_MAX && now < until).then(|| until.since(now))
    }

    /// A password was right.
    pub(super) fn right(&self, name: &str, from: Option<IpAddr>, mark: [u8; 32]) {
        let mut state = self.lock();
        state.wrong.remove(&(name.to_owned(), from.map(network)));
        if state.right.len() < REMEMBERED_MAX {
            state.right.insert(mark);
        }
    }

    /// A password was wrong.
    pub(super) fn wrong(&self, name: &str, from: Option<IpAddr>, now: TimestampMs) {
        let mut state = self.lock();
        if state.wrong.len() >= REMEMBERED_MAX {
            state.wrong.retain(|_, wrong| now < wrong.since.after(WINDOW));
        }
        let room = state.wrong.len() < REMEMBERED_MAX;
        let key = (name.to_owned(), from.map(network));
        if !room && !state.wrong.contains_key(&key) {
            return;
        }
        let wrong = state.wrong.entry(key).or_insert(Wrong { count: 0, since: now });
        if now >= wrong.since.after(WINDOW) {
            *wrong = Wrong { count: 0, since: now };
        }
        wrong.count = wrong.count.saturating_add(1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who holds one IPv6 address holds the other 2^64 beside it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [u8; 32] = [1; 32];
    const OTHER: [u8; 32] = [2; 32];

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn guessing_ends_and_a_working_client_goes_on() {
        let (throttle, start) = (Throttle::default(), TimestampMs::from_millis(0));
        let (near, far) = (address("10.0.0.1"), address("10.0.0.2"));
        throttle.right("alice", near, GOOD);
        for _ in 0..=WRONG_MAX {
            assert!(throttle.allows("alice", near, &OTHER, start));
            throttle.wrong("alice", near, start);
        }
        assert!(!throttle.allows("alice", near, &OTHER, start), "the eleventh was the last");
        assert!(throttle.allows("alice", near, &GOOD, start), "who was right before is heard");
        assert!(throttle.allows("alice", far, &OTHER, start), "another address is another guesser");
        assert!(throttle.allows("bob", near, &OTHER, start), "another account counts for itself");
        assert_eq!(throttle.spent_for("alice", near, start.after(WINDOW / 3)), Some(WINDOW * 2 / 3));
        assert_eq!(throttle.spent_for("alice", far, start), None);
        assert!(throttle.allows("alice", near, &OTHER, start.after(WINDOW)), "it ends");
        throttle.right("alice", near, GOOD);
        assert!(throttle.allows("alice", near, &OTHER, start), "a right password clears the account's slate");
    }

    #[test]
    fn a_network_of_ipv6_is_one_guesser() {
        assert_eq!(address("2001:db8::1").map(network), address("2001:db8::ffff").map(network));
        assert_ne!(address("2001:db8::1").map(network), address("2001:db8:0:1::1").map(network));
        assert_eq!(address("::ffff:10.0.0.1").map(network), address("10.0.0.1"));
    }
}
