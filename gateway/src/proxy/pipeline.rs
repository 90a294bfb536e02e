//! A request's way, from its first header to its settled budget: one straight function over small steps.
//!
//! ```text
//! accept ─ identify ─ take in ─ weigh ─ budget ─ admit ─ dispatch ─ relay ─ settle
//!  400     401 403    400 404   400     429      503     502 504
//!  405 408 429        413 503                    499
//! ```
//!
//! Every resource is a guard: requests of the account, bytes, the reservation, the place in the queue, the
//! place on a replica. Whichever step ends the request, and also a panic, they come back by their drops.
//! Budget before load: a 429 outranks a 503, and a 503 gives its tokens back whole.

use crate::accounts::budget::{BudgetCell, Ledger, Prompt, RefusedBy};
use crate::accounts::memory::{HolderMemory, MemoryGuard};
use crate::clock;
use crate::downstream::body::{self, BodyLimits};
use crate::downstream::client::{Client, Stop};
use crate::downstream::head::{self, Head, HeadLimits};
use crate::entropy;
use crate::proxy::attempt::{Attempt, Next};
use crate::proxy::keyless;
use crate::proxy::models;
use crate::proxy::own_usage;
use crate::proxy::routing::{Bid, Routed, Routes};
use crate::state::gateway::Gateway;
use crate::state::keys::Bearer;
use crate::state::{Account, Model, Snapshot};
use crate::telemetry::record::Record;
use crate::upstream::admission::{Admission, Place};
use crate::upstream::deployment::Deployment;
use crate::upstream::harvest::Live;
use bytes::Bytes;
use config::keys;
use config::{FairBy, Tier};
use connections::Asking;
use gateway_core::averages::Average as _;
use gateway_core::entry::AnswerSize;
use gateway_core::routing::REOFFER_EVERY;
use http::HeaderValue;
use limits::{RequestRefusal, RequestRefusalKind};
use parking_lot::Mutex;
use pingora::protocols::http::ServerSession;
use protocol::answer::queued::queued;
use protocol::api::route::Route;
use protocol::api::{Api, Family};
use protocol::credential;
use protocol::explain;
use protocol::refusal::{Reason, Refusal};
use protocol::request::call::{Call, TierWish, context_too_long};
use protocol::request::end_user::end_user;
use protocol::stable_hash;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use weighing::weigh::{Weight, weigh};

/// Who asks.
#[derive(Debug)]
pub struct Caller {
    /// The client's address, as a listed proxy tells it.
    pub address: IpAddr,
    /// The request's hold on its connection.
    pub asking: Asking,
    /// What the connection holds, where it is one client's.
    pub connection: Option<Arc<HolderMemory>>,
}

/// Serves one request whose head was read. `true`: the connection may serve another.
pub async fn serve(gateway: &Arc<Gateway>, session: &mut ServerSession, mut caller: Caller) -> bool {
    let in_flight = gateway.enter();
    let snapshot = gateway.snapshot();
    let cors = snapshot.config.listen.cors.as_ref();
    let mut client = Client::new(session, cors);
    let head = accept(&snapshot, &mut client);
    if let Ok(head) = &head
        && let Some(kept) = keyless::answer(gateway, head, &mut client).await
    {
        return kept;
    }
    let id = client.envelope.id_text().to_owned();
    let mut record = Record::begin(id, &client.session().req_header().headers);
    record.client_address = Some(caller.address);
    record.protocol = client.protocol();
    let ended = match head {
        Ok(head) => steps(gateway, &snapshot, head, &mut client, &mut record, &mut caller).await,
        Err(refusal) => Err(refusal.into()),
    };
    match ended {
        Ok(()) => {}
        Err(Stop::Refused(refusal)) => {
            record.refused(&refusal);
            client.refuse(&refusal).await;
        }
        Err(Stop::Gone) => record.gone(client.head_sent()),
    }
    gateway.accounts.send(record.finished(client.envelope.queued));
    drop(in_flight);
    client.reusable()
}

