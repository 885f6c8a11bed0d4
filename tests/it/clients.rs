//! Unmodified clients against the real binary: the DashScope SDK, requests, Node, Java, curl, openai, anthropic,
//! LiteLLM and the AI SDK, and every example of the documentation pages. Each has a script in `tests/clients/`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::secrets;
use crate::harness::tls::Authority;
use crate::harness::{Account, OTHER_KEY, TENANT_KEY, UPSTREAM_KEY, configuration, not_run, signal};

#[test]
fn the_examples_of_the_documentation() {
    if ClientScript::python("seeds.py").ends_with(&[0, NOTHING_CHECKED]) == NOTHING_CHECKED {
        not_run(
            "the examples of the documentation pages; they are no part of this repository.\n\
             DASHGATE_SEEDS names the directory that holds them.",
        );
    }
}

#[test]
fn dashscope_classic_classes() {
    ClientScript::python("dashscope_v1.py").run();
}

#[test]
fn dashscope_classic_classes_of_an_old_version() {
    ClientScript::old_python("dashscope_v1.py").run();
}

#[test]
fn dashscope_asynchronous_classes() {
    ClientScript::python("dashscope_aio.py").run();
}

#[test]
fn dashscope_asynchronous_classes_of_an_old_version() {
    ClientScript::old_python("dashscope_aio.py").run();
}

#[test]
fn dashscope_client_of_version_2() {
    ClientScript::python("dashscope_v2.py").run();
}

#[test]
fn dashscope_speech() {
    ClientScript::python("speech.py").run();
}

#[test]
fn dashscope_speech_of_an_old_version() {
    ClientScript::old_python("speech.py").run();
}

#[test]
fn openai_for_python() {
    ClientScript::python("openai_chat.py").run();
}

#[test]
fn openai_for_node() {
    ClientScript::node("openai_chat.mjs").run();
}

#[test]
fn openai_videos_for_python() {
    ClientScript::python("openai_videos.py").run();
}

#[test]
fn openai_videos_for_node() {
    ClientScript::node("openai_videos.mjs").run();
}

#[test]
fn openai_for_python_with_one_base_url() {
    ClientScript::python("one_base_url.py").run();
}

#[test]
fn openai_for_node_with_one_base_url() {
    ClientScript::node("one_base_url.mjs").run();
}

#[test]
fn anthropic_for_python() {
    ClientScript::python("anthropic_messages.py").run();
}

#[test]
fn anthropic_for_node() {
    ClientScript::node("anthropic_messages.mjs").run();
}

#[test]
fn litellm_with_its_dashscope_provider() {
    ClientScript::litellm("litellm_dashscope.py").run();
}

#[test]
fn litellm_s_proxy_before_the_gateway() {
    ClientScript::litellm("litellm_proxy.py").run();
}

#[test]
fn habits_of_programs_that_probe_a_base_url() {
    ClientScript::python("habits.py").run();
}

#[test]
fn a_browser_plays_a_video() {
    ClientScript::python("chromium.py").run();
}

#[test]
fn a_page_in_a_browser_calls_by_itself() {
    ClientScript::python("page.py").run();
}

#[test]
fn ai_sdk_with_its_alibaba_provider() {
    ClientScript::node("ai_sdk.mjs").run();
}

#[test]
fn dashscope_classic_classes_over_tls() {
    ClientScript::python("dashscope_v1.py").over_tls().run();
}

#[test]
fn dashscope_speech_over_tls() {
    ClientScript::python("speech.py").over_tls().run();
}

#[test]
fn openai_for_node_over_tls() {
    ClientScript::node("openai_chat.mjs").over_tls().run();
}

/// A client script and the command that runs it.
pub(crate) struct ClientScript {
    script: &'static str,
    command: Command,
    tls: bool,
}

impl ClientScript {
    pub(crate) fn python(script: &'static str) -> Self {
        Self::new(script, installed("python/bin/python"), &[], sources())
    }

    pub(crate) fn old_python(script: &'static str) -> Self {
        Self::new(script, installed("python-old/bin/python"), &[], sources())
    }

    pub(crate) fn litellm(script: &'static str) -> Self {
        Self::new(script, installed("python-litellm/bin/python"), &[], sources())
    }

    /// The options make Node look for packages beside the script's link; by default it looks beside the link's target.
    pub(crate) fn node(script: &'static str) -> Self {
        let options = ["--preserve-symlinks", "--preserve-symlinks-main"];
        Self::new(script, "node".into(), &options, installed("node/scripts"))
    }

    /// A source file, run as it is.
    pub(crate) fn java(script: &'static str) -> Self {
        installed("");
        Self::new(script, "java".into(), &[], sources())
    }

    fn new(script: &'static str, interpreter: PathBuf, options: &[&str], directory: PathBuf) -> Self {
        let mut command = Command::new(interpreter);
        command.args(options).arg(directory.join(script));
        Self { script, command, tls: false }
    }

