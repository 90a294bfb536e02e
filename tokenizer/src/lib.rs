//! What will this request weigh, and how much of it is already cached?
