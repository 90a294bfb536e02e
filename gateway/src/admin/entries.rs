//! Everything that the admin listener answers: the table, one entry each.
//!
//! Method, path, who may, what it takes and gives. The OpenAPI document is made from it.

use super::call::Call;
use super::guard::Role;
use super::openapi::Schema;
use super::table::{Entry, Query, Verb};
use super::views::{accounts, deployments, limits};
use super::{accounts as changed, change, drills, read};
use crate::state::usage_page;
use ::usage::report::Step;
use client::views::accounts::{AccountPage, AccountState};
use client::views::deployments::{DeploymentState, Deployments};
use client::views::drills::{DrillRun, Drills};
use client::views::events::EventList;
use client::views::history::History;
use client::views::limits::{AccountLimits, Budgets};
use client::views::measured::Measured;
use client::views::process::{InvariantsState, LogState, ReloadState, UpgradeState, Version};
use client::views::refusals::{RefusalGroups, Refusals};
use client::views::usage::UsagePage;
use history::events::EVENTS_MAX;
use history::groups::MINUTES_MAX;

/// What most answer where it is done.
const DONE: &[(&str, &str)] = &[("200", "Done.")];

const fn get(
    path: &'static str,
    name: &'static str,
    about: &'static str,
    gives: Option<Schema>,
    run: fn(&Call<'_>) -> read::Answered,
) -> Entry {
    Entry {
        verb: Verb::Get,
        path,
        role: Role::Read,
        name,
        about,
        query: &[],
        takes: None,
        gives,
        statuses: DONE,
        run,
    }
}

const fn probe(
    path: &'static str,
    name: &'static str,
    about: &'static str,
    run: fn(&Call<'_>) -> read::Answered,
) -> Entry {
    Entry { role: Role::Open, ..get(path, name, about, None, run) }
}

/// A change; what it answers is what it made.
const fn change(
    verb: Verb,
    path: &'static str,
    (name, about): (&'static str, &'static str),
    takes: Option<Schema>,
    gives: Schema,
    run: fn(&Call<'_>) -> read::Answered,
) -> Entry {
    Entry { verb, role: Role::Operate, takes, ..get(path, name, about, Some(gives), run) }
}

/// What a change of a deployment answers.
const DEPLOYMENT: Schema = Schema::of::<DeploymentState>();

/// What a change of an account answers.
const ACCOUNT: Schema = Schema::of::<changed::ChangedAccount>();

/// A name that the query may have, with what it means.
type Asked = (&'static str, Query, &'static str);

/// Which refusals are asked for.
const ACCOUNT_QUERY: Asked = ("account", Query::Text, "Those of this account.");
const MODEL_QUERY: Asked = ("model", Query::Text, "Those for this model.");
const DEPLOYMENT_QUERY: Asked = ("deployment", Query::Text, "Those at this deployment.");
const REASON_QUERY: Asked = ("reason", Query::Text, "Those with this reason, as in `x-tidegate-reason`.");
const STATUS_QUERY: Asked = ("status", Query::Number(read::STATUS_MAX), "Those with this status.");
const TIER_QUERY: Asked = ("tier", Query::OneOf(read::TIERS), "Those in this tier.");

/// All of them, in the order of the document.
pub(super) const ENTRIES: &[Entry] = &[
    probe("/livez", "livez", "Whether the process lives.", read::livez),
    probe("/readyz", "readyz", "Whether it takes requests; 503 on its way out.", read::readyz),
    probe("/healthz", "healthz", "The same as /readyz.", read::readyz),
    get("/metrics", "metrics", "Metrics in Prometheus' text format.", None, read::metrics),
    get("/api/v1/openapi.json", "openapi", "This document.", Some(Schema::Any), read::openapi),
    get(
        "/api/v1/version",
        "version",
        "Which program this is, and since when.",
        Some(Schema::of::<Version>()),
        read::version,
    ),
    Entry {
        query: &[
            ("limit", Query::Number(deployments::PAGE_MAX), "How many; all if absent."),
            ("after", Query::Text, "Those after this one: `next` of the page before."),
            ("containing", Query::Text, "Names that contain this."),
            (
                "order",
                Query::OneOf(read::ORDERS),
                "As in the config, or the worst first; `config` if absent.",
            ),
        ],
        ..get(
            "/api/v1/deployments",
            "deployments",
            "Every deployment as its shedder sees it.",
            Some(Schema::of::<Deployments>()),
            read::deployments,
        )
    },
    get(
        "/api/v1/deployments/{name}",
        "deployment",
        "One of them.",
        Some(Schema::of::<DeploymentState>()),
        read::deployment,
    ),
    get(
        "/api/v1/deployments/{name}/measured",
        "measured",
        "What was measured of its engines while they served: enough for `tidegate drill --calibrate` to simulate them.",
        Some(Schema::of::<Measured>()),
        read::measured,
    ),
    Entry {
        query: &[
            ("limit", Query::Number(accounts::PAGE_MAX), "How many; 100 if absent."),
            ("after", Query::Text, "Ids after this one: `next` of the page before."),
            ("containing", Query::Text, "Ids that contain this."),
        ],
        ..get(
            "/api/v1/accounts",
            "accounts",
            "Accounts in the order of their ids.",
            Some(Schema::of::<AccountPage>()),
            read::accounts,
        )
    },
    get(
        "/api/v1/accounts/{id}",
        "account",
        "One account.",
        Some(Schema::of::<AccountState>()),
        read::account,
    ),
    Entry {
        query: &[("model", Query::Text, "This model only.")],
        ..get(
            "/api/v1/accounts/{id}/limits",
            "account_limits",
            "An account's limits: in force, used, what comes next, how they moved.",
            Some(Schema::of::<AccountLimits>()),
            read::account_limits,
        )
    },
    change(
        Verb::Post,
        "/api/v1/accounts",
        (
            "create_account",
            "Makes an account, in force at once and kept in the state folder. Shows its key, once.",
        ),
        Some(Schema::of::<changed::NewAccount>()),
        ACCOUNT,
        changed::create,
    ),
    change(
        Verb::Patch,
        "/api/v1/accounts/{id}",
        (
            "change_account",
            "Changes an account made at run time: disables it, moves its tiers. 409: the config declares it.",
        ),
        Some(Schema::of::<changed::AccountChange>()),
        ACCOUNT,
        changed::change,
    ),
    change(
        Verb::Delete,
        "/api/v1/accounts/{id}",
        ("remove_account", "Removes an account made at run time."),
        None,
        Schema::of::<changed::RemovedAccount>(),
        changed::remove,
    ),
    change(
        Verb::Post,
        "/api/v1/accounts/{id}/keys",
        (
            "rotate_keys",
            "Makes a new key for an account made at run time and shows it, once; the others end, or stay, or the one of its name alone ends.",
        ),
        Some(Schema::of::<changed::KeyChange>()),
        ACCOUNT,
        changed::new_key_of,
    ),
    change(
        Verb::Patch,
        "/api/v1/accounts/{id}/keys/{key}",
        (
            "change_key",
            "Changes a key's name, end or rights, of an account made at run time; named by the digits that `key_list` shows. Keys of one name share their rights.",
        ),
        Some(Schema::of::<changed::KeyFields>()),
        ACCOUNT,
        changed::change_key,
    ),
    change(
        Verb::Delete,
        "/api/v1/accounts/{id}/keys/{key}",
        (
            "end_key",
            "Ends a key of an account made at run time, at once; named by the digits that `key_list` shows. 409: its last one.",
        ),
        None,
        ACCOUNT,
        changed::end_key,
    ),
    change(
        Verb::Put,
        "/api/v1/accounts/{id}/limits",
        ("set_account_limits", "Sets bounds of an account, until they are set again."),
        Some(Schema::of::<change::LimitsChange>()),
        Schema::of::<AccountLimits>(),
        change::set_limits,
    ),
    change(
        Verb::Post,
        "/api/v1/deployments/{name}/replicas/{replica}/drain",
        ("drain_replica", "Takes a replica out of service; what runs on it runs on. Forgotten by a restart."),
        None,
        DEPLOYMENT,
        change::drain,
    ),
    change(
        Verb::Delete,
        "/api/v1/deployments/{name}/replicas/{replica}/drain",
        ("undrain_replica", "Puts a replica back into service."),
        None,
        DEPLOYMENT,
        change::undrain,
    ),
    change(
        Verb::Post,
        "/api/v1/deployments/{name}/thresholds",
        ("set_thresholds", "Sets the ceilings of the tiers, until the next reload or restart."),
        Some(Schema::of::<change::Thresholds>()),
        DEPLOYMENT,
        change::set_thresholds,
    ),
    change(
        Verb::Delete,
        "/api/v1/deployments/{name}/thresholds",
        ("reset_thresholds", "Puts the ceilings of the config in force again."),
        None,
        DEPLOYMENT,
        change::reset_thresholds,
    ),
    change(
        Verb::Post,
        "/api/v1/deployments/{name}/pressure",
        ("set_pressure", "Pretends for a time that a part of the capacity is gone: a drill on live traffic."),
        Some(Schema::of::<change::PressureChange>()),
        DEPLOYMENT,
        change::set_pressure,
    ),
    change(
        Verb::Delete,
        "/api/v1/deployments/{name}/pressure",
        ("lift_pressure", "Ends the pretence."),
        None,
        DEPLOYMENT,
        change::lift_pressure,
    ),
    Entry {
        query: &[("limit", Query::Number(limits::LISTED_MAX), "How many; 100 if absent.")],
        ..get(
            "/api/v1/limits",
            "limits",
            "The busiest budgets in memory.",
            Some(Schema::of::<Budgets>()),
            read::limits,
        )
    },
    Entry {
        query: &[
            ("limit", Query::Number(crate::telemetry::accounting::REFUSALS_MAX), "How many; 200 if absent."),
            ("id", Query::Text, "The one with this id: ours, or the client's own."),
            ACCOUNT_QUERY,
            MODEL_QUERY,
            DEPLOYMENT_QUERY,
            REASON_QUERY,
            STATUS_QUERY,
            TIER_QUERY,
        ],
        ..get(
            "/api/v1/requests",
            "requests",
            "The last refusals, each with why.",
            Some(Schema::of::<Refusals>()),
            read::requests,
        )
    },
    Entry {
        query: &[
            ("minutes", Query::Number(MINUTES_MAX), "How far back; 60 if absent."),
            ("limit", Query::Number(read::GROUPS_LISTED_MAX), "How many groups; 100 if absent."),
            ACCOUNT_QUERY,
            MODEL_QUERY,
            DEPLOYMENT_QUERY,
            REASON_QUERY,
            STATUS_QUERY,
            TIER_QUERY,
        ],
        ..get(
            "/api/v1/requests/groups",
            "request_groups",
            "Refused requests by account, reason and status, with counts minute by minute.",
            Some(Schema::of::<RefusalGroups>()),
            read::request_groups,
        )
    },
    Entry {
        query: &[
            ("deployment", Query::Text, "Of which deployment; required."),
            (
                "resolution",
                Query::OneOf(read::RESOLUTIONS),
                "Steps of 5 s for an hour, or of 1 min for a day; `5s` if absent.",
            ),
            ("since", Query::Moment, "Steps that began later than this, seconds since 1970."),
        ],
        ..get(
            "/api/v1/history",
            "history",
            "A deployment over time, in columns: first tokens, token gaps, attainment, requests, saturation, tokens.",
            Some(Schema::of::<History>()),
            read::history,
        )
    },
    Entry {
        query: &[
            ("since", Query::Moment, "Events later than this, seconds since 1970."),
            ("limit", Query::Number(EVENTS_MAX), "How many, the newest; all if absent."),
            ("deployment", Query::Text, "Those of this deployment, and those of none."),
        ],
        ..get(
            "/api/v1/events",
            "events",
            "What people and machines did: reloads, drains, replicas that went and came, limits that were set.",
            Some(Schema::of::<EventList>()),
            read::events,
        )
    },
    Entry {
        query: &[
            (
                "from",
                Query::Text,
                "From the begin of this month, day or hour on, in UTC, such as 2026-11, 2026-11-30 or 2026-11-30T14:00:00Z; this month if absent.",
            ),
            ("to", Query::Text, "Up to the begin of this month, day or hour; without an end if absent."),
            ("account", Query::Text, "Of this account."),
            ("key", Query::Text, "Of this key: the first 8 hexadecimal digits of its SHA-256."),
            ("model", Query::Text, "For this model."),
            ("tier", Query::OneOf(read::TIERS), "In this tier."),
            ("by", Query::OneOf(Step::NAMES), "The length of the time that a row is of; `day` if absent."),
            ("limit", Query::Number(usage_page::PAGE_MAX), "How many rows; 1,000 if absent."),
            ("after", Query::Text, "Rows after this one: `next` of the page before."),
        ],
        ..get(
            "/api/v1/usage",
            "usage",
            "What accounts used, by hour, day or month: requests and tokens as charged. 404: it is not kept.",
            Some(Schema::of::<UsagePage>()),
            read::usage,
        )
    },
    get(
        "/api/v1/drills",
        "drills",
        "What can be drilled on the config in force, and the last drills.",
        Some(Schema::of::<Drills>()),
        drills::list,
    ),
    change(
        Verb::Post,
        "/api/v1/drills",
        (
            "start_drill",
            "Plays a scenario on the config in force, in virtual time, in a process of its own that gives way to everything. 409: one runs.",
        ),
        Some(Schema::of::<drills::DrillOrder>()),
        Schema::of::<DrillRun>(),
        drills::start,
    ),
    get("/api/v1/drills/{id}", "drill", "One drill.", Some(Schema::of::<DrillRun>()), drills::get),
    get(
        "/api/v1/drills/{id}/report",
        "drill_report",
        "Its report: a page that needs nothing else.",
        Some(Schema::Page),
        drills::report,
    ),
    change(
        Verb::Delete,
        "/api/v1/drills/{id}",
        ("remove_drill", "Stops a drill that runs, and forgets one that is over."),
        None,
        Schema::of::<Drills>(),
        drills::remove,
    ),
    get("/api/v1/config", "config", "The config in force, without secrets.", Some(Schema::Any), read::config),
    get(
        "/api/v1/reload",
        "reload_state",
        "How the config in force came about, and whether the last change of it was taken.",
        Some(Schema::of::<ReloadState>()),
        read::reload,
    ),
    Entry {
        statuses: &[("200", "Taken."), ("422", "It has faults, and the config in force stays.")],
        ..change(
            Verb::Post,
            "/api/v1/reload",
            ("reload", "Reads the config's file again. 422: it has faults, and the config in force stays."),
            None,
            Schema::of::<ReloadState>(),
            change::reload,
        )
    },
    get(
        "/api/v1/upgrade",
        "upgrade_state",
        "Which process answers, and what became of the last hand-over to a new one.",
        Some(Schema::of::<UpgradeState>()),
        read::upgrade,
    ),
    Entry {
        statuses: &[("202", "It has begun; what becomes of it is read by GET.")],
        ..change(
            Verb::Post,
            "/api/v1/upgrade",
            (
                "upgrade",
                "Starts the program at its path again, with the config as it is now, and hands everything over to it: 202. No connection is refused.",
            ),
            None,
            Schema::of::<UpgradeState>(),
            change::upgrade,
        )
    },
    get(
        "/api/v1/log",
        "log",
        "The level of the process's own log, and how many lines were dropped.",
        Some(Schema::of::<LogState>()),
        read::log,
    ),
    change(
        Verb::Put,
        "/api/v1/log",
        (
            "set_log_level",
            "Sets the level of the process's own log, at once, until it is set again or the process ends.",
        ),
        Some(Schema::of::<change::LogChange>()),
        Schema::of::<LogState>(),
        change::set_log,
    ),
    get(
        "/api/v1/invariants",
        "invariants",
        "Every counter that must be zero at rest.",
        Some(Schema::of::<InvariantsState>()),
        read::invariants,
    ),
];
