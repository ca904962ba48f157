//! Notices that a machine has lost the address of one of its streams.
//!
//! When a machine moves to another network, TCP goes on to send from the address that it had, for many minutes and in vain.
//! The kernel announces every change of addresses at once; the endpoint learns of it later, and not always that its
//! stream to the relay is concerned.

use std::future::pending;
use std::io;
use std::net::{SocketAddr, UdpSocket};

/// Ends when this address no longer belongs to this machine. Where the kernel announces nothing, it never does.
pub(super) async fn lost(mut own: SocketAddr) {
    own.set_port(0);
    let announced = async {
        let changes = AddressChanges::open()?;
        while is_here(own) {
            changes.next().await?;
        }
        Ok::<(), io::Error>(())
    };
    if announced.await.is_err() {
        pending().await
    }
}

fn is_here(own: SocketAddr) -> bool {
    !matches!(UdpSocket::bind(own), Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// Changes of this machine's addresses, as the kernel announces them: one datagram each, which is all that the type of the
/// socket matters for.
#[cfg(target_os = "linux")]
struct AddressChanges(tokio::net::UnixDatagram);

#[cfg(target_os = "linux")]
impl AddressChanges {
    /// Announcements of IPv4 and IPv6 addresses (`RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR`, rtnetlink(7)).
    const GROUPS: u32 = 0x10 | 0x100;

    fn open() -> io::Result<Self> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, netlink, socket_with};

        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Without a protocol it is that of routes and addresses.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &netlink::SocketAddrNetlink::new(0, Self::GROUPS))?;
        Ok(Self(tokio::net::UnixDatagram::from_std(socket.into())?))
    }

    /// Waits for a change. What it is does not matter, nor that some announcements did not fit into the queue.
    async fn next(&self) -> io::Result<()> {
        let full = rustix::io::Errno::NOBUFS.raw_os_error();
        match self.0.recv(&mut [0; 4096]).await {
            Err(error) if error.raw_os_error() != Some(full) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Nothing is announced.
#[cfg(not(target_os = "linux"))]
struct AddressChanges;

#[cfg(not(target_os = "linux"))]
impl AddressChanges {
    fn open() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn next(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn address_of_another_machine_is_lost_and_an_own_one_is_not() {
        // Reserved for documentation: no machine has it.
        timeout(Duration::from_secs(10), lost(SocketAddr::from(([192, 0, 2, 1], 7)))).await.expect("it is not here");
        let own = lost(SocketAddr::from(([127, 0, 0, 1], 7)));
        assert!(timeout(Duration::from_millis(100), own).await.is_err(), "it is here");
    }
}
