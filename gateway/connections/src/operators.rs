//! Which connections the admin listener holds, and which of them gives way to a new one.
//!
//! Who asks for a probe cannot be told from who means ill before its head is read, so every connection is taken, and
//! at the bound the one gives way that has waited longest without a question in work: an idle one, one whose head or
//! body does not come, one that does not read a short answer. A probe sends its head with its connection and is
//! answered as soon as that was read, so it is not the one; a client that a busy machine keeps from sending has
//! `GRACE`, for which no connection gives way. Questions in work are fewer than places, so there is always one that can.
//!
//! Of the questions in work, a part is kept for who has shown a token, so that nobody on the machine can keep operators
//! out with questions that need none.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Connections at once: operators and scrapers are few, and each costs a descriptor and at most one head. More give each
/// one longer in a crowd.
const CONNECTIONS_MAX: usize = 512;
/// The share of the process's descriptors that they may be, where that is less.
const DESCRIPTORS_SHARE: u64 = 4;
/// No connection gives way sooner. A thousand that come again and again are taken within a second.
const GRACE: Duration = Duration::from_millis(250);
/// Questions in work at once, the writing of their answers included, of who shows no token; the same again of who does.
/// An answer may be as large as the page of all metrics.
const TURNS_MAX: usize = 16;
/// Longest wait for a turn. They take milliseconds each, unless their answers are not read; of a large config some hundred.
const TURN_WAIT: Duration = Duration::from_secs(1);
/// The same for who shows a token: a hundred heavy questions at once are late, not refused.
const TURN_WAIT_KNOWN: Duration = Duration::from_secs(15);

/// The places and turns of the listener.
#[derive(Debug)]
pub struct Places {
    /// In the order of arrival; at most `most`, and those that were told to give way and are not gone yet.
    held: Mutex<Held>,
    most: usize,
    strangers: Arc<Semaphore>,
    known: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    lines: BTreeMap<u64, Arc<Line>>,
}

/// One connection.
#[derive(Debug, Default)]
pub struct Line {
    /// Its question is in work, so it does not give way.
    in_work: AtomicBool,
    give_way: Notify,
    /// The turn of an answer that is being written.
    writing: Mutex<Option<Turn>>,
    /// When it came, since the process started.
    since: Duration,
}

/// A question in work; over when it is dropped.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// A connection's place; given back on drop.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    number: u64,
    /// What the connection is doing.
    pub line: Arc<Line>,
}

impl Places {
    /// As many as the process's descriptors leave.
    pub fn new() -> Arc<Places> {
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let most = descriptors.map_or(CONNECTIONS_MAX, |all| (all / DESCRIPTORS_SHARE) as usize);
        Places::of(most.clamp(2 * TURNS_MAX + 1, CONNECTIONS_MAX))
    }

    fn of(most: usize) -> Arc<Places> {
        let turns = || Arc::new(Semaphore::new(TURNS_MAX));
        Arc::new(Places { held: Mutex::default(), most, strangers: turns(), known: turns() })
    }

    /// Whether a new connection gets a place at `now`: there is one, or another one has had its time. O(connections) at the
    /// bound.
    pub fn has_room(&self, now: Duration) -> bool {
        let held = self.held.lock();
        held.lines.len() < self.most || held.longest().is_some_and(|(_, line)| line.had_its_time(now))
    }

    /// A place for a new connection that came at `now`; whether another one was told to give way for it. O(connections) at
    /// the bound.
    pub fn take(self: &Arc<Self>, now: Duration) -> (Place, bool) {
        let gave_way = self.held.lock().lines.len() >= self.most && self.make_room(now);
        let line = Arc::new(Line { since: now, ..Line::default() });
        let mut held = self.held.lock();
        let number = held.next;
        held.next += 1;
        held.lines.insert(number, Arc::clone(&line));
        drop(held);
        (Place { places: Arc::clone(self), number, line }, gave_way)
    }

