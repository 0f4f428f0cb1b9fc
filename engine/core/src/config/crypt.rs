//! Hashed passwords as crypt(3) writes them: which scheme a string is of, by its prefix.
//!
//! Promises: a string with a scheme has the parts that scheme needs, of characters that crypt(3)
//! uses; so what cannot be checked is found when the table is read, not when a user comes.
//! Absent on purpose: hashing.

/// A way to hash passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `$2a$`, `$2b$`, `$2y$`: bcrypt.
    Bcrypt,
    /// `$y$`: yescrypt.
    Yescrypt,
    /// `$5$`: SHA-256.
    Sha256,
    /// `$6$`: SHA-512.
    Sha512,
}

impl Scheme {
    /// The scheme of a hashed password; `None` if it is of none we check.
    pub fn of(hash: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "./$=,".contains(c);
        let mut parts = hash.strip_prefix('$')?.split('$');
        let scheme = match parts.next()? {
            "2a" | "2b" | "2y" => Self::Bcrypt,
            "y" => Self::Yescrypt,
            "5" => Self::Sha256,
            "6" => Self::Sha512,
            _ => return None,
        };
        let parts: Vec<usize> = parts.map(str::len).collect();
        let whole = match (scheme, parts.as_slice()) {
            (Self::Bcrypt, parts) => parts == [2, 53],
            (Self::Yescrypt, [parameters, _, hash]) => *parameters > 0 && *hash == 43,
            (Self::Sha256, [.., _, hash]) => *hash == 43,
            (Self::Sha512, [.., _, hash]) => *hash == 86,
            _ => false,
        };
        (whole && hash.chars().all(plain)).then_some(scheme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_tells_the_scheme() {
        let check = |hash: &str, want| assert_eq!(Scheme::of(hash), want, "{hash}");
        let bcrypt = "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        check(bcrypt, Some(Scheme::Bcrypt));
        check(&bcrypt.replace("2b", "2y"), Some(Scheme::Bcrypt));
        check(&bcrypt.replace("2b", "2x"), None);
        check(&bcrypt[..59], None);
        check(
            "$y$jC5$LdJMENpBABJJ3hIHjB1Bi.$nV0oBzFI3If3GJeB9MpTVmo08LVmgfmmuRBosDpbVx0",
            Some(Scheme::Yescrypt),
        );
        let sha = "svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";
        check(&format!("$6$saltstring${sha}"), Some(Scheme::Sha512));
        check(
            &format!("$6$rounds=5000$saltstring${sha}"),
            Some(Scheme::Sha512),
        );
        check(
            &format!("$5$saltstring${}", &sha[..43]),
            Some(Scheme::Sha256),
        );
        check(&format!("$6$saltstring${sha}\u{e9}"), None);
        for bad in [
            "",
            "secret",
            "$1$salt$hash",
            "$6$",
            "$6$salt$",
            "!",
            "*",
            "$y$$$",
            "!$2b$05$",
        ] {
            check(bad, None);
        }
    }
}