    /// Runs against a gateway that speaks TLS, with a certificate of an authority that the script is told to trust,
    /// as its client's documentation says.
    fn over_tls(self) -> Self {
        Self { tls: true, ..self }
    }

    /// Runs the script against a gateway of its own. It passes if it exits with 0.
    pub(crate) fn run(self) {
        self.ends_with(&[0]);
    }

    /// Runs the script where other exit codes than 0 are good too, and returns the exit code.
    fn ends_with(mut self, good: &[i32]) -> i32 {
        let directory = TempDir::new().expect("a directory for the gateway");
        let authority = self.tls.then(|| trust_in(directory.path()));
        let tls = authority.as_ref().map_or("", |_| "tls = { cert = \"server.crt\", key = \"server.key\" }");
        let usual = ScriptGateway::start(
            directory.path(),
            "usual",
            tls,
            &["--run-seconds", "0.8", "--submit-rps", "100"],
        );
        let patient = ScriptGateway::start(directory.path(), "patient", tls, &["--pending-seconds", "3600"]);
        let (usual_url, patient_url) = (&usual.server.url, &patient.server.url);
        let trusting = authority.iter().flat_map(|file| TRUSTING.map(|variable| (variable, file.as_str())));
        let trusting: Vec<(&str, &str)> = trusting.collect();
        let (result, said) = self.execute(&directory, [usual_url, patient_url], &trusting, SCRIPT_WITHIN);
        let good = result.as_ref().ok().filter(|code| good.contains(code));
        assert!(
            good.is_some(),
            "{} ended with {result:?}\n{said}\n--- gateway\n{}\n--- patient gateway\n{}",
            self.script,
            usual.log(),
            patient.log()
        );
        // The output, shown by --nocapture, tells which examples were run.
        println!("{said}");
        good.copied().unwrap_or_default()
    }

    /// Runs the script against a gateway that is there already; `tasks` is a file for it.
    pub(crate) fn run_at(mut self, address: SocketAddr, tasks: &Path, within: Duration) {
        let directory = TempDir::new().expect("a home directory");
        let url = format!("http://{address}");
        let tasks = tasks.display().to_string();
        let (result, said) = self.execute(&directory, [&url, &url], &[("DASHGATE_TASKS", &tasks)], within);
        assert_eq!(result, Ok(0), "{}\n{said}", self.script);
        println!("{said}");
    }

    /// Exit status and output of the script.
    fn execute(
        &mut self,
        home: &TempDir,
        [usual, patient]: [&str; 2],
        more: &[(&str, &str)],
        within: Duration,
    ) -> (Result<i32, String>, String) {
        let output = home.path().join("output");
        let file = File::create(&output).expect("a file for the script's output");
        forget_the_callers_settings(&mut self.command);
        let child = self
            .command
            .env("HOME", home.path())
            .env("DASHGATE_URL", usual)
            .env("DASHGATE_PATIENT_URL", patient)
            .env("DASHGATE_KEY", TENANT_KEY)
            .env("DASHGATE_OTHER_KEY", OTHER_KEY)
            .env("DASHGATE_OLD_PYTHON", installed("python-old/bin/python"))
            .env("NODE_PATH", installed("node/node_modules"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the same file"))
            .stderr(file)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{:?}: {error}", self.command));
        let result = exit_code(child, within);
        (result, fs::read_to_string(&output).unwrap_or_else(|error| error.to_string()))
    }
}

/// A gateway before a simulator of its own, both the real binary.
struct ScriptGateway {
    server: ServerProcess,
    simulator: ServerProcess,
}

impl ScriptGateway {
    fn start(directory: &Path, name: &str, tls: &str, pace: &[&str]) -> Self {
        let key = |account: &str| format!("{UPSTREAM_KEY}-{account}");
        let keys = ACCOUNTS.map(|name| format!("{name}={}", key(name)));
        let keys = keys.iter().flat_map(|key| ["--key", key]);
        let sim: Vec<&str> =
            ["sim", "--listen", "127.0.0.1:0"].into_iter().chain(keys).chain(pace.iter().copied()).collect();
        let simulator = ServerProcess::start(&sim);
        let upstream = simulator.url.trim_start_matches("http://").parse().expect("an address");
        let keys = ACCOUNTS.map(key);
        let keys = keys.each_ref().map(|key| [key.as_str()]);
        let accounts: Vec<Account<'_>> =
            ACCOUNTS.iter().zip(&keys).map(|(name, key)| (*name, upstream, key.as_slice(), "")).collect();
        let server = format!("listen = \"127.0.0.1:0\"\nworkers = 1\n{tls}");
        let cors = "cors = { origins = [\"http://app.example.com\"] }";
        let text = configuration(&server, &accounts, "tokens = {}")
            .replace("prefix = \"/\"\n", &format!("prefix = \"/\"\n{cors}\n"));
        let storage = simulator.storage();
        let unified = |prefix: &str, statuses: &str| {
            format!(
                "[[mounts]]\nprefix = {prefix:?}\ndialect = \"unified\"\nvideo_statuses = {statuses:?}\n\
                 storage = {{ hosts = [{storage:?}] }}\n{cors}\n"
            )
        };
        let text = text + &unified("/v1", "openai") + &unified("/ope", "opeai");
        let config = directory.join(format!("{name}.toml"));
        let store = directory.join(format!("{name}.db"));
        fs::write(&config, format!("{text}[store]\npath = \"{}\"\n", store.display()))
            .expect("a config file");
        let server = ServerProcess::start(&["serve", "-c", &config.display().to_string()]);
        Self { server, simulator }
    }

    fn log(&self) -> String {
        let (gateway, simulator) = (self.server.log(), self.simulator.log());
        format!("{gateway}\n--- its simulator\n{simulator}")
    }
}

/// A running `dashgate`, killed when the value is dropped.
struct ServerProcess {
    child: Child,
    url: String,
    log: Arc<Mutex<String>>,
}

impl ServerProcess {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dashgate"));
        forget_the_callers_settings(&mut command);
        command.env("RUST_LOG", "info");
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the dashgate binary");
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, addresses) = mpsc::channel();
        collect(child.stdout.take().expect("a pipe"), log.clone(), sender.clone());
        collect(child.stderr.take().expect("a pipe"), log.clone(), sender);
        let url = addresses.recv_timeout(READY_WITHIN);
        let mut server = Self { child, url: String::new(), log };
        server.url =
            url.unwrap_or_else(|error| panic!("{arguments:?} named no address: {error}\n{}", server.log()));
        server
    }

