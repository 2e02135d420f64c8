//! A reviewer at work: the stand-in's pages and the previews of a whole Kagero in a real browser.

use super::Browser;
use crate::standin::whole::{PATIENCE, Whole};

/// Set in a page, and gone with it: a page that was loaded anew does not have it.
const MARK: &str = "window.notLoadedAnew = true";
const MARKED: &str = "return window.notLoadedAnew === true";

#[tokio::test]
async fn a_reviewer_follows_a_pull_request_from_boot_page_to_closed_page() {
    let (whole, browser, desk) = (Whole::start().await, Browser::start().await, Browser::start().await);

    desk.goto(&whole.github.web_url()).await;
    desk.wait_for_text("A plain change", PATIENCE).await;
    desk.screenshot("standin-list").await;
    desk.click("form.choice:first-of-type button.primary").await;
    let text = desk.wait_for_text("kagero", PATIENCE).await;
    assert!(text.contains("A plain change"), "{text}");
    desk.run(MARK).await;

    let link = whole.preview(1, "/some/path?x=1");
    browser.goto(&link).await;
    let boot = browser.wait_for_text("Build", PATIENCE).await;
    assert!(boot.contains("Check out") && boot.contains("Start"), "{boot}");
    assert_eq!(browser.status().await, 503);
    browser.screenshot("preview-boot").await;

    whole.open_gate();
    let text = browser.wait_for_text("The application", PATIENCE).await;
    assert!(text.contains("/some/path?x=1"), "{text}");
    assert_eq!(browser.url().await, link, "the application appears where the boot page was");
    assert_eq!(browser.status().await, 200);

    let ready = desk.wait_for_text("Preview ready", PATIENCE).await;
    assert_eq!(ready.matches("Preview ready").count(), 1, "{ready}");
    desk.wait_for_text("Active", PATIENCE).await;
    assert_eq!(desk.run(MARKED).await, true, "the comment and the deployment change without a reload");
    desk.screenshot("standin-pull-ready").await;

    desk.click_text("Close pull request").await;
    desk.wait_for_text("Preview destroyed", PATIENCE).await;
    desk.screenshot("standin-pull-closed").await;
    browser.goto(&link).await;
    browser.wait_for_text("closed", PATIENCE).await;
    assert_eq!(browser.status().await, 410);
    browser.screenshot("preview-closed").await;
    whole.end().await;
}

#[tokio::test]
async fn a_failed_build_shows_its_log_as_text() {
    let (whole, browser) = (Whole::start().await, Browser::start().await);
    let number = whole.github.repo().open_prepared("broken", "mika", false).await.unwrap();

    browser.goto(&whole.preview(number, "/")).await;
    let text = browser.wait_for_text("The preview failed", PATIENCE).await;
    assert!(text.contains("<script>alert('log')</script>"), "{text}");
    assert!(text.contains("exit status 7"), "{text}");
    assert_eq!(browser.status().await, 503);
    browser.screenshot("preview-failed").await;

    browser.goto(&format!("{}/kumo/shop/pull/{number}", whole.github.web_url())).await;
    browser.wait_for_text("Preview failed", PATIENCE).await;
    browser.wait_for_text("Failed", PATIENCE).await;
    let scripts = browser.run("return document.querySelectorAll('.markdown script').length").await;
    assert_eq!(scripts, 0);
    browser.screenshot("standin-pull-failed").await;
    whole.end().await;
}
