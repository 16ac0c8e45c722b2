//! SPDY/3.1 framing, as far as kubelets and kubectl use it: streams with headers, data, pings. No flow control: neither
//! side of theirs has any.
//!
//! Source of the format: the SPDY/3.1 draft; kubernetes' peers are github.com/moby/spdystream.

mod headers;

pub use headers::Headers;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use headers::{Packer, Unpacker};

/// What a peer sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// SYN_STREAM.
    Open {
        stream: u32,
        last: bool,
        headers: Headers,
    },
    /// SYN_REPLY.
    Reply {
        stream: u32,
        last: bool,
    },
    /// RST_STREAM.
    Reset {
        stream: u32,
    },
    Ping(u32),
    GoAway,
    /// A piece of a stream; `last` ends the sender's side.
    Data {
        stream: u32,
        bytes: Bytes,
        last: bool,
    },
    /// Anything that asks for nothing.
    Other,
}

/// A peer does not speak SPDY/3.1.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpdyError {
    #[error("a SPDY frame of version {0}")]
    Version(u16),
    #[error("a SPDY frame is too long")]
    TooLong,
    #[error("a SPDY frame is too short")]
    TooShort,
    #[error("SPDY headers cannot be read")]
    Headers,
}

/// Control frames are small here.
const MAX_CONTROL: usize = 64 << 10;
const HEAD: usize = 8;
const VERSION: u16 = 3;
const FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// Frames out of bytes, in whatever pieces they come.
#[derive(Default)]
pub struct Reader {
    buffer: BytesMut,
    unpacker: Unpacker,
    /// A data frame that has not all come: it is passed on as it does.
    data: Option<Coming>,
}

#[derive(Clone, Copy)]
struct Coming {
    stream: u32,
    left: usize,
    last: bool,
}

impl Reader {
    /// Takes bytes in.
    pub fn take(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, or piece of a data frame; `None` where more bytes are needed.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub fn frame(&mut self) -> Result<Option<Frame>, SpdyError> {
        if let Some(coming) = self.data {
            return Ok(self.piece(coming));
        }
        let Some(head) = self.buffer.get(..HEAD) else {
            return Ok(None);
        };
        let (mut word, mut rest) = (&head[..4], &head[4..]);
        let (first, rest) = (word.get_u32(), rest.get_u32());
        let (flags, length) = ((rest >> 24) as u8, (rest & 0x00ff_ffff) as usize);
        if first & 0x8000_0000 == 0 {
            self.buffer.advance(HEAD);
            return Ok(self.piece(Coming {
                stream: first,
                left: length,
                last: flags & FIN != 0,
            }));
        }
        let (version, kind) = ((first >> 16) as u16 & 0x7fff, first as u16);
        if version != VERSION {
            return Err(SpdyError::Version(version));
        }
        if length > MAX_CONTROL {
            return Err(SpdyError::TooLong);
        }
        if self.buffer.len() < HEAD + length {
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        let body = self.buffer.split_to(length).freeze();
        self.control(kind, flags, body).map(Some)
    }

    /// What is here of a data frame; an empty one is a frame all the same.
    fn piece(&mut self, coming: Coming) -> Option<Frame> {
        let here = coming.left.min(self.buffer.len());
        let left = coming.left - here;
        self.data = (left > 0).then_some(Coming { left, ..coming });
        if here == 0 && left > 0 {
            return None;
        }
        Some(Frame::Data {
            stream: coming.stream,
            bytes: self.buffer.split_to(here).freeze(),
            last: coming.last && left == 0,
        })
    }

    fn control(&mut self, kind: u16, flags: u8, mut body: Bytes) -> Result<Frame, SpdyError> {
        let last = flags & FIN != 0;
        let mut number = || body.try_get_u32().map_err(|_| SpdyError::TooShort);
        match kind {
            SYN_STREAM => {
                let stream = number()? & 0x7fff_ffff;
                number()?;
                // Priority and slot.
                body.try_get_u16().map_err(|_| SpdyError::TooShort)?;
                let headers = self.unpacker.unpack(&body)?;
                Ok(Frame::Open { stream, last, headers })
            }
            SYN_REPLY => {
                let stream = number()? & 0x7fff_ffff;
                self.unpacker.unpack(&body)?;
                Ok(Frame::Reply { stream, last })
            }
            HEADERS => {
                number()?;
                // All headers share one compression: those nobody wants are unpacked as well.
                self.unpacker.unpack(&body)?;
                Ok(Frame::Other)
            }
            RST_STREAM => Ok(Frame::Reset {
                stream: number()? & 0x7fff_ffff,
            }),
            PING => Ok(Frame::Ping(number()?)),
            GOAWAY => Ok(Frame::GoAway),
            _ => Ok(Frame::Other),
        }
    }
}

/// Bytes of frames with headers; they must be sent in the order in which they are made.
#[derive(Default)]
pub struct Writer(Packer);

impl Writer {
    /// SYN_STREAM.
    pub fn open(&mut self, stream: u32, headers: &[(&str, &str)]) -> Bytes {
        let packed = self.0.pack(headers);
        let mut out = control(SYN_STREAM, 10 + packed.len());
        out.put_u32(stream);
        out.put_u32(0);
        out.put_u16(0);
        out.extend_from_slice(&packed);
        out.freeze()
    }

    /// SYN_REPLY.
    pub fn reply(&mut self, stream: u32) -> Bytes {
        let packed = self.0.pack(&[]);
        let mut out = control(SYN_REPLY, 4 + packed.len());
        out.put_u32(stream);
        out.extend_from_slice(&packed);
        out.freeze()
    }
}

/// The longest data frame there is.
const MAX_DATA: usize = 0x00ff_ffff;

/// A piece of a stream; `last` ends this side of it.
pub fn data(stream: u32, bytes: &[u8], last: bool) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD + bytes.len());
    let mut rest = bytes;
    loop {
        let (piece, left) = rest.split_at(rest.len().min(MAX_DATA));
        let flags = if last && left.is_empty() { FIN } else { 0 };
        out.put_u32(stream & 0x7fff_ffff);
        out.put_u32(u32::from(flags) << 24 | piece.len() as u32);
        out.extend_from_slice(piece);
        if left.is_empty() {
            return out.freeze();
        }
        rest = left;
    }
}

