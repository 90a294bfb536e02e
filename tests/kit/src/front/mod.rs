//! What stands before a gateway: clients at addresses of their own, attackers, and the proxies of the handbook.

pub mod attacker;
pub mod client;
pub mod handbook;
