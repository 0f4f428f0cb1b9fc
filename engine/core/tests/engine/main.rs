//! The engine in a simulated world: scripted hosts, DNS, store and clock; no sockets, no sleeping.

#[cfg(test)]
mod limits;
#[cfg(test)]
mod random;
#[cfg(test)]
mod relaying;
#[cfg(test)]
mod schedule;
#[cfg(test)]
mod world;
