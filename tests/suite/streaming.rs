//! Bodies through the gateway are streamed: what passes does not stay.

use anyhow::{Context, Result, ensure};
use fairlead_tests::backend::{Backend, own_address, target};
use fairlead_tests::server::{Server, TOKEN};
use fairlead_tests::tools::on_path;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

/// What a server may take more while a body passes: buffers, and what the allocator keeps of them.
const GROWTH: u64 = 64 << 20;

#[test]
fn an_upload_passes_in_constant_memory() -> Result<()> {
    if own_address().is_none() || !on_path("openssl") {
        fairlead_tests::skip("this needs openssl and an address besides loopback");
        return Ok(());
    }
    let size: u64 = if fairlead_tests::slow() { 1 << 30 } else { 256 << 20 };
    let server = Server::start(&["--enable-aggregator-routing=true", "--request-timeout=10m"])?;
    let backend = Backend::start(&server, "bulk.example.com", 0)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut admin = target(&server)?.connect().await?;
        backend.register(&mut admin).await?;
        backend.wait(&mut admin, "True").await
    })?;
    backend.order("objects:sink")?;
    let before = peak(server.pid())?;
    let mut client = Command::new("openssl")
        .args([
            "s_client",
            "-quiet",
            "-connect",
            server.address().trim_start_matches("https://"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = client.stdin.take().context("no standard input")?;
    write!(
        input,
        "PUT {}/big HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n",
        backend.parcels()
    )?;
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..size >> 20 {
        input.write_all(&piece)?;
    }
    input.flush()?;
    let mut answer = String::new();
    client
        .stdout
        .take()
        .context("no standard output")?
        .read_to_string(&mut answer)?;
    client.kill()?;
    client.wait()?;
    ensure!(answer.contains(&format!("\"read\":{size}")), "{answer}");
    let grown = peak(server.pid())?.saturating_sub(before);
    println!("{} MiB passed, {} MiB more were resident", size >> 20, grown >> 20);
    ensure!(grown < GROWTH, "{} MiB more were resident", grown >> 20);
    Ok(())
}

/// The most that was ever resident, in bytes.
fn peak(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).context("no VmHWM")?;
    let kilobytes: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kilobytes << 10)
}
