//! A client that says exactly what a test tells it to, one frame at a time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::content::{Message, Properties};
use super::method::Method;
use super::spec;
use super::wire::{self, Reader, Table, Value};

/// How long a peer waits for a frame that must come. It bounds a hang; no test measures it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
pub(crate) const FRAME_END: u8 = 0xCE;
pub(crate) const METHOD: u8 = 1;
pub(crate) const HEADER: u8 = 2;
pub(crate) const BODY: u8 = 3;
pub(crate) const HEARTBEAT: u8 = 8;

/// A frame as it came: type, channel, payload.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) channel: u16,
    pub(crate) payload: Vec<u8>,
}

/// What a client tells about itself when it logs in; `Default` is guest on `/` with everything.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) virtual_host: String,
    pub(crate) channel_max: u16,
    /// 0 keeps what the server proposed.
    pub(crate) frame_max: u32,
    pub(crate) heartbeat: u16,
    pub(crate) capabilities: Vec<&'static str>,
}

impl Default for Login {
    fn default() -> Self {
        Self {
            user: "guest".to_owned(),
            password: "guest".to_owned(),
            virtual_host: "/".to_owned(),
            channel_max: 2047,
            frame_max: 0,
            heartbeat: 0,
            capabilities: vec![
                "authentication_failure_close",
                "basic.nack",
                "connection.blocked",
                "consumer_cancel_notify",
                "publisher_confirms",
            ],
        }
    }
}

impl Login {
    pub(crate) fn client_properties(&self) -> Table {
        let capabilities = self.capabilities.iter();
        let capabilities = capabilities.map(|name| ((*name).to_owned(), Value::Bool(true)));
        wire::table([
            ("product", "leveret raw-frame peer".into()),
            ("capabilities", Value::Table(capabilities.collect())),
        ])
    }

    /// SASL PLAIN: an empty authorization identity, the user, the password.
    pub(crate) fn plain_response(&self) -> Vec<u8> {
        format!("\0{}\0{}", self.user, self.password).into_bytes()
    }
}

/// One TCP connection that speaks AMQP frames.
pub(crate) struct Peer {
    stream: TcpStream,
    /// Bytes that were read but are not taken yet: `received[taken..]`.
    received: Vec<u8>,
    taken: usize,
    /// The negotiated frame limit; bodies are cut by it.
    pub(crate) frame_max: usize,
}

