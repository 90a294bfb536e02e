//! Bytes through, meter beside them: from an engine's 200 to the client's last byte.
//!
//! Until the first generated content nothing reaches the client, so that whatever goes wrong can still be
//! mended elsewhere. From then on whatever the engine has sent goes out in one write, and only atomics are touched.
//!
//! The time between tokens is stamped when they are read from the engine. While a slow client blocks a write,
//! the engine waits too, so the gap after it says nothing of the engine and is left out.

mod last_words;

use crate::accounts::memory::{ANSWER_FREE, MemoryGuard};
use crate::clock;
use crate::downstream::client::{Client, Stop};
use crate::proxy::alarm::Alarm;
use crate::proxy::attempt::observed;
use crate::proxy::outcome::AttemptOutcome;
use crate::upstream::admission::Place;
use crate::upstream::exchange::{Exchange, ExchangeError};
use crate::upstream::harvest::{Live, Others};
use crate::upstream::replica::UpstreamTimeouts;
use bytes::{Bytes, BytesMut};
use protocol::answer::finish;
use protocol::answer::passage::{Ending, HEAD_MAX, Passage};
use protocol::answer::read_whole;
use protocol::answer::sse::SseSplitter;
use protocol::answer::text;
use protocol::answer::usage::Usage;
use protocol::answer::{EventKind, Stamp, StreamReader, Whole};
use protocol::api::Api;
use protocol::attribution::{Observed, OwnBound};
use protocol::explain;
use std::time::Duration;
use tokio::sync::oneshot;

/// Most bytes of preamble that are held back. Engines send a few hundred before the first token; more than
/// this is no preamble, and is passed on.
const HELD_BYTES_MAX: usize = 64 << 10;
/// Largest answer that is held whole. Above it something is wrong: a million tokens have about 6 MB.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Longest whole answer that is read for how many bytes a token has: enough of them are shorter.
const TAUGHT_BYTES_MAX: usize = 64 << 10;
/// Bytes that are gathered into one write when an engine's pieces wait in a row. Beyond this a larger write is no cheaper.
const GATHERED_BYTES: usize = 32 << 10;
/// A client write that took longer than this held the engine up.
const BLOCKED_WRITE: Duration = Duration::from_millis(5);

/// How long the engine may take to end its answer after the event that ends it. Then the connection is given up.
const END_WITHIN: Duration = Duration::from_secs(1);
/// Silence after which a replica is taken to be stuck, if all of its other answers are silent as well.
const ALL_SILENT: Duration = Duration::from_secs(60);
/// An event that may be the last is held back for what belongs to it, no longer than this.
const FLUSH_AFTER: Duration = Duration::from_millis(200);
/// Steps beyond the largest answer that was asked for, as a factor and a number, after which an engine is cut off that does
/// not end.
const RUNAWAY: (u32, u32) = (2, 1_024);

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
    /// Why the answer ended, in the API's own word.
    pub finish: Option<&'static str>,
    /// Generated tokens that the engine told while it generated.
    pub running: Option<u64>,
    /// Bytes of generated text of a whole answer, where they were counted.
    pub text_bytes: u64,
    /// Bytes that a token of this deployment usually has.
    pub bytes_per_token: f64,
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
    /// The place that it holds there.
    pub place: &'a Place,
    /// The largest answer that was asked for, tokens per choice.
    pub max_tokens: Option<u32>,
    /// The bytes that it holds.
    pub memory: &'a mut MemoryGuard,
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
    error: Option<Observed>,
}

