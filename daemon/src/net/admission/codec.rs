//! Messages of the admission protocol: frames of postcard.

use std::io;

use bytes::Bytes;
use chat_core::admission::codec::ADMISSION_BYTES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::net::transport::framing::{FramingError, join_frames, read_frame};

/// Why a message cannot be read or written. The other end is at fault or gone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MessageError {
    /// Not a message of this version.
    #[error("message cannot be decoded")]
    Malformed,
    /// The message is longer than [`ADMISSION_BYTES_MAX`], or the stream broke or ended.
    #[error(transparent)]
    Frame(#[from] FramingError),
}

impl From<io::Error> for MessageError {
    fn from(error: io::Error) -> Self {
        Self::Frame(error.into())
    }
}

/// Reads one message. Not cancel safe.
pub(crate) async fn read_message<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<T, MessageError> {
    match postcard::take_from_bytes(&read_frame(stream, ADMISSION_BYTES_MAX).await?) {
        Ok((message, [])) => Ok(message),
        Ok(_) | Err(_) => Err(MessageError::Malformed),
    }
}

/// Writes one message. Not cancel safe.
pub(crate) async fn write_message(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> Result<(), MessageError> {
    let body = postcard::to_stdvec(message).map_err(|_| MessageError::Malformed)?;
    if body.len() > ADMISSION_BYTES_MAX {
        return Err(FramingError::TooLong(body.len()).into());
    }
    Ok(stream.write_all(&join_frames([Bytes::from(body)]).concat()).await?)
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
        fn arbitrary_bytes_do_not_panic(mut raw: Vec<u8>) {
            let _ = read::<AdmissionRequest>(&raw);
            let length = u32::try_from(raw.len()).expect("short").to_be_bytes();
            raw.splice(0..0, length);
            let _ = read::<AdmissionRequest>(&raw);
            let _ = read::<AdmissionAnswer>(&raw);
        }
    }

    #[test]
    fn message_round_trips() {
        let answer = AdmissionAnswer::Denied(DenyReason::Busy);
        let raw = written(&answer);
        assert_eq!(read::<AdmissionAnswer>(&raw).expect("reads"), answer);
        assert!(matches!(read::<AdmissionAnswer>(&raw[..raw.len() - 1]), Err(MessageError::Frame(FramingError::Cut))));
    }

    #[test]
    fn message_of_wrong_length_is_an_error() {
        let long = u32::try_from(ADMISSION_BYTES_MAX + 1).expect("fits").to_be_bytes();
        assert!(matches!(read::<AdmissionRequest>(&long), Err(MessageError::Frame(FramingError::TooLong(_)))));
        let trailing = [written(&DenyReason::Busy), vec![0]].concat();
        let relabelled = [&2u32.to_be_bytes()[..], &trailing[4..]].concat();
        assert!(matches!(read::<DenyReason>(&relabelled), Err(MessageError::Malformed)));
    }
}
