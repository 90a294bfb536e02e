//! Shows the claims of the project, one command each.
fn main() {}
