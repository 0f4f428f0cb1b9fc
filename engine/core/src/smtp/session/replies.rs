//! The replies of a session that are not positive, by name. Codes are those of the reference
//! where it is right, and of the RFCs where it is not.

use crate::reply::{Reply, Status};

/// Defines functions that give a reply of fixed text.
macro_rules! replies {
    ($($name:ident = $code:literal, $class:ident($subject:literal, $detail:literal), $text:literal;)*) => {
        $(pub(super) fn $name() -> Reply {
            Reply::new($code, Some(Status::$class($subject, $detail)), $text)
        })*
    };
}

replies! {
    unknown = 500, permanent(5, 1), "Invalid command: Command unrecognized";
    not_offered = 502, permanent(5, 1), "Invalid command: Command not implemented";
    not_now = 503, permanent(5, 1), "Invalid command: Command not allowed at this point.";
    no_argument = 500, permanent(5, 4), "Invalid command arguments: No parameter allowed.";
    argument_needed = 501, permanent(5, 4), "Invalid command arguments: Parameter required";
    line_too_long = 500, permanent(5, 2), "Line too long";
    bare_lf = 500, permanent(5, 2), "Syntax error: Lines end with CR LF";
    control_character = 501, permanent(5, 2), "Syntax error: Control character in command";
    not_utf8 = 501, permanent(5, 2), "Syntax error: Command is not UTF-8";
    already_greeted = 503, permanent(5, 1), "Invalid command: Already identified";
    greeting_without_name = 501, permanent(5, 1), "Invalid command: HELO/EHLO requires domain name";
    greeting_name = 501, permanent(5, 4), "Invalid command arguments: Invalid domain name";
    tls_required = 530, permanent(7, 0), "Must issue a STARTTLS command first";
    auth_required = 530, permanent(7, 0), "Authentication required";
    already_secure = 503, permanent(5, 1), "Invalid command: Channel already secured";
    behind_starttls = 554, permanent(7, 0), "Nothing may follow STARTTLS before the reply to it";
    already_authenticated = 503, permanent(5, 1), "Invalid command: Already authenticated";
    auth_needs_tls = 538, permanent(7, 11), "Encryption required: Must issue a STARTTLS command first";
    unknown_mechanism = 504, permanent(5, 4), "Invalid command arguments: Unknown authentication mechanism";
    not_base64 = 501, permanent(5, 2), "Syntax error: Not base64";
    auth_syntax = 501, permanent(5, 2), "Syntax error: No name and password";
    auth_cancelled = 501, permanent(7, 0), "Authentication cancelled";
    auth_failed = 535, permanent(7, 8), "Authentication failed";
    sender_syntax = 553, permanent(1, 0), "Other address status: Sender address syntax error";
    rcpt_syntax = 501, permanent(1, 3), "Bad destination mailbox address syntax: Recipient address syntax error";
    needs_utf8 = 553, permanent(6, 7), "Non-ASCII addresses need the parameter SMTPUTF8 of MAIL";
    too_many_mails = 452, transient(5, 3), "Too many recipients: Too many messages sent";
    too_many_rcpts = 452, transient(5, 3), "Too many recipients: Too many recipients";
    chunk_syntax = 501, permanent(5, 4), "Invalid command arguments: BDAT takes a number of octets, and LAST";
    no_destination = 524, permanent(2, 4), "Mailing list expansion problem";
    no_rcpt = 503, permanent(5, 4), "Invalid command arguments: No recipient specified";
    bare_line_end = 554, permanent(6, 0), "Message refused: CR or LF alone in message";
    nul = 554, permanent(6, 0), "Message refused: NUL in message";
    long_line = 500, permanent(5, 2), "Message refused: Line too long in message";
    too_big = 552, permanent(3, 4), "Message too big for system: Message size exceeds fixed limit";
    header_too_big = 552, permanent(3, 4), "Message too big for system: Header section too big";
    routing_loop = 554, permanent(4, 6), "Routing loop detected: Loop detected";
    malformed = 550, permanent(7, 1), "Delivery not authorized, message refused: Message is not RFC 2822 compliant";
    too_many_errors = 421, transient(7, 0), "Too many errors, closing connection";
    http = 421, transient(7, 0), "This is a mail server, closing connection";
    timeout = 421, transient(4, 2), "Timeout, closing connection";
    stopping = 421, transient(3, 2), "Service shutting down, closing connection";
}
