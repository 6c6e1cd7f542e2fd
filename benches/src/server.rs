//! A release `tarn serve` in a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::http::Connection;

/// A server's process; killed when dropped without [`Server::stop`].
#[derive(Debug)]
pub struct Server {
    process: Child,
    port: u16,
}

fn binary() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("TARN_BIN") {
        return Ok(binary.into());
    }
    let binary = std::env::current_exe()?.with_file_name("tarn");
    if binary.exists() { Ok(binary) } else { Err("build the server first: cargo build --release -p tarn".into()) }
}

impl Server {
    /// Starts it without a background builder and waits until it is ready.
    ///
    /// # Errors
    /// There is no binary, or it ends.
    pub fn start(store: &Path) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = Command::new(binary()?)
            .args(["serve", "--no-build", "--listen", &format!("127.0.0.1:{port}"), "--store"])
            .arg(store)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let mut server = Self { process, port };
        // The server announces its address on standard output once it listens.
        let stdout = server.process.stdout.take().ok_or("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let announced = lines.by_ref().map_while(std::result::Result::ok).any(|line| line.contains(&port.to_string()));
        if !announced {
            return Err("tarn serve ended without saying where it listens".into());
        }
        std::thread::spawn(move || lines.for_each(drop));
        server.connect()?.send("GET", "/readyz", "text/plain", b"")?.expect(200)?;
        Ok(server)
    }

    /// A connection to it.
    ///
    /// # Errors
    /// It does not listen any more.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(self.port)
    }

    /// Builds everything in the store, in another process.
    ///
    /// # Errors
    /// The builder's.
    pub fn build(&self, store: &Path) -> Result<()> {
        let status =
            Command::new(binary()?).args(["build", "--json", "--store"]).arg(store).stdout(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(format!("tarn build ended with {status}").into()) }
    }

    /// Processor time used so far, user and system. Linux.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // Fields 14 and 15, counted after the command's closing bracket, in ticks of 10 ms.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks =
            |field: usize| fields.get(field).and_then(|text| text.parse::<u64>().ok()).ok_or("unreadable /proc stat");
        Ok(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
    }

    /// Ends it.
    ///
    /// # Errors
    /// The system refuses.
    pub fn stop(mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended after `stop`; after an error there is nobody left to tell.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
