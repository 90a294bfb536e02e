//! A request that is understood: its decisive members, the text of its prompt, and what of it an engine may see.

pub mod call;
pub mod end_user;
mod model_name;
pub mod policy;
pub mod prompt_text;
pub mod stops;

#[cfg(test)]
mod differential;
