//! Answers a request for generation: reads it, lets the fault of its choice happen, and gives it to the engine.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::sync::watch;

use super::gzip::Gzip;
use super::request::{Refused, Text, Wanted, choose_fault, want};
use super::shell::{End, Job, Progress, Shared};
use super::stream::{Play, Stopped, break_off};
use super::transport::{AnswerBody, Reset};
use crate::answer::pooling::Pooling;
use crate::answer::{self, Reported};
use crate::fault::Fault;
use crate::model::Refusal;
use crate::truth::Record;
use crate::wire::{Api, Body};

/// Largest request body, bytes.
const BODY_MAX: usize = 64 << 20;

type Answer = Response<AnswerBody>;

pub(crate) async fn generate(
    shared: &Arc<Shared>,
    reset: Reset,
    api: Api,
    request: Request<Incoming>,
) -> Answer {
    let (head, body) = request.into_parts();
    let mut job = Job::open(shared, record(shared, &head));
    let request_id = head.headers.get("x-request-id").cloned();
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await.map(http_body_util::Collected::to_bytes)
    else {
        return plain(job, &Refused::bad("the body is too large or broke off"), None);
    };
    let parsed = match Body::parse(&body) {
        Ok(parsed) => parsed,
        Err(error) => return plain(job, &Refused::bad(&error.to_string()), None),
    };
    job.describe(parsed.stream == Some(true), &body);
    let fault = match choose_fault(shared, &head, &parsed) {
        Ok(fault) => fault,
        Err(error) => return plain(job, &error.into(), None),
    };
    if fault.die {
        shared.end(true);
        std::future::pending::<()>().await;
    }
    if let Some(delay) = fault.delay {
        tokio::time::sleep(delay).await;
    }
    if fault.hang == Some(0) {
        std::future::pending::<()>().await;
    }
    if let Some(status) = fault.status {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let refused = Refused { status, body: answer::busy(status.as_u16()) };
        return plain(job, &refused, fault.retry_after);
    }
    let served = match want(shared, api, &parsed, &fault, request_id.as_ref()) {
        Ok(Wanted::Text(text)) => serve(&mut job, text, &fault, reset).await,
        Ok(Wanted::Pooled(pooled)) => pool(&job, &pooled, &fault, &reset),
        Err(refused) => Served::Now(refused),
    };
    let mut answer = served.finish(job);
    if fault.echo_headers {
        echo(&head.headers, answer.headers_mut());
    }
    if let Some(id) = request_id {
        answer.headers_mut().insert("x-request-id", id);
    }
    answer
}

/// An answer that still has to be paired with the job that it ends.
enum Served {
    Now(Refused),
    Whole {
        answer: Answer,
        tokens: u64,
    },
    /// A refusal inside a 200.
    Hidden(Answer),
    Broken {
        answer: Answer,
        body: tokio::sync::mpsc::Sender<std::io::Result<Bytes>>,
        part: Bytes,
    },
    Streams {
        answer: Answer,
        play: Box<Play>,
        tx: super::transport::ChunkSender,
    },
}

impl Served {
    /// Hands the job to whoever ends it.
    fn finish(self, job: Job) -> Answer {
        match self {
            Self::Now(refused) => plain(job, &refused, None),
            Self::Whole { answer, tokens } => {
                job.status(answer.status().as_u16());
                job.sent(tokens, 1);
                job.finish(End::Finished);
                answer
            }
            Self::Hidden(answer) => {
                job.status(answer.status().as_u16());
                job.finish(End::Refused);
                answer
            }
            Self::Broken { answer, body, part } => {
                job.status(200);
                tokio::spawn(async move {
                    let sent = body.send(Ok(part)).await;
                    match sent {
                        Ok(()) => {
                            let _: Result<(), Stopped> = break_off(&body).await;
                            job.finish(End::Broken);
                        }
                        Err(_) => drop(job),
                    }
                });
                answer
            }
            Self::Streams { answer, play, tx } => {
                job.status(200);
                tokio::spawn(play.run(job, tx));
                answer
            }
        }
    }
}

