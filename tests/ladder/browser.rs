//! A real browser for the ladder: headless Chromium, driven through chromedriver.
//!
//! Guarantees: each [`Browser`] is fresh (own profile, own port) and ends with the test, also with one that
//! panics or is killed. Where Chromium is missing the test fails with the command that installs it.
//! Must not know: Kagero. What a page should say is the business of the test that opens it.

mod preview;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::json;

use crate::wait::{came_true, eventually};

/// A page load or a click on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

const FLAGS: [&str; 13] = [
    "--headless",
    // Chromium's own sandbox does not work as root; these pages are ours.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-breakpad",
    "--disable-sync",
    "--lang=en",
    "--window-size=1280,960",
];

/// A browser with one tab. Host names below `localhost` lead to this machine without any set-up.
pub struct Browser {
    client: Client,
    // Dropped in this order: the programs, then the directory that they write to.
    driver: Driver,
    home: tempfile::TempDir,
}

impl Browser {
    /// Starts chromedriver and a Chromium with an empty profile.
    pub async fn start() -> Self {
        let chromium = program(&["chromium", "google-chrome"]);
        let home = tempfile::Builder::new().prefix("kagero-browser-").tempdir().unwrap();
        let (driver, port) = Driver::start(&program(&["chromedriver"]), home.path());
        let profile = format!("--user-data-dir={}", home.path().join("profile").display());
        let args: Vec<&str> = FLAGS.into_iter().chain([profile.as_str()]).collect();
        let wanted = json!({"goog:chromeOptions": {"binary": chromium, "args": args}});
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(wanted.as_object().unwrap().clone())
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap_or_else(|error| panic!("{} does not start: {error}", chromium.display()));
        Self { client, driver, home }
    }

    /// Opens an address and waits until it is loaded, whatever its status.
    pub async fn goto(&self, url: &str) {
        self.client.goto(url).await.unwrap_or_else(|error| panic!("cannot open {url}: {error}"));
    }

    /// The address shown.
    pub async fn url(&self) -> String {
        self.client.current_url().await.unwrap().to_string()
    }

    /// The HTTP status that the page shown was answered with.
    pub async fn status(&self) -> u16 {
        let script = "return performance.getEntriesByType('navigation')[0].responseStatus";
        let status = self.client.execute(script, Vec::new()).await.unwrap();
        u16::try_from(status.as_u64().unwrap()).unwrap()
    }

    /// The text that a person sees on the page.
    pub async fn text(&self) -> String {
        self.try_text().await.unwrap()
    }

    /// The text that a person sees in the first element of a CSS selector.
    pub async fn text_of(&self, css: &str) -> String {
        self.element(Locator::Css(css)).await.text().await.unwrap()
    }

    /// Waits until the page shows a text, through as many reloads as it takes; the page's text then.
    pub async fn wait_for_text(&self, wanted: &str, deadline: Duration) -> String {
        eventually(format_args!("the page shows {wanted:?}"), deadline, async || {
            // In the middle of a reload there is no page to ask.
            let text = self.try_text().await.map_err(|error| error.to_string())?;
            if text.contains(wanted) { Ok(text) } else { Err(text) }
        })
        .await
    }

    /// Clicks on the first element of a CSS selector, once it is there.
    pub async fn click(&self, css: &str) {
        self.element(Locator::Css(css)).await.click().await.unwrap();
    }

    /// Clicks on the link or button with that text, once it is there.
    pub async fn click_text(&self, text: &str) {
        assert!(!text.contains('\''), "a text with an apostrophe has no XPath literal: {text}");
        let path = format!("//*[(self::a or self::button) and normalize-space()='{text}']");
        self.element(Locator::XPath(&path)).await.click().await.unwrap();
    }

