//! Who may use this deployment now, who waits, who is turned away, and on which replica?
