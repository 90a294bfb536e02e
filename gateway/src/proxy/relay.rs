//! Bytes through, meter beside them: from an engine's 200 to the client's last byte.
//!
//! Until the first generated content nothing reaches the client, so that whatever goes wrong can still be
//! mended elsewhere. From then on whatever the engine has sent goes out in one write, and only atomics are touched.
//!
//! The time between tokens is stamped when they are read from the engine. While a slow client blocks a write,
//! the engine waits too, so the gap after it says nothing of the engine and is left out.

mod last_words;

use crate::clock;
use crate::downstream::client::{Client, Stop};
use crate::proxy::alarm::Alarm;
use crate::upstream::exchange::{Exchange, ExchangeError};
use crate::upstream::harvest::Live;
use crate::upstream::replica::UpstreamTimeouts;
use bytes::{Bytes, BytesMut};
use protocol::answer::read_whole;
use protocol::answer::sse::SseSplitter;
use protocol::answer::upstream_error::UpstreamError;
use protocol::answer::usage::Usage;
use protocol::answer::{EventKind, Stamp, StreamReader, Whole};
use protocol::api::Api;
use protocol::explain;
use protocol::refusal::{Reason, Refusal};
use std::time::Duration;
use tokio::sync::oneshot;

/// Most bytes of preamble that are held back. Engines send a few hundred before the first token; more than
/// this is no preamble, and is passed on.
const HELD_BYTES_MAX: usize = 64 << 10;
/// Largest answer that is held whole. Above it something is wrong: a million tokens have about 6 MB.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Bytes that are gathered into one write when an engine's pieces wait in a row. Beyond this a larger write is no cheaper.
const GATHERED_BYTES: usize = 32 << 10;
/// A client write that took longer than this held the engine up.
const BLOCKED_WRITE: Duration = Duration::from_millis(5);

/// Why a relay ended before the answer was whole.
#[derive(Debug)]
pub enum Broken {
    /// The client is gone or was told; nothing more can be done.
    Stopped(Stop),
    /// The engine failed before its first token.
    Upstream(UpstreamFault),
    /// The shedder took the place back before the first token.
    Withdrawn(oneshot::Receiver<crate::upstream::admission::Outcome>),
}

/// How an engine failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamFault {
    /// The connection failed or broke, or silence was too long.
    Exchange(ExchangeError),
    /// It reported an error.
    Reported(UpstreamError),
}

impl From<Stop> for Broken {
    fn from(stop: Stop) -> Self {
        Broken::Stopped(stop)
    }
}

/// What is known of an answer at its end.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Answered {
    /// The engine's usage, if it came.
    pub usage: Option<Usage>,
    /// Content chunks of a stream.
    pub chunks: u32,
    /// Answers of it that have come to their end, where it carries several.
    pub ended: u32,
    /// When the first token came; for a whole answer, when it was complete.
    pub first_token: Option<Duration>,
}

/// What a relay works with.
pub struct Relay<'a, 's> {
    /// The client.
    pub client: &'a mut Client<'s>,
    /// The engine's answer.
    pub exchange: &'a mut Exchange,
    /// The request's shared side.
    pub live: &'a Live,
    /// What the engine speaks.
    pub api: Api,
    /// What is written into the answer.
    pub stamp: Stamp<'a>,
    /// How long the engine may be silent.
    pub timeouts: &'a UpstreamTimeouts,
    /// Silence after which a stream's client gets a comment.
    pub silence: Duration,
    /// When the request went to the engine.
    pub dispatched: Duration,
    /// What is known so far; kept outside, because the client may leave at any await.
    pub answered: &'a mut Answered,
}

enum Step {
    Read(Result<Option<Bytes>, ExchangeError>),
    Gone,
    Withdrawn(oneshot::Receiver<crate::upstream::admission::Outcome>),
    Timer,
}

