//! The engine model in real time: one lock around model and books, one task that makes steps when they are due.
//!
//! A handler opens a [`Job`], submits it, and watches [`Progress`]. Dropping a job that has not ended is how a client
//! that left is noticed: the engine forgets its requests, and the books say when.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::EngineServerConfig;
use super::metrics::Snapshot;
use crate::clock;
use crate::fault::StandingFault;
use crate::model::{EngineModel, EngineRequest, Event, Refusal, Usage};
use crate::truth::{Record, Truth};

/// A step that is late by more than this (of real time) is not caught up: the machine was busy with something else.
const CATCH_UP_MAX: Duration = Duration::from_millis(50);

/// How far the answer to one request is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// Tokens that exist, by choice.
    pub(crate) tokens: Vec<u32>,
    /// Choices that are complete.
    pub(crate) finished: usize,
    /// Cached prompt tokens, by choice, known when it is complete.
    pub(crate) cached: Vec<u32>,
}

/// What the server's tasks share.
pub(crate) struct Shared {
    pub(crate) config: EngineServerConfig,
    pub(crate) reset_all: Arc<AtomicBool>,
    /// Told to end: `true` with resets.
    pub(crate) stop: watch::Sender<Option<bool>>,
    stopping: AtomicBool,
    core: Mutex<Core>,
    wake: Notify,
}

/// What is behind the lock.
pub(crate) struct Core {
    pub(crate) truth: Truth,
    pub(crate) standing: StandingFault,
    /// What is shown does not change.
    pub(crate) frozen: bool,
    model: EngineModel,
    watchers: HashMap<u64, Watcher>,
    events: Vec<Event>,
    next_id: u64,
    rejections: u64,
    shown: Snapshot,
    shown_at: Duration,
}

struct Watcher {
    number: u64,
    choice: usize,
    /// Whether it is the first choice of its prompt.
    is_first: bool,
    progress: Arc<watch::Sender<Progress>>,
}

impl Shared {
    pub(crate) fn new(config: EngineServerConfig) -> Arc<Self> {
        let model = match config.requests_max {
            Some(max) => EngineModel::with_requests_max(config.profile.clone(), max),
            None => EngineModel::new(config.profile.clone()),
        };
        let core = Core {
            truth: Truth::default(),
            standing: config.fault.clone(),
            frozen: false,
            model,
            watchers: HashMap::new(),
            events: Vec::new(),
            next_id: 0,
            rejections: 0,
            shown: Snapshot::default(),
            shown_at: Duration::ZERO,
        };
        Arc::new(Self {
            config,
            reset_all: Arc::default(),
            stop: watch::Sender::new(None),
            stopping: AtomicBool::new(false),
            core: Mutex::new(core),
            wake: Notify::new(),
        })
    }

    /// A panic under the lock leaves whole values behind: nothing in it is half written.
    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on ended connections are our doing.
    pub(crate) fn end(&self, reset: bool) {
        self.stopping.store(true, Ordering::Relaxed);
        self.reset_all.store(reset, Ordering::Relaxed);
        self.stop.send_replace(Some(reset));
    }

    /// Makes steps when they are due, for ever.
    pub(crate) async fn drive(&self) {
        loop {
            let (now, due) = {
                let mut core = self.core();
                let now = self.engine_now();
                core.advance(now, self.config.time_scale, self.config.metrics_interval);
                (now, core.model.next_step_at())
            };
            match due {
                None => self.wake.notified().await,
                Some(due) => {
                    let wait = due.saturating_sub(now).div_f64(self.config.time_scale);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.wake.notified() => {}
                    }
                }
            }
        }
    }

    /// What `/metrics` shows now.
    pub(crate) fn metrics(&self) -> Snapshot {
        let now = self.engine_now();
        let mut core = self.core();
        core.show(now, self.config.metrics_interval);
        core.shown
    }

    fn engine_now(&self) -> Duration {
        clock::now().mul_f64(self.config.time_scale)
    }
}

impl Core {
    pub(crate) fn set_pace(&mut self, share: f64) {
        self.model.set_pace(share);
    }

