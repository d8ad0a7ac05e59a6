//! What must hold for any text and any bytes.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

use std::time::Duration;

use filebell_core::id::{FileId, NotificationId};
use filebell_core::secret::Secret;
use filebell_core::subscription::{Customer, SignatureEncoding};
use filebell_core::time::{TimestampMs, TimestampSecs};
use filebell_core::wire::ocs::{self, Format, JsonTags, RecentRow, RecentWriter, Version};
use filebell_core::wire::{SignedRequest, nextcloud, percent_encode, sagex3, standard};
use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;

/// The other way round, by a plain reading of XML 1.0: the five names and decimal references.
fn xml_unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#13;", "\r").replace("&amp;", "&")
}

/// `bytes` with the bit `at` flipped; `at` counts round.
fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = at % (bytes.len() * 8);
    bytes[at / 8] ^= 1 << (at % 8);
    bytes
}

/// The signature with a bit of what it stands for flipped, written as it was.
fn flipped_hex(text: &str, at: usize) -> String {
    hex::encode(flipped(&hex::decode(text).unwrap(), at))
}

proptest! {
    #[test]
    fn json_strings_read_back(text in any::<String>()) {
        for tags in [JsonTags::Raw, JsonTags::Hex] {
            let mut written = String::new();
            ocs::push_json_string(&mut written, &text, tags);
            prop_assert!(written.is_ascii());
            prop_assert_eq!(&serde_json::from_str::<String>(&written).unwrap(), &text);
        }
    }

    #[test]
    fn xml_text_reads_back_where_it_is_legal(text in any::<String>()) {
        let mut written = String::new();
        ocs::push_xml_text(&mut written, &text);
        let legal: String = text
            .chars()
            .map(|c| if (c < ' ' && !"\t\n\r".contains(c)) || "\u{fffe}\u{ffff}".contains(c) { '\u{fffd}' } else { c })
            .collect();
        prop_assert!(!written.contains(['<', '>', '"', '\r']));
        prop_assert_eq!(xml_unescape(&written), legal);
    }

    #[test]
    fn since_never_panics(text in any::<String>()) {
        let _ = ocs::parse_since(Some(&text));
    }

    #[test]
    fn a_plain_since_is_itself(secs in 0..i64::MAX) {
        prop_assert_eq!(ocs::parse_since(Some(&secs.to_string())), Ok(TimestampSecs::from_secs(secs)));
    }

    #[test]
    fn number_like_texts_never_panic(text in "[ +-]?[0-9.eE+-]{0,30}[ \n]?") {
        let _ = ocs::php_intval(&text);
    }

    #[test]
    fn a_list_in_json_reads_back(names in prop::collection::vec(any::<String>(), 0..5)) {
        let mut writer = RecentWriter::new(Version::V2, Format::Json, names.len());
        for name in &names {
            let (id, time) = (FileId::new(1), TimestampSecs::from_secs(2));
            writer.row(&RecentRow { id, time, name, path: name, modified_user: name });
        }
        let read: Value = serde_json::from_slice(&writer.finish()).unwrap();
        let files = read["ocs"]["data"]["files"].as_array().unwrap();
        prop_assert_eq!(files.iter().map(|file| file["path"].as_str().unwrap()).collect::<Vec<_>>(), names);
    }

    #[test]
    fn percent_encoding_reads_back(bytes in any::<Vec<u8>>()) {
        let url = url::Url::parse(&format!("http://a/?k={}", percent_encode(&bytes))).unwrap();
        let read = url.query_pairs().next().unwrap().1.into_owned();
        prop_assert_eq!(read, String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn nextcloud_refuses_any_flipped_bit(id in any::<String>(), at in any::<usize>()) {
        let key = Secret::new("4fda");
        let (interval, since) = (Duration::from_secs(10), TimestampSecs::from_secs(7));
        let SignedRequest { headers, body } = nextcloud::notification(&id, interval, since, &key);
        let signature = &headers[1].1;
        prop_assert_eq!(nextcloud::verify(&key, signature, &body).unwrap().id, id);
        prop_assert!(nextcloud::verify(&key, signature, &flipped(&body, at)).is_err());
        prop_assert!(nextcloud::verify(&key, &flipped_hex(signature, at), &body).is_err());
        prop_assert!(nextcloud::verify(&Secret::new("4fdb"), signature, &body).is_err());
    }

    #[test]
    fn sage_refuses_any_flipped_bit(url in any::<String>(), at in any::<usize>()) {
        let key = Secret::new("client");
        let customer = Customer { url, id: "c".into(), code: "k".into() };
        let id = NotificationId::new(Uuid::from_u128(7));
        let body = sagex3::body("https://a", id, &customer, TimestampMs::ZERO);
        let SignedRequest { headers, body } = sagex3::sign(body, &key, SignatureEncoding::Hex);
        let signature = &headers[1].1;
        prop_assert_eq!(sagex3::verify(&key, signature, &body).unwrap().customer_url, customer.url);
        prop_assert!(sagex3::verify(&key, signature, &flipped(&body, at)).is_err());
        prop_assert!(sagex3::verify(&key, &flipped_hex(signature, at), &body).is_err());
    }

    #[test]
    fn standard_refuses_any_flipped_bit(body in prop::collection::vec(any::<u8>(), 1..200), at in any::<usize>()) {
        let key = standard::StandardKey::from_bytes(vec![1; 32]).unwrap();
        let now = TimestampSecs::from_secs(7);
        let SignedRequest { headers, body } = standard::sign(body, NotificationId::new(Uuid::from_u128(7)), now, &key);
        let check = |id: &str, timestamp: &str, body: &[u8]| {
            let headers = standard::Headers { id, timestamp, signature: &headers[3].1 };
            standard::check(&key, headers, body, now, Duration::MAX)
        };
        prop_assert!(check(&headers[1].1, "7", &body).is_ok());
        prop_assert!(check(&headers[1].1, "7", &flipped(&body, at)).is_err());
        prop_assert!(check(&headers[1].1, "8", &body).is_err());
        prop_assert!(check("msg_8", "7", &body).is_err());
    }
}
