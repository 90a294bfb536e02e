//! Accounts made at run time: made, changed and removed through the admin API, kept in the state folder.
//!
//! Beside them are the accounts that the config declares, which are not changed here and win: an id or a key that the
//! file has is the file's. What is made here obeys the file's rules. Of a key only the digest is kept; the key itself
//! is in the one answer that made it.
//!
//! # Guarantees
//!
//! - A change is on the disk before it is acknowledged, and in force for the next request after that.
//! - Requests never come here: they read the snapshot, into which the accounts in force are put.
//! - At most [`ACCOUNTS_MAX`] accounts, each with at most as many keys as one of the file.
//! - A damaged file gives nobody a right that a lost line may have taken away: an account that the line may have changed
//!   is out of force, and told, until the file is put right or the account is removed and made anew. The others and those
//!   of the config are served.

mod file;
mod keys;

use config::keys::Digest;
use config::{self, AccountRules, Config};
use file::{Line, RosterFile};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Accounts made at run time, at most: each costs about 2 KiB of memory, and each change looks at all of them.
pub const ACCOUNTS_MAX: usize = 100_000;

/// Why an account was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RosterError {
    /// There is nowhere to keep it.
    #[error(
        "accounts are made at run time only where they outlive the process; set state.dir in the config and restart, or declare the account in the config"
    )]
    NoFolder,
    /// A line of the file that cannot be read may have changed this account.
    #[error(
        "a damaged line of the accounts file may have changed this account, so it is out of force and cannot be changed; put the file right and restart, or remove the account and make it anew"
    )]
    InDoubt,
    /// The file could not be taken at the start.
    #[error("no account made at run time is in force and none can be changed: {0}")]
    Damaged(String),
    /// The file of the config has the account.
    #[error("the config declares this account, and what it says counts; change it there and reload")]
    Declared,
    /// The id is taken.
    #[error("there is an account of this id already; change it, or choose another id")]
    Exists,
    /// There is none.
    #[error("no account of this id was made at run time")]
    Unknown,
    /// No key of the account has this digest.
    #[error("the account has no key whose digest begins so; `key_list` of the account lists them")]
    UnknownKey,
    /// No key of the account has this name.
    #[error("the account has no key of this name; `key_list` of the account lists them")]
    UnknownName,
    /// Another key has the name.
    #[error(
        "a key of the account has this name already; give the new one another name, or replace that one with `overlap_seconds`"
    )]
    NameTaken,
    /// It is the only one.
    #[error("this is the account's last key; make another one first, or disable or remove the account")]
    LastKey,
    /// The key opens something already.
    #[error("the key with the digest {0}… opens an account already; a key opens one account")]
    KeyTaken(String),
    /// [`ACCOUNTS_MAX`].
    #[error("there are {ACCOUNTS_MAX} accounts made at run time already; remove some")]
    TooMany,
    /// The config's rules.
    #[error("{0}")]
    Faults(String),
    /// The disk.
    #[error("nothing was changed, since it could not be saved: {0}")]
    NotSaved(#[from] io::Error),
}

/// Accounts made at run time.
#[derive(Debug, Default)]
pub struct Roster {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    file: Option<RosterFile>,
    damage: Option<String>,
    made: BTreeMap<Arc<str>, Made>,
    /// Whose key a digest is of.
    keys: HashMap<Digest, Arc<str>>,
}

/// One of them.
#[derive(Debug)]
struct Made {
    line: Line,
    /// As the rules make it of the line, but for what depends on models and time. `None`: they refuse it.
    account: Option<config::Account>,
    /// A line that cannot be read may have changed it: it is not in force, and its keys open nothing else.
    in_doubt: bool,
    /// As it is in force under the config and at the time of the last look.
    fitted: Option<Arc<config::Account>>,
}

/// What is in force of a roster under a config.
#[derive(Debug, Default)]
pub struct InForce {
    /// The accounts.
    pub accounts: Vec<Arc<config::Account>>,
    /// Ids that the config declares too, whose own account is out of force.
    pub overridden: Vec<Arc<str>>,
}

