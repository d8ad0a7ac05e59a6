//! What an application reads of Sage X3: the push, its detail, listings, refusals.
#![no_main]

use filebell_core::wire::sagex3::read::{Detail, Listing, Pushed, error_message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let (pushed, detail) = (Pushed::from_json(body), Detail::from_json(body));
    if let (Ok(pushed), Ok(detail)) = (pushed, detail) {
        let _ = detail.agrees_with(&pushed);
    }
    if let Ok(listing) = Listing::from_json(body) {
        listing.items.iter().for_each(|file| drop(file.md5()));
    }
    let _ = error_message(body);
});
