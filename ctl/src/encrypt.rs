//! `encrypt`: passwords as crypt(3) strings, for credentials tables.
//!
//! Promises: what is printed is accepted by crypt(3); two runs never print the same; a password is
//! not shown on a terminal, and is wiped from memory after use. What crypt(3) would cut off is
//! refused, so that no longer password passes for a shorter one.
//! Absent on purpose: checking passwords, which is the daemon's.
//! Fails: at the first password that cannot be hashed, with the number of its line; what came
//! before it is printed.

use crate::console::Console;
use crate::options::Options;
use crate::parse::Parsed;
use clap::ValueEnum;
use rand::Rng as _;
use sha_crypt::{PasswordHasher as _, ShaCrypt};
use std::fmt;
use std::io::{self, BufRead, IsTerminal as _, Read as _};
use yescrypt::Yescrypt;
use zeroize::Zeroizing;

/// Octets of a password that bcrypt heeds.
const BCRYPT_MOST: usize = 72;
/// Octets of a password that crypt(3) takes (`CRYPT_MAX_PASSPHRASE_SIZE`, its end not counted).
const CRYPT_MOST: usize = 511;
/// Sixteen characters of salt, which is all that crypt(3) heeds for SHA-512.
const SHA512_SALT: usize = 12;
/// What the C library draws for yescrypt.
const YESCRYPT_SALT: usize = 16;

/// Kind of hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scheme {
    /// `$2b$`, known to crypt(3) of every system but old ones of glibc
    Bcrypt,
    /// `$y$`, the default of many Linux systems
    Yescrypt,
    /// `$6$`, known everywhere on Linux
    Sha512Crypt,
}

/// Why a password is not hashed.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// More octets than the scheme heeds.
    TooLong { most: usize },
    /// crypt(3) would stop at it.
    Nul,
    /// The library says no.
    Library(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { most: BCRYPT_MOST } => write!(
                f,
                "longer than the {BCRYPT_MOST} octets that bcrypt heeds; shorten it or use \
                 --scheme yescrypt"
            ),
            Self::TooLong { most } => {
                write!(f, "longer than the {most} octets that crypt(3) takes")
            }
            Self::Nul => f.write_str("it has a NUL octet, where crypt(3) would stop"),
            Self::Library(reason) => f.write_str(reason),
        }
    }
}

/// Hashes the argument, what is typed, or every line of the standard input.
pub(crate) fn serve(console: &mut Console, options: &Options, parsed: &Parsed) {
    let scheme = options.scheme;
    if let Some(password) = parsed.args.text() {
        print(console, scheme, password.as_bytes(), "password");
    } else if io::stdin().is_terminal() {
        match rpassword::prompt_password("Password: ").map(Zeroizing::new) {
            Ok(password) => {
                print(console, scheme, password.as_bytes(), "password");
            }
            Err(error) => console.fail(&format!("cannot read a password: {error}")),
        }
    } else {
        lines(console, scheme, &mut io::stdin().lock());
    }
}

/// Hashes lines until their end, the first fault, or until nobody reads the hashes.
fn lines(console: &mut Console, scheme: Scheme, input: &mut impl BufRead) {
    // One octet more than any password may have, and the line feed.
    let most = u64::try_from(CRYPT_MOST.saturating_add(2)).unwrap_or(u64::MAX);
    let mut number = 0u64;
    loop {
        number = number.saturating_add(1);
        let mut line = Zeroizing::new(Vec::with_capacity(CRYPT_MOST.saturating_add(2)));
        match input.by_ref().take(most).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => return console.fail(&format!("standard input: {error}")),
        }
        let password = line.strip_suffix(b"\n").unwrap_or(&line);
        if !print(console, scheme, password, &format!("line {number}")) {
            return;
        }
    }
}

/// Prints the hash of a password; gives whether the next one is of use.
fn print(console: &mut Console, scheme: Scheme, password: &[u8], what: &str) -> bool {
    match hash(scheme, password) {
        Ok(hash) => {
            console.print(format!("{hash}\n").as_bytes());
            !console.gone()
        }
        Err(refusal) => {
            console.fail(&format!("{what}: {refusal}"));
            false
        }
    }
}

