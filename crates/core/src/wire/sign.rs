//! HMAC-SHA256, and comparing and writing what it gives.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Bytes in a SHA-256 block, which is what HMAC pads its key to (RFC 2104, section 2).
const BLOCK_BYTES: usize = 64;

/// A message authentication code.
pub type Tag = [u8; 32];

/// HMAC-SHA256 (RFC 2104) over `parts`, as if they were one message.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Tag {
    let mut block = Zeroizing::new([0; BLOCK_BYTES]);
    let hashed;
    // The padding is done here because a block of exactly the right length is a key that cannot be refused.
    let key = if key.len() > BLOCK_BYTES {
        hashed = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(key)));
        hashed.as_slice()
    } else {
        key
    };
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    let mut mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Whether both are equal, in a time that depends on the lengths only.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// Lower-case hex.
pub fn hex(tag: &[u8]) -> String {
    hex::encode(tag)
}

/// Standard base64 with padding.
pub fn base64(tag: &[u8]) -> String {
    STANDARD.encode(tag)
}

/// Reads 64 hex digits of any case.
pub fn unhex(text: &str) -> Option<Tag> {
    let mut tag = Tag::default();
    hex::decode_to_slice(text, &mut tag).ok()?;
    Some(tag)
}

/// Reads 44 characters of standard base64.
pub fn unbase64(text: &str) -> Option<Tag> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4231_cases_hold() {
        let check = |key: &[u8], parts: &[&[u8]], expected: &str| assert_eq!(hex(&hmac_sha256(key, parts)), expected);
        let greeting = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        check(&[0x0b; 20], &[b"Hi There"], greeting);
        check(&[0x0b; 20], &[b"Hi", b" ", b"There"], greeting);
        check(
            &[0xaa; 131],
            &[b"Test Using Larger Than Block-Size Key - Hash Key First"],
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        );
    }

    #[test]
    fn a_tag_reads_back() {
        let tag = hmac_sha256(b"k", &[b"m"]);
        assert_eq!(unhex(&hex(&tag).to_uppercase()), Some(tag));
        assert_eq!(unbase64(&base64(&tag)), Some(tag));
        assert_eq!(unhex("00"), None);
        assert_eq!(unbase64("AAAA"), None);
    }
}
