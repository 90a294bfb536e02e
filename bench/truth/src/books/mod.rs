//! What was booked is what was computed, whatever became of the request, and is there again after a crash.

pub(crate) mod m2;
pub(crate) mod t1;
pub(crate) mod t12;
pub(crate) mod t2;
pub(crate) mod t2_routes;
