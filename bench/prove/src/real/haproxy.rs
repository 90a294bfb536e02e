//! HAProxy as a gate in front of engines, with everything set that helps it; `maxconn` as `real-search` found it.
//!
//! | setting | value | why |
//! |---|---|---|
//! | `maxconn` of a server | searched | the requests at once at which tokens still come in time; fewer waste the engine, more break the service level of all |
//! | `http-request set-priority-class` | by the customer's key | strict priority in the queue |
//! | `timeout queue` | [`WAIT`] | the bound of the time to the first token, less what the prefill takes |
//! | `balance leastconn` | | least requests is the nearest thing to least work that it knows |
//! | `option redispatch`, `retry-on` with room for whole bodies | | a request that a dead server did not answer goes to another |
//! | health check each 200 ms, `on-error`, `observe layer4` | | a killed server is out after the first failures |
//! | `option http-no-delay` | | tokens leave when they come |
//! | `option abortonclose` | | who leaves the queue frees the place |

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::proof::{Setting, Trouble};
use kit::program::{Program, free_address};

/// What the proofs with it need installed.
pub(super) const NEEDED: &str = "haproxy";

/// In the search path, or where Debian puts it, which is not in that of every user.
const EXECUTABLES: [&str; 2] = ["haproxy", "/usr/sbin/haproxy"];

/// The longest wait in the queue.
const WAIT: Duration = Duration::from_millis(1_700);

/// Its process and where it listens.
#[derive(Debug)]
pub(super) struct HaProxy {
    /// The process.
    pub(super) program: Program,
    /// Where customers connect.
    pub(super) address: SocketAddr,
}

impl HaProxy {
    /// Starts it in front of `engines`; requests with a key that begins with `priority_key` are priority.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub(super) async fn start(
        setting: &Setting,
        name: &str,
        engines: &[SocketAddr],
        priority_key: &str,
        places: u32,
    ) -> Result<Self, Trouble> {
        let missing = Trouble::Missing("haproxy is not installed (Debian: apt-get install haproxy)");
        let executable = EXECUTABLES.into_iter().map(Path::new).find(|path| is_there(path)).ok_or(missing)?;
        let address = free_address()?;
        let file = setting.out.join(format!("{name}-haproxy.cfg"));
        std::fs::write(&file, configuration(address, engines, priority_key, places))?;
        let log = setting.out.join(format!("{name}-haproxy.log"));
        let arguments = ["-db", "-f", file.to_str().unwrap_or_default()];
        let mut program = Program::start(executable, arguments, &log)?;
        program.listens(address).await?;
        Ok(Self { program, address })
    }
}

fn is_there(executable: &Path) -> bool {
    let version = Command::new(executable).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

fn configuration(listen: SocketAddr, engines: &[SocketAddr], priority_key: &str, places: u32) -> String {
    let servers: Vec<String> =
        engines.iter().enumerate().map(|(number, engine)| format!("  server e{number} {engine}\n")).collect();
    format!(
        "global\n  nbthread 1\n  maxconn 4000\n  tune.bufsize 131072\n\
         defaults\n  mode http\n  no log\n  timeout connect 1s\n  timeout client 120s\n  timeout server 120s\n\
         \x20 timeout queue {}ms\n  timeout http-keep-alive 60s\n  http-reuse always\n  option http-no-delay\n\
         \x20 option abortonclose\n  option redispatch 1\n  retries 3\n  retry-on conn-failure empty-response\n\
         frontend customers\n  bind {listen} backlog 4096\n  option http-buffer-request\n\
         \x20 http-request set-priority-class int(-10) if {{ req.hdr(authorization) -m beg \"Bearer {priority_key}\" }}\n\
         \x20 default_backend engines\n\
         backend engines\n  balance leastconn\n  option httpchk GET /health\n\
         \x20 default-server maxconn {places} check inter 200ms fall 2 rise 1 observe layer4 error-limit 2 on-error mark-down \
         on-marked-down shutdown-sessions pool-purge-delay 60s\n{}",
        WAIT.as_millis(),
        servers.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_what_makes_it_a_fair_opponent() {
        let engines = [SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2))];

        let text = configuration(SocketAddr::from(([127, 0, 0, 1], 3)), &engines, "prio-", 64);

        for line in [
            "timeout queue 1700ms",
            "set-priority-class int(-10) if { req.hdr(authorization) -m beg \"Bearer prio-\" }",
            "server e1 127.0.0.1:2",
            "maxconn 64",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
