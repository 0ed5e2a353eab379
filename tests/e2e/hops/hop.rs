// Rust's standard library: a thread for each connection, which has a connection of its own to the next hop.
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, thread};

static MADE: AtomicU64 = AtomicU64::new(0);

/// First line and length of the body.
fn head(stream: &mut BufReader<TcpStream>) -> io::Result<(String, u64)> {
    let (mut first, mut size) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok((first, size));
        }
        if first.is_empty() {
            first = line.to_string();
        } else if let Some(("content-length", value)) = line.to_lowercase().split_once(':') {
            size = value.trim().parse().unwrap_or(0);
        }
    }
}

fn open(place: &str) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(place)?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

fn serve(stream: TcpStream, place: &str, name: &str, mut log: File) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut from = BufReader::new(stream);
    let mut to = open(place)?;
    loop {
        let (first, _) = head(&mut from)?;
        let path = first.split(' ').nth(1).unwrap_or("");
        let made = format!("/{}-{}", name, MADE.fetch_add(1, Ordering::Relaxed));
        log.write_all(format!("{path} {made}\n").as_bytes())?;
        to.get_mut().write_all(format!("GET {made} HTTP/1.1\r\nHost: {place}\r\n\r\n").as_bytes())?;
        let (_, size) = head(&mut to)?;
        io::copy(&mut (&mut to).take(size), &mut io::sink())?;
        from.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    }
}

fn main() -> io::Result<()> {
    let words: Vec<String> = env::args().collect();
    let log = OpenOptions::new().create(true).append(true).open(&words[3])?;
    for stream in TcpListener::bind(format!("127.0.0.1:{}", words[2]))?.incoming() {
        let (place, name) = (words[4].trim_start_matches("http://").to_string(), words[1].clone());
        let (stream, log) = (stream?, log.try_clone()?);
        thread::spawn(move || {
            if let Err(error) = serve(stream, &place, &name, log) {
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    eprintln!("{error}");
                }
            }
        });
    }
    Ok(())
}
