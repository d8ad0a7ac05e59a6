//! A request for tokens, as JSON and as a form: read or refused, and a code that is read is written the same.
#![no_main]

use filebell_core::wire::sagex3::ask::{Parameters, TokenGrant, TokenRequest, code, read_code};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for parameters in [Parameters::from_json(data), Parameters::from_form(data)].into_iter().flatten() {
        for standard in [false, true] {
            let Ok(request) = TokenRequest::from_parameters(&parameters, standard) else { continue };
            assert!(!request.client_id.is_empty());
            if let TokenGrant::Code { code: given, .. } = request.grant
                && let Some((pairing, proof)) = read_code(&given)
            {
                assert_eq!(read_code(&code(pairing, &proof)), Some((pairing, proof)));
            }
        }
    }
});