async fn steps(
    gateway: &Arc<Gateway>,
    snapshot: &Arc<Snapshot>,
    head: Head,
    client: &mut Client<'_>,
    record: &mut Record,
    caller: &mut Caller,
) -> Result<(), Stop> {
    let entered = identify_and_enter((gateway, snapshot), client, &head, record);
    let (who, _requests, wanted) = match entered {
        Ok(entered) => entered,
        Err(refusal) => return Err(refuse_unread(client, &head, refusal).await),
    };
    let (api, named) = match wanted {
        Wanted::Metered(api, named) => (api, named),
        Wanted::Models(id) => return models::answer(snapshot, &who, client, id.as_deref()).await,
        Wanted::Usage => {
            return own_usage::answer(gateway.accounts.usage.as_ref(), &who.account, client).await;
        }
    };
    let account = &who.account;
    let of_account = Arc::clone(&account.memory);
    let mut memory = gateway.memory.guard(of_account, caller.connection.clone(), who.may_priority());
    let asked = (api, named.as_deref());
    let call = take_in(gateway, snapshot, client, &head, asked, &mut memory).await?;
    caller.asking.is_whole();
    record.called(&call);
    let model = find_model(snapshot, &who, &call, named.as_deref())?;
    record.model = Some(Arc::clone(&model.config.name));
    let hint = head.affinity.or(call.affinity);
    let budget = account.budget(&gateway.registry, &snapshot.config, &model);
    let (tier, routes, weight) = match understand(&call, &who, &model, hint, record).await {
        Ok(understood) => understood,
        Err(refusal) => {
            client.envelope.meters = Some(budget.view());
            return Err(refusal.into());
        }
    };
    if api == Api::CountTokens {
        return answer_count(client, &budget, &weight).await;
    }
    let of_key = who.key.as_ref().and_then(|key| {
        Some(Part { budget: key.budget(&gateway.registry, &model, &budget)?, key: &key.config.name })
    });
    let ledger = reserve((&budget, of_key), client, &model, &call, &weight, routes.first())?;
    let live = Live::new(ledger, call.choices);
    let body_key = OnceLock::new();
    let request = Request { gateway, snapshot, account, model: &model, call: &call, weight, live, body_key };
    let deadline = head.deadline.map(|deadline| record.arrived + deadline);
    let asked = Asked { tier, deadline, hint };
    admit_and_relay(request, asked, routes, client, record, &mut memory).await
}

/// Tier, deployments and weight of a call. Account and model are known, so that a refusal tells the limits.
async fn understand(
    call: &Call,
    who: &Bearer,
    model: &Model,
    hint: Option<u64>,
    record: &mut Record,
) -> Result<(Tier, Routes, Weight), Refusal> {
    let account = &who.account;
    let tier = tier_of(who, model, call)?;
    record.tier = Some(tier);
    let routes = Routes::of(model, account, tier, call, hint)?;
    record.routed(&routes.first().config.name);
    let weight = weigh_call(call, account, model, &routes).await?;
    record.weighed(&weight);
    Ok((tier, routes, weight))
}

/// One admitted request's fixed facts, shared by the attempts to answer it.
pub struct Request<'a> {
    /// The process.
    pub gateway: &'a Arc<Gateway>,
    /// The config it runs under.
    pub snapshot: &'a Arc<Snapshot>,
    /// Whose it is.
    pub account: &'a Arc<Account>,
    /// What it asks for.
    pub model: &'a Arc<Model>,
    /// The request.
    pub call: &'a Call,
    /// Its weight, on the deployment that serves it.
    pub weight: Weight,
    /// What the harvest reads of it.
    pub live: Arc<Live>,
    /// What tells its body from others, once that was asked for or the body was given up.
    pub body_key: OnceLock<u64>,
}

