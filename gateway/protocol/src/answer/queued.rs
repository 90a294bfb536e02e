//! What a stream is told that waits for a place: a comment, which no client takes for content.

use bytes::Bytes;
use shedder::{LINE_MAX, Line};

/// The comment, with the empty line that ends it. Allocates.
#[must_use]
pub fn queued(line: Line) -> Bytes {
    let Line { requests, wait } = line;
    let more = if requests as usize >= LINE_MAX { " or more" } else { "" };
    let about = wait.map_or(String::new(), |wait| format!(", about {} s", wait.as_secs_f64().ceil()));
    Bytes::from(format!(": queued, {requests}{more} before this request{about}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_is_one_comment_with_what_is_known() {
        let told = |requests, wait| String::from_utf8(queued(Line { requests, wait }).to_vec()).unwrap();
        let wait = Some(Duration::from_millis(2_300));
        assert_eq!(told(12, wait), ": queued, 12 before this request, about 3 s\n\n");
        assert_eq!(told(LINE_MAX as u32, None), ": queued, 1000 or more before this request\n\n");
    }
}
