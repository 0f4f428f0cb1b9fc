//! The SMTP server session, driven without sockets: transcripts, and properties that hold for
//! every stream.

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod driver;
#[cfg(test)]
mod envelopes;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod security;
#[cfg(test)]
mod transcript;