    /// Tells the connection that has waited longest to give way, if it has had its time at `now`. `false`: the questions of
    /// all are in work, or those that wait have only come.
    pub fn make_room(&self, now: Duration) -> bool {
        let mut held = self.held.lock();
        let longest = held.longest().filter(|(_, line)| line.had_its_time(now));
        let Some(number) = longest.map(|(number, _)| number) else { return false };
        if let Some(line) = held.lines.remove(&number) {
            line.give_way.notify_one();
        }
        true
    }

    /// A turn for a question; `None`: there was none in time.
    pub async fn turn(&self, is_known: bool) -> Option<Turn> {
        let (turns, wait) =
            if is_known { (&self.known, TURN_WAIT_KNOWN) } else { (&self.strangers, TURN_WAIT) };
        tokio::time::timeout(wait, Arc::clone(turns).acquire_owned()).await.ok()?.ok().map(Turn)
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.held.lock().lines.len()
    }
}

impl Held {
    /// The connection that has waited longest without a question in work.
    fn longest(&self) -> Option<(u64, &Arc<Line>)> {
        let waiting = self.lines.iter().find(|(_, line)| !line.in_work.load(Ordering::Relaxed));
        waiting.map(|(number, line)| (*number, line))
    }
}

impl Line {
    /// Whether it may be told to give way at `now`.
    fn had_its_time(&self, now: Duration) -> bool {
        now >= self.since + GRACE
    }

    /// Waits until this connection is to give way.
    pub async fn gives_way(&self) {
        self.give_way.notified().await;
    }

    /// A question is worked on from now on.
    pub fn begins(&self) {
        self.in_work.store(true, Ordering::Relaxed);
    }

    /// Its answer is ready to be written, and has its turn until it is.
    pub fn writes(&self, turn: Turn) {
        *self.writing.lock() = Some(turn);
    }

    /// All was written that there is to write.
    pub fn has_written(&self) {
        if self.writing.lock().take().is_some() {
            self.in_work.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.held.lock().lines.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &Line) -> bool {
        use std::future::Future as _;
        let mut notified = std::pin::pin!(line.gives_way());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        notified.as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn at_the_bound_the_connection_gives_way_that_waits_longest_without_a_question() {
        let places = Places::of(40);
        let at = |ms| Duration::from_millis(ms);
        let mut held: Vec<Place> = (0..40).map(|nth| places.take(at(nth)).0).collect();
        held[0].line.begins();
        assert!(!places.has_room(at(250)), "the second came a millisecond after the first");
        assert!(places.has_room(at(251)));

        let (_new, gave_way) = places.take(at(251));

        assert!(gave_way && !told(&held[0].line), "its question is in work");
        assert!(told(&held[1].line) && !told(&held[2].line));
        assert_eq!(places.count(), 40);
        held.clear();
        assert_eq!(places.count(), 1, "a place comes back once, given way or not");
    }

    /// The system says that descriptors have run out as soon as the last one is taken, whether somebody waits or not.
    #[test]
    fn without_descriptors_nobody_gives_way_who_has_only_come() {
        let places = Places::of(40);
        let (place, _) = places.take(Duration::ZERO);

        assert!(!places.make_room(Duration::from_millis(249)) && !told(&place.line));
        assert!(places.make_room(Duration::from_millis(250)) && told(&place.line));
    }

    #[tokio::test]
    async fn strangers_leave_turns_to_who_shows_a_token_until_their_answers_are_written() {
        let places = Places::new();
        let line = Line::default();
        let mut strangers = Vec::new();
        for _ in 0..TURNS_MAX {
            strangers.push(places.turn(false).await.unwrap());
        }
        assert!(places.turn(false).await.is_none(), "after a wait");
        assert!(places.turn(true).await.is_some());

        line.begins();
        line.writes(strangers.pop().unwrap());
        assert!(line.in_work.load(Ordering::Relaxed) && places.turn(false).await.is_none());
        line.has_written();
        assert!(!line.in_work.load(Ordering::Relaxed) && places.turn(false).await.is_some());
    }
}
