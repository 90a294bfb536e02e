//! Everything that the admin listener answers: the table, one entry each.
//!
//! Method, path, who may, what it takes and gives. The OpenAPI document is made from it.

use super::call::Call;
use super::guard::Role;
use super::openapi::Schema;
use super::table::{Entry, Query, Verb};
use super::views::{accounts, limits};
use super::{accounts as changed, change, read};
use client::views::accounts::{AccountPage, AccountState};
use client::views::deployments::{DeploymentState, Deployments};
use client::views::limits::{AccountLimits, Budgets};
use client::views::measured::Measured;
use client::views::process::{InvariantsState, LogState, ReloadState, UpgradeState, Version};
use client::views::refusals::Refusals;

const fn get(
    path: &'static str,
    name: &'static str,
    about: &'static str,
    gives: Option<Schema>,
    run: fn(&Call<'_>) -> read::Answered,
) -> Entry {
    Entry { verb: Verb::Get, path, role: Role::Read, name, about, query: &[], takes: None, gives, run }
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
    get(
        "/api/v1/deployments",
        "deployments",
        "Every deployment as its shedder sees it.",
        Some(Schema::of::<Deployments>()),
        read::deployments,
    ),
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
            "Makes a new key for an account made at run time and shows it, once; the others end.",
        ),
        Some(Schema::of::<changed::Rotation>()),
        ACCOUNT,
        changed::rotate,
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
        query: &[(
            "limit",
            Query::Number(crate::telemetry::accounting::REFUSALS_MAX),
            "How many; all if absent.",
        )],
        ..get(
            "/api/v1/requests",
            "requests",
            "The last refusals, each with why.",
            Some(Schema::of::<Refusals>()),
            read::requests,
        )
    },
    get("/api/v1/config", "config", "The config in force, without secrets.", Some(Schema::Any), read::config),
    get(
        "/api/v1/reload",
        "reload_state",
        "How the config in force came about, and whether the last change of it was taken.",
        Some(Schema::of::<ReloadState>()),
        read::reload,
    ),
    change(
        Verb::Post,
        "/api/v1/reload",
        ("reload", "Reads the config's file again. 422: it has faults, and the config in force stays."),
        None,
        Schema::of::<ReloadState>(),
        change::reload,
    ),
    get(
        "/api/v1/upgrade",
        "upgrade_state",
        "Which process answers, and what became of the last hand-over to a new one.",
        Some(Schema::of::<UpgradeState>()),
        read::upgrade,
    ),
    change(
        Verb::Post,
        "/api/v1/upgrade",
        (
            "upgrade",
            "Starts the program at its path again, with the config as it is now, and hands everything over to it: 202. No connection is refused.",
        ),
        None,
        Schema::of::<UpgradeState>(),
        change::upgrade,
    ),
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
