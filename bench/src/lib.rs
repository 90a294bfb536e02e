//! What does it do under load?