impl Request<'_> {
    /// The same for the same body of the same account on the same path. O(body), once.
    #[must_use]
    pub fn body_key(&self) -> u64 {
        *self.body_key.get_or_init(|| {
            let body = entropy::keyed_hash_of_long(&self.call.body());
            entropy::keyed_hash((self.account.number, self.call.api.path(), body))
        })
    }

    /// Lets go of the body: the request will not be sent again. What it is told by is kept.
    pub fn give_up_body(&self) {
        let _ = self.body_key();
        self.call.give_up_body();
    }
}

/// What an identified client wants.
enum Wanted {
    /// An API, and the model where the path names it.
    Metered(Api, Option<String>),
    Models(Option<String>),
    /// What the account used.
    Usage,
}

/// Step 2: path, account and the account's requests, all from the head alone.
fn identify_and_enter(
    (gateway, snapshot): (&Gateway, &Snapshot),
    client: &mut Client<'_>,
    head: &Head,
    record: &mut Record,
) -> Result<(Bearer, RequestsGuard, Wanted), Refusal> {
    let wanted = match &head.route {
        Route::Metered(api) => Wanted::Metered(*api, None),
        Route::Named(api, name) => Wanted::Metered(*api, Some(models::decoded(name))),
        Route::Models => Wanted::Models(None),
        Route::Model(id) => Wanted::Models(Some(id.clone())),
        Route::Usage if gateway.accounts.usage.is_some() => Wanted::Usage,
        Route::MethodNotAllowed(allowed) => return Err(models::wrong_method(allowed)),
        // Probes were answered before.
        Route::Probe(_) | Route::Usage | Route::Unknown => return Err(models::no_such_path()),
    };
    if let Wanted::Metered(api, _) = wanted {
        client.api = Some(api);
        record.api = Some(api);
    }
    let who = identify(snapshot, client, record)?;
    let requests = enter(&who, client)?;
    Ok((who, requests, wanted))
}

/// Step 1: structural checks.
fn accept(snapshot: &Snapshot, client: &mut Client<'_>) -> Result<Head, Refusal> {
    let limits = &snapshot.config.listen.limits;
    let limits =
        HeadLimits { bytes_max: limits.header_bytes as usize, lines_max: limits.header_lines as usize };
    head::check(client.session(), limits).inspect_err(|_| client.close_after())
}

/// Refuses before the body was read: a small body is drained so that the connection lives, a large one is not
/// waited for, nor one that the client sends only when it is told to.
async fn refuse_unread(client: &mut Client<'_>, head: &Head, refusal: Refusal) -> Stop {
    if head.expects_continue || !body::drain(client.session(), head.content_length, head.has_body).await {
        client.close_after();
    }
    refusal.into()
}

/// Whose request it is, by its key alone.
fn identify(snapshot: &Snapshot, client: &mut Client<'_>, record: &mut Record) -> Result<Bearer, Refusal> {
    let key = credential::key(&client.session().req_header().headers)?;
    let key = std::str::from_utf8(key).unwrap_or_default();
    let unknown = || credential::unknown(keys::is_mistyped(key));
    let (digest, who) = snapshot.keys.find_stored(key).ok_or_else(unknown)?;
    record.key = Some(digest);
    let who = Some(who).filter(|who| !who.account.config.disabled).cloned().ok_or_else(unknown)?;
    if let Some(key) = &who.key {
        record.key_name = Some(Arc::clone(&key.config.name));
        if key.config.disabled {
            return Err(unknown());
        }
    }
    record.account = Some(Arc::clone(&who.account.config.id));
    if let Some(key) = &who.key {
        if let Some(when) = key.config.expires.filter(|when| *when <= record.arrived_wall) {
            return Err(credential::expired(&key.config.name, &clock::rfc3339(when)));
        }
        key.used.touch(record.arrived_wall);
    }
    Ok(who)
}

/// The places of a request among the concurrent ones of its account, and of its key; given back on drop.
struct RequestsGuard {
    account: Arc<Mutex<limits::RequestMeter>>,
    key: Option<Arc<Mutex<limits::RequestMeter>>>,
}

