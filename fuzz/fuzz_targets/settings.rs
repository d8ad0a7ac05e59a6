//! Posted settings: what is taken is answered as JSON that reads the same.
#![no_main]

use filebell_core::wire::nextcloud::settings::Settings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|posted: &[u8]| {
    let Ok(posted) = serde_json::from_slice(posted) else { return };
    if let Ok(settings) = Settings::check(posted) {
        let answered = settings.to_json();
        assert_eq!(Settings::from_json(&answered), Some(settings));
    }
});
