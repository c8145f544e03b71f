//! Chromium without a window, driven through the two pipes of its DevTools protocol.
//!
//! A client library of that protocol is some hundred thousand lines of generated types, for the ten commands used here.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// No answer takes this long unless the browser hangs.
const HANG: Duration = Duration::from_secs(120);

/// A browser with one page; it ends with this value.
pub struct Browser {
    process: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    last_id: u64,
    /// What it told without being asked, since it was last looked at.
    events: Vec<Value>,
    /// Its profile, and what it says on stderr.
    folder: tempfile::TempDir,
}

impl Browser {
    /// Starts it; panics where there is none.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let stderr = std::fs::File::create(folder.path().join("stderr")).expect("a file in a temporary folder");
        // The protocol's pipes are the descriptors 3 and 4: a shell gives its own two another number.
        let script = "for name in chromium chromium-browser google-chrome; do
            if command -v $name >/dev/null; then exec $name \"$@\" 3<&0 4>&1 </dev/null >&2; fi; done
            echo 'no chromium, chromium-browser or google-chrome on PATH: make test-deps installs one' >&2; exit 1";
        let mut process = Command::new("sh")
            .args(["-c", script, "sh", "--headless", "--remote-debugging-pipe", "--no-first-run"])
            // Its sandbox refuses to run as root, and nothing is opened but files that the tests wrote.
            .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-extensions",
            ])
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .env("HOME", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("a shell");
        let commands = process.stdin.take().expect("stdin is a pipe");
        let answers = process.stdout.take().expect("stdout is a pipe");
        let (sender, messages) = channel();
        // Ends with the browser, which closes the pipe.
        std::thread::spawn(move || {
            for message in BufReader::new(answers).split(0) {
                let Ok(message) = message else { return };
                let message = serde_json::from_slice(&message).expect("the browser speaks JSON");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self { process, commands, messages, session: None, last_id: 0, events: Vec::new(), folder };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = Some(attached["sessionId"].as_str().expect("a session has a name").to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Opens a file and waits until all of it is there. Gives the addresses that were asked for meanwhile, and what stands in
    /// the console.
    pub fn open(&mut self, path: &Path) -> (Vec<String>, Vec<String>) {
        self.events.clear();
        let path = path.canonicalize().expect("a page that is there");
        self.call("Page.navigate", json!({ "url": format!("file://{}", path.display()) }));
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.message();
            self.events.push(event);
        }
        // What the page's last frame asked for or complained about has been told once a further frame is drawn.
        self.call(
            "Runtime.evaluate",
            json!({ "expression": "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))", "awaitPromise": true }),
        );
        let (mut requests, mut console) = (Vec::new(), Vec::new());
        for event in self.events.drain(..) {
            match event["method"].as_str() {
                Some("Network.requestWillBeSent") => {
                    requests.push(event["params"]["request"]["url"].as_str().unwrap_or_default().to_owned());
                }
                Some("Log.entryAdded" | "Runtime.consoleAPICalled" | "Runtime.exceptionThrown") => {
                    console.push(event["params"].to_string());
                }
                _ => {}
            }
        }
        (requests, console)
    }

    /// How wide the window is, in CSS pixels, and what it says of itself: "screen" or "print", "light" or "dark".
    pub fn show(&mut self, width: u32, medium: &str, scheme: &str) {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "media": medium, "features": features }));
    }

    /// What an expression in the page is worth.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// A PNG of what a selector finds, or of the whole page, at twice the resolution.
    #[allow(dead_code, reason = "not every program with this module makes pictures")]
    pub fn screenshot(&mut self, selector: &str) -> Vec<u8> {
        let expression = format!(
            "(() => {{ const box = document.querySelector({selector:?}).getBoundingClientRect();
                return {{ x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height, scale: 2 }} }})()"
        );
        let clip = self.evaluate(&expression);
        let asked = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let answer = self.call("Page.captureScreenshot", asked);
        BASE64_STANDARD.decode(answer["data"].as_str().expect("a picture")).expect("a picture is base64")
    }

    /// The page as it is printed on A4.
    #[allow(dead_code, reason = "not every program with this module prints")]
    pub fn pdf(&mut self) -> Vec<u8> {
        let asked =
            json!({ "printBackground": false, "paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": true });
        let answer = self.call("Page.printToPDF", asked);
        BASE64_STANDARD.decode(answer["data"].as_str().expect("a document")).expect("a document is base64")
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut command = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        let sent = self.commands.write_all(format!("{command}\0").as_bytes());
        sent.unwrap_or_else(|error| panic!("{method}: {error}: {}", self.stderr()));
        loop {
            let message = self.message();
            if message["id"] == self.last_id {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    fn message(&mut self) -> Value {
        self.messages.recv_timeout(HANG).unwrap_or_else(|error| panic!("the browser: {error}: {}", self.stderr()))
    }

    fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends its own helpers where it is asked; where it does not answer, they end with its pipes.
        let close = json!({ "id": self.last_id + 1, "method": "Browser.close" });
        let asked = self.commands.write_all(format!("{close}\0").as_bytes()).is_ok();
        let ended = asked
            && loop {
                match self.messages.recv_timeout(Duration::from_secs(10)) {
                    Ok(_) => {}
                    Err(error) => break error == std::sync::mpsc::RecvTimeoutError::Disconnected,
                }
            };
        if !ended {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}
