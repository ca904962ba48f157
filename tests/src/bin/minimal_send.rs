//! The least that posts a message with clap and reqwest: `cargo bench -p chat-tests` measures `chat send` against it.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use serde_json::json;

/// Posts a message.
#[derive(Debug, Parser)]
struct MinimalArgs {
    /// The Unix socket of the API
    socket: PathBuf,
    /// The text
    text: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), reqwest::Error> {
    let MinimalArgs { socket, text } = MinimalArgs::parse();
    // reqwest asks for it, as other crates of the build switch TLS on; no certificates are loaded.
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let tls = tls.with_safe_default_protocol_versions().expect("ring supports the default versions");
    let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let client = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).unix_socket(socket).build()?;
    let post = client.post("http://localhost/v1/messages").header("content-type", "application/json");
    post.body(json!({"text": text}).to_string()).send().await?.error_for_status()?;
    Ok(())
}
