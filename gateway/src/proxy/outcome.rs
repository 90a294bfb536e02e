//! How an attempt ends without an answer, and what follows: elsewhere or not, counted or not, what the client is told.
//!
//! The verdict is [`attribution`](protocol::attribution)'s, what follows from it [`gateway_core::attempts`]'. Here it becomes
//! the shedder's failure, a metric, a line in the log and a refusal. After the first byte of an answer went out nothing
//! is sent elsewhere.

use crate::clock;
use crate::downstream::client::Stop;
use crate::proxy::attempt::{Attempt, Next};
use crate::proxy::pipeline::needs;
use crate::upstream::admission::{Admission, Outcome, Place};
use crate::upstream::replica::Replica;
use gateway_core::attempts::{self, Cause, Failed, Said};
use protocol::attribution::{ModelNames, Observed, ReplicaFault, Telling, Verdict};
use protocol::explain;
use protocol::refusal::{Reason, Refusal, Retry};
use shedder::Failure;
use std::time::Duration;
use tokio::sync::oneshot;

/// How soon it is looked a second time.
const DEATH_LOOK_AGAIN: Duration = Duration::from_millis(30);
/// How long it is looked whether somebody still listens where a connection broke.
const DEATH_LOOK_MAX: Duration = Duration::from_millis(250);

/// How an attempt ended that did not bring the answer.
#[derive(Debug)]
pub enum AttemptOutcome {
    /// The client is gone or was told; nothing more can be done.
    Stopped(Stop),
    /// The engine failed, and nothing of its answer has gone out.
    Failed(Box<Observed>),
    /// The engine failed when a part of its answer was out.
    Late(Box<Observed>),
    /// The place was taken back before the first token.
    Withdrawn(oneshot::Receiver<Outcome>),
}

impl From<Stop> for AttemptOutcome {
    fn from(stop: Stop) -> Self {
        AttemptOutcome::Stopped(stop)
    }
}

impl From<Observed> for AttemptOutcome {
    /// Nothing has gone out.
    fn from(observed: Observed) -> Self {
        AttemptOutcome::Failed(observed.into())
    }
}

impl Attempt<'_, '_, '_> {
    /// The attempt ended before the client had a byte of the answer.
    pub(super) fn after(&mut self, place: Place, observed: &Observed) -> Next {
        let verdict = Verdict::on(observed);
        let refusal = self.refusal(&place, &verdict, observed);
        let failure = verdict.failure(|| self.body_key());
        let is_second = self.record.has_failed_elsewhere(&self.deployment.config.name, place.permit());
        self.note(&place, &verdict, observed);
        let Some(failure) = failure else {
            place.finish(&shedder::Finished::default());
            self.request.live.ledger().release();
            return Next::Stopped(refusal.into());
        };
        self.request.live.ledger().set_started(false);
        let admission = place.failed(failure);
        let said = match &admission {
            Some(Admission::Shed(_)) => Said::Shed,
            Some(_) => Said::Again,
            None => Said::Never,
        };
        let failed = Failed {
            failure: Some(failure),
            is_unknown: verdict == Verdict::Unknown,
            is_second,
            // With what this replica has just said.
            is_absent_everywhere: self.is_absent_everywhere(),
        };
        match (attempts::next(&failed, said), admission) {
            (attempts::Next::Again, Some(admission)) => {
                self.record.retried();
                Next::Again(admission)
            }
            (attempts::Next::Elsewhere(Cause::Busy), _) => Next::Elsewhere(explain::upstream_busy().into()),
            (attempts::Next::Elsewhere(Cause::AbsentHere), _) => {
                let message = "The model servers that were asked do not have this model.";
                Next::Elsewhere(Refusal::new(Reason::UpstreamError, message).into())
            }
            (attempts::Next::Elsewhere(Cause::Own), _) => Next::Elsewhere(refusal.into()),
            (attempts::Next::Again | attempts::Next::Over, _) => Next::Stopped(refusal.into()),
        }
    }

    fn is_absent_everywhere(&self) -> bool {
        let needs = needs(self.request);
        self.deployment.gate.read(|shedder| shedder.is_absent(clock::now(), needs))
    }

    /// The attempt ended when the client had a part of the answer: it is told inside it.
    pub(super) fn after_late(&mut self, place: Place, observed: &Observed) -> Next {
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
        Next::Stopped(Stop::Refused(refusal))
    }

    fn refusal(&self, place: &Place, verdict: &Verdict, observed: &Observed) -> Refusal {
        let model = &self.request.model.config;
        let served = &model.served_model;
        let telling = Telling {
            model: ModelNames { served, public: &self.request.call.model },
            context: model.context.or_else(|| self.deployment.learned.context(served)),
            path: self.request.call.api.path(),
            failed_twice: self.record.has_failed_elsewhere(&self.deployment.config.name, place.permit()),
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
        self.record.upstream_failed(&self.deployment.config.name, place.permit(), kind);
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
