//! What a drill has shown: one set of figures, as JSON for programs and as a page for people.
//!
//! - [`figures`]: everything that the page shows, computed once from a [`Run`](crate::run::Run).
//! - [`conclusion`](mod@conclusion): what they say, in sentences.
//! - `chart`: pictures of them, in the colours of the page.
//! - [`sizes`]: how many replicas for which attainment, as such a page.
//! - [`svg`]: pictures of what was measured.
//! - [`page`]: one HTML file that needs nothing else: no script, font, picture or style from anywhere.

pub mod figures;

pub mod conclusion;

mod chart;

pub mod page;

pub mod sizes;

pub mod svg;
