//! The parameter `since`: whatever comes is a number from zero on, or refused.
#![no_main]

use filebell_core::wire::ocs::{parse_since, php_intval};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(since) = parse_since(Some(text)) {
        assert!(since.as_secs() >= 0);
        assert_eq!(php_intval(text), Some(since.as_secs()));
    }
});