    fn advance(&mut self, now: Duration, time_scale: f64, metrics_interval: Duration) {
        let late_max = CATCH_UP_MAX.mul_f64(time_scale);
        while let Some(due) = self.model.next_step_at().filter(|due| *due <= now) {
            let at = if now - due <= late_max { due } else { now };
            self.model.step(at, &mut self.events);
            self.deliver();
        }
        self.show(now, metrics_interval);
    }

    fn show(&mut self, now: Duration, interval: Duration) {
        if !self.frozen && now.saturating_sub(self.shown_at) >= interval {
            self.shown_at = now;
            self.shown = Snapshot {
                gauges: self.model.gauges(),
                counters: self.model.counters(),
                rejections: self.rejections,
            };
        }
    }

    fn deliver(&mut self) {
        let Self { events, watchers, truth, .. } = self;
        for event in events.drain(..) {
            match event {
                Event::Token { id, n } => {
                    let Some(watcher) = watchers.get(&id) else { continue };
                    watcher.progress.send_modify(|progress| {
                        if let Some(tokens) = progress.tokens.get_mut(watcher.choice) {
                            *tokens += n;
                        }
                    });
                    truth.update(watcher.number, |_, record| {
                        record.first_token_s.get_or_insert(clock::now().as_secs_f64());
                    });
                }
                Event::Finished { id, usage } => {
                    let Some(watcher) = watchers.remove(&id) else { continue };
                    book(truth, &watcher, &usage);
                    watcher.progress.send_modify(|progress| {
                        progress.finished += 1;
                        if let Some(cached) = progress.cached.get_mut(watcher.choice) {
                            *cached = usage.cached_tokens;
                        }
                    });
                }
                Event::Preempted { .. } => {}
            }
        }
    }
}

/// Enters what one choice cost.
fn book(truth: &mut Truth, watcher: &Watcher, usage: &Usage) {
    truth.update(watcher.number, |totals, record| {
        totals.prefill_tokens += usage.prefill_tokens;
        totals.generated_tokens += u64::from(usage.completion_tokens);
        record.prefill_tokens += usage.prefill_tokens;
        record.generated_tokens += u64::from(usage.completion_tokens);
        if watcher.is_first {
            totals.cached_tokens += u64::from(usage.cached_tokens);
            record.cached_tokens = record.cached_tokens.saturating_add(usage.cached_tokens);
        }
    });
}

/// What a request asks of the engine.
pub(crate) struct Ask {
    pub(crate) prompts: Vec<AskedPrompt>,
    /// Tokens of each choice: those of the first prompt, of the second, and so on, as many of each.
    pub(crate) outputs: Vec<u32>,
}

/// One prompt.
pub(crate) struct AskedPrompt {
    pub(crate) tokens: u32,
    pub(crate) block_hashes: Vec<u64>,
}

impl Ask {
    pub(crate) fn prompt_tokens(&self) -> u32 {
        self.prompts.iter().fold(0, |sum, prompt| sum.saturating_add(prompt.tokens))
    }
}

/// How this server ended an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With everything that was due.
    Finished,
    /// With an error status, or a refusal inside a 200.
    Refused,
    /// In the middle, because a fault said so.
    Broken,
}

/// One HTTP request for generation, from its head to its end.
pub(crate) struct Job {
    pub(crate) shared: Arc<Shared>,
    number: u64,
    ids: Vec<u64>,
    ended: bool,
}

impl Job {
    pub(crate) fn open(shared: &Arc<Shared>, record: Record) -> Self {
        let number = shared.core().truth.open(clock::now(), record);
        Self { shared: Arc::clone(shared), number, ids: Vec::new(), ended: false }
    }

