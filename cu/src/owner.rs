//! Who signed: addresses of owners.

use sha3::{Digest, Keccak256};

use crate::ids;

/// Length of an uncompressed secp256k1 public key with its leading byte, as Ethereum signers put it into data items.
const ETHEREUM_KEY_BYTES: usize = 65;

/// Longest key text that can be an Ethereum key: 87 characters, and room for padding and stray characters.
const ETHEREUM_KEY_CHARS_MAX: usize = 128;

/// The address that stands for an owner: its `address`, but for a key of 65 bytes its Ethereum address with the EIP-55
/// checksum. `key` is base64url.
pub fn account(address: &str, key: &str) -> String {
    if key.len() <= ETHEREUM_KEY_CHARS_MAX {
        let bytes = ids::decode_leniently(key);
        if bytes.len() == ETHEREUM_KEY_BYTES {
            return ethereum_address(&bytes[1..]);
        }
    }
    address.to_owned()
}

/// The checksummed address of a public key (64 bytes: x then y).
fn ethereum_address(key: &[u8]) -> String {
    checksummed(&Keccak256::digest(key)[12..])
}

/// An address (20 bytes) as text, its letters' cases a checksum.
pub(crate) fn checksummed(address: &[u8]) -> String {
    let plain: String = address.iter().map(|b| format!("{b:02x}")).collect();
    // EIP-55: a letter is upper case where the hash of the plain text has a digit of 8 or more in its place.
    let checksum = Keccak256::digest(plain.as_bytes());
    let mut address = String::with_capacity(42);
    address.push_str("0x");
    for (i, c) in plain.chars().enumerate() {
        let digit = (checksum[i / 2] >> (4 * (1 - i % 2))) & 0xf;
        address.push(if digit >= 8 { c.to_ascii_uppercase() } else { c });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The public key of the private key 1 is the curve's generator; its address is known everywhere.
    const GENERATOR: &str = "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";

    fn key_of_one() -> String {
        let bytes: Vec<u8> =
            (0..GENERATOR.len()).step_by(2).map(|i| u8::from_str_radix(&GENERATOR[i..i + 2], 16).unwrap()).collect();
        ids::encode(&bytes)
    }

    #[test]
    fn a_key_of_65_bytes_is_an_ethereum_account() {
        assert_eq!(account("ignored", &key_of_one()), "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf");
    }

    #[test]
    fn any_other_key_leaves_the_address_alone() {
        for key in
            ["", "AQAB", &ids::encode(&[7; 512]), &ids::encode(&[7; 64]), &ids::encode(&[7; 66]), "*** no base64"]
        {
            assert_eq!(account("the-address", key), "the-address");
        }
    }
}
