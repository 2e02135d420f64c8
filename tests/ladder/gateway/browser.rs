//! The pages in a real browser: their script may run, under their own policy.

use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use kagero::report::view::Phase;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::stage::{DEADLINE, Stage, host, mirror, view, within};

/// A driver and the browser that it starts: one process group, which ends with this.
struct Driver {
    group: Pid,
    port: u16,
    // Read from as long as the driver writes.
    _output: BufReader<tokio::process::ChildStdout>,
}

impl Driver {
    async fn start() -> Self {
        let mut command = std::process::Command::new("chromedriver");
        command.arg("--port=0").process_group(0).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = tokio::process::Command::from(command).spawn().unwrap_or_else(|error| {
            panic!("chromedriver does not start ({error}); run: apt-get install -y chromium chromium-driver")
        });
        let group = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let port = within(async {
            loop {
                let mut line = String::new();
                assert!(output.read_line(&mut line).await.unwrap() > 0, "chromedriver ended at once");
                let said = line.trim().trim_end_matches('.');
                if let Some((_, port)) = said.split_once("started successfully on port ") {
                    return port.parse().unwrap();
                }
            }
        })
        .await;
        Self { group, port, _output: output }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = killpg(self.group, Signal::SIGKILL);
    }
}

async fn open(driver: &Driver, profile: &std::path::Path) -> Client {
    let mut arguments: Vec<String> = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP *.preview.test 127.0.0.1",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.push(format!("--user-data-dir={}", profile.display()));
    let options = serde_json::json!({ "args": arguments });
    let capabilities = [("goog:chromeOptions".to_owned(), options)].into_iter().collect();
    ClientBuilder::new(HttpConnector::new())
        .capabilities(capabilities)
        .connect(&format!("http://127.0.0.1:{}", driver.port))
        .await
        .expect("a browser opens; if there is none, run: apt-get install -y chromium chromium-driver")
}

async fn shows(browser: &Client, text: &str) {
    let mut last = String::new();
    let shown = tokio::time::timeout(DEADLINE, async {
        loop {
            // While the page is loaded anew there is no body for a moment.
            if let Ok(body) = browser.find(Locator::Css("body")).await
                && let Ok(words) = body.text().await
            {
                last = words;
            }
            if last.contains(text) {
                return;
            }
            crate::wait::look_again().await;
        }
    });
    assert!(shown.await.is_ok(), "{text:?} does not appear; the page says: {last}");
}

#[tokio::test]
async fn a_page_follows_and_becomes_the_application_where_it_was_opened() {
    let profile = tempfile::tempdir().unwrap();
    let driver = Driver::start().await;
    let browser = within(open(&driver, profile.path())).await;

    let stage = Stage::new();
    stage.route(1, Phase::Building, None);
    let link = format!("http://{}:{}/cart?item=7#top", host(1), stage.gateway.local_addr().port());
    within(browser.goto(&link)).await.unwrap();
    shows(&browser, "Preparing the preview").await;
    let colour = "return getComputedStyle(document.querySelector('.card')).borderTopWidth";
    assert_eq!(browser.execute(colour, Vec::new()).await.unwrap(), "3px", "the styles are let in by the policy");

    let mut later = view(1, Phase::Building);
    later.detail = Some("Nearly <there>.".to_owned());
    stage.set(1, later, None);
    shows(&browser, "Nearly <there>.").await;

    stage.route(1, Phase::Failed, None);
    shows(&browser, "The preview failed").await;

    stage.route(1, Phase::Ready, Some(mirror("one").await));
    shows(&browser, "GET /cart?item=7").await;
    assert_eq!(browser.current_url().await.unwrap().as_str(), link);
    browser.close().await.unwrap();
}
