//! What the buttons do.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Form, Path, State};
use axum::http::StatusCode;
use axum::response::Redirect;

use super::{PageError, Pages};
use crate::sim::github::operate::Operator;

type Fields = BTreeMap<String, String>;

/// Opens one of the prepared pull requests.
pub(super) async fn open(
    State(pages): State<Arc<Pages>>,
    Path((owner, repo)): Path<(String, String)>,
    Form(fields): Form<Fields>,
) -> Result<Redirect, PageError> {
    let operator = Operator::new(&pages.shared, &owner, &repo);
    let key = fields.get("change").map(String::as_str).unwrap_or_default();
    let number = operator.open_prepared(key, &pages.shared.config.viewer, fields.contains_key("draft")).await?;
    Ok(Redirect::to(&format!("/{owner}/{repo}/pull/{number}")))
}

/// Does what a button of a pull request's page says.
pub(super) async fn act(
    State(pages): State<Arc<Pages>>,
    Path((owner, repo, number, action)): Path<(String, String, u64, String)>,
    Form(fields): Form<Fields>,
) -> Result<Redirect, PageError> {
    let operator = Operator::new(&pages.shared, &owner, &repo);
    let viewer = pages.shared.config.viewer.as_str();
    let field = |name: &str| fields.get(name).map(|text| text.trim()).unwrap_or_default();
    match action.as_str() {
        "push" => operator.push_prepared(number).await.map(drop)?,
        "comment" => {
            let text = field("text");
            if !text.is_empty() {
                operator.comment(number, viewer, text).await?;
            }
            if fields.contains_key("close") {
                operator.close(number, viewer).await?;
            }
        }
        "close" => operator.close(number, viewer).await?,
        "merge" => operator.merge(number, viewer).await.map(drop)?,
        "reopen" => operator.reopen(number, viewer).await?,
        "draft" => operator.set_draft(number, viewer, true).await?,
        "ready" => operator.set_draft(number, viewer, false).await?,
        "label" => operator.label(number, viewer, field("label")).await?,
        "unlabel" => operator.unlabel(number, viewer, field("label")).await?,
        _ => return Err(PageError(StatusCode::NOT_FOUND, format!("There is no button {action:?}."))),
    }
    Ok(Redirect::to(&format!("/{owner}/{repo}/pull/{number}")))
}
