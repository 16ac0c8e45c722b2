//! The operators' page in a real browser: signing in, what it shows, what it leaves behind.

use crate::aggregation::registered_with;
use anyhow::{Result, ensure};
use fairlead_tests::browser::Browser;
use fairlead_tests::server::TOKEN;
use fairlead_tests::tools::root;

/// Keeps a picture for the documentation where `UPDATE_SCREENSHOTS` asks for it; it always has to be one.
fn picture(browser: &mut Browser, name: &str) -> Result<()> {
    let png = browser.screenshot()?;
    ensure!(png.starts_with(b"\x89PNG") && png.len() > 5_000, "{name} is no picture");
    if std::env::var_os("UPDATE_SCREENSHOTS").is_some() {
        std::fs::write(root().join(format!("docs/page/{name}.png")), png)?;
    }
    Ok(())
}

fn sign_in(browser: &mut Browser, token: &str) -> Result<()> {
    browser.wait("document.getElementById('token') !== null")?;
    let typed = format!(
        "document.getElementById('token').value = {token:?}; document.querySelector('form').requestSubmit(); true"
    );
    browser.evaluate(&typed).map(drop)
}

#[test]
fn the_page_shows_backends_and_keeps_no_token() -> Result<()> {
    let Some((server, k, extension)) = registered_with(&["--ui=true"])? else {
        return Ok(());
    };
    let Some(mut browser) = Browser::start(&server.path("profile"))? else {
        fairlead_tests::skip("chromium is not installed");
        return Ok(());
    };
    let url = format!("{}/ui/", server.address());
    browser.open(&url)?;
    browser.wait("document.getElementById('token') !== null")?;
    picture(&mut browser, "sign-in")?;
    sign_in(&mut browser, "wrong")?;
    browser.wait("document.querySelector('[role=alert]')?.innerText.includes('not known') === true")?;
    sign_in(&mut browser, TOKEN)?;
    browser.wait("document.querySelector('main table')?.innerText.includes('shipping.example.com') === true")?;
    browser.wait("document.getElementById('user').innerText === 'admin'")?;
    picture(&mut browser, "groups")?;

    browser.evaluate("location.hash = 'backends'; true")?;
    for _ in 0..20 {
        k.run(&["get", "--raw", "/apis/shipping.example.com/v1alpha1/parcels"])?;
    }
    browser.wait("document.querySelector('main section')?.innerText.includes('available') === true")?;
    browser.wait("[...document.querySelectorAll('main section td')].some((td) => td.innerText.includes('in use'))")?;
    browser.wait("document.querySelectorAll('svg.chart path[d^=M]').length >= 2")?;
    browser.prefer("dark")?;
    picture(&mut browser, "backends")?;
    browser.prefer("light")?;

    browser.evaluate("location.hash = 'openapi/apis/shipping.example.com/v1alpha1'; true")?;
    browser.wait("(document.querySelector('iframe')?.contentDocument.querySelectorAll('.opblock').length ?? 0) > 3")?;
    picture(&mut browser, "openapi")?;

    drop(extension);
    browser.evaluate("location.hash = 'stale'; true")?;
    browser.wait("document.querySelector('main').innerText.includes('v1alpha1.shipping.example.com')")?;
    browser.wait("document.querySelector('main').innerText.includes('FailedDiscoveryCheck')")?;
    picture(&mut browser, "stale")?;

    // The token was in memory only, and everything can be reached by name.
    let kept = browser.evaluate("localStorage.length + sessionStorage.length + document.cookie.length")?;
    ensure!(kept == 0, "something is kept: {kept}");
    let nameless = browser.evaluate(
        "[...document.querySelectorAll('input,select,button,a,iframe,svg,nav')].filter((e) => !e.labels?.length && \
         !e.getAttribute('aria-label') && !e.title && !e.innerText?.trim()).map((e) => e.outerHTML)",
    )?;
    ensure!(nameless == serde_json::json!([]), "without a name: {nameless}");
    browser.open(&url)?;
    browser.wait("document.getElementById('token') !== null")?;
    ensure!(
        browser.complaints.is_empty(),
        "the page complains: {:#?}",
        browser.complaints
    );
    Ok(())
}