impl Roster {
    /// Those kept in `folder`, at the wall time `now`. What is wrong is logged, and the start goes on.
    #[must_use]
    pub fn open(folder: Option<&Path>, config: &Config, now: Duration) -> Self {
        let Some(folder) = folder else { return Roster::default() };
        let mut inner = Inner::default();
        match RosterFile::open(&folder.join("accounts.jsonl")) {
            Ok(opened) => {
                if opened.torn {
                    tracing::warn!(
                        "the last change of accounts was not finished before the process ended; it is dropped"
                    );
                }
                inner.file = Some(opened.file);
                if let Some(damage) = &opened.damage {
                    tell_of_damage(damage, &opened.in_doubt);
                }
                let in_doubt = opened.in_doubt;
                let rules = AccountRules::of(config);
                for line in opened.lines.into_values() {
                    let account = judged(&rules, &line, false).inspect_err(|e| {
                        tracing::error!(account = line.id, "an account is not in force: {e}")
                    });
                    let in_doubt = in_doubt.contains(&line.id);
                    inner.put(Made { line, account: account.ok(), in_doubt, fitted: None });
                }
            }
            Err(damage) => {
                tracing::error!("no account made at run time is in force: {damage}");
                inner.damage = Some(damage);
            }
        }
        inner.fit_all(config, now);
        Roster { inner: Mutex::new(inner) }
    }

    /// What is in force under `config` at the wall time `now`. O(accounts).
    #[must_use]
    pub fn in_force(&self, config: &Config, now: Duration) -> InForce {
        let mut inner = self.inner.lock();
        inner.fit_all(config, now);
        let declared: HashSet<&str> = config.accounts.iter().map(|account| &*account.id).collect();
        let mut force = InForce::default();
        for (id, made) in &inner.made {
            match &made.fitted {
                _ if declared.contains(&**id) => force.overridden.push(Arc::clone(id)),
                Some(account) => force.accounts.push(Arc::clone(account)),
                None => {}
            }
        }
        force
    }

