//! The local API: HTTP and SSE on a Unix socket and on loopback TCP.
