//! What became of a card's configuration at the end.
#![forbid(unsafe_code)]

use super::Config;

/// What became of it, with what the interface is called by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// It was as wanted already, and nothing was changed.
    NothingToDo,
    /// It is as it was before.
    To(Config),
    /// Somebody else has set it in the meantime, to this; so it was left.
    LeftTo(String, Config),
    /// The interface is gone, and this is what was to be restored.
    Gone(String, Config),
}

impl Restored {
    /// What the user should know of it: a line for stderr.
    pub fn remark(&self) -> Option<String> {
        match self {
            Self::NothingToDo | Self::To(_) => None,
            Self::LeftTo(interface, found) => Some(format!(
                "somebody has set the hardware stamps of {interface} to {found} during this run, so they are left at that"
            )),
            // A card that was unplugged forgets them, and one that was moved need not.
            Self::Gone(interface, original) => Some(format!(
                "{interface} is gone from this network namespace: if it is in another one, set its hardware stamps back to \
                 {original} there (hwstamp_ctl -i {interface} -t {} -r {})",
                original.tx.as_raw(),
                original.rx.as_raw()
            )),
        }
    }
}