    /// The address at which a simulator serves result files.
    fn storage(&self) -> String {
        let log = self.log();
        let (_, rest) = log.split_once("stand-in for OSS: ").expect("an address");
        origin(rest)
    }

    fn log(&self) -> String {
        self.log.lock().expect("the log").clone()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !thread::panicking() {
            assert_eq!(secrets::leak(&self.log()), None, "the program printed a secret");
        }
    }
}

/// Scheme and address, at the text's beginning.
fn origin(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || ":/.".contains(*c)).collect()
}

/// Collects the output of a server, and sends on each address that the server says it listens on.
fn collect(pipe: impl Read + Send + 'static, log: Arc<Mutex<String>>, addresses: mpsc::Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut log = log.lock().expect("the log");
            log.push_str(&line);
            log.push('\n');
            drop(log);
            if let Some((_, rest)) = line.split_once("listening on ") {
                let _ = addresses.send(origin(rest));
            }
        }
    });
}

/// Removes variables of the caller's environment: a real key, a proxy or a base URL must not reach the tested program.
fn forget_the_callers_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let upper = name.to_ascii_uppercase();
        let foreign = ["DASHGATE_", "DASHSCOPE_", "OPENAI_", "ANTHROPIC_", "LITELLM_", "ALIBABA_"]
            .iter()
            .any(|start| upper.starts_with(start));
        if (foreign && !["DASHGATE_SEEDS", "DASHGATE_CHROMIUM"].contains(&&*name))
            || upper.ends_with("_PROXY")
        {
            command.env_remove(name);
        }
    }
}

/// Exit status of the script. At the time limit, the script and all that it started are killed.
fn exit_code(mut child: Child, within: Duration) -> Result<i32, String> {
    let group = format!("-{}", child.id());
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait()));
    match ended.recv_timeout(within) {
        Ok(status) => {
            let status = status.map_err(|error| error.to_string())?;
            status.code().ok_or_else(|| status.to_string())
        }
        Err(_) => {
            signal("KILL", &group);
            Err(format!("no end after {} s", within.as_secs()))
        }
    }
}

/// A path below the directory into which `tests/clients/setup` installs, after the installation.
pub(crate) fn installed(path: &str) -> PathBuf {
    static SETUP: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let directory = SETUP.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients");
        let output = Command::new("bash")
            .arg(sources().join("setup"))
            .arg(&directory)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("bash: {error}"))?;
        let said = [output.stdout, output.stderr].concat();
        if output.status.success() { Ok(directory) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
    });
    match directory {
        Ok(directory) => directory.join(path),
        Err(said) => panic!("the clients could not be installed:\n{said}"),
    }
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Writes a certificate for the gateway, and returns the path of its authority's certificate.
fn trust_in(directory: &Path) -> String {
    let authority = Authority::new();
    authority.server().write(directory, "server");
    let file = directory.join("ca.pem");
    fs::write(&file, authority.pem()).expect("a file");
    file.display().to_string()
}

/// Variables that make requests, OpenSSL, websocket-client and Node trust an authority.
const TRUSTING: [&str; 4] =
    ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "WEBSOCKET_CLIENT_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"];
/// Exit code of a script that found nothing to check.
const NOTHING_CHECKED: i32 = 77;
const READY_WITHIN: Duration = Duration::from_secs(60);
const SCRIPT_WITHIN: Duration = Duration::from_secs(300);

/// Accounts of each gateway, and of the simulator behind it.
const ACCOUNTS: [&str; 3] = ["east", "west", "north"];