impl Drop for RequestsGuard {
    fn drop(&mut self) {
        self.account.lock().leave();
        if let Some(key) = &self.key {
            key.lock().leave();
        }
    }
}

/// Takes a place of the key and of the account, or of neither: the key's meter stays locked meanwhile, and is always locked
/// first.
fn enter(who: &Bearer, client: &mut Client<'_>) -> Result<RequestsGuard, Refusal> {
    let now = clock::now();
    let id = &who.account.config.id;
    let is_told = client.envelope.family == Family::Anthropic;
    let key = who.key.as_ref().and_then(|key| Some((key, key.meter.as_ref()?)));
    let mut of_key = key.map(|(_, meter)| meter.lock());
    if let (Some((key, _)), Some(of_key)) = (key, &mut of_key)
        && let Err(refused) = of_key.check(now)
    {
        client.envelope.requests = is_told.then(|| of_key.view(now));
        return Err(too_many(&format!("Key `{}` of account {id}", key.config.name), refused));
    }
    let mut meter = who.account.meter.lock();
    let entered = meter.enter(now);
    if is_told {
        client.envelope.requests = Some(meter.view(now));
    }
    drop(meter);
    entered.map_err(|refused| too_many(&format!("Account {id}"), refused))?;
    if let Some(of_key) = &mut of_key {
        // It was asked at the same moment, and nobody else has had it since.
        let _ = of_key.enter(now);
        let narrower = client.envelope.requests.map(|whole| {
            let part = of_key.view(now);
            if part.remaining < whole.remaining { part } else { whole }
        });
        client.envelope.requests = narrower;
    }
    Ok(RequestsGuard {
        account: Arc::clone(&who.account.meter),
        key: key.map(|(_, meter)| Arc::clone(meter)),
    })
}

fn too_many(whose: &str, refused: RequestRefusal) -> Refusal {
    let RequestRefusal { kind, limit, used, retry_after } = refused;
    let (reason, what) = match kind {
        RequestRefusalKind::Requests => (Reason::RequestsLimited, "requests per minute"),
        RequestRefusalKind::Concurrency => (Reason::ConcurrencyLimited, "concurrent requests"),
    };
    let message =
        format!("{whose} is at its limit of {limit} {what} ({used} used). Retry as told, or send fewer.");
    Refusal::new(reason, message).retry(retry_after).why(explain::Why::Requests(refused))
}

/// Step 3: the body, read and understood.
async fn take_in(
    gateway: &Gateway,
    snapshot: &Snapshot,
    client: &mut Client<'_>,
    head: &Head,
    (api, named): (Api, Option<&str>),
    memory: &mut MemoryGuard,
) -> Result<Call, Stop> {
    if gateway.is_draining() {
        client.close_after();
    }
    let chunks = body::chunks(client.session());
    if head.expects_continue {
        client.session().write_continue_response().await.map_err(|_| Stop::Gone)?;
    }
    let limits = &snapshot.config.listen.limits;
    let depth_max = limits.json_depth;
    let limits = BodyLimits {
        bytes_max: limits.body_bytes,
        deadline: limits.body,
        rate_min: limits.body_bytes_per_second_min,
    };
    // A body that was not read to its end cannot be followed by another request.
    let read = body::read(client.session(), head.content_length, chunks, limits, memory).await;
    let bytes = read.inspect_err(|_| client.close_after())?;
    Ok(Call::read_named(api, bytes, depth_max, named)?)
}

/// The model that the body names, or the path. A model that is not the account's, or not its key's, is answered as one that
/// does not exist.
fn find_model(
    snapshot: &Snapshot,
    who: &Bearer,
    call: &Call,
    named: Option<&str>,
) -> Result<Arc<Model>, Refusal> {
    let find = |name: &str| models::usable(snapshot, who, name).ok_or_else(|| models::unknown(name));
    let model = find(&call.model)?;
    if let Some(named) = named
        && !Arc::ptr_eq(find(named)?, model)
    {
        let message =
            "The path names another model than the body. Leave `model` out of the body, or name the same.";
        return Err(Refusal::bad(message).param("model"));
    }
    Ok(Arc::clone(model))
}

