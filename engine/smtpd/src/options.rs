//! The command line of smtpd(8).

use clap::Parser;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A mail server with a transactional queue.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "smtpd", version, about, max_term_width = 100)]
pub struct Options {
    /// Stay in the foreground and log to standard error
    #[arg(short = 'd')]
    pub debug: bool,

    /// Check the configuration, print every fault, and exit
    #[arg(short = 'n')]
    pub check: bool,

    /// Log more
    #[arg(short = 'v')]
    pub verbose: bool,

    /// Configuration file [default: /etc/mail/smtpd.conf or /etc/smtpd.conf; as an ordinary user
    /// ~/.config/redspool/smtpd.conf]
    #[arg(short = 'f', value_name = "file")]
    pub file: Option<PathBuf>,

    /// Define a macro; wins over the one in the file
    #[arg(short = 'D', value_name = "macro=value", value_parser = definition)]
    pub define: Vec<(String, String)>,

    /// Trace a subsystem from the start on (imsg, io, smtp, filters, mta, bounce, scheduler, expand,
    /// lookup, stat, rules, mproc, all)
    #[arg(short = 'T', value_name = "trace")]
    pub trace: Vec<String>,

    /// Start with a subsystem paused (mda, mta, smtp)
    #[arg(short = 'P', value_name = "system", value_parser = ["mda", "mta", "smtp"])]
    pub pause: Vec<String>,

    /// Directory of the queue [default: /var/spool/redspool; as an ordinary user
    /// ~/.local/share/redspool/spool; environment: REDSPOOL_SPOOL]
    #[arg(short = 'q', long, value_name = "dir")]
    pub spool: Option<PathBuf>,

    /// Control socket [default: smtpd.sock in the spool that was named, else
    /// /var/run/redspool.sock, or as an ordinary user in the runtime directory; environment:
    /// REDSPOOL_SOCKET]
    #[arg(short = 's', long, value_name = "path")]
    pub socket: Option<PathBuf>,

    /// User to run as when started by root; "root" keeps all rights (not advised)
    #[arg(
        long,
        value_name = "name",
        env = "REDSPOOL_USER",
        default_value = "_smtpd"
    )]
    pub user: String,

    /// Group whose members may look at queue and state over the control socket, and change nothing
    /// [default: none; root and the user smtpd runs as may everything, anybody may submit]
    #[arg(long, value_name = "group", env = "REDSPOOL_OPERATORS")]
    pub operators: Option<String>,

    /// Ask this DNS server instead of the system's
    #[arg(long, value_name = "address:port", env = "REDSPOOL_RESOLVER")]
    pub resolver: Option<SocketAddr>,

    /// File of DNSKEY records to trust in place of the root's, for test networks
    #[arg(long, value_name = "file", env = "REDSPOOL_TRUST_ANCHORS", hide = true)]
    pub trust_anchors: Option<PathBuf>,

    /// Port of mail exchangers, for test networks
    #[arg(
        long,
        value_name = "port",
        env = "REDSPOOL_MX_PORT",
        default_value_t = 25,
        hide = true
    )]
    pub mx_port: u16,

    /// Port of the servers of MTA-STS policies, for test networks
    #[arg(
        long,
        value_name = "port",
        env = "REDSPOOL_MTA_STS_PORT",
        default_value_t = 443,
        hide = true
    )]
    pub mta_sts_port: u16,

    /// Try it out: a private mail server with its own queue and mailboxes under a directory, on a
    /// loopback port, with hints what to type next [default directory: ./redspool-local]
    #[arg(long, value_name = "dir", num_args = 0..=1, default_missing_value = "redspool-local",
          conflicts_with_all = ["file", "check"])]
    pub local: Option<PathBuf>,
}

fn definition(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("expected macro=value".into()),
    }
}
