//! The pages.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::{Form, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Json, Router};
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use serde::{Deserialize, Serialize};

use crate::database::{Database, now};
use crate::orders::{self, Order};
use crate::theme::Theme;

struct Shop {
    database: Database,
    theme: Theme,
    pages: Environment<'static>,
    build: Build,
}

/// What runs here.
#[derive(Debug, Clone, Serialize)]
struct Build {
    commit: String,
    environment: String,
    engine: &'static str,
}

/// Serves until `ended`, then lets open requests end.
pub async fn serve(
    database: Database,
    theme: Theme,
    port: u16,
    ended: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let variable = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let build = Build {
        commit: variable("KAGERO_COMMIT", "uncommitted"),
        environment: variable("SHOP_ENVIRONMENT", "local"),
        engine: database.engine.as_str(),
    };
    let pages = theme.pages()?;
    let shop = Arc::new(Shop { database, theme, pages, build });
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .with_context(|| format!("port {port} cannot be listened on"))?;
    tracing::info!("{} listens on {}", shop.theme.name, listener.local_addr()?);
    let router = Router::new()
        .route("/", get(list))
        .route("/orders", get(|| async { Redirect::to("/") }).post(place))
        .route("/orders/{id}", get(detail))
        .route("/stock", get(stock))
        .route("/api/orders", get(api_orders))
        .route("/version", get(version))
        .route("/healthz", get(health))
        .route("/public/{file}", get(public))
        .with_state(shop);
    axum::serve(listener, router).with_graceful_shutdown(ended).await?;
    tracing::info!("the page has ended");
    Ok(())
}

impl Shop {
    async fn page(&self, name: &str, own: Value) -> Result<Html<String>, Failure> {
        let worker = match orders::worker(&self.database).await? {
            Some((seen_at, handled)) if now() - seen_at < 5000 => format!("worker: {handled} steps so far"),
            Some(_) => "worker: away".to_owned(),
            None => "worker: not seen yet".to_owned(),
        };
        let common = context! {
            theme => Value::from(Serde(&self.theme)),
            build => Value::from(Serde(&self.build)),
            worker => worker,
        };
        let text = self.pages.get_template(name)?.render(context! { ..own, ..common })?;
        Ok(Html(text))
    }
}

/// One field of an order, as the list shows it.
#[derive(Serialize)]
struct Cell {
    kind: &'static str,
    text: String,
}

fn cell(column: &str, order: &Order) -> Cell {
    let (kind, text) = match column {
        "customer" => ("text", order.customer.clone()),
        "city" => ("text", order.city.clone()),
        "status" => ("status", order.status.clone()),
        "items" => ("number", order.items.to_string()),
        "total" => ("number", orders::euros(order.total_cents)),
        "placed" => ("text", orders::day(order.placed_at)),
        other => {
            let value = order.extra.iter().find(|(name, _)| name == other);
            ("text", value.map(|(_, value)| value.clone()).unwrap_or_default())
        }
    };
    Cell { kind, text }
}

