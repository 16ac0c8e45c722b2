//! Header blocks: names and values with their lengths, compressed with one dictionary and one state a direction.

use super::SpdyError;
use bytes::{Buf, BufMut, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use std::sync::LazyLock;

/// Names in lower case; several values of a name are separated by NUL.
pub type Headers = Vec<(String, String)>;

/// A block may have this many bytes once it is unpacked.
const MAX_BLOCK: usize = 64 << 10;

pub(super) struct Packer(Compress);

impl Default for Packer {
    fn default() -> Packer {
        let mut compress = Compress::new(Compression::fast(), true);
        // Its checksum tells the peer which dictionary it is; there is only one.
        let _ = compress.set_dictionary(&DICTIONARY);
        Packer(compress)
    }
}

impl Packer {
    pub(super) fn pack(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut block = BytesMut::new();
        block.put_u32(headers.len() as u32);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.put_u32(text.len() as u32);
            block.extend_from_slice(text.as_bytes());
        }
        let mut packed = Vec::with_capacity(block.len() + 64);
        let mut taken = 0;
        loop {
            let before = self.0.total_in();
            packed.reserve(64);
            let status = self.0.compress_vec(&block[taken..], &mut packed, FlushCompress::Sync);
            taken += (self.0.total_in() - before) as usize;
            // It is all out once it did not need all of the room it was given.
            if status.is_err() || (taken == block.len() && packed.len() < packed.capacity()) {
                return packed;
            }
        }
    }
}

pub(super) struct Unpacker(Decompress);

impl Default for Unpacker {
    fn default() -> Unpacker {
        Unpacker(Decompress::new(true))
    }
}

impl Unpacker {
    pub(super) fn unpack(&mut self, packed: &[u8]) -> Result<Headers, SpdyError> {
        read(&self.inflate(packed)?).ok_or(SpdyError::Headers)
    }

    fn inflate(&mut self, packed: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut block = Vec::with_capacity(1024);
        let mut rest = packed;
        loop {
            if block.len() == block.capacity() {
                if block.len() >= MAX_BLOCK {
                    return Err(SpdyError::TooLong);
                }
                block.reserve(block.len());
            }
            let before = self.0.total_in();
            let result = self.0.decompress_vec(rest, &mut block, FlushDecompress::Sync);
            rest = &rest[(self.0.total_in() - before) as usize..];
            match result {
                Ok(_) if rest.is_empty() && block.len() < block.capacity() => return Ok(block),
                Ok(_) if self.0.total_in() == before && block.len() < block.capacity() => {
                    return Err(SpdyError::Headers);
                }
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(|_| SpdyError::Headers)?;
                }
                Err(_) => return Err(SpdyError::Headers),
            }
        }
    }
}

fn read(mut block: &[u8]) -> Option<Headers> {
    let count = block.try_get_u32().ok()?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut block)?;
        headers.push((name, text(&mut block)?));
    }
    Some(headers)
}

fn text(block: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(block.try_get_u32().ok()?).ok()?;
    let (text, rest) = block.split_at_checked(length)?;
    *block = rest;
    String::from_utf8(text.to_vec()).ok()
}

/// What compression begins with: words with their lengths, then text.
static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut dictionary = Vec::new();
    for word in WORDS {
        dictionary.put_u32(word.len() as u32);
        dictionary.extend_from_slice(word.as_bytes());
    }
    dictionary.extend_from_slice(TEXT.as_bytes());
    dictionary
});

#[rustfmt::skip]
const WORDS: [&str; 65] = [
    "options", "head", "post", "put", "delete", "trace", "accept", "accept-charset", "accept-encoding", "accept-language",
    "accept-ranges", "age", "allow", "authorization", "cache-control", "connection", "content-base", "content-encoding",
    "content-language", "content-length", "content-location", "content-md5", "content-range", "content-type", "date", "etag",
    "expect", "expires", "from", "host", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since",
    "last-modified", "location", "max-forwards", "pragma", "proxy-authenticate", "proxy-authorization", "range", "referer",
    "retry-after", "server", "te", "trailer", "transfer-encoding", "upgrade", "user-agent", "vary", "via", "warning",
    "www-authenticate", "method", "get", "status", "200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie",
    "keep-alive", "origin",
];

const TEXT: &str = concat!(
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505",
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized",
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable",
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT",
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,",
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.",
);

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksum by which every peer knows it.
    #[test]
    fn the_dictionary_is_that_of_the_protocol() {
        let sum = DICTIONARY.iter().fold((1u32, 0u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        assert_eq!((DICTIONARY.len(), sum.1 << 16 | sum.0), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn blocks_share_their_compression() {
        let (mut packer, mut unpacker) = (Packer::default(), Unpacker::default());
        let long = "x".repeat(5000);
        for headers in [
            vec![("streamtype", "error")],
            vec![("a", long.as_str()), ("b", "")],
            vec![],
            vec![("c", "d")],
        ] {
            let packed = packer.pack(&headers);
            let unpacked = unpacker.unpack(&packed).unwrap();
            let unpacked: Vec<(&str, &str)> = unpacked.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(unpacked, headers);
        }
    }

    #[test]
    fn a_block_does_not_unpack_to_more_than_it_may() {
        let mut packer = Packer::default();
        let long = "x".repeat(1 << 20);
        let packed = packer.pack(&[("a", &long)]);
        assert!(packed.len() < 64 << 10, "{}", packed.len());
        assert_eq!(Unpacker::default().unpack(&packed), Err(SpdyError::TooLong));
        assert_eq!(Unpacker::default().unpack(b"\x00\x00\x00\x00"), Err(SpdyError::Headers));
    }
}
