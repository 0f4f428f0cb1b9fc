//! newaliases and makemap: what they are for elsewhere happens by itself here, and they say so.

use crate::console::Console;

/// Runs newaliases.
pub(crate) fn newaliases(console: &mut Console) {
    console.print(
        b"nothing to rebuild: smtpd reads alias tables as text; after a change send it SIGHUP\n",
    );
}

/// Runs makemap.
pub(crate) fn makemap(console: &mut Console) {
    console.fail(
        "no maps are made: smtpd reads tables as text; write `table NAME file:PATH` in smtpd.conf",
    );
    console.end_with(69);
}
