//! Passwords: hashed with argon2id, checked without making every request pay for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use filebell_core::secret::Secret;
use filebell_core::time::TimestampMs;
use filebell_core::wire::sign::hmac_sha256;
use tokio::sync::Semaphore;

use crate::seams::Seams;

/// Hashes under way at once: each takes 19 MiB and a core for 15 ms.
const CHECKS_AT_ONCE: usize = 2;
/// How long a password that was right is taken as right without hashing it again.
const REMEMBERED_FOR: Duration = Duration::from_secs(300);
/// At most this many are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// Checks passwords. Clients of the Nextcloud protocol send theirs with every request.
pub(super) struct Passwords {
    seams: Seams,
    checks: Arc<Semaphore>,
    /// Keys what is remembered, so that a dump of memory holds no fast hash of a password under a known key.
    process_key: [u8; 32],
    remembered: Mutex<HashMap<[u8; 32], TimestampMs>>,
}

impl Passwords {
    pub(super) fn new(seams: Seams) -> Self {
        let mut process_key = [0; 32];
        // Without randomness nothing is remembered under a guessable key: see `remember`.
        let random = aws_lc_rs::rand::fill(&mut process_key).is_ok();
        let checks = Arc::new(Semaphore::new(if random { CHECKS_AT_ONCE } else { 0 }));
        Self { seams, checks, process_key, remembered: Mutex::default() }
    }

    /// What stands for these texts in memory.
    pub(super) fn mark(&self, parts: &[&[u8]]) -> [u8; 32] {
        let ended: Vec<&[u8]> = parts.iter().flat_map(|part| [*part, b"\0"]).collect();
        hmac_sha256(&self.process_key, &ended)
    }

    /// Whether `password` is the one behind `hash`. Costs the same where there is no hash.
    pub(super) async fn check(&self, name: &str, password: Secret, hash: Option<String>) -> bool {
        let key =
            hash.as_ref().map(|hash| self.mark(&[name.as_bytes(), hash.as_bytes(), password.expose().as_bytes()]));
        let now = self.seams.now();
        if let Some(key) = key
            && self.lock().get(&key).is_some_and(|until| now < *until)
        {
            return true;
        }
        let Ok(_permit) = self.checks.acquire().await else { return false };
        let right = tokio::task::spawn_blocking(move || verify(&password, hash.as_deref())).await.unwrap_or(false);
        if let Some(key) = key.filter(|_| right) {
            let mut remembered = self.lock();
            if remembered.len() >= REMEMBERED_MAX {
                remembered.retain(|_, until| now < *until);
            }
            if remembered.len() < REMEMBERED_MAX {
                remembered.insert(key, now.after(REMEMBERED_FOR));
            }
        }
        right
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], TimestampMs>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hashes a password for keeping, in PHC form. Blocks for some 15 ms; `None` if the system gives no randomness.
pub(super) fn hash(password: &Secret) -> Option<String> {
    Some(Argon2::default().hash_password(password.expose().as_bytes()).ok()?.to_string())
}

fn verify(password: &Secret, hash: Option<&str>) -> bool {
    match hash.and_then(|hash| PasswordHash::new(hash).ok()) {
        Some(hash) => Argon2::default().verify_password(password.expose().as_bytes(), &hash).is_ok(),
        None => {
            // Same work, no answer: a stranger cannot tell a name that exists by the time it takes.
            let _ = Argon2::default().hash_password(password.expose().as_bytes());
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_right_for_its_own_hash_only() {
        let passwords = Passwords::new(Seams::real());
        let hash = hash(&Secret::new("secret"));
        for _ in 0..2 {
            assert!(passwords.check("test2", Secret::new("secret"), hash.clone()).await);
            assert!(!passwords.check("test2", Secret::new("Secret"), hash.clone()).await);
            assert!(!passwords.check("nobody", Secret::new("secret"), None).await);
        }
        let changed = super::hash(&Secret::new("other"));
        assert!(!passwords.check("test2", Secret::new("secret"), changed).await, "a new password ends the old one");
    }
}
