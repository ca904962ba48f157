//! What hostile members choose by: random numbers, or the bytes of an input that a fuzzer makes.

use std::collections::VecDeque;
use std::convert::Infallible;

use rand::{Rng, TryRng};
use rand_chacha::ChaCha8Rng;

/// Random numbers, of which given bytes are the highest bits: a byte decides one choice among few.
#[derive(Clone, Debug)]
pub(super) struct Choices {
    random: ChaCha8Rng,
    given: Option<VecDeque<u8>>,
}

impl Choices {
    pub(super) fn at_random(random: ChaCha8Rng) -> Self {
        Self { random, given: None }
    }

    pub(super) fn give(&mut self, bytes: &[u8]) {
        self.given = Some(bytes.iter().copied().collect());
    }

    /// Whether bytes were given and there are no more.
    pub(super) fn is_used_up(&self) -> bool {
        self.given.as_ref().is_some_and(VecDeque::is_empty)
    }

    fn byte(&mut self) -> Option<u8> {
        self.given.as_mut().and_then(VecDeque::pop_front)
    }
}

impl TryRng for Choices {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let random = self.random.next_u32();
        Ok(self.byte().map_or(random, |byte| u32::from(byte) << 24 | random >> 8))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let random = self.random.next_u64();
        Ok(self.byte().map_or(random, |byte| u64::from(byte) << 56 | random >> 8))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.random.fill_bytes(bytes);
        Ok(())
    }
}