impl Relay<'_, '_> {
    /// Relays a stream. `first_token` is called when its first content came.
    ///
    /// # Errors
    /// `AttemptOutcome`: by the engine before the first token; afterwards the client was told inside the stream.
    pub async fn stream(mut self, mut first_token: impl FnMut()) -> Result<(), AttemptOutcome> {
        let mut splitter = SseSplitter::default();
        let mut reader = StreamReader::new(self.api, self.stamp);
        let relayed = self.events_through(&mut splitter, &mut reader, &mut first_token).await;
        if matches!(relayed, Err(AttemptOutcome::Stopped(Stop::Gone))) {
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
    ) -> Result<(), AttemptOutcome> {
        let mut held = BytesMut::new();
        let mut since = Since { read: self.dispatched, content: self.dispatched, write: clock::now() };
        let mut blocked = true;
        let mut ahead = None;
        let sleep = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut alarm = Alarm::on(sleep);
        loop {
            let flush_at = reader.is_finished().then(|| since.read + FLUSH_AFTER);
            let due = self.due(&since).min(flush_at.unwrap_or(Duration::MAX));
            let step = match ahead.take() {
                Some(read) => Step::Read(read),
                None => self.step(&mut alarm, due).await,
            };
            match step {
                Step::Gone => return Err(Stop::Gone.into()),
                Step::Withdrawn(receiver) => return Err(AttemptOutcome::Withdrawn(receiver)),
                Step::Timer => {
                    if flush_at.is_some_and(|at| clock::now() >= at) {
                        reader.flush(&mut held);
                        since.read = Duration::MAX.saturating_sub(FLUSH_AFTER);
                    }
                    self.on_timer(&mut since, &mut held).await?;
                }
                Step::Read(Err(e)) => {
                    reader.flush(&mut held);
                    let error = observed(&e, self.place, None);
                    return Err(self.broken_inside(held.freeze(), error).await);
                }
                Step::Read(Ok(None)) => return self.end(splitter, reader, held, first_token).await,
                Step::Read(Ok(Some(bytes))) => {
                    let now = clock::now();
                    let mut batch = Batch::default();
                    Self::events(splitter, reader, bytes, &mut held, &mut batch);
                    ahead = self.gather(splitter, reader, &mut held, &mut batch).await;
                    self.learn(reader);
                    self.count(&batch, now, now.saturating_sub(since.content), blocked, first_token);
                    since.read = now;
                    if batch.chunks > 0 {
                        since.content = now;
                    }
                    let bound = self.hold_stream(splitter.held() + held.len()).err().map(Observed::OwnBound);
                    if let Some(error) = batch.error.or(bound) {
                        return Err(self.broken_inside(held.freeze(), error).await);
                    }
                    if batch.done {
                        return self.finish(held.freeze(), first_token).await;
                    }
                    if self.answered.first_token.is_none() {
                        if held.len() <= HELD_BYTES_MAX {
                            continue;
                        }
                        // So much is no preamble: it goes out, and the request is bound to this answer.
                        self.begin(now, first_token);
                    }
                    if matches!(ahead, Some(Ok(None))) || held.is_empty() {
                        continue; // The end goes out with it.
                    }
                    let passed = held.len();
                    self.pass(held.split().freeze()).await?;
                    if passed > GATHERED_BYTES {
                        // The buffer of a large event would stay for as long as the stream.
                        held = BytesMut::new();
                        let _ = self.hold_stream(splitter.held());
                    }
                    self.heed_bounds(reader)?;
                    since.write = clock::now();
                    blocked = since.write.saturating_sub(now) > BLOCKED_WRITE;
                }
            }
        }
    }

    /// What the reader knows by now.
    fn learn(&mut self, reader: &StreamReader<'_>) {
        self.answered.usage = reader.usage().or(self.answered.usage);
        self.answered.running = reader.running().or(self.answered.running);
        self.answered.ended = reader.ended();
        self.answered.finish = reader.finish_reason();
        self.client.sequence = reader.sequence();
    }

    async fn on_timer(&mut self, since: &mut Since, held: &mut BytesMut) -> Result<(), AttemptOutcome> {
        if let Some(silence) = self.silence(since) {
            return Err(self.failed(silence));
        }
        if !held.is_empty() && self.answered.first_token.is_some() {
            self.pass(held.split().freeze()).await?;
            since.write = clock::now();
        } else if clock::now() >= since.write + self.silence {
            self.client.keep_alive().await?;
            since.write = clock::now();
        }
        Ok(())
    }

    /// Ends an answer that the process cannot wait for, and one that does not end by itself.
    fn heed_bounds(&self, reader: &StreamReader<'_>) -> Result<(), AttemptOutcome> {
        if self.live.is_out_of_time() {
            return Err(Stop::Refused(explain::out_of_time()).into());
        }
        let (factor, more) = RUNAWAY;
        let most = self.max_tokens.map(|most| most.saturating_mul(factor).saturating_add(more));
        match most {
            Some(most) if reader.steps_of_longest() > most => Err(AttemptOutcome::Late(
                Observed::Unreadable("the answer goes on far beyond its maximum").into(),
            )),
            _ => Ok(()),
        }
    }

    /// Takes the pieces that have arrived already into the same write; gives what ends the row, if it is known.
    async fn gather(
        &mut self,
        splitter: &mut SseSplitter,
        reader: &mut StreamReader<'_>,
        held: &mut BytesMut,
        batch: &mut Batch,
    ) -> Option<Result<Option<Bytes>, ExchangeError>> {
        while batch.error.is_none() && !batch.done && held.len() < GATHERED_BYTES {
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
    fn due(&self, since: &Since) -> Duration {
        let silence = match self.answered.first_token {
            None => self.dispatched + self.timeouts.first_token,
            Some(_) => {
                let all = since.content + self.all_silent();
                // Once it was found that others flow, only the answer's own bound is left.
                if clock::now() < all { all } else { since.content + self.timeouts.between_tokens }
            }
        };
        silence.min(since.write + self.silence)
    }

    fn all_silent(&self) -> Duration {
        self.timeouts.between_tokens.min(ALL_SILENT)
    }

    /// Whether content has not come for too long. Comments and pings keep a connection alive, not an answer. One stream
    /// that is silent may be a tool call that its engine holds back; the replica is stuck if all of them are.
    fn silence(&self, since: &Since) -> Option<Observed> {
        let now = clock::now();
        let (from, most) = match self.answered.first_token {
            None => (self.dispatched, self.timeouts.first_token),
            Some(_) => (since.content, self.timeouts.between_tokens),
        };
        let silent = now.saturating_sub(from);
        let others = || self.place.others(now.saturating_sub(silent.min(ALL_SILENT)));
        if silent >= most {
            return Some(Observed::Silence { others_flow: others() == Others::Flow });
        }
        let stuck =
            self.answered.first_token.is_some() && silent >= self.all_silent() && others() == Others::Silent;
        stuck.then_some(Observed::Silence { others_flow: false })
    }

    fn events(
        splitter: &mut SseSplitter,
        reader: &mut StreamReader<'_>,
        bytes: Bytes,
        held: &mut BytesMut,
        batch: &mut Batch,
    ) {
        if splitter.push(bytes).is_err() {
            batch.error = Some(Observed::Unreadable("an event has no end"));
            return;
        }
        while let Some(event) = splitter.next_event() {
            match reader.read(&event, held) {
                EventKind::Content(choices) => batch.chunks += choices,
                EventKind::Done => {
                    // What an engine sends behind it is no part of the answer.
                    batch.done = true;
                    break;
                }
                EventKind::Error(error) => {
                    batch.error = Some(Observed::Told(error));
                    break;
                }
                EventKind::Idle | EventKind::Preamble => {}
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
        self.begin(now, first_token);
        self.live.chunks(batch.chunks, (is_begun && !blocked).then(|| gap.saturating_mul(running)));
    }

    /// The first content came. From now on the request is bound to this answer.
    fn begin(&mut self, now: Duration, first_token: &mut impl FnMut()) {
        if self.answered.first_token.is_none() {
            self.answered.first_token = Some(now);
            self.live.ledger().charge_prompt();
            first_token();
            // It will not be sent again.
            self.memory.release_body();
        }
    }

    /// Counts what is held of a stream: only where it is more than each may hold, for tokens take no shared atomic.
    fn hold_stream(&mut self, bytes: usize) -> Result<(), OwnBound> {
        self.hold(if bytes as u64 > ANSWER_FREE { bytes } else { 0 })
    }

    /// Counts what is held of the answer.
    fn hold(&mut self, bytes: usize) -> Result<(), OwnBound> {
        self.memory.hold_answer(bytes as u64).map_err(|_| OwnBound::Memory)
    }

    async fn pass(&mut self, bytes: Bytes) -> Result<(), Stop> {
        if !self.client.head_sent() {
            self.client.begin_stream().await?;
        }
        self.client.write(bytes, false).await
    }

    /// The engine ended its answer. Only one whose every choice has come to its end may look complete; the last event of
    /// the API's streams is written where it alone is missing.
    async fn end(
        &mut self,
        splitter: &mut SseSplitter,
        reader: &mut StreamReader<'_>,
        mut held: BytesMut,
        first_token: &mut impl FnMut(),
    ) -> Result<(), AttemptOutcome> {
        let mut batch = Batch::default();
        match reader.read_rest(&splitter.take_rest(), &mut held) {
            EventKind::Done => batch.done = true,
            EventKind::Error(error) => {
                return Err(self.broken_inside(held.freeze(), Observed::Told(error)).await);
            }
            EventKind::Content(choices) => batch.chunks = choices,
            EventKind::Idle | EventKind::Preamble => {}
        }
        reader.flush(&mut held);
        self.learn(reader);
        self.count(&batch, clock::now(), Duration::ZERO, true, first_token);
        if let Some(missing) = reader.missing_end() {
            held.extend_from_slice(missing);
            batch.done = true;
        }
        if !batch.done {
            if self.answered.first_token.is_some() {
                self.pass(held.freeze()).await?;
            }
            return Err(self.failed(Observed::Broken));
        }
        self.begin(clock::now(), first_token);
        self.pass(held.freeze()).await?;
        self.client.write(Bytes::new(), true).await?;
        Ok(())
    }

    /// The event came that ends the answer: the client has it whole, whatever the engine does with its connection.
    async fn finish(&mut self, rest: Bytes, first_token: &mut impl FnMut()) -> Result<(), AttemptOutcome> {
        self.begin(clock::now(), first_token);
        self.pass(rest).await?;
        self.client.write(Bytes::new(), true).await?;
        let ends = async { while let Ok(Some(_)) = self.exchange.read_body().await {} };
        let _ = tokio::time::timeout(END_WITHIN, ends).await;
        Ok(())
    }

    /// The engine reported an error inside its stream, after `good` bytes.
    async fn broken_inside(&mut self, good: Bytes, error: Observed) -> AttemptOutcome {
        if self.answered.first_token.is_some()
            && let Err(stop) = self.pass(good).await
        {
            return stop.into();
        }
        self.failed(error)
    }

    fn failed(&self, observed: Observed) -> AttemptOutcome {
        match self.answered.first_token {
            None => AttemptOutcome::Failed(observed.into()),
            Some(_) => AttemptOutcome::Late(observed.into()),
        }
    }

    /// Relays an answer that comes as a whole. `first_token` is called once the request will not be sent again.
    ///
    /// # Errors
    /// `AttemptOutcome`: nothing was sent to the client then.
    pub async fn whole(mut self, status: u16, mut first_token: impl FnMut()) -> Result<(), AttemptOutcome> {
        let body = match self.read_whole_body().await? {
            Body::Whole(body) => body,
            Body::Large(head) => return self.through(head, first_token).await,
        };
        if self.client.head_sent() {
            // The client has the head of a stream, and waits for its events.
            return Err(self.failed(Observed::Unreadable("no stream came where one was asked for")));
        }
        let (usage, answer) = match read_whole(self.api, &body, self.stamp) {
            Whole::Answer(usage, answer) => (usage, answer),
            Whole::Error(error) => return Err(self.failed(Observed::Told(error))),
            Whole::Unreadable => {
                return Err(self.failed(Observed::Unreadable("the answer is no JSON object")));
            }
        };
        // A short text is read for what it teaches, a long one only where the usage says nothing.
        let most = self
            .max_tokens
            .map(|most| u64::from(most) * u64::from(self.live.choices()) + u64::from(RUNAWAY.1));
        let says_nothing = |usage: Usage| {
            usage.generated == 0 || usage.anomalous || most.is_some_and(|most| usage.generated > most)
        };
        if self.api.form().has_output && (body.len() <= TAUGHT_BYTES_MAX || usage.is_none_or(says_nothing)) {
            self.answered.text_bytes = text::generated_bytes(self.api, &body);
        }
        self.answered.usage = usage;
        self.answered.finish =
            std::str::from_utf8(&body).ok().and_then(|json| finish::of_whole(self.api, json));
        self.begin(clock::now(), &mut first_token);
        // The client may take it slowly, and needs only what was made of it.
        drop(body);
        let json = http::HeaderValue::from_static("application/json");
        self.client.answer(status, &json, answer).await?;
        Ok(())
    }

    async fn read_whole_body(&mut self) -> Result<Body, AttemptOutcome> {
        let mut body = BytesMut::new();
        let end = self.dispatched + self.timeouts.answer;
        let sleep = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut alarm = Alarm::on(sleep);
        loop {
            match self.step(&mut alarm, end).await {
                Step::Gone => return Err(Stop::Gone.into()),
                Step::Withdrawn(receiver) => return Err(AttemptOutcome::Withdrawn(receiver)),
                Step::Timer => {
                    let waited = self.timeouts.answer;
                    return Err(self.failed(observed(&ExchangeError::Timeout, self.place, Some(waited))));
                }
                Step::Read(Err(e)) => return Err(self.failed(observed(&e, self.place, None))),
                Step::Read(Ok(Some(piece))) if body.len() + piece.len() <= ANSWER_BYTES_MAX => {
                    self.hold(body.len() + piece.len())
                        .map_err(|bound| self.failed(Observed::OwnBound(bound)))?;
                    body.extend_from_slice(&piece);
                    if !self.api.form().has_output && body.len() > HEAD_MAX {
                        return Ok(Body::Large(body.freeze()));
                    }
                }
                Step::Read(Ok(Some(_))) => return Err(self.failed(Observed::OwnBound(OwnBound::AnswerBytes))),
                Step::Read(Ok(None)) => return Ok(Body::Whole(body.freeze())),
            }
        }
    }

    /// Passes a large answer of a route without output through, piece by piece: only its beginning was held.
    async fn through(mut self, head: Bytes, mut first_token: impl FnMut()) -> Result<(), AttemptOutcome> {
        let mut passage = Passage::new(self.stamp);
        let first = passage.push(head);
        if passage.is_unreadable() {
            return Err(self.failed(Observed::Unreadable("the answer is no JSON object")));
        }
        if let Some(error) = passage.error() {
            return Err(self.failed(Observed::Told(error)));
        }
        self.begin(clock::now(), &mut first_token);
        self.client.begin_whole().await?;
        self.client.write(first, false).await?;
        let end = self.dispatched + self.timeouts.answer;
        let sleep = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut alarm = Alarm::on(sleep);
        loop {
            match self.step(&mut alarm, end).await {
                Step::Gone => return Err(Stop::Gone.into()),
                Step::Withdrawn(receiver) => return Err(AttemptOutcome::Withdrawn(receiver)),
                Step::Timer => return Err(self.failed(observed(&ExchangeError::Timeout, self.place, None))),
                Step::Read(Err(e)) => return Err(self.failed(observed(&e, self.place, None))),
                Step::Read(Ok(Some(piece))) => {
                    let piece = passage.push(piece);
                    if !piece.is_empty() {
                        self.client.write(piece, false).await?;
                    }
                }
                Step::Read(Ok(None)) => break,
            }
        }
        let (rest, ending) = passage.finish();
        self.answered.usage = passage.usage();
        if !rest.is_empty() {
            self.client.write(rest, false).await?;
        }
        if ending != Ending::Complete {
            return Err(self.failed(Observed::Unreadable("the answer broke off")));
        }
        self.client.write(Bytes::new(), true).await?;
        Ok(())
    }
}

/// The body of a whole answer.
enum Body {
    Whole(Bytes),
    /// The beginning of one that is passed through.
    Large(Bytes),
}

/// When something last happened to a stream.
#[derive(Debug, Clone, Copy)]
struct Since {
    /// Anything was read.
    read: Duration,
    /// Content was read; at first, when the request went out.
    content: Duration,
    /// Anything was written to the client.
    write: Duration,
}
