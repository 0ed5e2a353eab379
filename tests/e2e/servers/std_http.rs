// Rust's standard library: a thread for each connection.
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::{env, thread, time::Duration};

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
}

/// CLOCK_MONOTONIC, which `Instant` keeps to itself.
fn now() -> i64 {
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    unsafe { clock_gettime(1, &mut time) };
    time.seconds * 1_000_000_000 + time.nanoseconds
}

fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    if stream.read_line(&mut text)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text.trim_end().to_string())
}

fn skip(stream: &mut impl Read, size: u64) -> io::Result<()> {
    if io::copy(&mut stream.take(size), &mut io::sink())? < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn skip_body(stream: &mut impl BufRead, fields: &HashMap<String, String>) -> io::Result<()> {
    if fields.get("transfer-encoding").map(String::as_str) != Some("chunked") {
        return skip(stream, fields.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0));
    }
    loop {
        let size = u64::from_str_radix(&line(stream)?, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        skip(stream, size + 2)?; // and the line's end; after the last chunk, that of the empty trailers
        if size == 0 {
            return Ok(());
        }
    }
}

fn answer(stream: &mut impl BufRead, mut out: &TcpStream) -> io::Result<bool> {
    let first = line(stream)?;
    let begun = now();
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let mut fields = HashMap::new();
    loop {
        let field = line(stream)?;
        match field.split_once(':') {
            Some((name, value)) => fields.insert(name.to_lowercase(), value.trim().to_lowercase()),
            None => break,
        };
    }
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let wish: HashMap<&str, usize> =
        parts.chunks_exact(2).map(|pair| (pair[0], pair[1].parse().unwrap_or(0))).collect();
    let get = |name, other| wish.get(name).copied().unwrap_or(other);
    skip_body(stream, &fields)?;
    thread::sleep(Duration::from_millis(get("d", 0) as u64));
    let (status, size, chunked) = (get("s", 200), get("b", 0), get("c", 0) == 1);
    let closes = fields.get("connection").map(String::as_str) == Some("close");
    let empty = status == 204 || status == 304;
    let mut head = format!("HTTP/1.1 {status} Whatever\r\nClock: {begun} {}\r\n", now());
    match (empty, chunked) {
        (true, _) => (),
        (_, true) => head += "Transfer-Encoding: chunked\r\n",
        _ => head += &format!("Content-Length: {size}\r\n"),
    }
    head += if closes { "Connection: close\r\n\r\n" } else { "\r\n" };
    if empty || method == "HEAD" {
        out.write_all(head.as_bytes())?;
        return Ok(closes);
    }
    let body = vec![b'x'; size];
    if !chunked {
        out.write_all(&[head.as_bytes(), &body].concat())?;
        return Ok(closes);
    }
    out.write_all(head.as_bytes())?;
    for piece in body.chunks(100) {
        out.write_all(&[format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())?;
    }
    out.write_all(b"0\r\n\r\n")?;
    Ok(closes)
}

fn main() -> io::Result<()> {
    let port: u16 = env::args().nth(1).and_then(|port| port.parse().ok()).expect("a port");
    for stream in TcpListener::bind(("127.0.0.1", port))?.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            let mut reader = BufReader::new(&stream);
            let _ = stream.set_nodelay(true);
            while let Ok(false) = answer(&mut reader, &stream) {}
        });
    }
    Ok(())
}
