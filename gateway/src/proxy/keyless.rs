//! What is answered without a key: probes, and what browsers ask before they let a page call.
//!
//! Both come often and say nothing of customers, so neither is logged nor counted as a request. A page whose origin is not
//! listed is counted as refused.

use crate::downstream::client::Client;
use crate::downstream::head::Head;
use crate::downstream::respond::preflight_head;
use crate::state::gateway::Gateway;
use bytes::Bytes;
use connections::Turned;
use http::{HeaderValue, header};
use protocol::api::route::{Probe, Route};
use protocol::cors;

/// Bytes of a page's origin that the log tells.
const ORIGIN_TOLD_MAX: usize = 128;

/// Answers a probe or a preflight: whether the connection may serve another request. `None`: it is neither.
pub(super) async fn answer(gateway: &Gateway, head: &Head, client: &mut Client<'_>) -> Option<bool> {
    let request = client.session().req_header();
    let answered = if cors::is_preflight(&request.method, &request.headers) {
        let headers = request.headers.clone();
        let grant = client.envelope.cors.as_ref()?;
        if !grant.is_granted() {
            let origin = headers.get(header::ORIGIN).map_or(&[][..], |origin| origin.as_bytes());
            let told = String::from_utf8_lossy(origin.get(..ORIGIN_TOLD_MAX).unwrap_or(origin));
            gateway.connections.turned_away(Turned::Origin, told);
        }
        client.answer_head(preflight_head(grant.preflight(&headers))).await
    } else if let Route::Probe(probe) = head.route {
        // As the admin listener has it: red as soon as the process is on its way out.
        let (status, text) = match probe {
            Probe::Ready if gateway.is_draining() => (503, "draining\n"),
            _ => (200, "ok\n"),
        };
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        client.answer(status, &plain, Bytes::from_static(text.as_bytes())).await
    } else {
        return None;
    };
    Some(answered.is_ok() && client.reusable())
}
