//! Listens on the TCP port and passes each connection to the service that its first line names.
//!
//! A caller is a stranger until it has proved that it is a member. Strangers share a small number of places: when all are
//! taken, the network with most of them loses its oldest. A member leaves its place here as soon as it has proved its key.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chat_core::fair_share::network;
use chat_proto::id::PeerId;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::{debug, info_span};

use crate::net::admission::link::AdmissionLink;
use crate::net::admission::sealed::SealedStream;
use crate::net::admission::server::Admissions;
use crate::net::context::NetContext;
use crate::net::places::{Place, Places};
use crate::net::tcp::hello::{self, LINE_MAX, read_line};
use crate::net::tcp::role_services::RoleServices;
use crate::net::tcp::services::{self, CallerProof, MemberService, Service};

/// Maximum length of a first line: the services name themselves in less.
const LINE_BYTES_MAX: usize = 128;

/// Maximum number of callers at a time that have not proved to be members: hellos, first lines and proofs that have not
/// arrived yet, and the services that members of version 0.1 use.
const CALLERS_MAX: usize = 256;

/// Timeout for a proof: it takes a round trip.
const PROOF_MAX: Duration = Duration::from_secs(3);

/// The callers of all sockets of this peer.
pub(crate) fn callers() -> Arc<Places<IpAddr>> {
    Places::new(CALLERS_MAX)
}

/// Accepts and serves until the daemon stops.
pub(crate) async fn serve(
    ctx: NetContext,
    (role, admissions): (Arc<RoleServices>, Arc<Admissions>),
    callers: Arc<Places<IpAddr>>,
    listener: TcpListener,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ctx.token.cancelled() => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file handles, most likely: without a pause this would spin.
                debug!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let place = callers.enter(network(from.ip()));
        let (task_ctx, role, admissions) = (ctx.clone(), role.clone(), admissions.clone());
        ctx.spawn(info_span!("caller", me = %ctx.me.short()), async move {
            let served = tokio::select! {
                served = serve_caller(&task_ctx, (&role, &admissions), (stream, from.ip()), place) => served,
                () = task_ctx.token.cancelled() => Ok(()),
            };
            if let Err(error) = served {
                debug!(%error, "TCP service failed");
            }
        });
    }
}

/// A caller that has proved its key.
enum ProvenCaller {
    /// A member that asks for a service.
    Member { stream: TcpStream, service: MemberService, member: PeerId },
    /// A newcomer that asks to join.
    Newcomer(SealedStream),
}

/// Serves a stranger in its place, and a caller that has proved its key outside of it.
async fn serve_caller(
    ctx: &NetContext,
    (role, admissions): (&RoleServices, &Admissions),
    (stream, from): (TcpStream, IpAddr),
    place: Place<IpAddr>,
) -> io::Result<()> {
    let Some(greeted) = place.hold(greet(ctx, (role, admissions), (stream, from))).await else {
        debug!("the place of a stranger was given to another");
        return Ok(());
    };
    drop(place);
    match greeted? {
        Some(ProvenCaller::Member { stream, service, member }) => role.serve_member(stream, service, member).await,
        Some(ProvenCaller::Newcomer(sealed)) => {
            admissions.serve(AdmissionLink::Tcp(sealed.start(ctx)?), Some(network(from))).await;
        }
        None => {}
    }
    Ok(())
}

/// Reads the first line, and serves the caller or has it prove its key.
async fn greet(
    ctx: &NetContext,
    (role, admissions): (&RoleServices, &Admissions),
    (mut stream, from): (TcpStream, IpAddr),
) -> io::Result<Option<ProvenCaller>> {
    let (line, rest) = timeout(LINE_MAX, read_line(&mut stream, LINE_BYTES_MAX)).await??;
    match Service::named(&line) {
        None => Ok(None),
        Some(Service::Hello) => {
            timeout(LINE_MAX, hello::answer(ctx, &mut stream)).await??;
            Ok(None)
        }
        Some(Service::Admission) if !admissions.may_try(from) => Ok(None),
        Some(Service::Admission) => {
            let sealed = timeout(PROOF_MAX, admissions.accept_tcp(stream)).await??;
            Ok(Some(ProvenCaller::Newcomer(sealed)))
        }
        Some(Service::Member(service, CallerProof::Absent)) => {
            role.serve_older(stream, service, &rest).await?;
            Ok(None)
        }
        Some(Service::Member(service, CallerProof::Signed)) => {
            let offered = role.offers(service);
            let proving = services::challenge(&mut stream, &ctx.me, service, offered);
            let member = timeout(PROOF_MAX, proving).await??;
            let admitted = offered.is_some() && ctx.gate.admits_soon(&member).await;
            Ok(admitted.then_some(ProvenCaller::Member { stream, service, member }))
        }
    }
}