pub fn ping(id: u32) -> Bytes {
    let mut out = control(PING, 4);
    out.put_u32(id);
    out.freeze()
}

/// That nothing more comes.
pub fn goaway() -> Bytes {
    let mut out = control(GOAWAY, 8);
    out.put_u64(0);
    out.freeze()
}

fn control(kind: u16, length: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(HEAD + length);
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    // Headers that are too long for the field are longer than anybody may send.
    out.put_u32(length as u32 & 0x00ff_ffff);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], piece: usize) -> Vec<Frame> {
        let mut reader = Reader::default();
        let mut frames = Vec::new();
        for piece in bytes.chunks(piece) {
            reader.take(piece);
            while let Some(frame) = reader.frame().unwrap() {
                frames.push(frame);
            }
        }
        frames
    }

    #[test]
    fn frames_are_read_as_they_were_written() {
        let mut writer = Writer::default();
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&writer.open(1, &[("streamtype", "error")]));
        bytes.extend_from_slice(&writer.open(3, &[("streamtype", "stdin"), ("port", "80")]));
        bytes.extend_from_slice(&writer.reply(1));
        bytes.extend_from_slice(&ping(7));
        bytes.extend_from_slice(&data(3, b"hello", true));
        bytes.extend_from_slice(&data(3, b"", true));
        bytes.extend_from_slice(&goaway());
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let frames = read(&bytes, bytes.len());
        assert_eq!(
            frames[..4],
            [
                Frame::Open {
                    stream: 1,
                    last: false,
                    headers: vec![header("streamtype", "error")]
                },
                Frame::Open {
                    stream: 3,
                    last: false,
                    headers: vec![header("streamtype", "stdin"), header("port", "80")]
                },
                Frame::Reply { stream: 1, last: false },
                Frame::Ping(7),
            ]
        );
        let whole = Frame::Data {
            stream: 3,
            bytes: Bytes::from_static(b"hello"),
            last: true,
        };
        assert_eq!(frames[4], whole);
        // In whatever pieces they come, the same streams come out.
        for piece in 1..9 {
            let frames = read(&bytes, piece);
            let sent: Vec<u8> = frames
                .iter()
                .filter_map(|f| match f {
                    Frame::Data { bytes, .. } => Some(bytes.to_vec()),
                    _ => None,
                })
                .flatten()
                .collect();
            let ends = frames
                .iter()
                .filter(|f| matches!(f, Frame::Data { last: true, .. }))
                .count();
            assert_eq!((sent.as_slice(), ends), (&b"hello"[..], 2), "{piece}");
            assert!(matches!(frames.last(), Some(Frame::GoAway)));
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for (bytes, error) in [
            (&b"\x80\x02\x00\x01\x00\x00\x00\x00"[..], SpdyError::Version(2)),
            (b"\x80\x03\x00\x01\x00\xff\xff\xff", SpdyError::TooLong),
            (b"\x80\x03\x00\x06\x00\x00\x00\x01\x00", SpdyError::TooShort),
            (
                b"\x80\x03\x00\x02\x00\x00\x00\x08\x00\x00\x00\x01rest",
                SpdyError::Headers,
            ),
        ] {
            let mut reader = Reader::default();
            reader.take(bytes);
            assert_eq!(reader.frame(), Err(error));
        }
    }
}