/// What the pieces that were there together mean. What the client gets for them is appended to what is held.
#[derive(Default)]
struct Batch {
    chunks: u32,
    done: bool,
    error: Option<UpstreamError>,
}

impl Relay<'_, '_> {
    /// Relays a stream. `first_token` is called when its first content came.
    ///
    /// # Errors
    /// [`Broken`]: by the engine before the first token; afterwards the client was told inside the stream.
    pub async fn stream(mut self, mut first_token: impl FnMut()) -> Result<(), Broken> {
        let mut splitter = SseSplitter::default();
        let mut reader = StreamReader::new(self.api, self.stamp);
        let relayed = self.events_through(&mut splitter, &mut reader, &mut first_token).await;
        if matches!(relayed, Err(Broken::Stopped(Stop::Gone))) {
            self.last_words(&mut splitter, &mut reader, &mut first_token).await;
        }
        relayed
    }

    /// Relays what comes until the stream ends.
    async fn events_through(
        &mut self,
        splitter: &mut SseSplitter,
        reader: &mut StreamReader<'_>,
        first_token: &mut impl FnMut(),
    ) -> Result<(), Broken> {
        let mut held = BytesMut::new();
        let mut last_read = self.dispatched;
        let mut last_write = clock::now();
        let mut blocked = true;
        let mut done = false;
        let mut ahead = None;
        let sleep = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut alarm = Alarm::on(sleep);
        loop {
            let due = self.due(last_read, last_write);
            let step = match ahead.take() {
                Some(read) => Step::Read(read),
                None => self.step(&mut alarm, due).await,
            };
            match step {
                Step::Gone => return Err(Stop::Gone.into()),
                Step::Withdrawn(receiver) => return Err(Broken::Withdrawn(receiver)),
                Step::Timer => {
                    if self.is_silent_too_long(last_read) {
                        return Err(self.failed(UpstreamFault::Exchange(ExchangeError::Timeout)));
                    }
                    if clock::now() >= last_write + self.silence {
                        self.client.keep_alive().await?;
                        last_write = clock::now();
                    }
                }
                Step::Read(Err(e)) => return Err(self.failed(UpstreamFault::Exchange(e))),
                Step::Read(Ok(None)) => {
                    done |= self.take_rest(splitter, reader, &mut held);
                    return self.end(held.freeze(), done, first_token).await;
                }
                Step::Read(Ok(Some(bytes))) => {
                    let now = clock::now();
                    let mut batch = Batch::default();
                    Self::events(splitter, reader, bytes, &mut held, &mut batch);
                    ahead = self.gather(splitter, reader, &mut held, &mut batch).await;
                    self.answered.usage = reader.usage().or(self.answered.usage);
                    self.client.sequence = reader.sequence();
                    self.count(&batch, now, now.saturating_sub(last_read), blocked, first_token);
                    self.answered.ended = reader.ended();
                    last_read = now;
                    done |= batch.done;
                    if let Some(error) = batch.error {
                        return Err(self.broken_inside(held.freeze(), error).await);
                    }
                    if self.answered.first_token.is_none() && held.len() <= HELD_BYTES_MAX {
                        continue;
                    }
                    if matches!(ahead, Some(Ok(None))) {
                        continue; // The end goes out with it.
                    }
                    self.pass(held.split().freeze()).await?;
                    if self.live.is_out_of_time() && !done {
                        return Err(Stop::Refused(explain::out_of_time()).into());
                    }
                    last_write = clock::now();
                    blocked = last_write.saturating_sub(now) > BLOCKED_WRITE;
                }
            }
        }
    }

    /// What is left when the engine has ended: whether it is the event that ends a stream. A last event may lack its empty
    /// line. A piece of one is dropped: what follows it would be read as a part of it.
    fn take_rest(
        &mut self,
        splitter: &mut SseSplitter,
        reader: &mut StreamReader<'_>,
        held: &mut BytesMut,
    ) -> bool {
        let mut last = BytesMut::new();
        let ends = matches!(reader.read(&splitter.take_rest(), &mut last), EventKind::Done);
        if ends {
            held.extend_from_slice(&last);
            self.answered.usage = reader.usage().or(self.answered.usage);
        }
        ends
    }