    /// Types into the first field of a CSS selector, in place of what it holds.
    pub async fn fill(&self, css: &str, text: &str) {
        let field = self.element(Locator::Css(css)).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Runs JavaScript in the page; the value that it returns.
    pub async fn run(&self, script: &str) -> serde_json::Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// Saves what the page looks like as `target/screenshots/<name>.png`.
    pub async fn screenshot(&self, name: &str) -> PathBuf {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots");
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(name).with_extension("png");
        fs::write(&path, self.client.screenshot().await.unwrap()).unwrap();
        path
    }

    async fn try_text(&self) -> Result<String, fantoccini::error::CmdError> {
        self.client.find(Locator::Css("body")).await?.text().await
    }

    async fn element(&self, locator: Locator<'_>) -> fantoccini::elements::Element {
        let found = self.client.wait().at_most(PATIENCE).every(Duration::from_millis(20)).for_element(locator).await;
        match found {
            Ok(element) => element,
            Err(error) => panic!("no {locator:?} on {}: {error}\n{}", self.url().await, self.text().await),
        }
    }
}

/// Runs the driver and ends the process group when this process, which holds the other end of its input, is
/// gone: no test that is killed leaves a browser behind.
const GUARD: &str = r#""$@" </dev/null & exec >&-; read -r _; kill -KILL 0"#;

/// The guard, in whose process group chromedriver, Chromium and all of its children run.
struct Driver(Child);

impl Driver {
    /// The driver and the port that it has chosen.
    fn start(chromedriver: &Path, home: &Path) -> (Self, u16) {
        let child = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(chromedriver)
            .arg("--port=0")
            .env("HOME", home)
            // What the two leave in the directory for temporary files goes with the rest.
            .env("TMPDIR", home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut driver = Self(child);
        let mut seen = String::new();
        let mut words = BufReader::new(driver.0.stdout.take().unwrap());
        while words.read_line(&mut seen).unwrap() > 0 {
            let port = seen.split_once("successfully on port ").map(|(_, port)| port.trim_end().trim_end_matches('.'));
            if let Some(port) = port.and_then(|port| port.parse().ok()) {
                // Kept open: the driver may say more, and would die of a closed pipe.
                driver.0.stdout = Some(words.into_inner());
                return (driver, port);
            }
        }
        panic!("{} ended before it was ready: {seen}", chromedriver.display());
    }

    fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).unwrap())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let group = self.group();
        // Not reaped yet, so the number cannot have gone to anyone else.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.0.wait();
        let gone = came_true(PATIENCE, || !is_alive(group));
        // A second panic would hide the first.
        assert!(gone || std::thread::panicking(), "Chromium of process group {group} does not end");
    }
}

/// Whether a process of that group still runs; one that waits for its parent to notice its end does not.
fn is_alive(group: Pid) -> bool {
    let group = group.to_string();
    fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|entry| {
        // pid (name) state parent group …; the name may contain anything.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((_, rest)) = stat.rsplit_once(')') else { return false };
        let mut fields = rest.split_whitespace();
        fields.next() != Some("Z") && fields.nth(1) == Some(group.as_str())
    })
}

/// The first of the programs that `tools/setup` or the machine's owner has installed.
fn program(names: &[&str]) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = [own].into_iter().chain(env::split_paths(&path)).collect();
    let mut places = directories.iter().flat_map(|directory| names.iter().map(|name| directory.join(name)));
    places.find(|place| place.is_file()).unwrap_or_else(|| {
        panic!("{} is not installed. Install it with: make setup", names.join(" or "));
    })
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::response::Html;
    use axum::routing::get;

    use super::*;

    const FORM: &str = "<h1>A form</h1><input id=who value=nobody>\
        <button onclick=\"document.querySelector('h1').textContent = 'Hello ' + who.value\">Greet</button>\
        <a href=/gone>Leave</a><p hidden>secret</p>";

    async fn site() -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let gone = get(async || (StatusCode::GONE, Html("<h1>Taken away</h1>")));
        let slow = get(async || Html("<p>soon</p><script>setTimeout(() => location = '/', 300)</script>"));
        let site = Router::new().route("/", get(async || Html(FORM))).route("/gone", gone).route("/slow", slow);
        tokio::spawn(async move { axum::serve(listener, site).await });
        format!("http://pr-1-shop.localhost:{port}")
    }

    #[tokio::test]
    async fn a_person_reads_types_clicks_and_leaves() {
        let (site, browser) = (site().await, Browser::start().await);

        browser.goto(&format!("{site}/slow")).await;
        let text = browser.wait_for_text("A form", PATIENCE).await;
        assert!(!text.contains("secret"), "hidden text is not seen: {text}");
        assert_eq!(browser.status().await, 200);

        browser.fill("#who", "reviewer").await;
        browser.click("button").await;
        assert_eq!(browser.text_of("h1").await, "Hello reviewer");

        browser.click_text("Leave").await;
        browser.wait_for_text("Taken away", PATIENCE).await;
        assert_eq!(browser.status().await, 410);
        assert_eq!(browser.url().await, format!("{site}/gone"));
        assert_eq!(browser.text().await, "Taken away");
        assert_eq!(browser.run("return document.title").await, "");

        let picture = fs::read(browser.screenshot("browser-self-test").await).unwrap();
        assert!(picture.starts_with(b"\x89PNG"));
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_browser() {
        let browser = Browser::start().await;
        let (group, home) = (browser.driver.group(), browser.home.path().to_owned());
        assert!(is_alive(group) && home.exists());
        let owner = tokio::spawn(async move {
            let _browser = browser;
            panic!("on purpose");
        });
        assert!(owner.await.unwrap_err().is_panic());
        assert!(!is_alive(group));
        assert!(!home.exists(), "{} is left", home.display());
    }

    #[tokio::test]
    async fn a_browser_ends_with_the_process_that_started_it() {
        let mut browser = Browser::start().await;
        let group = browser.driver.group();
        // The kernel closes the pipe in the same way when this process is killed.
        drop(browser.driver.0.stdin.take());
        eventually("Chromium ends", PATIENCE, async || !is_alive(group)).await;
    }

    #[test]
    #[should_panic(expected = "Install it with: make setup")]
    fn a_missing_program_is_named_with_its_remedy() {
        program(&["no-such-browser"]);
    }
}
