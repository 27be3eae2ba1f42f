//! Where clients reach the database on a system without Unix sockets: a port of the loopback interface.

pub(super) use std::net::{TcpListener as Listener, TcpStream as Stream};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use pglite_oxide::PgliteProxy;

/// A port needs no directory.
pub(super) type SocketDir = ();

#[derive(Debug)]
pub(super) struct Address(SocketAddr);

impl Address {
    pub(super) fn connect(&self) -> io::Result<Stream> {
        let stream = Stream::connect(self.0)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// The port for clients, and the one behind it on which PostgreSQL itself waits.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) front: (Listener, Address),
    pub(super) backend: (Listener, Address),
    pub(super) dir: SocketDir,
}

impl Sockets {
    pub(super) fn open(_data: &Path) -> io::Result<Self> {
        let listen = || {
            let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let address = Address(listener.local_addr()?);
            Ok::<_, io::Error>((listener, address))
        };
        Ok(Self { front: listen()?, backend: listen()?, dir: () })
    }

    pub(super) fn url(&self) -> String {
        format!("postgresql://postgres@{}/postgres?sslmode=disable", self.front.1.0)
    }
}

/// Hands the next connection to PostgreSQL and returns when it is over.
pub(super) fn serve_next(proxy: &PgliteProxy, listener: &Listener) -> Result<(), String> {
    proxy.accept_tcp_once(listener).map_err(|error| format!("{error:#}"))
}
