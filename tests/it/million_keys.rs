//! One million keys cost less than 200 bytes of memory each; start time and cost of a look-up are printed beside those
//! of a thousand keys.

use std::fs;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use dashgate::account::AccountRegistry;
use dashgate::config::Config;
use dashgate::store::Store;
use dashgate::telemetry::metrics::Metrics;
use dashgate::tenant::caller::identify;
use dashgate::tenant::directory::Directory;
use dashgate::tenant::key::VirtualKey;
use dashgate::tenant::keyring::{KeyEnd, Keyring, NewKey};
use dashgate::tenant::last_use::ConfiguredUses;

use crate::harness::{Upstream, answer, client, message, processor_time};

const FEW: usize = 1_000;
const MANY: usize = 1_000_000;
const MOST_BYTES_PER_KEY: f64 = 200.0;

/// A key that looks like a minted one; its checksum plays no part.
fn secret(number: usize) -> String {
    format!("sk-dg-{number:049}")
}

#[test]
fn a_million_keys_start_in_seconds_and_cost_under_200_bytes_each() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let directory = tempfile::tempdir().expect("a directory");
    let few = KeyedGateway::start(directory.path(), &upstream, FEW);
    let many = KeyedGateway::start(directory.path(), &upstream, MANY);
    let bytes_per_key = (many.resident_bytes - few.resident_bytes) as f64 / (MANY - FEW) as f64;
    println!(
        "start: {:.2?} with {FEW} keys, {:.2?} with {MANY}; resident: {:.1} MB and {:.1} MB; {bytes_per_key:.0} \
         bytes a key",
        few.started_in,
        many.started_in,
        few.resident_bytes as f64 / 1e6,
        many.resident_bytes as f64 / 1e6,
    );
    // Both gateways are asked in turns, so that other load on the machine falls on both alike.
    let mut cpu = [Duration::ZERO; 2];
    for _ in 0..5 {
        for (total, (gateway, keys)) in cpu.iter_mut().zip([(&few, FEW), (&many, MANY)]) {
            *total += gateway.cpu_of(400, keys);
        }
    }
    let [few_cpu, many_cpu] = cpu.map(|total| total.as_secs_f64());
    println!("processor time a request with {MANY} keys against {FEW}: {:.2}", many_cpu / few_cpu);
    assert!(bytes_per_key < MOST_BYTES_PER_KEY, "{bytes_per_key} bytes a key");
}

/// The real program over a store with this number of keys.
struct KeyedGateway {
    child: Child,
    address: std::net::SocketAddr,
    started_in: Duration,
    resident_bytes: u64,
}

impl KeyedGateway {
    fn start(directory: &Path, upstream: &Upstream, keys: usize) -> Self {
        let store = directory.join(format!("{keys}.db"));
        fill(&store, keys);
        let file = directory.join(format!("{keys}.toml"));
        fs::write(&file, configuration(upstream, &store)).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_dashgate"));
        command
            .args(["serve", "-c"])
            .arg(&file)
            .env_remove("RUST_LOG")
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn().expect("the dashgate binary");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let ready =
            lines.find_map(|line| line.split_once("listening on http://").map(|(_, rest)| rest.to_owned()));
        let started_in = began.elapsed();
        let ready = ready.expect("it is ready");
        let address: String = ready.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
        // The rest of the output is read and dropped, so that it can't fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("its status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let kilobytes: u64 = resident.trim_end_matches("kB").trim().parse().expect("a number");
        let address = address.parse().expect("an address");
        Self { child, address, started_in, resident_bytes: kilobytes * 1024 }
    }

    /// Processor time of a number of requests, with keys from the whole store.
    fn cpu_of(&self, requests: usize, keys: usize) -> Duration {
        let before = processor_time(self.child.id());
        let mut client = client::Client::connect(self.address);
        for number in 0..requests {
            let key = secret(number * 7919 % keys);
            let request = message(
                "POST /api/v1/services/aigc/text-generation/generation",
                &[&format!("Authorization: Bearer {key}")],
                "{}",
            );
            assert_eq!(client.ask(request).status(), 200);
        }
        processor_time(self.child.id()) - before
    }
}

impl Drop for KeyedGateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(upstream: &Upstream, store: &Path) -> String {
    format!(
        r#"
        server = {{ listen = "127.0.0.1:0", workers = 1 }}
        admin = {{ listen = "127.0.0.1:0" }}
        store = {{ path = "{}" }}
        accounts = [{{ name = "main", base_url = "http://{}", keys = ["sk-1"] }}]
        tenants = [{{ name = "one", keys = [{{ id = "one-key", key = "0123456789abcdef" }}] }}]
        "#,
        store.display(),
        upstream.address
    )
}

/// The store makes its tables; the rows are written past it, in one transaction.
fn fill(path: &Path, keys: usize) {
    Store::open(path).expect("a store").close();
    let mut connection = rusqlite::Connection::open(path).expect("the file");
    let transaction = connection.transaction().expect("a transaction");
    {
        let mut insert = transaction
            .prepare(
                "INSERT INTO keys (sha256, id, tenant, created_at) VALUES (?1, ?2, 'one', 1700000000000)",
            )
            .expect("a statement");
        // Rows in the order of the table's key are much faster to write.
        let mut rows: Vec<_> =
            (0..keys).map(|number| (VirtualKey::new(secret(number).as_bytes()).digest(), number)).collect();
        rows.sort_unstable();
        for (digest, number) in rows {
            insert.execute(rusqlite::params![&digest[..], format!("key-{number:010}")]).expect("a row");
        }
    }
    transaction.commit().expect("a commit");
}

#[test]
fn a_look_up_costs_the_same_among_a_million() {
    let config = Config::parse(
        r#"
        accounts = [{ name = "main", base_url = "http://127.0.0.1", keys = ["sk-1"] }]
        tenants = [{ name = "one", keys = [{ id = "one-key", key = "0123456789abcdef" }] }]
        "#,
        Path::new("."),
        &|_| None,
    );
    let directory = Arc::new(Directory::build(
        &config.expect("a config").config,
        &[],
        &AccountRegistry::new(Instant::now()),
        &Metrics::default(),
        &ConfiguredUses::default(),
    ));
    let rings = [FEW, MANY].map(|keys| {
        let ring = Keyring::default();
        for number in 0..keys {
            ring.insert(&NewKey {
                id: &format!("key-{number:010}"),
                tenant: "one",
                digest: VirtualKey::new(secret(number).as_bytes()).digest(),
                created: SystemTime::UNIX_EPOCH,
                ends: KeyEnd::Never,
                retired: false,
                details: None,
            });
        }
        (keys, ring)
    });
    let now = SystemTime::now();
    let mut total = [Duration::ZERO; 2];
    for round in 0..10 {
        for (total, (keys, ring)) in total.iter_mut().zip(&rings) {
            let secrets: Vec<String> =
                (0..10_000).map(|number| secret((number * 7919 + round * 104_729) % keys)).collect();
            let began = Instant::now();
            for secret in &secrets {
                let found = identify(&directory, ring, Some(VirtualKey::new(secret.as_bytes())), None, now);
                black_box(found).expect("a caller");
            }
            *total += began.elapsed();
        }
    }
    let [few, many] = total.map(|total| total.as_secs_f64() / 100_000.0 * 1e9);
    println!("a look-up: {few:.0} ns among {FEW}, {many:.0} ns among {MANY}: {:.2}", many / few);
    for (keys, ring) in &rings {
        assert_eq!(ring.len(), *keys);
        assert!(
            identify(&directory, ring, Some(VirtualKey::new(secret(*keys).as_bytes())), None, now).is_err()
        );
    }
}
