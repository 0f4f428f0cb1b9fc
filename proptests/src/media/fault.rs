//! A planned fault of media.

use std::io::Error;

/// After `left` more operations one fails, or all from there on.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Operations that still succeed.
    pub left: usize,
    /// Number of the error, as the operating system has it: [`Fault::EIO`], [`Fault::ENOSPC`].
    pub errno: i32,
    /// Whether everything fails from then on.
    pub sticky: bool,
}

impl Fault {
    /// The disk does not answer.
    pub const EIO: i32 = 5;
    /// The disk is full.
    pub const ENOSPC: i32 = 28;

    /// The error of the next operation, if it is to fail.
    pub(super) fn strike(&mut self) -> Option<Error> {
        let due = self.left == 0;
        if !due {
            self.left -= 1;
        } else if !self.sticky {
            self.left = usize::MAX;
        }
        due.then(|| Error::from_raw_os_error(self.errno))
    }
}
