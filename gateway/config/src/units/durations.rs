//! Durations in the file: a whole number whose unit is the end of its key's name (`_ms`, `_minutes`, `_hours`).

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer};

/// `…_ms`
pub(crate) mod millis {
    use super::{Deserializer, Duration, Serializer, number};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        number(from).map(Duration::from_millis)
    }
}

/// `…_minutes`
pub(crate) mod minutes {
    use super::{Deserializer, Duration, Serializer, number};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(value.as_secs() / 60)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        number(from).map(|minutes| Duration::from_secs(minutes.saturating_mul(60)))
    }
}

/// `…_hours`
pub(crate) mod hours {
    use super::{Deserializer, Duration, Serializer, number};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(value.as_secs() / 3600)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        number(from).map(|hours| Duration::from_secs(hours.saturating_mul(3600)))
    }
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    u64::deserialize(from)
}
