//! The network: an iroh endpoint without any outside service.
