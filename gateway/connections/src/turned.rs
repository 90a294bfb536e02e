//! What is told of connections that were refused or closed before their request: a counter each time, a line of the log
//! at most once a minute for each reason, with how many there were since the last.

use metrics::counter;
use parking_lot::Mutex;
use std::fmt;
use std::time::Duration;

/// How often one reason is logged.
const LOGGED_EVERY: Duration = Duration::from_secs(60);

/// Why a connection, a stream of one, or what came before a request on it, was not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// All places are taken by requests that run.
    Total,
    /// All places of the address are.
    Address,
    /// It asked for nothing yet, or nothing more, and its place was needed.
    GaveWay,
    /// The process had no descriptor left.
    Descriptors,
    /// A listed proxy sent no header of the PROXY protocol, or a malformed one.
    ProxyHeader,
    /// TLS handshake or HTTP/2 preface were not here in time, or failed.
    Handshake,
    /// All HTTP/2 streams are taken.
    Streams,
    /// A head over HTTP/1 was not here in time, or is malformed.
    Head,
    /// A web page asked whether it may call, and its origin is not listed.
    Origin,
}

impl Turned {
    /// All of them.
    const ALL: [Turned; 9] = [
        Turned::Total,
        Turned::Address,
        Turned::GaveWay,
        Turned::Descriptors,
        Turned::ProxyHeader,
        Turned::Handshake,
        Turned::Streams,
        Turned::Head,
        Turned::Origin,
    ];

    /// The label.
    fn name(self) -> &'static str {
        match self {
            Turned::Total => "total",
            Turned::Address => "address",
            Turned::GaveWay => "gave-way",
            Turned::Descriptors => "descriptors",
            Turned::ProxyHeader => "proxy-header",
            Turned::Handshake => "handshake",
            Turned::Streams => "streams",
            Turned::Head => "head",
            Turned::Origin => "origin",
        }
    }

    /// What happened, and what an operator can do.
    fn sentence(self) -> &'static str {
        match self {
            Turned::Total => {
                "connections refused: every one that is open has a request; raise the limit of open files or listen.limits.connections_share"
            }
            Turned::Address => {
                "connections refused: one address holds its whole share; raise listen.limits.connections_per_address, or list it in listen.proxies if it is a proxy of yours"
            }
            Turned::GaveWay => {
                "idle connections closed for new ones: all places, or those of one address, were taken; raise the limit of open files, or list your proxies in listen.proxies"
            }
            Turned::Descriptors => {
                "connections refused: no file descriptor was left; raise the limit of open files"
            }
            Turned::ProxyHeader => {
                "connections refused: no valid PROXY protocol header from an address in listen.proxies that has to send one; switch it on at the proxy, or off in listen.proxies"
            }
            Turned::Handshake => {
                "connections closed: TLS handshake or HTTP/2 preface failed or came too late"
            }
            Turned::Streams => "HTTP/2 streams refused: as many are open as listen.limits.h2_streams allows",
            Turned::Head => {
                "requests refused: their heads came too slowly or are no well-formed HTTP; scanners do this, and clients that speak TLS to a plain port"
            }
            Turned::Origin => {
                "web pages refused: their origin is not in listen.cors; add it there, with scheme and port, if it is a page of yours"
            }
        }
    }
}

/// When each reason was logged last, and how often it came since.
#[derive(Debug, Default)]
pub(crate) struct Told([Mutex<(Option<Duration>, u64)>; Turned::ALL.len()]);

impl Told {
    /// Counts one, and logs it when the last line is a minute old. O(1), one short lock.
    pub(crate) fn turned_away(&self, why: Turned, address: impl fmt::Display, now: Duration) {
        counter!("tidegate_connections_refused_total", "reason" => why.name()).increment(1);
        let Some(told) = self.0.get(why as usize) else { return };
        let mut told = told.lock();
        told.1 += 1;
        if told.0.is_none_or(|at| now >= at + LOGGED_EVERY) {
            let count = std::mem::take(&mut told.1);
            told.0 = Some(now);
            drop(told);
            tracing::warn!(reason = why.name(), count, %address, "{}", why.sentence());
        }
    }
}

/// Makes the series known from the start: an increase from nothing is none for Prometheus.
pub fn known() {
    for why in Turned::ALL {
        counter!("tidegate_connections_refused_total", "reason" => why.name()).absolute(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_place_and_name() {
        for (place, why) in Turned::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, place);
            assert_eq!(Turned::ALL.iter().filter(|other| other.name() == why.name()).count(), 1);
        }
    }
}
