//! What a drill asks of a gateway's admin interface: its inside, and a few changes that end by themselves.

use super::DrillError;
use drill::policy::{BudgetGauge, Inside, ReplicaGauge};
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// Bytes of an answer.
const BODY_MAX: usize = 32 << 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The admin interface of a gateway.
#[derive(Debug, Clone)]
pub(super) struct Admin {
    address: SocketAddr,
    token: Option<String>,
    /// Which deployment is looked at; `None`: the first.
    deployment: Option<String>,
}

impl Admin {
    pub(super) fn new(address: SocketAddr, token: Option<String>) -> Self {
        Self { address, token, deployment: None }
    }

    /// What the gateway shows of itself now; nothing where it does not answer. Of the deployment that the drill is
    /// about, or the first; budgets of the named accounts.
    pub(super) async fn inside(&self, accounts: &[(u32, String)]) -> Inside {
        let deployments = self.deployments().await;
        let wanted = deployments.iter().position(|(name, _)| Some(name) == self.deployment.as_ref());
        let mut inside =
            deployments.into_iter().nth(wanted.unwrap_or(0)).map(|(_, inside)| inside).unwrap_or_default();
        for (account, id) in accounts {
            let path = format!("/api/v1/accounts/{id}/limits");
            if let Ok(limits) = self.ask(Method::GET, &path, None).await {
                inside.budgets.extend(budget(*account, &limits));
            }
        }
        inside
    }

    /// Every deployment by its name, as it is now; none where it does not answer.
    pub(super) async fn deployments(&self) -> Vec<(String, Inside)> {
        let answer = self.ask(Method::GET, "/api/v1/deployments", None).await.unwrap_or_default();
        let list = answer.get("deployments").unwrap_or(&answer).as_array().cloned().unwrap_or_default();
        let name = |one: &Value| one.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        list.iter().map(|one| (name(one), shown(one))).collect()
    }

    /// The same, looking at this deployment.
    pub(super) fn about(self, deployment: Option<String>) -> Self {
        Self { deployment, ..self }
    }

    /// Takes a replica out of service, or puts it back.
    pub(super) async fn drain(
        &self,
        deployment: &str,
        replica: u16,
        drained: bool,
    ) -> Result<(), DrillError> {
        let path = format!("/api/v1/deployments/{deployment}/replicas/{replica}/drain");
        let method = if drained { Method::POST } else { Method::DELETE };
        self.ask(method, &path, None).await.map(drop)
    }

    /// Makes it act as if a share of a deployment's capacity were gone, for a time.
    pub(super) async fn press(
        &self,
        deployment: &str,
        share: f64,
        length: Duration,
    ) -> Result<(), DrillError> {
        let path = format!("/api/v1/deployments/{deployment}/pressure");
        let body = json!({ "share": share, "seconds": length.as_secs() });
        self.ask(Method::POST, &path, Some(body)).await.map(drop)
    }

    /// Takes the pressure away.
    pub(super) async fn lift_pressure(&self, deployment: &str) -> Result<(), DrillError> {
        let path = format!("/api/v1/deployments/{deployment}/pressure");
        self.ask(Method::DELETE, &path, None).await.map(drop)
    }

    /// One question.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, DrillError> {
        let exchange = self.exchange(method, path, body);
        let answer = tokio::time::timeout(PATIENCE, exchange).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs()))).map_err(
            |error| DrillError::Io(std::io::Error::other(format!("admin interface, {path}: {error}"))),
        )
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, String> {
        let stream = tokio::net::TcpStream::connect(self.address).await.map_err(|e| e.to_string())?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        tokio::spawn(async move { drop(connection.await) });
        let mut request =
            Request::builder().method(method).uri(path).header(header::HOST, self.address.to_string());
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let bytes = body.map(|body| body.to_string()).unwrap_or_default();
        let request = request
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(bytes)))
            .map_err(|e| e.to_string())?;
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = answer.status();
        let body =
            Limited::new(answer.into_body(), BODY_MAX).collect().await.map_err(|e| e.to_string())?.to_bytes();
        if !status.is_success() {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body).trim()));
        }
        Ok(serde_json::from_slice(&body).unwrap_or_default())
    }
}

/// A deployment's replicas and queue.
fn shown(deployment: &Value) -> Inside {
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    let flag = |value: &Value, key: &str| value.get(key).and_then(Value::as_bool).unwrap_or(false);
    let list = |key: &str| deployment.get(key).and_then(Value::as_array).into_iter().flatten();
    let replicas = list("replicas").map(|replica| ReplicaGauge {
        limit: number(replica, "limit"),
        active: number(replica, "active") as u32,
        saturation: number(replica, "saturation"),
        in_service: flag(replica, "healthy") && !flag(replica, "drained"),
    });
    let queued = |name: &str| {
        let tier = list("tiers").find(|tier| tier.get("tier").and_then(Value::as_str) == Some(name));
        tier.map_or(0.0, |tier| number(tier, "queued")) as u32
    };
    Inside {
        replicas: replicas.collect(),
        queued: [queued("priority"), queued("regular")],
        budgets: Vec::new(),
    }
}

/// The meters of an account's first model.
fn budget(account: u32, limits: &Value) -> Option<BudgetGauge> {
    let meters = limits.get("models")?.get(0)?.get("meters")?.as_array()?;
    let mut gauge = BudgetGauge { account, ..BudgetGauge::default() };
    for ((meter, used), limit) in meters.iter().zip(&mut gauge.used).zip(&mut gauge.limit) {
        let number = |key: &str| meter.get(key).and_then(Value::as_u64).unwrap_or(0);
        *used = number("used") + number("reserved") + number("debt");
        *limit = number("limit");
    }
    Some(gauge)
}