    /// Makes an account with these keys and fields of `accounts[]`.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn create(
        &self,
        config: &Config,
        id: &str,
        fields: Map<String, Value>,
        keys: &[Digest],
    ) -> Result<(), RosterError> {
        let mut inner = self.inner.lock();
        inner.may_change(config, id)?;
        if let Some(made) = inner.made.get(id) {
            return Err(if made.in_doubt { RosterError::InDoubt } else { RosterError::Exists });
        }
        if inner.made.len() >= ACCOUNTS_MAX {
            return Err(RosterError::TooMany);
        }
        let mut account = fields;
        account.insert("keys".to_owned(), json!(keys.iter().map(ToString::to_string).collect::<Vec<_>>()));
        inner.write(config, Line::new(id, Some(account)), true)
    }

    /// Sets fields of `accounts[]`; `null` puts the default in force.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn change(&self, config: &Config, id: &str, fields: Map<String, Value>) -> Result<(), RosterError> {
        let mut inner = self.inner.lock();
        let mut line = inner.changeable(config, id)?;
        let names_models = fields.contains_key("models");
        for (key, value) in fields {
            match (&mut line.account, value.is_null()) {
                (Some(account), true) => drop(account.remove(&key)),
                (Some(account), false) => drop(account.insert(key, value)),
                (None, _) => {}
            }
        }
        inner.write(config, line, names_models)
    }

    /// Adds a key at the wall time `now`; those that were there end after `overlap`, at once where it is zero. When they end, as wall time.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn rotate(
        &self,
        config: &Config,
        id: &str,
        new: Digest,
        overlap: Duration,
        now: Duration,
    ) -> Result<Duration, RosterError> {
        let mut inner = self.inner.lock();
        let mut line = inner.changeable(config, id)?;
        let ends = now + overlap;
        let mut entries = end_by(&mut line, ends, now, |_| true);
        entries.push(keys::entry(new, Map::new()));
        line.set_keys(entries);
        inner.write(config, line, false).map(|()| ends)
    }

    /// Puts a key in the place of the one called `name`, at the wall time `now`: with its rights, and with what `fields` says
    /// of its end. The one that was there ends after `overlap`; the account's other keys stay. When it ends, as wall time.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn replace_key(
        &self,
        config: &Config,
        id: &str,
        (name, new): (&str, Digest),
        fields: Map<String, Value>,
        overlap: Duration,
        now: Duration,
    ) -> Result<Duration, RosterError> {
        let mut inner = self.inner.lock();
        let mut line = inner.changeable(config, id)?;
        let old = good_entries(&line, now).into_iter().rfind(|entry| keys::is_called(entry, name));
        let successor = keys::successor(&old.ok_or(RosterError::UnknownName)?, new, fields);
        let ends = now + overlap;
        let mut entries = end_by(&mut line, ends, now, |entry| keys::is_called(entry, name));
        entries.push(successor);
        line.set_keys(entries);
        inner.write(config, line, false).map(|()| ends)
    }

    /// Adds a key with these fields of `accounts[].keys[]`, if any, at the wall time `now`; those that are there stay.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn add_key(
        &self,
        config: &Config,
        id: &str,
        new: Digest,
        fields: Map<String, Value>,
        now: Duration,
    ) -> Result<(), RosterError> {
        let mut inner = self.inner.lock();
        let mut line = inner.changeable(config, id)?;
        let mut entries = good_entries(&line, now);
        let name = fields.get("name").and_then(Value::as_str);
        if name.is_some_and(|name| entries.iter().any(|entry| keys::is_called(entry, name))) {
            return Err(RosterError::NameTaken);
        }
        let names_models = names_models(&fields);
        entries.push(keys::entry(new, fields));
        line.set_keys(entries);
        inner.write(config, line, names_models)
    }

    /// Sets fields of `accounts[].keys[]` of the key whose digest begins with `short`, and what keys of one name share of the
    /// others of its name; `null` puts the default in force. Its digest.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn change_key(
        &self,
        config: &Config,
        id: &str,
        short: &str,
        fields: &Map<String, Value>,
        now: Duration,
    ) -> Result<Digest, RosterError> {
        let mut inner = self.inner.lock();
        let mut line = inner.changeable(config, id)?;
        let mut entries = good_entries(&line, now);
        let (at, digest) = called_short(&entries, short).ok_or(RosterError::UnknownKey)?;
        keys::change(&mut entries, at, fields);
        line.set_keys(entries);
        inner.write(config, line, names_models(fields)).map(|()| digest)
    }

    /// Ends, at the wall time `now`, the key whose digest begins with `short`, as [`Digest::short`] tells it. Its digest.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn end_key(
        &self,
        config: &Config,
        id: &str,
        short: &str,
        now: Duration,
    ) -> Result<Digest, RosterError> {
        let mut inner = self.inner.lock();
        let mut line = inner.changeable(config, id)?;
        let mut entries = good_entries(&line, now);
        let (at, digest) = called_short(&entries, short).ok_or(RosterError::UnknownKey)?;
        if entries.len() == 1 {
            return Err(RosterError::LastKey);
        }
        entries.remove(at);
        line.set_keys(entries);
        inner.write(config, line, false).map(|()| digest)
    }

    /// Why no account can be made or changed; `None`: they can.
    #[must_use]
    pub fn closed(&self) -> Option<String> {
        self.inner.lock().is_open().err().map(|why| why.to_string())
    }

    /// Removes an account.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn remove(&self, config: &Config, id: &str) -> Result<(), RosterError> {
        let mut inner = self.inner.lock();
        // One that the config overrides may go: then only the config has it.
        inner.is_open()?;
        if !inner.made.contains_key(id) {
            let declared = declares(config, id);
            return Err(if declared { RosterError::Declared } else { RosterError::Unknown });
        }
        inner.append(&Line::new(id, None))?;
        inner.made.remove(id);
        inner.keys.retain(|_, owner| **owner != *id);
        inner.tidy();
        Ok(())
    }

    /// Whether an account of this id was made here, in force or not.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.inner.lock().made.contains_key(id)
    }

    /// Accounts that are out of force because a damaged line may have changed them. O(accounts).
    #[must_use]
    pub fn in_doubt(&self) -> usize {
        self.inner.lock().made.values().filter(|made| made.in_doubt).count()
    }

    /// Keys of an account that end, with when, as wall time. Allocates.
    #[must_use]
    pub fn ending(&self, id: &str) -> Vec<(Digest, Duration)> {
        let inner = self.inner.lock();
        let ends = inner.made.get(id).map(|made| &made.line.ends);
        let ends = ends
            .into_iter()
            .flatten()
            .filter_map(|(key, at)| Some((Digest::parse(key).ok()?, Duration::from_millis(*at))));
        ends.collect()
    }

    /// Whether the time of a key is over that is still in force.
    #[must_use]
    pub fn has_ended(&self, now: Duration) -> bool {
        self.inner.lock().made.values().any(|made| {
            let over = |key: &Digest| {
                made.line.ends.get(&key.to_string()).is_some_and(|at| *at <= milliseconds(now))
            };
            !made.line.ends.is_empty()
                && made.fitted.as_ref().is_some_and(|account| account.keys.iter().any(over))
        })
    }
}

