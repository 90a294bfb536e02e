//! Plays one streamed answer into a connection: preamble, a chunk per step, usage, `[DONE]`, and the faults between.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::gzip::{self, Gzip};
use super::shell::{End, Job, Progress};
use super::transport::{ChunkSender, Reset};
use crate::answer::{Chunk, DONE, Reported, Shape};
use crate::fault::Fault;

/// Time for a client to read what was written before the connection is broken under it.
const BREAK_AFTER: Duration = Duration::from_millis(5);

/// Why an answer stopped before its end.
pub(crate) enum Stopped {
    /// The client is gone.
    Disconnected,
    /// A fault said so, and did it.
    Broken,
}

/// Everything that a streamed answer needs.
pub(crate) struct Play {
    pub(crate) shape: Shape,
    pub(crate) fault: Fault,
    pub(crate) reset: Reset,
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) prompt_tokens: u32,
    /// Tokens per chunk.
    pub(crate) chunk_tokens: u32,
    pub(crate) include_usage: bool,
    pub(crate) report_cached: bool,
    /// Chunks sent so far.
    pub(crate) chunks: u32,
    /// The number of the next event, where the API numbers them.
    pub(crate) sequence: u32,
    pub(crate) gzip: Option<Gzip>,
}

impl Play {
    /// Plays to the end, or to where the client leaves: a closed channel ends it at once, also between steps.
    pub(crate) async fn run(mut self, job: Job, tx: ChunkSender) {
        let stopped = tokio::select! {
            biased;
            () = tx.closed() => Err(Stopped::Disconnected),
            played = self.play(&job, &tx) => played,
        };
        match stopped {
            Ok(()) => job.finish(End::Finished),
            Err(Stopped::Broken) => job.finish(End::Broken),
            Err(Stopped::Disconnected) => drop(job),
        }
    }

    async fn play(&mut self, job: &Job, tx: &ChunkSender) -> Result<(), Stopped> {
        if self.gzip.is_some() {
            raw(tx, gzip::HEAD.to_vec()).await?;
        }
        let choices = self.progress.borrow().tokens.len();
        let mut sent = vec![0_u32; choices];
        let mut opened = self.fault.role_in_first;
        loop {
            let progress = self.progress.borrow_and_update().clone();
            if !opened && progress.tokens.iter().any(|tokens| *tokens > 0) {
                opened = true;
                self.open(tx, choices).await?;
            }
            for (choice, (sent, exist)) in (0..).zip(sent.iter_mut().zip(&progress.tokens)) {
                while *sent < *exist {
                    let to = sent.saturating_add(self.chunk_tokens).min(*exist);
                    let to = self.shape.choice(choice).chunk_end(*sent, to);
                    self.chunk(job, tx, choice, *sent, to).await?;
                    *sent = to;
                }
            }
            if progress.finished == choices {
                let completion = sent.iter().map(|tokens| i64::from(*tokens)).sum();
                // Of several prompts vLLM tells here what was cached of the first.
                let cached = progress.cached.first().copied().unwrap_or_default();
                return self.close(tx, completion, cached).await;
            }
            if self.progress.changed().await.is_err() {
                return Err(Stopped::Disconnected);
            }
        }
    }

    async fn open(&mut self, tx: &ChunkSender, choices: usize) -> Result<(), Stopped> {
        if self.fault.stream_error == Some(0) {
            return self.error_event(tx).await;
        }
        for choice in 0..choices as u32 {
            let running = self.running(0);
            if let Some(event) = self.shape.opening(choice, running, &mut self.sequence) {
                self.write(tx, event).await?;
            }
        }
        self.faults_after(tx).await
    }

    async fn chunk(
        &mut self,
        job: &Job,
        tx: &ChunkSender,
        choice: u32,
        from: u32,
        to: u32,
    ) -> Result<(), Stopped> {
        let said = self.shape.choice(choice);
        let chunk = Chunk {
            choice,
            from,
            to,
            finish: (to == said.length).then_some(said.finish),
            role: self.fault.role_in_first && from == 0,
            running: self.running(to),
        };
        if let Some(gap) = self.fault.gap.filter(|_| self.chunks > 0) {
            tokio::time::sleep(gap).await;
        }
        let event = self.shape.content(&chunk, &mut self.sequence);
        self.write(tx, event).await?;
        job.sent(u64::from(to - from), 1);
        self.chunks += 1;
        self.faults_after(tx).await
    }

