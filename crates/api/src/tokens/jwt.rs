//! Signed claims (RFC 7519, HS256): only this server makes them, and only this server reads them.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Longer ones are none of ours.
const MAX_BYTES: usize = 8 << 10;
/// The block of SHA-256, to which HMAC pads its key.
const BLOCK: usize = 64;

pub(super) fn sign(key: &[u8; 32], claims: &Value) -> String {
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
    let signature = BASE64.encode(hmac(key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// The claims of a token that carries our signature.
pub(super) fn read(key: &[u8; 32], token: &str) -> Option<Value> {
    if token.len() > MAX_BYTES {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (_, claims) = signed.split_once('.')?;
    let signature = BASE64.decode(signature).ok()?;
    // Digests are compared, so that the time taken says nothing about the signature.
    if Sha256::digest(&signature) != Sha256::digest(hmac(key, signed.as_bytes())) {
        return None;
    }
    serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()
}

/// RFC 2104 over SHA-256.
fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut padded = [0; BLOCK];
    padded[..key.len()].copy_from_slice(key);
    let inner = Sha256::new().chain_update(padded.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_standard() {
        // RFC 4231, test case 1, whose key of 20 bytes is padded with zeros in any case.
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let hex: String = hmac(&key, b"Hi There").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    }

    #[test]
    fn only_what_was_signed_is_read() {
        let token = sign(&[7; 32], &json!({"sub": "a"}));
        assert_eq!(read(&[7; 32], &token), Some(json!({"sub": "a"})));
        assert_eq!(read(&[8; 32], &token), None);
        assert_eq!(read(&[7; 32], &token.replacen('.', "..", 1)), None);
        assert_eq!(read(&[7; 32], "garbage"), None);
    }
}
