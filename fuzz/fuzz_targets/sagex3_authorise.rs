//! A request for consent: what is read holds every parameter once, none too long.
#![no_main]

use filebell_core::wire::sagex3::ask::{Authorise, Parameters, VALUE_BYTES_MAX, same_customer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(request) = Parameters::from_form(data).and_then(|parameters| Authorise::from_parameters(&parameters)) else {
        return;
    };
    for text in [&request.client_id, &request.customer, &request.redirect_uri, &request.state] {
        assert!(!text.is_empty() && text.len() <= VALUE_BYTES_MAX);
    }
    let _ = request.check_scopes();
    let _ = same_customer(&request.customer, &request.redirect_uri);
});
