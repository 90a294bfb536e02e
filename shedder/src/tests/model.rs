//! Random operations beside a reference model: the guarantees of the front page.
