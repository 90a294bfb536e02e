//! Weighing by estimate: classes of bytes, default weights, and what the engine's reports teach about them.

mod calibration;
mod classes;
mod estimator;
mod features;
mod shapes;

pub use classes::{TextClasses, TextScan, scan};
pub use estimator::{
    ACCOUNT_SAMPLES_MIN, BYTES_PER_TOKEN_MAX, BYTES_PER_TOKEN_MIN, Estimate, Estimator, estimate,
};
pub use features::{Features, Weights};
