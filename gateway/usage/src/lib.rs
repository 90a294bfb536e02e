//! What customers used, by hour: without I/O, clock, lock or thread. Whoever records passes the hour.
//!
//! | module | holds |
//! |---|---|
//! | [`calendar`] | hours since the epoch as dates in UTC, and back |
//! | [`row`] | what a row of usage is told by, and what it sums |
//! | [`book`] | all rows within a bound, and what of them is not on the disk yet |
//! | [`lines`] | which lines of which files count, so that none counts twice |
//! | [`report`] | rows of a time, by hour, day or month, page by page |
//!
//! What is written are differences, never sums: a writer numbers its lines, and a reader counts each number of each writer once.
//! So a file that is read again, copied, or merged by a process that was killed before it removed the parts, changes nothing.

pub mod calendar;

pub mod row;

pub mod book;

pub mod lines;

pub mod report;