/// The tier that is served: what was asked for, as far as the account and its key may.
fn tier_of(who: &Bearer, model: &Model, call: &Call) -> Result<Tier, Refusal> {
    let wish = match call.tier {
        TierWish::Default => None,
        TierWish::Priority => Some(shedder::Tier::Priority),
        TierWish::Regular => Some(shedder::Tier::Regular),
        TierWish::Flex => Some(shedder::Tier::Flex),
    };
    let account = &who.account.config;
    let takes_flex = |route: &config::Route| route.takes(Tier::Flex, &account.id);
    let flex_is_sold = || model.config.routes.iter().any(takes_flex);
    who.entitled().served(wish, flex_is_sold).map(Tier::from).map_err(|wish| {
        let whose = match &who.key {
            Some(key) if account.tiers.contains(wish.into()) => format!("The key `{}`", key.config.name),
            _ => "This account".to_owned(),
        };
        let message = format!("{whose} may not use the tier `{}`.", wish.name());
        Refusal::new(Reason::TierNotAllowed, message).param("service_tier")
    })
}

/// Step 4: what the request weighs. A prompt is refused as too long only when that is certain.
async fn weigh_call(
    call: &Call,
    account: &Account,
    model: &Model,
    routes: &Routes,
) -> Result<Weight, Refusal> {
    let context = model.config.context.or_else(|| routes.context(&model.config.served_model));
    let weight = weigh(call, account.number, &model.weigher, &routes.first().prefixes, context);
    let Some(context) = context else { return Ok(weight) };
    if weight.certainly_too_long {
        return Err(context_too_long(call.api, weight.prompt, context));
    }
    // Near the end of the window an exact count is worth its price, where it can be had.
    if let Some(counter) = model.weigher.exact().filter(|_| weight.prompt > context && weight.text.is_none())
        && let Some(text) = call.prompt_text()
        && let Some(tokens) = counter.count_long(text).await
        && tokens > context
    {
        return Err(context_too_long(call.api, tokens, context));
    }
    Ok(weight)
}

/// Answers how many tokens a prompt has, by our own count: exact where the model's vocabulary is configured, else an
/// estimate that learns from the engine's counts. No engine is asked: there a count costs the time of the process that
/// serves all streams and nothing that is metered, so it would be a way to slow everybody down for free.
async fn answer_count(
    client: &mut Client<'_>,
    budget: &Arc<BudgetCell>,
    weight: &Weight,
) -> Result<(), Stop> {
    client.envelope.meters = Some(budget.view());
    let body = format!("{{\"input_tokens\":{}}}", weight.prompt);
    client.answer(200, &HeaderValue::from_static("application/json"), Bytes::from(body)).await
}

/// A key's own budget inside its account's, and the key's name.
struct Part<'a> {
    budget: Arc<BudgetCell>,
    key: &'a str,
}

