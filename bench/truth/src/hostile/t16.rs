//! T16: behind the proxies that people have: HAProxy with the PROXY protocol, nginx, each as the handbook configures it, and
//! nginx as it comes.
//!
//! The handbook's blocks are run as they stand in `deploy/book/how-to/`; only addresses and the paths of the certificate are put
//! in. Each client has an address of its own and holds a stream until all are there. All have to be served whole, and the
//! access log has to have the address of each where the proxy tells it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use harness::contest::instant_engine;
use harness::proof::{Finding, Proof, Setting, Trouble};
use harness::tidegate::{Config, MODEL, Tidegate, access_log};
use kit::front::client::{ask, closing_chat, tls_lines};
use kit::front::handbook;
use kit::program::{Program, free_address};

pub(crate) const PROOF: Proof = Proof {
    id: "T16",
    what: "streams behind HAProxy with PROXY v2, nginx with the handbook's block, nginx as it comes: served, addresses right",
    goal: "all of 5,000, 2,000 and 300",
    quick_s: 9,
    full_s: 150,
    needs: "haproxy, nginx; 20,000 open files at full size",
    run,
};

const REPLICAS: usize = 8;
/// Tokens of an answer.
const TOKENS: u32 = 8;
/// Addresses that the clients come from.
const ADDRESSES: usize = 200;
/// Time between two clients: the full size opens 400 a second.
const BETWEEN: Duration = Duration::from_micros(2_500);
/// How long the access log may take.
const LOGGED_WITHIN: Duration = Duration::from_secs(10);

/// nginx with nothing but what it takes to pass requests on; the number is Debian's.
const NGINX_AS_IT_COMES: &str = "events { worker_connections 768; }
http {
    server {
        listen 443;
        location / { proxy_pass http://127.0.0.1:8080; }
    }
}
";

/// A proxy and how it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Front {
    HaProxy,
    Nginx,
    NginxAsItComes,
}

impl Front {
    fn name(self) -> &'static str {
        match self {
            Front::HaProxy => "haproxy",
            Front::Nginx => "nginx",
            Front::NginxAsItComes => "nginx-as-it-comes",
        }
    }

    fn streams(self, setting: &Setting) -> usize {
        match self {
            Front::HaProxy => setting.size(150, 5_000),
            Front::Nginx => setting.size(100, 2_000),
            Front::NginxAsItComes => setting.size(50, 300),
        }
    }
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let (mut rows, mut shown, mut ok) = (Vec::new(), Vec::new(), true);
        for front in [Front::HaProxy, Front::Nginx, Front::NginxAsItComes] {
            let (streams, served, right) = behind(setting, front).await?;
            ok &= served == streams && right == streams;
            shown.push(format!("{} {served} of {streams} served, {right} addresses right", front.name()));
            rows.push(json!({ "front": front.name(), "streams": streams, "served": served, "right": right }));
        }
        let goal = [Front::HaProxy, Front::Nginx, Front::NginxAsItComes].map(|front| front.streams(setting));
        Ok(Finding {
            figure: shown.join("; "),
            goal: format!("all of {}, {} and {}", goal[0], goal[1], goal[2]),
            ok,
            details: Value::Array(rows),
        })
    })
}

/// Streams, how many of them were served whole, and how many lines of the log have the right address.
async fn behind(setting: &Setting, front: Front) -> Result<(usize, usize, usize), Trouble> {
    let mut engines = Vec::new();
    for _ in 0..REPLICAS {
        engines.push(instant_engine().await?);
    }
    let mut config = Config::limitless(engines.iter().map(|engine| engine.addr).collect(), 1);
    config.deployment = ", slo: { ttft_ms: 2000, tpot_ms: 60000 }, limit: 1024".to_owned();
    config.connections_per_address = None;
    config.listen = match front {
        Front::HaProxy => tls_lines(&setting.out)? + &handbook::proxies("proxy_protocol")?,
        Front::Nginx => {
            // The certificate is nginx's, here.
            tls_lines(&setting.out)?;
            handbook::proxies("x_forwarded_for")?
        }
        Front::NginxAsItComes => String::new(),
    };
    let name = format!("t16-{}", front.name());
    let gateway = Tidegate::start(setting, &name, &config).await?;
    let (_program, address) = start(setting, front, gateway.address).await?;
    let streams = front.streams(setting);
    let served = clients(front, address, streams).await;
    let right = right_addresses(setting, &name, front, streams).await;
    Ok((streams, served, right))
}