/// `gift_note` is headed `Gift note`.
fn title(column: &str) -> String {
    let mut text = column.replace('_', " ");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

async fn list(
    State(shop): State<Arc<Shop>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Html<String>, Failure> {
    let status = query.get("status").map(String::as_str).filter(|status| orders::STATUSES.contains(status));
    let found = orders::list(&shop.database, &shop.theme, status).await?;
    let counts = orders::counts(&shop.database).await?;
    let count = |wanted: &[&str]| -> i64 {
        counts.iter().filter(|(name, _)| wanted.contains(&name.as_str())).map(|(_, number)| number).sum()
    };
    let all = count(&orders::STATUSES);
    let mut filters = vec![context! { name => "all", href => "/", count => all, active => status.is_none() }];
    filters.extend(orders::STATUSES.iter().map(|name| {
        context! { name => *name, href => format!("/?status={name}"), count => count(&[name]), active => status == Some(*name) }
    }));
    let rows: Vec<_> = found
        .iter()
        .map(|order| {
            let cells: Vec<_> = shop.theme.columns.iter().map(|column| cell(column, order)).collect();
            context! { id => order.id, status => &order.status, cells => Value::from(Serde(cells)) }
        })
        .collect();
    let columns: Vec<_> = shop
        .theme
        .columns
        .iter()
        .map(|name| context! { title => title(name), kind => if ["items", "total"].contains(&name.as_str()) { "number" } else { "text" } })
        .collect();
    let matching = status.map_or(all, |status| count(&[status]));
    let page = context! {
        orders => rows,
        columns => columns,
        filters => filters,
        status => status.unwrap_or("there"),
        count => matching,
        more => matching > orders::SHOWN,
        totals => context! {
            open => count(&["new", "paid", "packed"]),
            done => count(&["shipped", "delivered"]),
            turnover => orders::euros(orders::turnover(&shop.database).await?),
        },
        customers => Value::from(Serde(orders::customers(&shop.database).await?)),
        products => Value::from(Serde(orders::products(&shop.database).await?)),
    };
    shop.page("orders.html", page).await
}

async fn detail(State(shop): State<Arc<Shop>>, Path(id): Path<i64>) -> Result<Response, Failure> {
    let Some(order) = orders::detail(&shop.database, id).await? else {
        return Ok((StatusCode::NOT_FOUND, format!("There is no order № {id}.")).into_response());
    };
    let page = context! {
        lines => Value::from(Serde(&order.lines)),
        total => &order.total,
        order => Value::from(Serde(&order)),
    };
    Ok(shop.page("order.html", page).await?.into_response())
}

async fn stock(State(shop): State<Arc<Shop>>) -> Result<Html<String>, Failure> {
    let products = orders::products(&shop.database).await?;
    shop.page("stock.html", context! { products => Value::from(Serde(products)) }).await
}

#[derive(Deserialize)]
struct NewOrder {
    customer: i64,
    product: i64,
    quantity: i64,
}

async fn place(State(shop): State<Arc<Shop>>, Form(new): Form<NewOrder>) -> Result<Response, Failure> {
    let quantity = new.quantity.clamp(1, 99);
    Ok(match orders::place(&shop.database, new.customer, new.product, quantity).await? {
        Some(id) => {
            tracing::info!("order {id} was placed");
            Redirect::to("/").into_response()
        }
        None => (StatusCode::UNPROCESSABLE_ENTITY, "There is no such customer or product.").into_response(),
    })
}

async fn api_orders(
    State(shop): State<Arc<Shop>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Json<Vec<Order>>, Failure> {
    Ok(Json(orders::list(&shop.database, &shop.theme, query.get("status").map(String::as_str)).await?))
}

async fn version(State(shop): State<Arc<Shop>>) -> Json<Build> {
    Json(shop.build.clone())
}

/// Healthy once the list of orders can be shown as the theme asks for it.
async fn health(State(shop): State<Arc<Shop>>) -> Response {
    match orders::list(&shop.database, &shop.theme, Some("new")).await {
        Ok(_) => "ok\n".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}\n")).into_response(),
    }
}

/// What the build has assembled.
async fn public(State(shop): State<Arc<Shop>>, Path(file): Path<String>) -> Response {
    let plain = file.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-');
    let kind = match file.rsplit_once('.') {
        Some((_, "css")) if plain => "text/css; charset=utf-8",
        Some((_, "js")) if plain => "text/javascript; charset=utf-8",
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    match tokio::fs::read(shop.theme.root.join("public").join(file)).await {
        Ok(content) => ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], content).into_response(),
        Err(_) => (StatusCode::NOT_FOUND, "Not built: run `sh app/build.sh`.").into_response(),
    }
}

/// Logged once, and shown without its details.
struct Failure(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        tracing::error!("{:#}", self.0);
        (StatusCode::INTERNAL_SERVER_ERROR, "The shop has a problem; its log says which.\n").into_response()
    }
}
