//! Listens on the TCP port and passes each connection to the service that its first line names.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::{debug, info_span};

use crate::net::context::NetContext;
use crate::net::tcp::hello::{self, LINE_MAX, read_line};
use crate::net::tcp::role_services::RoleServices;
use crate::net::tcp::services::Service;

/// Maximum length of a first line: the services name themselves in less.
const LINE_BYTES_MAX: usize = 128;

/// Maximum number of hellos at a time; further connections are closed at once.
const HELLOS_MAX: usize = 64;

/// Maximum number of hellos at a time from one address, so that one machine cannot keep out the others.
const HELLOS_PER_IP_MAX: usize = 16;

/// Accepts and serves until the daemon stops.
pub(crate) async fn serve(ctx: NetContext, role: Arc<RoleServices>, listener: TcpListener) {
    let callers = Arc::new(Callers::default());
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
        let Some(caller) = callers.enter(from.ip().to_canonical()) else { continue };
        let (task_ctx, role) = (ctx.clone(), role.clone());
        ctx.spawn(info_span!("hello", me = %ctx.me.short()), async move {
            let served = tokio::select! {
                served = dispatch(&task_ctx, &role, stream, caller) => served,
                () = task_ctx.token.cancelled() => Ok(()),
            };
            if let Err(error) = served {
                debug!(%error, "TCP service failed");
            }
        });
    }
}

/// Reads the first line and serves. Services that last have their own bounds.
async fn dispatch(
    ctx: &NetContext,
    role: &RoleServices,
    mut stream: TcpStream,
    caller: CallerPermit,
) -> io::Result<()> {
    let (line, rest) = timeout(LINE_MAX, read_line(&mut stream, LINE_BYTES_MAX)).await??;
    match Service::named(&line) {
        Some(Service::Hello) => timeout(LINE_MAX, hello::answer(ctx, &mut stream)).await?,
        Some(Service::Relay) => {
            drop(caller);
            role.serve_relay(stream, &rest).await
        }
        Some(Service::Watch) => {
            drop(caller);
            role.serve_watch(stream).await;
            Ok(())
        }
        None => Ok(()),
    }
}

/// Number of callers at each address that have not named a service or are being answered.
#[derive(Debug, Default)]
struct Callers(Mutex<HashMap<IpAddr, usize>>);

/// One admitted caller; dropped, another may come.
#[derive(Debug)]
struct CallerPermit {
    callers: Arc<Callers>,
    ip: IpAddr,
}

impl Callers {
    fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<CallerPermit> {
        let mut callers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = callers.values().sum();
        let own = callers.entry(ip).or_default();
        if all >= HELLOS_MAX || *own >= HELLOS_PER_IP_MAX {
            callers.retain(|_, count| *count > 0);
            return None;
        }
        *own += 1;
        Some(CallerPermit { callers: self.clone(), ip })
    }
}

impl Drop for CallerPermit {
    fn drop(&mut self) {
        let mut callers = self.callers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = callers.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                callers.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_bounded_per_address_and_in_total() {
        let callers = Arc::new(Callers::default());
        let ip = |n: usize| IpAddr::from([192, 0, 2, u8::try_from(n).expect("a byte")]);
        let of_one: Vec<_> = (0..HELLOS_PER_IP_MAX + 1).filter_map(|_| callers.enter(ip(0))).collect();
        assert_eq!(of_one.len(), HELLOS_PER_IP_MAX);
        let of_others: Vec<_> = (1..=HELLOS_MAX).filter_map(|n| callers.enter(ip(n))).collect();
        assert_eq!(of_one.len() + of_others.len(), HELLOS_MAX);
        drop((of_one, of_others));
        assert!(callers.0.lock().expect("not poisoned").is_empty(), "callers that have gone leave nothing behind");
        assert!(callers.enter(ip(0)).is_some());
    }
}
