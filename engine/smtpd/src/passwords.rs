//! Whether a password is the one a crypt(3) string was made of.
//!
//! Promises: a string of a kind we do not know, or a damaged one, is nobody's password; the time
//! taken depends on the string alone.
//! Absent on purpose: whose string it is, and threads: it takes a processor for a good while, so
//! callers choose where it runs.

use redspool_core::config::crypt::Scheme;
use sha_crypt::{PasswordVerifier as _, ShaCrypt};
use yescrypt::Yescrypt;

/// The hash of a password nobody has, for users nobody knows where nobody has one: bcrypt, of as
/// many rounds as `smtpctl encrypt` makes.
pub const NOBODY: &str = "$2b$12$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

/// Checks a password. bcrypt heeds its first 72 octets, as everywhere.
pub fn verify(hash: &str, password: &[u8]) -> bool {
    match Scheme::of(hash) {
        Some(Scheme::Bcrypt) => bcrypt::verify(password, hash).unwrap_or(false),
        Some(Scheme::Yescrypt) => Yescrypt::default().verify_password(password, hash).is_ok(),
        Some(Scheme::Sha256 | Scheme::Sha512) => {
            ShaCrypt::SHA512.verify_password(password, hash).is_ok()
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_crypt_prove_their_passwords() {
        for (password, hash) in [
            // OpenBSD and openwall.
            (
                "U*U",
                "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            ),
            (
                "U*U",
                "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            ),
            // The specification of SHA-crypt.
            (
                "Hello world!",
                "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5",
            ),
            (
                "Hello world!",
                concat!(
                    "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3u",
                    "BnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
                ),
            ),
            // libxcrypt.
            (
                "secret",
                "$y$jC5$LdJMENpBABJJ3hIHjB1Bi.$nV0oBzFI3If3GJeB9MpTVmo08LVmgfmmuRBosDpbVx0",
            ),
        ] {
            assert!(verify(hash, password.as_bytes()), "{hash}");
            assert!(!verify(hash, b"another"), "{hash}");
            assert!(!verify(hash, b""), "{hash}");
        }
    }

    #[test]
    fn what_is_no_hash_is_nobody_s_password() {
        for hash in ["", "*", "!", "x", "$1$salt$hash", "secret", "$2b$99$CCCC"] {
            assert!(!verify(hash, hash.as_bytes()), "{hash}");
        }
        assert!(Scheme::of(NOBODY).is_some());
        assert!(!verify(NOBODY, b"U*U"));
    }
}
