//! The answer of `recent` as a client reads it, in both formats.
#![no_main]

use filebell_client::recent::{read_json, read_xml};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|answer: &[u8]| {
    let _ = read_json(answer);
    let _ = read_xml(answer);
});