/// Runs a proxy in front of the gateway at `gateway`.
async fn start(
    setting: &Setting,
    front: Front,
    gateway: SocketAddr,
) -> Result<(Program, SocketAddr), Trouble> {
    let address = free_address()?;
    let file = setting.out.join(format!("t16-{}.conf", front.name()));
    let log = setting.out.join(format!("t16-{}.log", front.name()));
    let text = match front {
        Front::HaProxy => handbook::haproxy(address, gateway)?,
        Front::Nginx => handbook::nginx(&handbook::block("nginx")?, address, gateway, &setting.out),
        Front::NginxAsItComes => handbook::nginx(NGINX_AS_IT_COMES, address, gateway, &setting.out),
    };
    std::fs::write(&file, text)?;
    let folder = std::path::absolute(&setting.out)?.display().to_string();
    let file = std::path::absolute(&file)?.display().to_string();
    let mut program = if front == Front::HaProxy {
        let missing = Trouble::Missing("haproxy is not installed (Debian: apt-get install haproxy)");
        Program::start(executable(["haproxy", "/usr/sbin/haproxy"], missing)?, ["-db", "-f", &file], &log)?
    } else {
        let missing = Trouble::Missing("nginx is not installed (Debian: apt-get install nginx)");
        let globals = format!("daemon off; pid {folder}/{}.pid;", front.name());
        let arguments = ["-p", &folder, "-e", "stderr", "-c", &file, "-g", &globals];
        Program::start(executable(["nginx", "/usr/sbin/nginx"], missing)?, arguments, &log)?
    };
    program.listens(address).await?;
    Ok((program, address))
}

/// The first of these that is installed: Debian has them where the search path of not every user leads.
fn executable(names: [&'static str; 2], missing: Trouble) -> Result<&'static Path, Trouble> {
    let is_there = |name: &str| {
        let ran = Command::new(name).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
        ran.is_ok_and(|status| status.success())
    };
    names.into_iter().find(|name| is_there(name)).map(Path::new).ok_or(missing)
}

fn source(nth: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 150, (nth % ADDRESSES) as u8 + 1)
}

/// How many streams were served whole. The first ends after the last has begun.
async fn clients(front: Front, address: SocketAddr, streams: usize) -> usize {
    let gap = BETWEEN * streams as u32 / (TOKENS - 2) + Duration::from_millis(100);
    let body = format!(
        "{{\"model\":\"{MODEL}\",\"stream\":true,\"max_tokens\":{TOKENS},\"ignore_eos\":true,\
         \"messages\":[{{\"role\":\"user\",\"content\":\"tide\"}}],\"user\":\"sim:gap={}ms\"}}",
        gap.as_millis()
    );
    let request = closing_chat("key-0", &body);
    let mut asked = JoinSet::new();
    for nth in 0..streams {
        let request = request.clone();
        // With the proxy or, through it, with the gateway.
        let over_tls = front != Front::NginxAsItComes;
        asked.spawn(async move { ask(source(nth), address, over_tls, &request).await });
        sleep(BETWEEN).await;
    }
    let mut served = 0;
    while let Some(answer) = asked.join_next().await {
        let whole = matches!(&answer, Ok(Ok(answer)) if is_whole(answer));
        served += usize::from(whole);
    }
    served
}

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    text.starts_with("HTTP/1.1 200") && text.contains("[DONE]")
}

/// How many requests are in the log with the address that they came from; behind a proxy that tells none, with its own.
async fn right_addresses(setting: &Setting, name: &str, front: Front, streams: usize) -> usize {
    let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
    for nth in 0..streams {
        let address = if front == Front::NginxAsItComes { Ipv4Addr::LOCALHOST } else { source(nth) };
        *wanted.entry(address.to_string()).or_default() += 1;
    }
    let end = engine::clock::now() + LOGGED_WITHIN;
    loop {
        let text = std::fs::read_to_string(access_log(setting, name)).unwrap_or_default();
        let seen = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut left = wanted.clone();
        let mut right = 0;
        for line in seen {
            let address = line.get("client_address").and_then(Value::as_str).unwrap_or_default();
            if let Some(count) = left.get_mut(address).filter(|count| **count > 0) {
                *count -= 1;
                right += 1;
            }
        }
        if right == streams || engine::clock::now() > end {
            return right;
        }
        sleep(Duration::from_millis(100)).await;
    }
}
