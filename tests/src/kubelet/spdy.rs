//! The same commands, and ports that echo, over SPDY/3.1: what kubelets of all ages speak.

use super::streams::{SUCCESS, failure};
use anyhow::{Context, Result};
use bytes::Bytes;
use fairlead_gateway::spdy::{Frame, Headers, Reader, Writer, data, ping};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A connection whose streams are opened by the other side.
struct Connection {
    io: TokioIo<Upgraded>,
    reader: Reader,
    writer: Writer,
}

impl Connection {
    fn new(io: Upgraded) -> Connection {
        Connection {
            io: TokioIo::new(io),
            reader: Reader::default(),
            writer: Writer::default(),
        }
    }

    /// The next frame that means something; streams are accepted and pings answered.
    async fn next(&mut self) -> Result<Option<Frame>> {
        let mut buffer = vec![0; 32 << 10];
        loop {
            match self.reader.frame()? {
                Some(Frame::Ping(id)) => self.send(ping(id)).await?,
                Some(Frame::Open { stream, headers, last }) => {
                    let reply = self.writer.reply(stream);
                    self.send(reply).await?;
                    return Ok(Some(Frame::Open { stream, headers, last }));
                }
                Some(Frame::GoAway) => return Ok(None),
                Some(frame) => return Ok(Some(frame)),
                None => match self.io.read(&mut buffer).await? {
                    0 => return Ok(None),
                    length => self.reader.take(&buffer[..length]),
                },
            }
        }
    }

    async fn send(&mut self, bytes: Bytes) -> Result<()> {
        self.io.write_all(&bytes).await?;
        Ok(self.io.flush().await?)
    }
}

fn header<'a>(headers: &'a Headers, name: &str) -> &'a str {
    headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
}

/// Runs a command whose streams the query tells.
pub(super) async fn run(io: Upgraded, query: &str) -> Result<()> {
    let mut connection = Connection::new(io);
    let has = |word: &str| query.split('&').any(|pair| pair == word);
    let tty = has("tty=1");
    let wanted = 1 + [has("input=1"), has("output=1"), has("error=1") && !tty, tty]
        .iter()
        .filter(|w| **w)
        .count();
    let mut streams = BTreeMap::new();
    let mut early = Vec::new();
    while streams.len() < wanted {
        match connection.next().await?.context("the client left")? {
            Frame::Open { stream, headers, .. } => {
                _ = streams.insert(header(&headers, "streamtype").to_owned(), stream)
            }
            frame => early.push(frame),
        }
    }
    let of = |kind: &str| streams.get(kind).copied();
    let error = of("error").context("no error stream")?;
    let mut verdict = SUCCESS.to_owned();
    if query.contains("command=fail") {
        let stream = of("stderr").context("no standard error")?;
        connection.send(data(stream, b"it failed\n", false)).await?;
        verdict = failure(3);
    } else if let (Some(stdin), Some(stdout)) = (of("stdin"), of("stdout")) {
        loop {
            let frame = match early.is_empty() {
                false => Some(early.remove(0)),
                true => connection.next().await?,
            };
            match frame {
                Some(Frame::Data { stream, bytes, last }) if stream == stdin => {
                    connection.send(data(stdout, &bytes, false)).await?;
                    if last {
                        break;
                    }
                }
                None => return Ok(()),
                Some(_) => {}
            }
        }
    } else if let Some(stdout) = of("stdout") {
        let text = format!("asked {query}\n");
        connection.send(data(stdout, text.as_bytes(), false)).await?;
    }
    for stream in ["stdout", "stderr"].into_iter().filter_map(of) {
        connection.send(data(stream, b"", true)).await?;
    }
    connection.send(data(error, verdict.as_bytes(), true)).await?;
    while connection.next().await?.is_some() {}
    Ok(())
}

/// Echoes what is sent to any port.
pub(super) async fn forward(io: Upgraded) -> Result<()> {
    let mut connection = Connection::new(io);
    let mut ports: BTreeMap<u32, String> = BTreeMap::new();
    while let Some(frame) = connection.next().await? {
        match frame {
            Frame::Open { stream, headers, .. } if header(&headers, "streamtype") == "data" => {
                ports.insert(stream, header(&headers, "port").to_owned());
            }
            Frame::Open { stream, .. } => connection.send(data(stream, b"", true)).await?,
            Frame::Data { stream, bytes, last } => {
                let Some(port) = ports.get(&stream) else { continue };
                let text = match bytes.is_empty() {
                    true => String::new(),
                    false => format!("port {port}: {}", String::from_utf8_lossy(&bytes)),
                };
                connection.send(data(stream, text.as_bytes(), last)).await?;
            }
            _ => {}
        }
    }
    Ok(())
}