/// Step 5: all three budgets or none, of the account and of its key.
fn reserve(
    (budget, part): (&Arc<BudgetCell>, Option<Part<'_>>),
    client: &mut Client<'_>,
    model: &Model,
    call: &Call,
    weight: &Weight,
    deployment: &Deployment,
) -> Result<Arc<Ledger>, Refusal> {
    let uncached = u64::from(weight.uncached_least());
    let answer = AnswerSize {
        tokens_max: if call.api.form().has_output { call.max_tokens.map(u64::from) } else { Some(0) },
        choices: call.choices,
        usual: model.usual.get().tokens(),
    };
    let prompt = Prompt {
        tokens: u64::from(weight.prompt),
        uncached,
        tokens_per_chunk: deployment.tokens_per_chunk.get().value(),
    };
    let name = &model.config.name;
    let Some(part) = part else {
        let (reserved, meters) = budget.reserve(prompt, answer);
        client.envelope.meters = Some(meters);
        return reserved.map_err(|refused| explain::budget(name, &refused));
    };
    let (reserved, meters) = budget.reserve_inside(&part.budget, prompt, answer);
    client.envelope.meters = Some(meters);
    reserved.map_err(|refused| match refused {
        RefusedBy::Account(refused) => explain::budget(name, &refused),
        RefusedBy::Part(refused) => explain::key_budget(name, (part.key, &budget.account), &refused),
    })
}

/// The names of the deployment and the replica that serve a request.
fn served_by(deployment: &Deployment, permit: shedder::Permit) -> (String, String) {
    let replica = deployment.replicas.get(permit.replica).map(|replica| replica.name.clone());
    (deployment.config.name.to_string(), replica.unwrap_or_default())
}

/// What a request asks of the service.
#[derive(Debug, Clone, Copy)]
struct Asked {
    tier: Tier,
    deadline: Option<Duration>,
    /// What keeps its session together.
    hint: Option<u64>,
}

/// Steps 6 to 9: a place, an engine, the answer; again elsewhere while nothing was generated.
async fn admit_and_relay(
    mut request: Request<'_>,
    asked: Asked,
    mut routes: Routes,
    client: &mut Client<'_>,
    record: &mut Record,
    memory: &mut MemoryGuard,
) -> Result<(), Stop> {
    let arrived = record.arrived;
    let mut weighed_for = Arc::clone(routes.first());
    let offer = offer_of(&request, asked);
    let mut routed = bid(&request, offer, &weighed_for, asked.hint).offer(&routes);
    let mut is_decided = false;
    loop {
        let waited_from = clock::now();
        let bid = bid(&request, offer, &weighed_for, asked.hint);
        record.offered(&routed.deployment.config.name);
        let placed = wait(routed, bid, &routes, client, arrived).await;
        if !std::mem::replace(&mut is_decided, true) {
            count_verdict(&request, asked.tier, &placed);
        }
        let placed = placed.map_err(|stop| after_busy(stop, record));
        client.envelope.queued += clock::now().saturating_sub(waited_from);
        let (place, deployment) = placed?;
        if !Arc::ptr_eq(&deployment, &weighed_for) {
            request.weight.look_at(request.call, request.account.number, &deployment.prefixes);
            weighed_for = Arc::clone(&deployment);
        }
        record.admitted(&deployment.config.name, place.permit());
        if request.snapshot.config.listen.expose_upstream {
            client.envelope.served_by = Some(served_by(&deployment, place.permit()));
        }
        let attempt =
            Attempt { request: &request, deployment: &deployment, client, record, memory, unseen: None };
        match attempt.run(place).await {
            Next::Answered => return Ok(()),
            Next::Stopped(stop) => return Err(stop),
            Next::Again(admission) => routed = Routed { admission, deployment },
            Next::Elsewhere(stop) => {
                // Each deployment fails a request at most once.
                let Some(left) = routes.without(&deployment) else { return Err(stop) };
                routed = self::bid(&request, offer, &weighed_for, asked.hint).offer(&left);
                if matches!(routed.admission, Admission::Shed(_)) {
                    return Err(stop);
                }
                record.retried();
                routes = left;
            }
        }
    }
}

/// The first verdict on a request counts for the growth of limits; that the process goes down says nothing of the load.
fn count_verdict<T>(request: &Request<'_>, tier: Tier, placed: &Result<T, Stop>) {
    let shed = match placed {
        Ok(_) => false,
        Err(Stop::Refused(refusal)) if refusal.reason != Reason::Draining => true,
        Err(Stop::Refused(_) | Stop::Gone) => return,
    };
    if tier == Tier::Regular {
        let (model, account) = (&request.model.config.name, &request.account.config.id);
        request.gateway.shortage.decided(model, account, shed, clock::now());
    }
}

fn bid<'a>(
    request: &'a Request<'_>,
    offer: shedder::Offer,
    weighed_for: &Arc<Deployment>,
    hint: Option<u64>,
) -> Bid<'a> {
    Bid {
        call: request.call,
        account: request.account,
        weight: &request.weight,
        offer: shedder::Offer { uncached: request.weight.uncached, ..offer },
        weighed_for: Arc::clone(weighed_for),
        hint,
        live: Arc::clone(&request.live),
        silence: request.snapshot.config.listen.limits.silence,
        views: Vec::new(),
    }
}