impl Peer {
    /// Opens the TCP connection and says nothing.
    pub(crate) fn dial(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            received: Vec::new(),
            taken: 0,
            frame_max: 131_072,
        })
    }

    /// Logs in as guest on `/`.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address, &Login::default())
            .unwrap_or_else(|error| panic!("cannot log in at {address}: {error}"))
    }

    /// Logs in, up to connection.open-ok.
    pub(crate) fn try_connect(address: SocketAddr, login: &Login) -> io::Result<Self> {
        let mut peer = Self::dial(address)?;
        peer.try_send_raw(PROTOCOL_HEADER)?;
        peer.await_method(0, "connection.start")?;
        peer.try_send(
            0,
            method!(connection.start_ok {
                client_properties: login.client_properties(),
                mechanism: "PLAIN",
                response: login.plain_response(),
                locale: "en_US",
            }),
        )?;
        let tune = peer.await_method(0, "connection.tune")?;
        let frame_max = match login.frame_max {
            0 => u32::try_from(tune.number("frame_max")).map_err(io::Error::other)?,
            asked => asked,
        };
        peer.frame_max = usize::try_from(frame_max).map_err(io::Error::other)?;
        peer.try_send(
            0,
            method!(connection.tune_ok {
                channel_max: login.channel_max,
                frame_max: frame_max,
                heartbeat: login.heartbeat,
            }),
        )?;
        peer.try_send(
            0,
            method!(connection.open { virtual_host: &login.virtual_host }),
        )?;
        peer.await_method(0, "connection.open_ok")?;
        Ok(peer)
    }

    pub(crate) fn open_channel(&mut self, channel: u16) {
        self.send(channel, method!(channel.open));
        self.expect(channel, method!(channel.open_ok));
    }

    // Sending. The `try_` forms are for peers whose broker may be killed under them.

    pub(crate) fn send(&mut self, channel: u16, method: Method) {
        self.try_send(channel, method).expect("the broker reads");
    }

    pub(crate) fn try_send(&mut self, channel: u16, method: Method) -> io::Result<()> {
        self.try_send_raw(&frame(METHOD, channel, &method.encode()))
    }

    pub(crate) fn send_frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        self.send_raw(&frame(kind, channel, payload));
    }

    pub(crate) fn send_header(&mut self, channel: u16, body_size: u64, properties: &Properties) {
        let payload = header_payload(60, 0, body_size, properties);
        self.send_frame(HEADER, channel, &payload);
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.try_send_raw(bytes).expect("the broker reads");
    }

    pub(crate) fn try_send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// A basic.publish with its content, in one write.
    pub(crate) fn publish(&mut self, channel: u16, publish: Method, body: &[u8]) {
        self.publish_with(channel, publish, &Properties::default(), body);
    }

    pub(crate) fn publish_with(
        &mut self,
        channel: u16,
        publish: Method,
        properties: &Properties,
        body: &[u8],
    ) {
        self.try_publish(channel, publish, properties, body)
            .expect("the broker reads");
    }

    pub(crate) fn try_publish(
        &mut self,
        channel: u16,
        publish: Method,
        properties: &Properties,
        body: &[u8],
    ) -> io::Result<()> {
        let mut out = frame(METHOD, channel, &publish.encode());
        let size = body.len() as u64;
        out.extend(frame(
            HEADER,
            channel,
            &header_payload(60, 0, size, properties),
        ));
        for part in body.chunks(self.frame_max - 8) {
            out.extend(frame(BODY, channel, part));
        }
        self.try_send_raw(&out)
    }

    // Receiving.

    /// The next frame that is no heartbeat.
    pub(crate) fn recv(&mut self) -> Frame {
        self.try_recv().expect("a frame from the broker")
    }

    pub(crate) fn try_recv(&mut self) -> io::Result<Frame> {
        loop {
            let frame = self.recv_any()?;
            if frame.kind != HEARTBEAT {
                return Ok(frame);
            }
        }
    }

    /// The next frame, heartbeats included.
    pub(crate) fn recv_any(&mut self) -> io::Result<Frame> {
        let head = self.read_exact(7)?;
        let mut reader = Reader(&head);
        let (kind, channel) = (reader.octet()?, reader.short()?);
        let length = usize::try_from(reader.long()?).map_err(io::Error::other)?;
        let mut payload = self.read_exact(length + 1)?;
        if payload.pop() != Some(FRAME_END) {
            return Err(wire::malformed("frame without its end octet"));
        }
        Ok(Frame {
            kind,
            channel,
            payload,
        })
    }

    /// Takes bytes from the connection; the end of the stream is `UnexpectedEof`.
    pub(crate) fn read_exact(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.received.len() - self.taken < length {
            self.received.drain(..self.taken);
            self.taken = 0;
            let mut buffer = [0; 32 * 1024];
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.received.extend_from_slice(&buffer[..count]),
            }
        }
        let bytes = self.received[self.taken..self.taken + length].to_vec();
        self.taken += length;
        Ok(bytes)
    }

    /// Is there something to take without waiting for the network?
    pub(crate) fn has_buffered(&self) -> bool {
        self.taken < self.received.len()
    }

    /// The next frame has to be this method on this channel; fields that `expected` does not name
    /// may be anything.
    #[track_caller]
    pub(crate) fn expect(&mut self, channel: u16, expected: Method) -> Method {
        let frame = self.recv();
        let came = decode(&frame);
        assert!(
            frame.channel == channel && came.as_ref().is_some_and(|came| came.matches(&expected)),
            "expected {expected:?} on channel {channel}, got {} on channel {}",
            describe(&frame),
            frame.channel
        );
        came.expect("it was just matched")
    }

    /// A method, and the content that follows it.
    #[track_caller]
    pub(crate) fn expect_message(&mut self, channel: u16, expected: Method) -> Message {
        let method = self.expect(channel, expected);
        self.try_content(method).expect("content after its method")
    }

    /// Reads header and body frames that belong to `method`.
    pub(crate) fn try_content(&mut self, method: Method) -> io::Result<Message> {
        let header = self.try_recv()?;
        if header.kind != HEADER {
            return Err(wire::malformed(
                "no header frame after a method with content",
            ));
        }
        let mut reader = Reader(&header.payload);
        let (_class, _weight, size) = (reader.short()?, reader.short()?, reader.longlong()?);
        let properties = Properties::decode(&mut reader)?;
        let size = usize::try_from(size).map_err(io::Error::other)?;
        let mut body = Vec::with_capacity(size.min(1 << 20));
        while body.len() < size {
            let part = self.try_recv()?;
            if part.kind != BODY || part.channel != header.channel {
                return Err(wire::malformed("no body frame where one is due"));
            }
            body.extend(part.payload);
        }
        Ok(Message {
            method,
            properties,
            body,
        })
    }

    /// channel.close with this code, for this method, with exactly this text after the code's
    /// name; the peer answers with close-ok.
    #[track_caller]
    pub(crate) fn expect_channel_close(
        &mut self,
        channel: u16,
        cause: &str,
        code: u16,
        text: &str,
    ) {
        self.expect_close("channel.close", channel, cause, code, text);
        self.send(channel, method!(channel.close_ok));
    }

    /// connection.close likewise; the broker then closes the socket. An empty `cause` is class
    /// and method 0.
    #[track_caller]
    pub(crate) fn expect_connection_close(&mut self, cause: &str, code: u16, text: &str) {
        self.expect_close("connection.close", 0, cause, code, text);
        self.send(0, method!(connection.close_ok));
        self.expect_end();
    }

    #[track_caller]
    fn expect_close(&mut self, close: &str, channel: u16, cause: &str, code: u16, text: &str) {
        let (class_id, method_id) = match cause {
            "" => (0, 0),
            name => (spec::by_name(name).class_id, spec::by_name(name).method_id),
        };
        let expected = Method::new(close)
            .with("reply_code", code)
            .with(
                "reply_text",
                format!("{} - {text}", spec::reply_code_name(code)),
            )
            .with("class_id", class_id)
            .with("method_id", method_id);
        self.expect(channel, expected);
    }

    /// The broker ends the connection without another frame.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        match self.try_recv() {
            Ok(frame) => panic!(
                "expected the end of the connection, got {}",
                describe(&frame)
            ),
            Err(error) => assert!(is_end(&error), "the connection stays open: {error}"),
        }
    }

    /// The broker refuses: it says why with connection.close and one of these codes, or it ends
    /// the connection without a word, as RabbitMQ does with whoever has not logged in yet.
    #[track_caller]
    pub(crate) fn expect_refusal(&mut self, codes: &[u64]) {
        match self.try_recv() {
            Ok(frame) => {
                let close = decode(&frame).filter(|method| method.name() == "connection.close");
                let code = close.map(|close| close.number("reply_code"));
                let listed = code.is_some_and(|code| codes.contains(&code));
                assert!(
                    listed,
                    "expected a refusal with {codes:?}, got {}",
                    describe(&frame)
                );
            }
            Err(error) => assert!(is_end(&error), "the connection stays open: {error}"),
        }
    }

    /// Waits for one method on one channel; anything else is an error that says what came.
    pub(crate) fn await_method(&mut self, channel: u16, name: &str) -> io::Result<Method> {
        let frame = self.try_recv()?;
        match decode(&frame) {
            Some(method) if frame.channel == channel && method.name() == name => Ok(method),
            _ => Err(io::Error::other(format!(
                "expected {name}, got {}",
                describe(&frame)
            ))),
        }
    }

    /// Sends a method and waits for its answer.
    #[track_caller]
    pub(crate) fn call(&mut self, channel: u16, method: Method, answer: Method) -> Method {
        self.send(channel, method);
        self.expect(channel, answer)
    }

    /// Proves that the channel works and that nothing else was on its way: the next frame has to
    /// be the answer to a question of no consequence.
    #[track_caller]
    pub(crate) fn expect_silence(&mut self, channel: u16) {
        self.call(channel, method!(basic.qos), method!(basic.qos_ok));
    }

    /// connection.close and its answer. Who then ends the TCP connection is left open: RabbitMQ
    /// waits for the client to do it.
    #[track_caller]
    pub(crate) fn close(mut self) {
        self.call(
            0,
            method!(connection.close { reply_code: 200 }),
            method!(connection.close_ok),
        );
    }

    /// Drops the socket without a word.
    pub(crate) fn vanish(self) {
        drop(self.stream.shutdown(Shutdown::Both));
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

/// Has the other side gone, by an orderly end or by a reset?
pub(crate) fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

/// The bytes of one frame.
pub(crate) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame of a test fits in 4 GiB");
    let mut out = Vec::with_capacity(payload.len() + 8);
    out.push(kind);
    out.extend(channel.to_be_bytes());
    out.extend(length.to_be_bytes());
    out.extend_from_slice(payload);
    out.push(FRAME_END);
    out
}

/// The payload of a content header frame.
pub(crate) fn header_payload(
    class_id: u16,
    weight: u16,
    body_size: u64,
    properties: &Properties,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    out.extend(class_id.to_be_bytes());
    out.extend(weight.to_be_bytes());
    out.extend(body_size.to_be_bytes());
    out.extend(properties.encode());
    out
}

/// The method in a frame, if the frame is a method frame that can be read.
pub(crate) fn decode(frame: &Frame) -> Option<Method> {
    (frame.kind == METHOD).then(|| Method::decode(&frame.payload).ok())?
}

/// A frame for the eyes of whoever reads a failure.
pub(crate) fn describe(frame: &Frame) -> String {
    decode(frame).map_or_else(|| format!("{frame:?}"), |method| format!("{method:?}"))
}
