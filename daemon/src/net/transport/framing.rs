//! Frames on a byte stream: a big-endian `u32` length and that many bytes. Used by the room protocol and by admission.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use chat_core::config::FRAME_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncReadExt};

const LENGTH_BYTES: usize = 4;

/// Number of bytes read at once; many small frames share one read.
const READ_BYTES: usize = 64 * 1024;

/// Frames up to this length are copied next to each other, so that many leave in one packet; longer ones are not copied.
const COPY_BYTES_MAX: usize = 16 * 1024;

/// Why a frame cannot be read or written. Nothing more can be read then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FramingError {
    /// The length exceeds the bound.
    #[error("frame of {0} bytes is too long")]
    TooLong(usize),
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Cut,
    /// The stream broke.
    #[error("the stream broke")]
    Stream(#[from] io::Error),
}

/// Splits a byte stream into frames of up to [`FRAME_BYTES_MAX`].
#[derive(Debug)]
pub(crate) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// The next frame; `None` when the stream ended after a whole one. Cancel safe.
    ///
    /// # Errors
    /// [`FramingError`]
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FramingError> {
        loop {
            let missing = match self.buffer.first_chunk::<LENGTH_BYTES>() {
                None => LENGTH_BYTES - self.buffer.len(),
                Some(length) => {
                    let whole = LENGTH_BYTES + length_of(*length, FRAME_BYTES_MAX)?;
                    if self.buffer.len() >= whole {
                        let mut frame = self.buffer.split_to(whole);
                        frame.advance(LENGTH_BYTES);
                        return Ok(Some(frame.freeze()));
                    }
                    whole - self.buffer.len()
                }
            };
            self.buffer.reserve(missing.max(READ_BYTES));
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FramingError::Cut) };
            }
        }
    }
}

/// Reads one frame of up to `bytes_max` and not a byte past it. Not cancel safe.
///
/// # Errors
/// [`FramingError`]
pub(crate) async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> Result<Vec<u8>, FramingError> {
    let mut prefix = [0; LENGTH_BYTES];
    stream.read_exact(&mut prefix).await?;
    let length = length_of(prefix, bytes_max)?;
    // Grows with what arrives, not with what is announced.
    let mut frame = Vec::new();
    stream.take(length as u64).read_to_end(&mut frame).await?;
    if frame.len() == length { Ok(frame) } else { Err(FramingError::Cut) }
}

fn length_of(prefix: [u8; LENGTH_BYTES], bytes_max: usize) -> Result<usize, FramingError> {
    let length = u32::from_be_bytes(prefix) as usize;
    if length > bytes_max { Err(FramingError::TooLong(length)) } else { Ok(length) }
}

/// Joins frames with their lengths, in as few pieces as possible.
pub(crate) fn join_frames(frames: impl IntoIterator<Item = Bytes>) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut small = BytesMut::new();
    for frame in frames {
        // Queued frames are within FRAME_BYTES_MAX, far below u32::MAX.
        small.put_u32(u32::try_from(frame.len()).unwrap_or(u32::MAX));
        if frame.len() <= COPY_BYTES_MAX {
            small.extend_from_slice(&frame);
        } else {
            pieces.push(small.split().freeze());
            pieces.push(frame);
        }
    }
    if !small.is_empty() {
        pieces.push(small.freeze());
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    async fn read_all(bytes: &[u8], step: usize) -> (Vec<Bytes>, Result<(), FramingError>) {
        let (mut near, far) = tokio::io::duplex(step);
        let mut reader = FrameReader::new(far);
        let write = async {
            // The reader may stop early and close its end.
            let _ = near.write_all(bytes).await;
            drop(near);
        };
        let read = async {
            let mut frames = Vec::new();
            loop {
                match reader.next().await {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break (frames, Ok(())),
                    Err(error) => {
                        drop(reader);
                        break (frames, Err(error));
                    }
                }
            }
        };
        tokio::join!(read, write).0
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    proptest! {
        #[test]
        fn frames_round_trip(
            lengths in proptest::collection::vec(prop_oneof![0..200usize, 16_000..17_000usize], 0..12),
            step in 1..70_000usize,
        ) {
            let frames: Vec<Bytes> = lengths.iter().enumerate().map(|(n, len)| vec![n as u8; *len].into()).collect();
            let bytes = join_frames(frames.clone()).concat();
            let (read, end) = block_on(read_all(&bytes, step));
            prop_assert_eq!(read, frames);
            prop_assert!(end.is_ok());
        }

        #[test]
        fn arbitrary_bytes_yield_no_frames_of_their_own(bytes: Vec<u8>) {
            let (frames, end) = block_on(read_all(&bytes, 16));
            let taken: usize = frames.iter().map(|frame| frame.len() + LENGTH_BYTES).sum();
            prop_assert!(taken <= bytes.len());
            prop_assert_eq!(end.is_ok(), taken == bytes.len());
        }
    }

    #[test]
    fn too_long_or_cut_frame_is_an_error() {
        let long = u32::try_from(FRAME_BYTES_MAX + 1).expect("fits").to_be_bytes();
        assert!(matches!(block_on(read_all(&long, 8)).1, Err(FramingError::TooLong(n)) if n == FRAME_BYTES_MAX + 1));
        assert!(matches!(block_on(read_all(&[0, 0, 0, 2, 7], 8)).1, Err(FramingError::Cut)));
    }

    #[test]
    fn small_frames_share_a_piece_and_large_ones_are_not_copied() {
        let large = Bytes::from(vec![1; COPY_BYTES_MAX + 1]);
        let small = Bytes::from_static(b"abc");
        let pieces = join_frames([small.clone(), small.clone(), large.clone(), small.clone(), small]);
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[1].as_ptr(), large.as_ptr());
    }
}