/// What a replica must have to serve it: the model and the route. Never 0.
pub(super) fn needs(request: &Request<'_>) -> u64 {
    let (served, path) = (&*request.model.config.served_model, request.call.api.path());
    stable_hash([served, " ", path].concat().as_bytes()) | 1
}

/// The end user whose turn it takes, where its account is fair between those; who names none is one of them.
fn turn_of(request: &Request<'_>) -> Option<u64> {
    let call = request.call;
    (request.account.config.fair_by == FairBy::User)
        .then(|| entropy::keyed_hash(end_user(&call.body(), &call.parameters)))
}

fn offer_of(request: &Request<'_>, asked: Asked) -> shedder::Offer {
    let has_output = request.call.api.form().has_output;
    let expected = request.model.usual.get().expected(request.call.max_tokens, request.call.choices);
    shedder::Offer {
        tier: asked.tier.into(),
        account: request.account.number,
        user: turn_of(request),
        weight: request.account.config.weight,
        prompt: request.weight.prompt,
        uncached: request.weight.uncached,
        expected_output: if has_output { expected } else { 0 },
        streaming: request.call.stream,
        has_output,
        bytes: request.call.body_bytes,
        // Waiting counts from here: how long the body took to come is not the service's load.
        arrived: clock::now(),
        deadline: asked.deadline,
        needs: needs(request),
        affinity: None,
    }
}

/// Of a request that an engine itself refused as too much, and that then found no other place, it is the engine's refusal that
/// is told: the gateway has places.
fn after_busy(stop: Stop, record: &Record) -> Stop {
    match stop {
        Stop::Refused(refusal) if refusal.reason.status() == 503 && record.was_busy() => {
            let message = explain::upstream_busy().message;
            Stop::Refused(Refusal { message, ..refusal })
        }
        other => other,
    }
}

/// What a client is told of a request that got no place.
fn told(bid: &Bid<'_>, rejection: &shedder::Rejection) -> Refusal {
    if rejection.absent { explain::absent(&bid.call.model, rejection) } else { explain::shed(rejection) }
}

/// Waits for a place, here or at another deployment, while the client is watched. A stream that waits long gets its
/// head and comments.
async fn wait(
    routed: Routed,
    mut bid: Bid<'_>,
    routes: &Routes,
    client: &mut Client<'_>,
    arrived: Duration,
) -> Result<(Place, Arc<Deployment>), Stop> {
    let Routed { admission, deployment } = routed;
    let mut ticket = match admission {
        Admission::Admitted(place) => return Ok((place, deployment)),
        Admission::Shed(rejection) => return Err(told(&bid, &rejection).into()),
        Admission::Waiting(ticket) => ticket,
    };
    let silence = bid.silence;
    let mut silent_since = arrived;
    let mut asks = tokio::time::interval(REOFFER_EVERY);
    asks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    asks.reset();
    loop {
        let silence_left = (silent_since + silence).saturating_sub(clock::now());
        tokio::select! {
            biased;
            verdict = ticket.verdict() => {
                let place = verdict.map_err(|rejection| told(&bid, &rejection))?;
                return Ok((place, deployment));
            }
            () = client.gone() => return Err(Stop::Gone),
            () = tokio::time::sleep(silence_left), if bid.call.stream => {
                match ticket.line_before() {
                    Some(line) => client.comment(queued(line)).await?,
                    None => client.keep_alive().await?,
                }
                silent_since = clock::now();
            }
            _ = asks.tick(), if routes.has_others() => {
                if let Some(found) = bid.elsewhere(routes, &deployment) {
                    return Ok(found);
                }
            }
        }
    }
}