async fn serve(job: &mut Job, wanted: Text, fault: &Fault, reset: Reset) -> Served {
    let Text { shape, ask, stream, include_usage } = wanted;
    let prompt_tokens = ask.prompt_tokens();
    let progress = match job.submit(&ask) {
        Ok(progress) => progress,
        Err(refusal) => return refuse(&refusal, stream),
    };
    let config = &job.shared.config;
    let report_cached = config.prompt_tokens_details;
    if stream {
        let play = Play {
            shape,
            fault: fault.clone(),
            reset,
            progress,
            prompt_tokens,
            chunk_tokens: config.chunk_tokens(),
            include_usage,
            report_cached,
            chunks: 0,
            sequence: 0,
            gzip: fault.gzip.then(Gzip::new),
        };
        let (tx, body) = AnswerBody::chunks();
        let answer = head(StatusCode::OK, "text/event-stream; charset=utf-8", fault, body);
        return Served::Streams { answer, play: Box::new(play), tx };
    }
    let Some(cached) = completed(progress, ask.outputs.len()).await else {
        return Served::Now(Refused::bad("the engine stopped"));
    };
    let (completion, reasoning) = shape.completion();
    let cached = report_cached.then_some(i64::from(cached));
    let usage = Reported { prompt: i64::from(prompt_tokens), completion, cached, reasoning };
    let body = shape.whole((!fault.no_usage).then(|| usage.under(fault)));
    whole(body, fault, &reset, completion as u64)
}

fn refuse(refusal: &Refusal, stream: bool) -> Served {
    match refusal {
        Refusal::TooLarge { .. } => Served::Now(Refused::bad(&refusal.to_string())),
        // As vLLM does it: a stream's head is out already, so the refusal is its first event.
        Refusal::Busy { .. } if stream => {
            let body = AnswerBody::whole(format!("data: {}\n\n{}", answer::busy(503), answer::DONE));
            let answer = head(StatusCode::OK, "text/event-stream; charset=utf-8", &Fault::default(), body);
            Served::Hidden(answer)
        }
        Refusal::Busy { .. } => {
            Served::Now(Refused { status: StatusCode::SERVICE_UNAVAILABLE, body: answer::busy(503) })
        }
    }
}

/// Answers a request that generates nothing: at once, since its cost is no part of the model.
fn pool(job: &Job, pooled: &Pooling, fault: &Fault, reset: &Reset) -> Served {
    job.read(pooled.pool.tokens);
    whole(pooled.body(fault), fault, reset, 0)
}

/// A complete body, or what a fault leaves of it.
fn whole(mut body: String, fault: &Fault, reset: &Reset, tokens: u64) -> Served {
    if fault.garbage {
        body = String::from("<html>garbage \u{FFFD} {\"usage\":");
    }
    if let Some(bytes) = fault.huge_line {
        body.push_str(&" ".repeat(bytes));
    }
    let mut bytes = body.into_bytes();
    if fault.gzip {
        let mut gzip = Gzip::new();
        let mut packed = super::gzip::HEAD.to_vec();
        packed.extend(gzip.piece(&bytes));
        packed.extend(gzip.end());
        bytes = packed;
    }
    let json = "application/json";
    let (keep, claim) = match (fault.broken_at(), fault.wrong_length) {
        (Some((at, _)), _) => ((at as usize).min(bytes.len()), bytes.len()),
        (None, Some(more)) => (bytes.len(), bytes.len() + more as usize),
        (None, None) => {
            return Served::Whole {
                answer: head(StatusCode::OK, json, fault, AnswerBody::whole(bytes)),
                tokens,
            };
        }
    };
    if fault.reset.is_some() {
        reset.set();
    }
    bytes.truncate(keep);
    let (tx, body) = AnswerBody::chunks();
    let mut answer = head(StatusCode::OK, json, fault, body);
    answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(claim));
    Served::Broken { answer, body: tx, part: Bytes::from(bytes) }
}

/// Waits for all choices; cached tokens of the last prompt, which is all that vLLM tells of several.
async fn completed(mut progress: watch::Receiver<Progress>, choices: usize) -> Option<u32> {
    let progress = progress.wait_for(|progress| progress.finished == choices).await.ok()?;
    progress.cached.last().copied()
}

fn record(shared: &Shared, head: &http::request::Parts) -> Record {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = if shared.config.record_requests {
        head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
    } else {
        Vec::new()
    };
    Record {
        request_id: head.headers.get("x-request-id").map(text),
        path: head.uri.path().to_owned(),
        headers,
        ..Record::default()
    }
}

fn head(status: StatusCode, content_type: &'static str, fault: &Fault, body: AnswerBody) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::SERVER, HeaderValue::from_static("uvicorn"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if fault.gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer
}

/// Ends the job with an error body.
fn plain(job: Job, refused: &Refused, retry_after: Option<u32>) -> Answer {
    job.status(refused.status.as_u16());
    job.finish(End::Refused);
    let body = AnswerBody::whole(refused.body.clone());
    let mut answer = head(refused.status, "application/json", &Fault::default(), body);
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

fn echo(from: &http::HeaderMap, to: &mut http::HeaderMap) {
    for (name, value) in from {
        if let Ok(name) = http::HeaderName::try_from(format!("x-echo-{name}")) {
            to.append(name, value.clone());
        }
    }
}