    /// Gives the request to the engine, once per choice.
    pub(crate) fn submit(&mut self, ask: &Ask) -> Result<watch::Receiver<Progress>, Refusal> {
        let choices = ask.outputs.len();
        let each = (choices / ask.prompts.len().max(1)).max(1);
        let progress = Progress { tokens: vec![0; choices], finished: 0, cached: vec![0; choices] };
        let (sender, receiver) = watch::channel(progress);
        let sender = Arc::new(sender);
        let shared = Arc::clone(&self.shared);
        let mut core = shared.core();
        let now = shared.engine_now();
        let core = &mut *core;
        let prompts = ask.prompts.iter().flat_map(|prompt| std::iter::repeat_n(prompt, each));
        for (choice, (prompt, output_tokens)) in prompts.zip(&ask.outputs).enumerate() {
            let id = core.next_id;
            let request = EngineRequest {
                id,
                prompt_tokens: prompt.tokens,
                output_tokens: *output_tokens,
                block_hashes: prompt.block_hashes.clone(),
            };
            if let Err(refusal) = core.model.submit(now, request) {
                core.rejections += 1;
                self.forget(core, now);
                return Err(refusal);
            }
            core.next_id += 1;
            self.ids.push(id);
            let is_first = choice.is_multiple_of(each);
            let progress = Arc::clone(&sender);
            core.watchers.insert(id, Watcher { number: self.number, choice, is_first, progress });
        }
        let prompt_tokens = ask.prompt_tokens();
        core.truth.update(self.number, |totals, record| {
            totals.accepted += 1;
            totals.prompt_tokens += u64::from(prompt_tokens);
            record.prompt_tokens = prompt_tokens;
        });
        // What costs nothing happens at once; the rest when the driver has looked at it.
        core.advance(now, shared.config.time_scale, shared.config.metrics_interval);
        shared.wake.notify_one();
        Ok(receiver)
    }

    /// A prompt was read outside the engine's steps (embeddings and the like).
    pub(crate) fn read(&self, prompt_tokens: u32) {
        self.shared.core().truth.update(self.number, |totals, record| {
            totals.accepted += 1;
            totals.prompt_tokens += u64::from(prompt_tokens);
            totals.prefill_tokens += u64::from(prompt_tokens);
            record.prompt_tokens = prompt_tokens;
            record.prefill_tokens = u64::from(prompt_tokens);
        });
    }

    pub(crate) fn status(&self, status: u16) {
        self.shared.core().truth.update(self.number, |_, record| record.status = status);
    }

    /// Remembers the beginning of the body and whether a stream was asked for.
    pub(crate) fn describe(&self, stream: bool, body: &[u8]) {
        let body = if self.shared.config.record_requests { body } else { &[] };
        let kept = body.get(..crate::truth::RECORD_BODY_MAX).unwrap_or(body);
        let kept = String::from_utf8_lossy(kept).into_owned();
        self.shared.core().truth.update(self.number, |_, record| {
            record.stream = stream;
            record.body = kept;
        });
    }

    /// Tokens went to the connection, in this many chunks.
    pub(crate) fn sent(&self, tokens: u64, chunks: u64) {
        self.shared.core().truth.update(self.number, |totals, record| {
            totals.sent_tokens += tokens;
            totals.sent_chunks += chunks;
            record.sent_tokens += tokens;
            record.sent_chunks += chunks;
        });
    }

    /// The answer is complete as far as this server means to complete it.
    pub(crate) fn finish(mut self, end: End) {
        self.ended = true;
        let shared = Arc::clone(&self.shared);
        let mut core = shared.core();
        self.forget(&mut core, shared.engine_now());
        core.truth.update(self.number, |totals, record| match end {
            End::Finished => {
                totals.finished += 1;
                record.finished_s = Some(clock::now().as_secs_f64());
            }
            End::Refused => totals.refused += 1,
            End::Broken => {
                totals.broken += 1;
                record.broken = true;
            }
        });
    }

    /// Takes what is unfinished out of the engine and books what it cost.
    fn forget(&mut self, core: &mut Core, now: Duration) {
        for id in self.ids.drain(..) {
            let Some(watcher) = core.watchers.remove(&id) else { continue };
            if let Some(usage) = core.model.abort(now, id) {
                book(&mut core.truth, &watcher, &usage);
            }
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut core = shared.core();
        self.forget(&mut core, shared.engine_now());
        if !shared.stopping.load(Ordering::Relaxed) {
            core.truth.update(self.number, |totals, record| {
                totals.disconnects += 1;
                record.disconnected_s = Some(clock::now().as_secs_f64());
            });
        }
    }
}