impl Inner {
    fn is_open(&self) -> Result<(), RosterError> {
        match (&self.damage, &self.file) {
            (Some(damage), _) => Err(RosterError::Damaged(damage.clone())),
            (None, None) => Err(RosterError::NoFolder),
            (None, Some(_)) => Ok(()),
        }
    }

    fn may_change(&self, config: &Config, id: &str) -> Result<(), RosterError> {
        let declared = declares(config, id);
        if declared { Err(RosterError::Declared) } else { self.is_open() }
    }

    fn changeable(&self, config: &Config, id: &str) -> Result<Line, RosterError> {
        self.may_change(config, id)?;
        match self.made.get(id) {
            Some(made) if made.in_doubt => Err(RosterError::InDoubt),
            Some(made) => Ok(made.line.clone()),
            None => Err(RosterError::Unknown),
        }
    }

    /// Judges a line, writes it down, and puts it in the place of the old one.
    fn write(&mut self, config: &Config, line: Line, names_models: bool) -> Result<(), RosterError> {
        let rules = AccountRules::of(config);
        let account = judged(&rules, &line, names_models).map_err(RosterError::Faults)?;
        for key in &account.keys {
            let theirs = self.keys.get(key).is_some_and(|owner| **owner != *line.id);
            let files = config.accounts.iter().any(|account| account.keys.contains(key));
            if theirs || files {
                return Err(RosterError::KeyTaken(key.short()));
            }
        }
        self.append(&line)?;
        self.keys.retain(|_, owner| **owner != *line.id);
        self.put(Made { line, account: Some(account), in_doubt: false, fitted: None });
        self.tidy();
        Ok(())
    }

    fn append(&mut self, line: &Line) -> Result<(), RosterError> {
        let made = &self.made;
        let file = self.file.as_mut().ok_or(RosterError::NoFolder)?;
        let same = file.follow(|lines| lines.values().eq(made.values().map(|made| &made.line)));
        if !same.map_err(RosterError::Damaged)? {
            let message =
                "another process has changed accounts in this folder; restart tidegate to take them up";
            return Err(RosterError::NotSaved(io::Error::other(message)));
        }
        file.append(line).map_err(RosterError::NotSaved)
    }

    fn put(&mut self, made: Made) {
        let id: Arc<str> = made.line.id.as_str().into();
        for key in made.account.iter().flat_map(|account| &account.keys) {
            self.keys.insert(*key, Arc::clone(&id));
        }
        self.made.insert(id, made);
    }

    fn tidy(&mut self) {
        let Some(file) = self.file.as_mut().filter(|file| file.is_mostly_old(self.made.len())) else {
            return;
        };
        if let Err(e) = file.rewrite(self.made.values().map(|made| &made.line)) {
            tracing::warn!("old lines of accounts could not be cleared away: {e}");
        }
    }

    fn fit_all(&mut self, config: &Config, now: Duration) {
        let declared: HashSet<Digest> =
            config.accounts.iter().flat_map(|account| account.keys.iter().copied()).collect();
        for made in self.made.values_mut() {
            made.fit(config, &declared, now);
        }
    }
}

