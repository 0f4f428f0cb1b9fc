//! What smtpd.conf can ask for and this version does not do, and what to do instead.

/// What to do instead of the feature that the word stands for.
pub(super) fn advice(word: &str) -> &'static str {
    match word {
        "senders" => {
            "remove it, and let rules say who may send as whom: match auth USER mail-from ADDRESS"
        }
        "filter" | "proc" => {
            "remove it, and let mail pass through the filtering server first: relay host to it, \
             and take its mail back on another port"
        }
        "srs" | "mail-from" => "remove it: the return path stays as the sender gave it",
        "admd" => "remove it: only filters are told of it, and there are none yet",
        "compression" | "encryption" => {
            "remove it, and put the spool on a file system that does this"
        }
        "wrapper" => "remove it, and write the wrapping command into the mda command itself",
        "junk" => "remove it: all mail goes to the inbox, where a mail program can sort it",
        "forward-only" | "expand-only" => {
            "use mbox, maildir, lmtp or mda, and reject users who must not receive mail"
        }
        "domain" => "write one relay action per smart host, and match for domain to choose it",
        "hostnames" => "write one listener per address, each with its hostname",
        "proxy-v2" => "remove it, and let clients connect without a proxy",
        "rdns" => "match from src with the addresses of the hosts you mean",
        "regex" => "write the names one by one; a * stands for any part of a domain",
        _ => "remove it",
    }
}

/// Why a key of `limit` is not served; `None` for one that does not exist.
pub(super) fn limit_advice(key: &str) -> Option<&'static str> {
    Some(match key {
        "max-msg-batch-size" => "remove it: listings have one page size, max-evp-batch-size",
        _ => return None,
    })
}
