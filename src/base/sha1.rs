//! SHA-1 of bytes, for fingerprints and keys and for the split by speaker. It is no protection against an attacker.

/// The length of a digest in bytes.
pub const DIGEST_BYTES: usize = 20;

/// The SHA-1 of bytes that are given piece by piece.
#[derive(Default)]
pub struct Sha1(sha1_smol::Sha1);

impl Sha1 {
    /// The state before the first byte.
    pub fn new() -> Sha1 {
        Sha1::default()
    }

    /// The digest of `bytes`.
    pub fn digest(bytes: impl AsRef<[u8]>) -> [u8; DIGEST_BYTES] {
        let mut sha = Sha1::new();
        sha.update(bytes);
        sha.finalize()
    }

    /// Appends `bytes`.
    pub fn update(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.update(bytes.as_ref());
    }

    /// The digest of all bytes.
    pub fn finalize(self) -> [u8; DIGEST_BYTES] {
        self.0.digest().bytes()
    }
}

/// Bytes as hexadecimal digits, two for each byte.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_fips_180() {
        assert_eq!(hex(&Sha1::digest("abc")), "a9993e364706816aba3e25717850c26c9cd0d89d");
        let mut sha = Sha1::new();
        ["abcdbcdecdefdefgefghfghighij", "hijkijkljklmklmnlmnomnopnopq"].iter().for_each(|piece| sha.update(piece));
        assert_eq!(hex(&sha.finalize()), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    }
}
