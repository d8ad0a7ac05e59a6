//! A signed Nextcloud notification: whatever its body says, it is read or refused.
#![no_main]

use filebell_core::secret::Secret;
use filebell_core::wire::nextcloud::verify;
use filebell_core::wire::sign::{hex, hmac_sha256};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let key = Secret::new("4fdab231");
    let signature = hex(&hmac_sha256(key.expose().as_bytes(), &[body]));
    if let Err(error) = verify(&key, &signature, body) {
        assert!(error.is_malformed(), "{error}");
    }
});
