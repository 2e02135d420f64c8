//! The pages of the stand-in: pull requests, and one pull request with its comments and deployments.
//!
//! Guarantees: text of pull requests reaches the page escaped, comments through a sanitiser; a form is
//! accepted from these pages only; nothing is loaded from elsewhere.
//! Must not know: the API's forms.

mod diff;
mod forms;
mod markdown;
mod show;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use futures::Stream;
use minijinja::{Environment, UndefinedBehavior};
use rust_embed::RustEmbed;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::WatchStream;

use super::{Shared, StandinError};

#[derive(RustEmbed)]
#[folder = "templates/standin/"]
struct Templates;

/// What the routes share.
struct Pages {
    shared: Arc<Shared>,
    templates: Environment<'static>,
}

pub(super) fn router(shared: &Arc<Shared>) -> Router {
    let pages = Arc::new(Pages { shared: Arc::clone(shared), templates: templates() });
    Router::new()
        .route("/", get(home))
        .route("/standin/{asset}", get(asset))
        .route("/{owner}/{repo}", get(to_pulls))
        .route("/{owner}/{repo}/pulls", get(show::pulls).post(forms::open))
        .route("/{owner}/{repo}/pull/{number}", get(show::pull))
        .route("/{owner}/{repo}/pull/{number}/{action}", post(forms::act))
        .route("/{owner}/{repo}/live", get(live))
        .layer(from_fn(guard))
        .with_state(pages)
}

fn templates() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    for name in Templates::iter().filter(|name| name.ends_with(".html")) {
        let Some(file) = Templates::get(&name) else { continue };
        let source = String::from_utf8_lossy(&file.data).into_owned();
        if let Err(error) = environment.add_template_owned(name.to_string(), source) {
            tracing::error!(template = %name, error = %error, "a template of the stand-in cannot be parsed");
        }
    }
    environment
}

impl Pages {
    fn render(&self, name: &str, context: minijinja::Value) -> Result<Html<String>, PageError> {
        let page = self.templates.get_template(name).and_then(|template| template.render(context));
        page.map(Html).map_err(|error| PageError(StatusCode::INTERNAL_SERVER_ERROR, format!("{name}: {error:#}")))
    }
}

/// Refuses forms of other sites, and forbids the browser to load anything from elsewhere.
async fn guard(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if let (false, Some(origin)) = (request.method().is_safe(), text(header::ORIGIN)) {
        let here = text(header::HOST).is_some_and(|host| origin == format!("http://{host}"));
        if !here {
            let said = "This form was sent from another site. Open the pull request's own page and try again.";
            return PageError(StatusCode::FORBIDDEN, said.to_owned()).into_response();
        }
    }
    let mut answer = next.run(request).await;
    let policy =
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    answer
}

async fn home(State(pages): State<Arc<Pages>>) -> Redirect {
    let first = pages.shared.config.repositories.first();
    Redirect::to(&first.map_or_else(|| "/".to_owned(), |spec| format!("/{}/{}/pulls", spec.owner, spec.name)))
}

async fn to_pulls(Path((owner, repo)): Path<(String, String)>) -> Redirect {
    Redirect::to(&format!("/{owner}/{repo}/pulls"))
}

async fn asset(Path(name): Path<String>) -> Response {
    let kind = match name.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    match Templates::get(&name) {
        Some(file) => ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], file.data.into_owned())
            .into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The version of what there is to show, at once and at each change: a page that shows another one reads itself
/// again, so that a change between the page and this stream is not lost.
async fn live(State(pages): State<Arc<Pages>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let versions = WatchStream::new(pages.shared.versions.subscribe());
    let events = versions.map(|version| Ok(Event::default().event("changed").data(version.to_string())));
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// A page that says what went wrong.
struct PageError(StatusCode, String);

impl From<StandinError> for PageError {
    fn from(error: StandinError) -> Self {
        let status = if error.why.starts_with("there is none") { StatusCode::NOT_FOUND } else { StatusCode::CONFLICT };
        Self(status, error.to_string())
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let said = html_escape(&self.1);
        let page = format!(
            "<!doctype html><html lang=en><meta charset=utf-8><title>{0}</title>\
             <link rel=stylesheet href=/standin/standin.css><main class=plain><h1>{0}</h1><p>{said}</p>\
             <p><a href=/>All pull requests</a></p></main>",
            self.0
        );
        (self.0, Html(page)).into_response()
    }
}

/// Text as it may stand in HTML.
fn html_escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}