/// The crypt(3) string of a password.
fn hash(scheme: Scheme, password: &[u8]) -> Result<String, Refusal> {
    let most = match scheme {
        Scheme::Bcrypt => BCRYPT_MOST,
        Scheme::Yescrypt | Scheme::Sha512Crypt => CRYPT_MOST,
    };
    if password.len() > most {
        return Err(Refusal::TooLong { most });
    }
    if password.contains(&0) {
        return Err(Refusal::Nul);
    }
    match scheme {
        Scheme::Bcrypt => {
            let hash = bcrypt::hash(password, bcrypt::DEFAULT_COST);
            hash.map_err(|error| Refusal::Library(error.to_string()))
        }
        Scheme::Yescrypt => {
            let salt = drawn::<YESCRYPT_SALT>();
            let hash = Yescrypt::default().hash_password_with_salt(password, &salt);
            hash.map(|hash| hash.to_string())
                .map_err(|error| Refusal::Library(error.to_string()))
        }
        Scheme::Sha512Crypt => {
            let salt = drawn::<SHA512_SALT>();
            let hash = ShaCrypt::SHA512.hash_password_with_salt(password, &salt);
            hash.map(|hash| hash.to_string())
                .map_err(|error| Refusal::Library(error.to_string()))
        }
    }
}

fn drawn<const OCTETS: usize>() -> [u8; OCTETS] {
    let mut octets = [0; OCTETS];
    rand::rng().fill_bytes(&mut octets);
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMES: [Scheme; 3] = [Scheme::Bcrypt, Scheme::Yescrypt, Scheme::Sha512Crypt];

    fn verify(password: &[u8], hash: &str) -> bool {
        use sha_crypt::PasswordVerifier as _;
        match hash.get(..3) {
            Some("$2b") => bcrypt::verify(password, hash).unwrap(),
            Some("$y$") => Yescrypt::default().verify_password(password, hash).is_ok(),
            _ => ShaCrypt::SHA512.verify_password(password, hash).is_ok(),
        }
    }

    /// Strings that crypt(3) of other systems has made.
    #[test]
    fn known_strings_prove_their_passwords() {
        for (password, hash) in [
            // The test vectors of OpenBSD's and openwall's bcrypt.
            (
                "U*U",
                "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            ),
            // The specification of SHA-crypt.
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
            assert!(verify(password.as_bytes(), hash), "{hash}");
            assert!(!verify(b"another", hash), "{hash}");
        }
    }

    #[test]
    fn every_scheme_hashes_what_it_can_prove() {
        for scheme in SCHEMES {
            let password = b"caf\xe9\r";
            let first = hash(scheme, password).unwrap();
            assert!(verify(password, &first), "{scheme:?}");
            assert!(!verify(b"cafe\r", &first), "{scheme:?}");
            assert_ne!(hash(scheme, password).unwrap(), first);
        }
        let longest = [b'x'; BCRYPT_MOST];
        let hash = hash(Scheme::Bcrypt, &longest).unwrap();
        assert!(verify(&longest, &hash));
        assert!(!verify(&longest[1..], &hash));
    }

    #[test]
    fn salts_are_no_longer_than_crypt_reads() {
        let hash = hash(Scheme::Sha512Crypt, b"secret").unwrap();
        let salt = hash.split('$').rev().nth(1).unwrap();
        assert_eq!(salt.len(), 16, "{hash}");
    }

    #[test]
    fn what_would_be_cut_off_is_refused() {
        for (scheme, most) in [
            (Scheme::Bcrypt, BCRYPT_MOST),
            (Scheme::Yescrypt, CRYPT_MOST),
            (Scheme::Sha512Crypt, CRYPT_MOST),
        ] {
            let long = vec![b'x'; most + 1];
            assert_eq!(hash(scheme, &long), Err(Refusal::TooLong { most }));
            assert!(hash(scheme, &long[1..]).is_ok());
            assert_eq!(hash(scheme, b"a\0b"), Err(Refusal::Nul));
        }
    }
}
