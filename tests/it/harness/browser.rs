//! A headless Chromium for the tests, driven by WebDriver through Debian's chromedriver.
//!
//! Each browser has a profile of its own. No browser outlives the test process, however that ends.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{client, eventually};

/// A running browser with one page.
pub(crate) struct Browser {
    /// Address of the driver.
    driver: SocketAddr,
    session: String,
    watchdog: Child,
}

/// Circumstances of a page that the browser tells it.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    /// First language of its user, like `zh-CN`.
    pub(crate) language: &'static str,
    pub(crate) is_dark: bool,
    /// Width and height of the window in pixels of the style sheet.
    pub(crate) window: (u32, u32),
}

impl Default for Look {
    fn default() -> Self {
        Self { language: "en", is_dark: false, window: (1280, 800) }
    }
}

impl Browser {
    /// # Panics
    /// With what `tests/browser/setup` says, if there is no browser and none can be installed.
    pub(crate) fn start(look: Look) -> Self {
        let Programs { chromium, driver, .. } = Programs::here();
        let directory = tempfile::tempdir().expect("a directory").keep();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/watchdog");
        let watchdog = Command::new("bash").arg(script).arg(&directory).stdin(Stdio::piped()).spawn();
        let mut watchdog = watchdog.expect("bash");
        let Some(port) = (0..DRIVER_TRIES).find_map(|_| start_driver(driver, &directory)) else {
            let log = std::fs::read_to_string(directory.join(DRIVER_LOG)).unwrap_or_default();
            drop(watchdog.stdin.take());
            let lines: Vec<&str> = log.lines().collect();
            panic!("chromedriver named no port:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        };
        let driver = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut browser = Self { driver, session: String::new(), watchdog };
        let mut flags: Vec<String> = FLAGS.map(str::to_owned).to_vec();
        flags.push(format!("--user-data-dir={}/profile", directory.display()));
        flags.push(format!("--accept-lang={}", look.language));
        flags.push(format!("--window-size={},{}", look.window.0, look.window.1));
        let options = json!({ "args": flags, "binary": chromium });
        let wanted = json!({ "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } });
        let session = browser.call("POST", "/session", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        let scheme = if look.is_dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        browser.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
        let (width, height) = look.window;
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        browser.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        browser
    }

    pub(crate) fn open(&self, url: &str) {
        self.ask("POST", "/url", &json!({ "url": url }));
    }

    /// The result of a function's body, which finds its arguments in `arguments`.
    pub(crate) fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.ask("POST", "/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// Like [`Browser::run`], and the function calls its last argument with the result.
    pub(crate) fn run_async(&self, script: &str, arguments: &[Value]) -> Value {
        self.ask("POST", "/execute/async", &json!({ "script": script, "args": arguments }))
    }

    /// Waits until an expression is true in the page.
    pub(crate) fn wait(&self, expression: &str) {
        let script = format!("return Boolean({expression})");
        eventually(expression, || self.run(&script, &[]) == true);
    }

    /// Waits for an element of a selector, and clicks on it as a person does.
    pub(crate) fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.ask("POST", &format!("/element/{element}/click"), &json!({}));
    }

    /// Waits for a field, and writes into it in place of what is there.
    pub(crate) fn write(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.ask("POST", &format!("/element/{element}/clear"), &json!({}));
        self.ask("POST", &format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Presses a key, wherever the focus is.
    pub(crate) fn press(&self, key: char) {
        let actions = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        self.ask(
            "POST",
            "/actions",
            &json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] }),
        );
    }

    fn element(&self, selector: &str) -> String {
        self.wait(&format!("document.querySelector({})", json!(selector)));
        let found = self.ask("POST", "/element", &json!({ "using": "css selector", "value": selector }));
        let id = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str);
        id.expect("an element").to_owned()
    }

    /// Findings of axe in the page as it is: the impact, the rule and the elements of each.
    pub(crate) fn accessibility(&self) -> Vec<String> {
        let axe = std::fs::read_to_string(&Programs::here().axe).expect("axe");
        self.run(&axe, &[]);
        let found = self.run_async(CHECK, &[]);
        let found = found.as_array().unwrap_or_else(|| panic!("axe: {found}"));
        found.iter().map(|finding| finding.as_str().expect("text").to_owned()).collect()
    }

    /// A picture of the window, as PNG.
    pub(crate) fn picture(&self) -> Vec<u8> {
        let shown = self.ask("GET", "/screenshot", &Value::Null);
        STANDARD.decode(shown.as_str().expect("text")).expect("base64")
    }

    /// Lines of the browser's console since the last call, each with its `source`, `level` and `message`.
    pub(crate) fn log(&self) -> Vec<Value> {
        let lines = self.ask("POST", "/se/log", &json!({ "type": "browser" }));
        lines.as_array().expect("lines").clone()
    }

    /// Runs a command of the DevTools protocol.
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.ask("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        self.call(method, &format!("/session/{}{path}", self.session), body)
    }

    /// # Panics
    /// With the driver's own words, if it refuses.
    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (host, length) = (self.driver, body.len());
        // The driver takes only calls that name it as their host.
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json");
        let request = format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}");
        let mut value = client::once(self.driver, request).json()["value"].take();
        assert!(value["error"].is_null(), "{method} {path} {body}\n{}: {}", value["error"], value["message"]);
        value.take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

/// Starts the driver, and returns its port. A driver ends and names none if another process takes the port that it has
/// chosen: it binds IPv4 and IPv6 one after the other.
fn start_driver(driver: &Path, directory: &Path) -> Option<u16> {
    let told = format!("--log-path={}", directory.join(DRIVER_LOG).display());
    let started =
        Command::new(driver).args(["--port=0", &told]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    port_of(started.expect("chromedriver").stdout.take().expect("a pipe"))
}

/// The port that the driver names. The rest of its output is read until its end, so that the driver never waits.
fn port_of(output: impl Read + Send + 'static) -> Option<u16> {
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    let port = lines.find_map(|line| {
        line.trim_end_matches('.').rsplit_once("started successfully on port ")?.1.parse().ok()
    });
    std::thread::spawn(move || lines.for_each(drop));
    port
}

/// Programs as `tests/browser/setup` finds or installs them.
struct Programs {
    chromium: PathBuf,
    driver: PathBuf,
    /// The script of axe, which checks the accessibility of a page.
    axe: PathBuf,
}

impl Programs {
    fn here() -> &'static Self {
        static FOUND: OnceLock<Result<Programs, String>> = OnceLock::new();
        let found = FOUND.get_or_init(Self::find);
        found.as_ref().unwrap_or_else(|said| panic!("there is no browser:\n{said}"))
    }

    fn find() -> Result<Self, String> {
        let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/setup");
        let output = Command::new("bash").arg(setup).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("bash: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        match (output.status.success(), said.lines().collect::<Vec<_>>().as_slice()) {
            (true, [chromium, driver, axe]) => {
                Ok(Self { chromium: chromium.into(), driver: driver.into(), axe: axe.into() })
            }
            _ => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

const DRIVER_TRIES: usize = 5;
const DRIVER_LOG: &str = "driver.log";
const CHECK: &str = "
    const done = arguments[0];
    const told = ({ impact, id, nodes }) => `${impact} ${id}: ${nodes.map((node) => node.target.join(' ')).join(', ')}`;
    axe.run().then(({ violations }) => done(violations.map(told)), (problem) => done(String(problem)));
";

/// A browser that shows no window, calls nobody, and runs in a container as root.
const FLAGS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];
