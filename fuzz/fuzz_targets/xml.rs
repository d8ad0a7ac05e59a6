//! Documents of WebDAV clients: what is read means the same when it is written again.
#![no_main]

use filebell_core::wire::xml::{Name, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|document: &[u8]| {
    let Ok(element) = read(document) else { return };
    assert_eq!(Name::parse(&element.name.to_text()).as_ref(), Some(&element.name));
    let inner = element.inner();
    // One level more than it had may be one too many.
    if let Ok(again) = read(format!("<r>{inner}</r>").as_bytes()) {
        assert_eq!(again.inner(), inner);
    }
});