    /// The faults that wait for a number of chunks.
    async fn faults_after(&mut self, tx: &ChunkSender) -> Result<(), Stopped> {
        let chunks = self.chunks;
        if self.fault.hang == Some(chunks) {
            std::future::pending::<()>().await;
        }
        if let Some((_, reset)) = self.fault.broken_at().filter(|(at, _)| *at == chunks) {
            if reset {
                self.reset.set();
            }
            return break_off(tx).await;
        }
        if self.fault.ends == Some(chunks) {
            self.end_gzip(tx).await?;
            return Err(Stopped::Broken);
        }
        if chunks > 0 && self.fault.stream_error == Some(chunks) {
            return self.error_event(tx).await;
        }
        if chunks == 1 && self.fault.garbage {
            self.write(tx, "data: {\"id\": garbage \u{FFFD}}}}\n\n".to_owned()).await?;
        }
        if let Some(bytes) = self.fault.huge_line.filter(|_| chunks == 1) {
            let running = self.running(1);
            let chunk = Chunk { choice: 0, from: 0, to: 0, finish: None, role: false, running };
            let mut event = self.shape.content(&chunk, &mut self.sequence);
            let at = event.find("\"\"").map_or(event.len(), |at| at + 1);
            event.insert_str(at, &"x".repeat(bytes));
            self.write(tx, event).await?;
        }
        Ok(())
    }

    async fn error_event(&mut self, tx: &ChunkSender) -> Result<(), Stopped> {
        let event = self.shape.error_event(self.fault.error_code.unwrap_or(503));
        self.write(tx, event).await?;
        self.end_gzip(tx).await?;
        Err(Stopped::Broken)
    }

    async fn close(&mut self, tx: &ChunkSender, completion: i64, cached: u32) -> Result<(), Stopped> {
        let usage = Reported {
            prompt: i64::from(self.prompt_tokens),
            completion,
            cached: self.report_cached.then_some(i64::from(cached)),
            reasoning: self.shape.completion().1,
        };
        let usage = (!self.fault.no_usage).then(|| usage.under(&self.fault));
        if let Some(events) = self.shape.closing(usage, self.include_usage, &mut self.sequence) {
            let events = if self.fault.no_done { self.shape.without_end(events) } else { events };
            self.write(tx, events).await?;
        }
        if self.shape.ends_with_done() && !self.fault.no_done {
            self.write(tx, DONE.to_owned()).await?;
        }
        if self.fault.after_done {
            self.write(tx, "data: {\"after\":\"done\"}\n\n: more\n\n".to_owned()).await?;
        }
        self.end_gzip(tx).await
    }

    fn running(&self, completion: u32) -> Reported {
        let prompt = i64::from(self.prompt_tokens);
        Reported { prompt, completion: i64::from(completion), ..Reported::default() }.under(&self.fault)
    }

    async fn write(&mut self, tx: &ChunkSender, event: String) -> Result<(), Stopped> {
        let bytes = match &mut self.gzip {
            Some(gzip) => gzip.piece(event.as_bytes()),
            None => event.into_bytes(),
        };
        if !self.fault.split_utf8 {
            return raw(tx, bytes).await;
        }
        let inside = bytes.iter().position(|byte| byte & 0xC0 == 0x80).unwrap_or(bytes.len() / 2);
        let (first, second) = bytes.split_at(inside);
        raw(tx, first.to_vec()).await?;
        raw(tx, second.to_vec()).await
    }

    async fn end_gzip(&mut self, tx: &ChunkSender) -> Result<(), Stopped> {
        match &self.gzip {
            Some(gzip) => raw(tx, gzip.end()).await,
            None => Ok(()),
        }
    }
}

async fn raw(tx: &ChunkSender, bytes: Vec<u8>) -> Result<(), Stopped> {
    tx.send(Ok(Bytes::from(bytes))).await.map_err(|_| Stopped::Disconnected)
}

/// Ends the connection after what was sent has left.
pub(crate) async fn break_off(tx: &ChunkSender) -> Result<(), Stopped> {
    let permit = tx.reserve().await.map_err(|_| Stopped::Disconnected)?;
    tokio::time::sleep(BREAK_AFTER).await;
    permit.send(Err(io::Error::other("broken off on purpose")));
    Err(Stopped::Broken)
}