    /// Takes the pieces that have arrived already into the same write; gives what ends the row, if it is known.
    async fn gather(
        &mut self,
        splitter: &mut SseSplitter,
        reader: &mut StreamReader<'_>,
        held: &mut BytesMut,
        batch: &mut Batch,
    ) -> Option<Result<Option<Bytes>, ExchangeError>> {
        while batch.error.is_none() && held.len() < GATHERED_BYTES {
            match self.exchange.read_ready().await? {
                Ok(Some(bytes)) => Self::events(splitter, reader, bytes, held, batch),
                end => return Some(end),
            }
        }
        None
    }

    async fn step(&mut self, alarm: &mut Alarm<'_>, due: Duration) -> Step {
        let before_token = self.answered.first_token.is_none();
        tokio::select! {
            biased;
            read = self.exchange.read_body() => Step::Read(read),
            () = self.client.gone() => Step::Gone,
            receiver = self.live.withdrawal(), if before_token => Step::Withdrawn(receiver),
            () = alarm.ring(due) => Step::Timer,
        }
    }

    /// When something has to be looked at, if nothing is read before.
    fn due(&self, last_read: Duration, last_write: Duration) -> Duration {
        self.silence_end(last_read).min(last_write + self.silence)
    }

    fn silence_end(&self, last_read: Duration) -> Duration {
        match self.answered.first_token {
            None => self.dispatched + self.timeouts.first_token,
            Some(_) => last_read + self.timeouts.between_tokens,
        }
    }

    fn is_silent_too_long(&self, last_read: Duration) -> bool {
        clock::now() >= self.silence_end(last_read)
    }

    fn events(
        splitter: &mut SseSplitter,
        reader: &mut StreamReader<'_>,
        bytes: Bytes,
        held: &mut BytesMut,
        batch: &mut Batch,
    ) {
        if splitter.push(bytes).is_err() {
            batch.error = Some(UpstreamError {
                message: "The engine sent an event without an end.".to_owned(),
                ..UpstreamError::default()
            });
            return;
        }
        while let Some(event) = splitter.next_event() {
            match reader.read(&event, held) {
                EventKind::Content(choices) => batch.chunks += choices,
                EventKind::Done => batch.done = true,
                EventKind::Error(error) => {
                    batch.error = Some(error);
                    break;
                }
                EventKind::Preamble => {}
            }
        }
    }

    fn count(
        &mut self,
        batch: &Batch,
        now: Duration,
        gap: Duration,
        blocked: bool,
        first_token: &mut impl FnMut(),
    ) {
        if batch.chunks == 0 {
            return;
        }
        // The first tokens of all answers come in one step, but not always in one piece.
        let choices = self.live.choices();
        let is_begun = self.answered.chunks >= choices;
        // Those that run have a token each in a step.
        let running = choices.saturating_sub(self.answered.ended).max(1);
        self.answered.chunks = self.answered.chunks.saturating_add(batch.chunks);
        if self.answered.first_token.is_none() {
            self.answered.first_token = Some(now);
            self.live.ledger().charge_prompt();
            first_token();
        }
        self.live.chunks(batch.chunks, (is_begun && !blocked).then(|| gap.saturating_mul(running)));
    }

    async fn pass(&mut self, bytes: Bytes) -> Result<(), Stop> {
        if !self.client.head_sent() {
            self.client.begin_stream().await?;
        }
        self.client.write(bytes, false).await
    }