impl Made {
    /// Without keys whose time is over or that the config gives to others, and models that it does not know.
    fn fit(&mut self, config: &Config, declared: &HashSet<Digest>, now: Duration) {
        let Some(account) = self.account.as_ref().filter(|_| !self.in_doubt) else { return };
        let over =
            |key: &Digest| self.line.ends.get(&key.to_string()).is_some_and(|at| *at <= milliseconds(now));
        let keys: Vec<Digest> =
            account.keys.iter().filter(|key| !declared.contains(*key) && !over(key)).copied().collect();
        let listed = self.line.account.as_ref().and_then(|account| account.get("models")?.as_array());
        let models = listed.map(|names| {
            let known = names.iter().filter_map(|name| config.model(name.as_str()?));
            known.map(|model| Arc::clone(&model.name)).collect()
        });
        let entries = keys::entries(self.line.account.as_ref());
        let named = account.named_keys.iter().filter(|key| keys.contains(&key.digest));
        let named_keys: Vec<_> = named.map(|key| keys::fitted(key, &entries, config)).collect();
        // The same account stays the same value, so that what hangs on it is not built again.
        let same = self
            .fitted
            .as_ref()
            .is_some_and(|old| old.keys == keys && old.models == models && old.named_keys == named_keys);
        if !same {
            self.fitted = Some(Arc::new(config::Account { keys, named_keys, models, ..account.clone() }));
        }
    }
}

/// Accounts that are named when a damaged line puts them out of force.
const DOUBT_TOLD_MAX: usize = 50;

fn tell_of_damage(damage: &str, in_doubt: &BTreeSet<String>) {
    let named: Vec<&str> = in_doubt.iter().take(DOUBT_TOLD_MAX).map(String::as_str).collect();
    let more = in_doubt.len() - named.len();
    tracing::error!(
        count = in_doubt.len(),
        accounts = named.join(", "),
        more,
        "{damage}: these accounts may have been changed there and are out of force, the others are served; put the file right and restart, or remove them and make them anew"
    );
}

/// Whether the config has an account of this id. O(accounts).
fn declares(config: &Config, id: &str) -> bool {
    config.accounts.iter().any(|account| *account.id == *id)
}

/// The account that a line describes. Models are judged only where they were just named: a model that went out of the
/// config later must not keep an operator from disabling an account.
fn judged(rules: &AccountRules, line: &Line, names_models: bool) -> Result<config::Account, String> {
    let mut record = line.account.clone().unwrap_or_default();
    if !names_models {
        record.remove("models");
        keys::without_models(&mut record);
    }
    record.insert("id".to_owned(), json!(line.id));
    rules.judge(record)
}

/// Whether fields of a key name models.
fn names_models(fields: &Map<String, Value>) -> bool {
    ["models", "limits"].iter().any(|field| fields.contains_key(*field))
}

/// The entries of a line's keys whose time is not over.
fn good_entries(line: &Line, now: Duration) -> Vec<Value> {
    let mut entries = keys::entries(line.account.as_ref());
    entries.retain(|entry| {
        let ends = keys::digest(entry).and_then(|key| line.ends.get(key));
        ends.is_none_or(|at| *at > milliseconds(now))
    });
    entries
}

/// Lets keys that `are_meant` end at `ends`, or when they would end anyway. The entries that are still good at `now`.
fn end_by(line: &mut Line, ends: Duration, now: Duration, are_meant: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut entries = keys::entries(line.account.as_ref());
    for key in entries.iter().filter(|entry| are_meant(entry)).filter_map(keys::digest) {
        let at = line.ends.entry(key.to_owned()).or_insert(u64::MAX);
        *at = (*at).min(milliseconds(ends));
    }
    entries.retain(|entry| {
        let ends = keys::digest(entry).and_then(|key| line.ends.get(key));
        ends.is_none_or(|at| *at > milliseconds(now))
    });
    entries
}

/// Where the key stands whose digest begins so, and the digest.
fn called_short(entries: &[Value], short: &str) -> Option<(usize, Digest)> {
    let digests = entries.iter().map(|entry| Digest::parse(keys::digest(entry)?).ok());
    let found = digests.enumerate().find(|(_, digest)| digest.is_some_and(|digest| digest.short() == short));
    found.and_then(|(at, digest)| Some((at, digest?)))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
