//! The operators' side: health, metrics, state and changes; on its own listener and its own thread.
//!
//! What can be asked is a table (`table`): a path that is not in it does not exist, and each entry names the role that
//! it needs, so nothing is open by being forgotten. The OpenAPI document is made from the same table and from the
//! types of the answers. Views are read from copies and short locks; no query holds what a request needs.
//!
//! | part | answers |
//! |---|---|
//! | `server`, `patient` | How does a question come in, and within which bounds? |
//! | `guard` | Who may ask this? |
//! | `entries`, `table`, `call` | What can be asked, and of whom? |
//! | `read`, `change`, `accounts`, `drills` | What is answered, and what is done? |
//! | `views` | How does it look? |
//! | `openapi` | How is it described? |

mod accounts;
mod answer;
mod call;
mod change;
pub mod console;
mod drills;
mod entries;
mod gauges;
mod guard;
mod openapi;
mod patient;
mod read;
mod server;
mod table;
mod views;

pub use server::start;

/// Returns the OpenAPI document of the admin API, as `/api/v1/openapi.json` answers it.
#[must_use]
pub fn document() -> &'static serde_json::Value {
    &openapi::DOCUMENT
}
