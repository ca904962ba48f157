//! Messages of the admission protocol on a stream: a big-endian `u32` length and that many bytes of postcard.

use std::io;

use chat_core::admission::codec::ADMISSION_BYTES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why a message cannot be read or written. The other end is at fault or gone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MessageError {
    /// Beyond [`ADMISSION_BYTES_MAX`].
    #[error("message of {0} bytes is too long")]
    TooLong(usize),
    /// Not a message of this version.
    #[error("message cannot be decoded")]
    Malformed,
    /// The stream broke or ended.
    #[error("the stream broke")]
    Stream(#[from] io::Error),
}

/// Reads one message. Not cancel safe.
pub(crate) async fn read_message<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<T, MessageError> {
    let length = stream.read_u32().await? as usize;
    if length > ADMISSION_BYTES_MAX {
        return Err(MessageError::TooLong(length));
    }
    // Grows with what arrives, not with what is announced.
    let mut raw = Vec::new();
    stream.take(length as u64).read_to_end(&mut raw).await?;
    match postcard::take_from_bytes(&raw) {
        Ok((message, [])) if raw.len() == length => Ok(message),
        Ok(_) | Err(_) => Err(MessageError::Malformed),
    }
}

/// Writes one message. Not cancel safe.
pub(crate) async fn write_message(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> Result<(), MessageError> {
    let body = postcard::to_stdvec(message).map_err(|_| MessageError::Malformed)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= ADMISSION_BYTES_MAX);
    let length = length.ok_or(MessageError::TooLong(body.len()))?;
    stream.write_all(&[&length.to_be_bytes(), body.as_slice()].concat()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat_core::admission::codec::{AdmissionAnswer, AdmissionRequest, DenyReason};
    use proptest::prelude::*;

    fn read<T: DeserializeOwned>(mut raw: &[u8]) -> Result<T, MessageError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(read_message(&mut raw))
    }

    fn written(message: &impl Serialize) -> Vec<u8> {
        let mut raw = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(write_message(&mut raw, message)).expect("fits");
        raw
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut raw: Vec<u8>) {
            let _ = read::<AdmissionRequest>(&raw);
            let length = u32::try_from(raw.len()).expect("short").to_be_bytes();
            raw.splice(0..0, length);
            let _ = read::<AdmissionRequest>(&raw);
            let _ = read::<AdmissionAnswer>(&raw);
        }
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        let answer = AdmissionAnswer::Denied(DenyReason::Busy);
        let raw = written(&answer);
        assert_eq!(read::<AdmissionAnswer>(&raw).expect("reads"), answer);
        assert!(matches!(read::<AdmissionAnswer>(&raw[..raw.len() - 1]), Err(MessageError::Malformed)));
    }

    #[test]
    fn lengths_are_bounded() {
        let long = u32::try_from(ADMISSION_BYTES_MAX + 1).expect("fits").to_be_bytes();
        assert!(matches!(read::<AdmissionRequest>(&long), Err(MessageError::TooLong(_))));
        let trailing = [written(&DenyReason::Busy), vec![0]].concat();
        let relabelled = [&2u32.to_be_bytes()[..], &trailing[4..]].concat();
        assert!(matches!(read::<DenyReason>(&relabelled), Err(MessageError::Malformed)));
    }
}
