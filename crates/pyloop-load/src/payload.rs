//! What is sent, and the look at what comes back.
//!
//! Each request is another slice of one random-looking block, chosen by connection and sequence, so
//! that an answer that is late, lost, mixed up or changed in one byte does not match.

/// How many different requests there are.
const SLICES: usize = 4093;

/// The block that all requests are cut from.
pub struct Payload {
    block: Vec<u8>,
    size: usize,
}

impl Payload {
    /// For requests of `size` bytes.
    pub fn new(size: usize) -> Self {
        Self { block: noise(size + SLICES), size }
    }

    /// The bytes of one request.
    pub fn request(&self, connection: usize, sequence: usize) -> &[u8] {
        let first = (connection * 31 + sequence * 17) % SLICES;
        &self.block[first..first + self.size]
    }
}

/// Bytes without a short period: a linear congruential generator's upper bits.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_requests_differ() {
        let payload = Payload::new(64);
        for connection in 0..100 {
            for sequence in 0..100 {
                let request = payload.request(connection, sequence);
                assert_eq!(request.len(), 64);
                assert_ne!(request, payload.request(connection, sequence + 1));
                assert_ne!(request, payload.request(connection + 1, sequence));
            }
        }
    }
}
