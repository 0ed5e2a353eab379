// tonic with the service of ../servers/grpc_echo.py. Arguments: port, log; for TLS also certificate and key.
// Messages are bytes: no generated code.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use tokio_stream::{Stream, StreamExt, iter};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::server::{ClientStreamingService, Grpc, NamedService, ServerStreamingService, StreamingService, UnaryService};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};
use tower_service::Service;

type Promise<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;
    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

// CLOCK_MONOTONIC, which std keeps to itself.
fn now() -> i64 {
    #[repr(C)]
    struct Time(i64, i64);
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Time) -> i32;
    }
    let mut time = Time(0, 0);
    unsafe { clock_gettime(1, &mut time) };
    time.0 * 1_000_000_000 + time.1
}

// What the first message asks for.
struct Wish {
    path: String,
    code: i32,
    delay: u64,
    size: usize,
    answers: usize,
}

fn read(message: &[u8]) -> Wish {
    let text = String::from_utf8_lossy(message);
    let path = text.split(' ').next().unwrap_or("").to_string();
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    let found: HashMap<&str, u64> =
        words.chunks(2).filter(|pair| pair.len() == 2).map(|pair| (pair[0], pair[1].parse().unwrap_or(0))).collect();
    let number = |name| found.get(name).copied().unwrap_or(0);
    Wish {
        code: number("s") as i32,
        delay: number("d"),
        size: number("b") as usize,
        answers: number("n").max(1) as usize,
        path,
    }
}

impl Wish {
    fn answer(&self) -> Bytes {
        Bytes::from(vec![b'x'; self.size])
    }
}

#[derive(Clone)]
struct Echo(Arc<Mutex<File>>);

impl Echo {
    async fn end(&self, method: &str, begun: i64, wish: &Wish) -> Result<MetadataMap, Status> {
        tokio::time::sleep(Duration::from_millis(wish.delay)).await;
        writeln!(self.0.lock().unwrap(), "{method} {} {}", wish.path, wish.code).unwrap();
        let mut clock = MetadataMap::new();
        clock.insert("clock", format!("{begun} {}", now()).parse().unwrap());
        match wish.code {
            0 => Ok(clock),
            code => Err(Status::with_metadata(Code::from(code), "as was asked", clock)),
        }
    }
}

async fn first_of(messages: &mut Streaming<Bytes>) -> Result<Wish, Status> {
    Ok(read(&messages.next().await.unwrap_or(Ok(Bytes::new()))?))
}

fn response<T>(content: T, fields: MetadataMap) -> Response<T> {
    let mut made = Response::new(content);
    *made.metadata_mut() = fields;
    made
}

impl UnaryService<Bytes> for Echo {
    type Response = Bytes;
    type Future = Promise<Result<Response<Bytes>, Status>>;
    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (echo, begun) = (self.clone(), now());
        Box::pin(async move {
            let wish = read(request.get_ref());
            let clock = echo.end("Unary", begun, &wish).await?;
            Ok(response(wish.answer(), clock))
        })
    }
}

impl ClientStreamingService<Bytes> for Echo {
    type Response = Bytes;
    type Future = Promise<Result<Response<Bytes>, Status>>;
    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (echo, begun) = (self.clone(), now());
        Box::pin(async move {
            let mut messages = request.into_inner();
            let wish = first_of(&mut messages).await?;
            while let Some(message) = messages.next().await {
                message?;
            }
            let clock = echo.end("Upload", begun, &wish).await?;
            Ok(response(wish.answer(), clock))
        })
    }
}

impl ServerStreamingService<Bytes> for Echo {
    type Response = Bytes;
    type ResponseStream = Answers;
    type Future = Promise<Result<Response<Answers>, Status>>;
    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (echo, begun) = (self.clone(), now());
        Box::pin(async move {
            let wish = read(request.get_ref());
            let clock = echo.end("Download", begun, &wish).await?;
            let answers = vec![wish.answer(); wish.answers];
            Ok(response(Box::pin(iter(answers.into_iter().map(Ok))) as Answers, clock))
        })
    }
}

impl StreamingService<Bytes> for Echo {
    type Response = Bytes;
    type ResponseStream = Answers;
    type Future = Promise<Result<Response<Answers>, Status>>;
    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (echo, begun) = (self.clone(), now());
        Box::pin(async move {
            let mut messages = request.into_inner();
            let wish = first_of(&mut messages).await?;
            let mut answers = vec![wish.answer()];
            while let Some(message) = messages.next().await {
                message?;
                answers.push(wish.answer());
            }
            let clock = echo.end("Chat", begun, &wish).await?;
            Ok(response(Box::pin(iter(answers.into_iter().map(Ok))) as Answers, clock))
        })
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "autoinstr.test.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Promise<Result<Self::Response, Infallible>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(Raw);
            Ok(match request.uri().path().rsplit('/').next() {
                Some("Unary") => grpc.unary(echo, request).await,
                Some("Upload") => grpc.client_streaming(echo, request).await,
                Some("Download") => grpc.server_streaming(echo, request).await,
                Some("Chat") => grpc.streaming(echo, request).await,
                _ => Status::unimplemented("has no such method").into_http(),
            })
        })
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let echo = Echo(Arc::new(Mutex::new(File::create(&arguments[1]).unwrap())));
    let mut server = Server::builder();
    if let [_, _, certificate, key] = &arguments[..] {
        let identity = Identity::from_pem(std::fs::read(certificate).unwrap(), std::fs::read(key).unwrap());
        server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
    }
    let address = format!("127.0.0.1:{}", arguments[0]).parse().unwrap();
    server.add_service(echo).serve(address).await.unwrap();
}
