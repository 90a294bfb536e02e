//! What follows from how an attempt ended, by the verdict alone: elsewhere or not, counted or not, what the client is told.
//!
//! The verdict is [`attribution`](protocol::attribution)'s. Here it becomes the shedder's failure, a metric, a line in the
//! log and a refusal. After the first byte of an answer went out nothing is sent elsewhere.

use crate::clock;
use crate::downstream::client::Stop;
use crate::proxy::attempt::{Attempt, Ended};
use crate::proxy::pipeline::needs;
use crate::upstream::admission::{Admission, Place};
use crate::upstream::replica::Replica;
use protocol::attribution::{ModelNames, Observed, ReplicaFault, Telling, Verdict};
use protocol::explain;
use protocol::refusal::{Reason, Refusal, Retry};
use shedder::Failure;
use std::time::Duration;

/// How soon it is looked a second time.
const DEATH_LOOK_AGAIN: Duration = Duration::from_millis(30);
/// How long it is looked whether somebody still listens where a connection broke.
const DEATH_LOOK_MAX: Duration = Duration::from_millis(250);

impl Attempt<'_, '_, '_> {
    /// The attempt ended before the client had a byte of the answer.
    pub(super) fn after(&mut self, place: Place, observed: &Observed) -> Ended {
        let verdict = Verdict::on(observed);
        let refusal = self.refusal(&place, &verdict, observed);
        let is_second = self.record.has_failed_elsewhere(self.deployment, place.permit());
        let Some(failure) = verdict.failure(|| self.body_key()) else {
            self.note(&place, &verdict, observed);
            place.finish(&shedder::Finished::default());
            self.request.live.ledger().release();
            return Ended::Stopped(refusal.into());
        };
        self.request.live.ledger().set_started(false);
        self.note(&place, &verdict, observed);
        let busy = matches!(failure, Failure::Busy { .. });
        match place.failed(failure) {
            Some(Admission::Shed(_)) if busy => Ended::Elsewhere(explain::upstream_busy().into()),
            Some(Admission::Shed(_)) => Ended::Elsewhere(refusal.into()),
            Some(admission) => {
                self.record.retried(self.deployment);
                Ended::Again(admission)
            }
            // What took this long once would take it again, and the engine may be computing it still. What failed on two
            // replicas would fail on a third, and what is our own bound is everywhere.
            None if failure == Failure::Timeout || failure == Failure::Ours => Ended::Stopped(refusal.into()),
            None if is_second && verdict == Verdict::Unknown => Ended::Stopped(refusal.into()),
            // Another replica may have it still: then it is no 404.
            None if failure == Failure::Absent && !self.is_absent_everywhere() => {
                let message = "The model servers that were asked do not have this model.";
                Ended::Elsewhere(Refusal::new(Reason::UpstreamError, message).into())
            }
            None => Ended::Elsewhere(refusal.into()),
        }
    }

    fn is_absent_everywhere(&self) -> bool {
        let needs = needs(self.request);
        self.deployment.gate.read(|shedder| shedder.is_absent(clock::now(), needs))
    }

    /// The attempt ended when the client had a part of the answer: it is told inside it.
    pub(super) fn after_late(&mut self, place: Place, observed: &Observed) -> Ended {
        let verdict = Verdict::on(observed);
        let mut refusal = self.refusal(&place, &verdict, observed);
        let mut failure = verdict.failure(|| self.body_key());
        if matches!(verdict, Verdict::Load { .. }) {
            refusal =
                Refusal::new(Reason::UpstreamError, "The model server broke the answer off: it is too busy.");
            // It gave one answer up that it had begun; that is no refusal of others, for which it would be left alone.
            failure = Some(Failure::Ours);
        }
        self.note(&place, &verdict, observed);
        match failure {
            // A part of the answer is out, so that the shedder sends nothing again.
            Some(failure) => drop(place.failed(failure)),
            None => drop(place),
        }
        Ended::Stopped(Stop::Refused(refusal))
    }

    fn refusal(&self, place: &Place, verdict: &Verdict, observed: &Observed) -> Refusal {
        let model = &self.request.model.config;
        let served = &model.served_model;
        let telling = Telling {
            model: ModelNames { served, public: &self.request.call.model },
            context: model.context.or_else(|| self.deployment.learned.context(served)),
            path: self.request.call.api.path(),
            failed_twice: self.record.has_failed_elsewhere(self.deployment, place.permit()),
        };
        telling.refusal(verdict, observed)
    }

    /// Counts and logs. An engine's words go to the log only.
    fn note(&mut self, place: &Place, verdict: &Verdict, observed: &Observed) {
        let Some(kind) = verdict.kind() else {
            if let Verdict::Ours(bound) = verdict {
                tracing::warn!(?bound, request = %self.record.id, "a bound of this process ended a request");
            }
            return;
        };
        self.record.upstream_failed(self.deployment, place.permit(), kind);
        let (deployment, replica) = (&*self.deployment.config.name, place.permit().replica.0);
        let (model, request) = (&*self.request.model.config.name, &*self.record.id);
        match (verdict, observed) {
            (Verdict::Unknown | Verdict::Replica(ReplicaFault::Absent), Observed::Told(error)) => {
                let words: String = error.message.chars().take(WORDS_LOGGED_MAX).collect();
                tracing::warn!(
                    deployment,
                    replica,
                    model,
                    request,
                    kind,
                    status = error.status,
                    words,
                    "a model server answered with an error"
                );
            }
            (_, Observed::Unreadable(what)) => {
                tracing::warn!(
                    deployment,
                    replica,
                    model,
                    request,
                    kind,
                    what,
                    "an answer could not be read"
                );
            }
            _ => {}
        }
    }

    /// The same for the same body of the same account on the same path.
    fn body_key(&self) -> u64 {
        self.request.body_key()
    }

    /// Whether the request was in flight where two replicas died.
    pub(super) fn is_query_of_death(&self) -> bool {
        let deaths = self.deployment.deaths.lock();
        !deaths.is_empty() && deaths.is_suspect(clock::now(), self.body_key())
    }

    pub(super) fn refuse_query_of_death(&self) -> Refusal {
        let (deployment, account) = (&*self.deployment.config.name, &*self.request.account.config.id);
        tracing::error!(
            deployment,
            account,
            request = %self.record.id,
            "a request was in flight on two replicas when they died; it is not sent to a third for five minutes"
        );
        let message = "Two model servers died while they worked on this request, so it is not sent to another one. Change it, \
                       or tell the operator its id.";
        Refusal { retry: Retry::Never, ..Refusal::new(Reason::UpstreamError, message) }
    }

    /// Notes what was in flight where a connection broke, and whether anybody still listens there.
    pub(super) async fn look_for_death(&self, place: &Place, replica: &Replica, observed: &Observed) {
        let id = place.permit().replica;
        let broke = *observed == Observed::Broken;
        if !broke && *observed != Observed::ConnectFailed {
            return;
        }
        if broke {
            let (body, sent) = (self.body_key(), self.record.dispatched_at());
            self.deployment.deaths.lock().on_broken(clock::now(), id, body, sent);
        } else if self.deployment.deaths.lock().is_empty() {
            return;
        }
        if !broke || !replica.is_listening(DEATH_LOOK_MAX).await {
            self.deployment.deaths.lock().on_refused(clock::now(), id);
            return;
        }
        // A process that dies closes its sockets one after the other.
        tokio::time::sleep(DEATH_LOOK_AGAIN).await;
        if !replica.is_listening(DEATH_LOOK_MAX).await {
            self.deployment.deaths.lock().on_refused(clock::now(), id);
        }
    }

    /// The request was answered.
    pub(super) fn clear_of_death(&self) {
        if !self.deployment.deaths.lock().is_empty() {
            let body = self.body_key();
            self.deployment.deaths.lock().on_success(body);
        }
    }
}

/// Most characters of an engine's words in one line of the log.
const WORDS_LOGGED_MAX: usize = 1_000;