    /// The engine ended its answer. Only one with the event that ends its API's streams may look complete.
    async fn end(&mut self, rest: Bytes, done: bool, first_token: &mut impl FnMut()) -> Result<(), Broken> {
        if self.answered.first_token.is_none() {
            if !done {
                let e = ExchangeError::Broken("the stream ended before its first token".to_owned());
                return Err(Broken::Upstream(UpstreamFault::Exchange(e)));
            }
            self.answered.first_token = Some(clock::now());
            self.live.ledger().charge_prompt();
            first_token();
        }
        self.pass(rest).await?;
        if !done {
            return Err(
                self.failed(UpstreamFault::Exchange(ExchangeError::Broken("no end of stream".to_owned())))
            );
        }
        self.client.write(Bytes::new(), true).await?;
        Ok(())
    }

    /// The engine reported an error inside its stream, after `good` bytes.
    async fn broken_inside(&mut self, good: Bytes, error: UpstreamError) -> Broken {
        if self.answered.first_token.is_some()
            && let Err(stop) = self.pass(good).await
        {
            return stop.into();
        }
        self.failed(UpstreamFault::Reported(error))
    }

    fn failed(&self, fault: UpstreamFault) -> Broken {
        if self.answered.first_token.is_none() {
            Broken::Upstream(fault)
        } else {
            Stop::Refused(fault.refusal()).into()
        }
    }

    /// Relays an answer that comes as a whole. `None` in place of usage is known from a body without one.
    ///
    /// # Errors
    /// [`Broken`]: nothing was sent to the client then.
    pub async fn whole(mut self, status: u16) -> Result<(), Broken> {
        let mut body = BytesMut::new();
        let end = self.dispatched + self.timeouts.answer;
        let sleep = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut alarm = Alarm::on(sleep);
        loop {
            match self.step(&mut alarm, end).await {
                Step::Gone => return Err(Stop::Gone.into()),
                Step::Withdrawn(receiver) => return Err(Broken::Withdrawn(receiver)),
                Step::Timer => return Err(self.failed(UpstreamFault::Exchange(ExchangeError::Timeout))),
                Step::Read(Err(e)) => return Err(self.failed(UpstreamFault::Exchange(e))),
                Step::Read(Ok(Some(piece))) if body.len() + piece.len() <= ANSWER_BYTES_MAX => {
                    body.extend_from_slice(&piece);
                }
                Step::Read(Ok(Some(_))) => {
                    let e = ExchangeError::Broken(format!("the answer exceeds {ANSWER_BYTES_MAX} bytes"));
                    return Err(self.failed(UpstreamFault::Exchange(e)));
                }
                Step::Read(Ok(None)) => break,
            }
        }
        if self.client.head_sent() {
            // The client has the head of a stream, and waits for its events.
            let e = ExchangeError::Broken("no stream came where one was asked for".to_owned());
            return Err(self.failed(UpstreamFault::Exchange(e)));
        }
        let (usage, answer) = match read_whole(self.api, &body.freeze(), self.stamp) {
            Whole::Answer(usage, answer) => (usage, answer),
            Whole::Error(error) => return Err(self.failed(UpstreamFault::Reported(error))),
            Whole::Unreadable => {
                let e = ExchangeError::Broken("the answer is no JSON object".to_owned());
                return Err(self.failed(UpstreamFault::Exchange(e)));
            }
        };
        self.answered.usage = usage;
        self.answered.first_token = Some(clock::now());
        self.live.ledger().charge_prompt();
        let json = http::HeaderValue::from_static("application/json");
        self.client.answer(status, &json, answer).await?;
        Ok(())
    }
}

impl UpstreamFault {
    /// What the client is told when no retry is left.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            UpstreamFault::Exchange(ExchangeError::Timeout) => {
                Refusal::new(Reason::UpstreamTimeout, "The model server did not answer in time.")
            }
            UpstreamFault::Exchange(e) => {
                Refusal::new(Reason::UpstreamError, format!("The model server failed: {e}."))
            }
            UpstreamFault::Reported(error) => {
                Refusal::new(Reason::UpstreamError, format!("The model server failed: {}", error.message))
            }
        }
    }
}
