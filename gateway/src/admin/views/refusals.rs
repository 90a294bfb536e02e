//! The last refusals, each explaining itself: which meter or threshold, by how much, what would have let it in.

use super::millis;
use crate::clock;
use crate::state::gateway::Gateway;
use crate::telemetry::accounting::REFUSALS_MAX;
use crate::telemetry::record::Record;
use crate::telemetry::recorder::Recorder;
use client::views::refusals::{BudgetWhy, LoadWhy, RefusalGroup, RefusalGroups, Refusals, Refused};
use history::groups::{Key, Summed};
use protocol::explain::Why;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which refusals are asked for; what is absent is any.
#[derive(Debug, Default)]
pub(in crate::admin) struct Wanted {
    pub(in crate::admin) account: Option<String>,
    pub(in crate::admin) model: Option<String>,
    pub(in crate::admin) deployment: Option<String>,
    pub(in crate::admin) reason: Option<String>,
    pub(in crate::admin) tier: Option<String>,
    pub(in crate::admin) status: Option<u16>,
    /// Our id, or the client's own.
    pub(in crate::admin) id: Option<String>,
}

impl Wanted {
    fn matches(&self, key: &Key) -> bool {
        let is = |wanted: &Option<String>, text: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| text == Some(wanted))
        };
        is(&self.account, key.account.as_deref())
            && is(&self.model, key.model.as_deref())
            && is(&self.deployment, key.deployment.as_deref())
            && is(&self.reason, Some(key.reason))
            && is(&self.tier, key.tier)
            && self.status.is_none_or(|status| status == key.status)
    }

    fn matches_record(&self, record: &Record) -> bool {
        let is_it = |id: &String| record.id == *id || record.client_id.as_ref() == Some(id);
        self.id.as_ref().is_none_or(is_it) && self.matches(&record.refusal_key())
    }
}

/// The last refusals that are asked for, at most `most`.
pub(in crate::admin) fn refusals(gateway: &Gateway, wanted: &Wanted, most: usize) -> Refusals {
    let mut found = gateway.accounts.last_refusals(|record| wanted.matches_record(record));
    let matching = found.len();
    found.truncate(most);
    Refusals { refusals: found.into_iter().map(refused).collect(), matching, kept_max: REFUSALS_MAX }
}

/// Those of the last `minutes` by account, reason and status, at most `most` groups.
pub(in crate::admin) fn groups(
    recorder: &Recorder,
    wanted: &Wanted,
    minutes: usize,
    most: usize,
) -> RefusalGroups {
    let now = clock::wall();
    let (mut groups, others) = recorder.groups(|kept| {
        let mut found: BTreeMap<(Option<Arc<str>>, &'static str, u16), RefusalGroup> = BTreeMap::new();
        for summed in kept.summed(now, minutes, |key| wanted.matches(key)) {
            let Key { account, reason, status, .. } = summed.key;
            let group = found.entry((account.clone(), reason, *status));
            add(group.or_insert_with(|| empty(summed.key, minutes)), &summed);
        }
        (found.into_values().collect::<Vec<_>>(), kept.others(now, minutes))
    });
    let total = groups.iter().map(|group| group.count).sum();
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    groups.truncate(most);
    RefusalGroups { minutes, total, others, groups }
}

fn empty(key: &Key, minutes: usize) -> RefusalGroup {
    RefusalGroup {
        account: key.account.clone(),
        reason: key.reason.into(),
        status: key.status,
        count: 0,
        last: String::new(),
        last_request_id: String::new(),
        last_message: None,
        models: Vec::new(),
        deployments: Vec::new(),
        tiers: Vec::new(),
        by_minute: vec![0; minutes],
    }
}

fn add(group: &mut RefusalGroup, summed: &Summed<'_>) {
    for (sum, count) in group.by_minute.iter_mut().zip(&summed.by_minute) {
        *sum += u64::from(*count);
        group.count += u64::from(*count);
    }
    let last = clock::rfc3339(summed.last);
    if last >= group.last {
        group.last = last;
        group.last_request_id = summed.last_id.to_owned();
        group.last_message = summed.last_message.map(str::to_owned);
    }
    note(&mut group.models, summed.key.model.clone());
    note(&mut group.deployments, summed.key.deployment.clone());
    note(&mut group.tiers, summed.key.tier.map(Cow::Borrowed));
}

fn note<T: PartialEq>(all: &mut Vec<T>, one: Option<T>) {
    if let Some(one) = one.filter(|one| !all.contains(one)) {
        all.push(one);
    }
}

fn refused(record: Record) -> Refused {
    Refused {
        time: clock::rfc3339(record.arrived_wall),
        request_id: record.id,
        client_request_id: record.client_id,
        account: record.account,
        model: record.model,
        tier: record.tier.map(|tier| tier.name().into()),
        deployment: record.deployment.or(record.offered_to),
        status: record.status,
        reason: record.reason.into(),
        message: record.message,
        queue_ms: millis(record.queued),
        prompt_tokens: record.weighed_prompt,
        budget: record.why.as_deref().and_then(budget_why),
        load: record.why.as_deref().and_then(load_why),
        would_have_helped: record.why.as_deref().map(Why::would_have_helped),
    }
}

fn budget_why(why: &Why) -> Option<BudgetWhy> {
    let (meter, limit, used, asked, after) = match why {
        Why::Budget(refused) => {
            (refused.meter.name(), refused.limit, refused.used, refused.asked, refused.retry_after)
        }
        Why::Requests(refused) => {
            let meter = match refused.kind {
                limits::RequestRefusalKind::Requests => "requests",
                limits::RequestRefusalKind::Concurrency => "concurrency",
            };
            (meter, refused.limit, refused.used, 1, refused.retry_after)
        }
        Why::Load(_) => return None,
    };
    let over_by = (used + asked).saturating_sub(limit);
    Some(BudgetWhy { meter: meter.into(), limit, used, asked, over_by, room_after_ms: after.map(millis) })
}

fn load_why(why: &Why) -> Option<LoadWhy> {
    let Why::Load(rejection) = why else { return None };
    Some(LoadWhy {
        predicted_wait_ms: rejection.predicted_wait.map(millis),
        predicted_wait_max_ms: millis(rejection.predicted_wait_max),
        saturation: rejection.saturation,
        ceiling: rejection.ceiling,
        queued: rejection.queued,
        retry_after_ms: rejection.retry_after.map(millis),
    })
}
