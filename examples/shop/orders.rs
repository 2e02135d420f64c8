//! What is asked of the database.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::database::{Database, now};
use crate::theme::Theme;

/// How many orders the list shows.
pub const SHOWN: i64 = 40;

/// The states of an order, in order of its life.
pub const STATUSES: [&str; 7] = ["new", "paid", "packed", "shipped", "delivered", "cancelled", "returned"];

/// An order as the list has it.
#[derive(Debug, Serialize)]
pub struct Order {
    pub id: i64,
    pub status: String,
    pub customer: String,
    pub city: String,
    pub items: i64,
    pub total_cents: i64,
    pub placed_at: i64,
    /// Columns that only this version of the shop has, in the order of the theme.
    pub extra: Vec<(String, String)>,
}

const TOTAL: &str = "CAST(COALESCE(SUM(i.quantity * i.price_cents), 0) AS BIGINT)";

/// The newest orders, of one status or all.
pub async fn list(database: &Database, theme: &Theme, status: Option<&str>) -> anyhow::Result<Vec<Order>> {
    let mut extra = String::new();
    for name in theme.extra_columns() {
        let _ = write!(extra, ", CAST(o.{name} AS TEXT) AS {name}");
    }
    let sql = format!(
        "SELECT o.id, o.status, o.placed_at, c.name AS customer, c.city, \
                CAST(COALESCE(SUM(i.quantity), 0) AS BIGINT) AS items, {TOTAL} AS total{extra} \
         FROM orders o JOIN customers c ON c.id = o.customer_id LEFT JOIN order_items i ON i.order_id = o.id \
         WHERE $1 = '' OR o.status = $1 \
         GROUP BY o.id, c.id ORDER BY o.id DESC LIMIT {SHOWN}"
    );
    let rows =
        sqlx::query(AssertSqlSafe(sql)).bind(status.unwrap_or_default().to_owned()).fetch_all(&database.pool).await;
    let rows = rows.context("the orders cannot be listed; has `shop migrate` run for this commit?")?;
    rows.iter().map(|row| order(row, theme)).collect()
}

fn order(row: &AnyRow, theme: &Theme) -> anyhow::Result<Order> {
    let extra = theme.extra_columns().map(|name| {
        let value: Option<String> = row.try_get(name)?;
        Ok((name.to_owned(), value.unwrap_or_default()))
    });
    Ok(Order {
        id: row.try_get("id")?,
        status: row.try_get("status")?,
        customer: row.try_get("customer")?,
        city: row.try_get("city")?,
        items: row.try_get("items")?,
        total_cents: row.try_get("total")?,
        placed_at: row.try_get("placed_at")?,
        extra: extra.collect::<anyhow::Result<_>>()?,
    })
}

/// How many orders there are of each status.
pub async fn counts(database: &Database) -> anyhow::Result<Vec<(String, i64)>> {
    let rows =
        sqlx::query("SELECT status, COUNT(*) AS number FROM orders GROUP BY status").fetch_all(&database.pool).await?;
    rows.iter().map(|row| Ok((row.try_get("status")?, row.try_get("number")?))).collect()
}

/// What all orders that were not cancelled or returned come to.
pub async fn turnover(database: &Database) -> anyhow::Result<i64> {
    let sql = format!(
        "SELECT {TOTAL} AS total FROM order_items i JOIN orders o ON o.id = i.order_id \
         WHERE o.status NOT IN ('cancelled', 'returned')"
    );
    Ok(sqlx::query(AssertSqlSafe(sql)).fetch_one(&database.pool).await?.try_get("total")?)
}

/// A customer, to be chosen from.
#[derive(Debug, Serialize)]
pub struct Customer {
    pub id: i64,
    pub name: String,
}

pub async fn customers(database: &Database) -> anyhow::Result<Vec<Customer>> {
    let rows = sqlx::query("SELECT id, name FROM customers ORDER BY name").fetch_all(&database.pool).await?;
    rows.iter().map(|row| Ok(Customer { id: row.try_get("id")?, name: row.try_get("name")? })).collect()
}

/// A product.
#[derive(Debug, Serialize)]
pub struct Product {
    pub id: i64,
    pub sku: String,
    pub name: String,
    pub price: String,
    pub stock: i64,
    pub sold: i64,
}

pub async fn products(database: &Database) -> anyhow::Result<Vec<Product>> {
    let rows = sqlx::query(
        "SELECT p.id, p.sku, p.name, p.price_cents, p.stock, CAST(COALESCE(SUM(i.quantity), 0) AS BIGINT) AS sold \
         FROM products p LEFT JOIN order_items i ON i.product_id = p.id GROUP BY p.id ORDER BY p.sku",
    );
    let rows = rows.fetch_all(&database.pool).await?;
    let product = |row: &AnyRow| {
        Ok(Product {
            id: row.try_get("id")?,
            sku: row.try_get("sku")?,
            name: row.try_get("name")?,
            price: euros(row.try_get("price_cents")?),
            stock: row.try_get("stock")?,
            sold: row.try_get("sold")?,
        })
    };
    rows.iter().map(product).collect()
}

/// One order in full.
#[derive(Debug, Serialize)]
pub struct Detail {
    pub id: i64,
    pub status: String,
    pub customer: String,
    pub city: String,
    pub email: String,
    pub placed: String,
    pub lines: Vec<Line>,
    pub total: String,
}

/// One article of an order.
#[derive(Debug, Serialize)]
pub struct Line {
    pub sku: String,
    pub name: String,
    pub quantity: i64,
    pub each: String,
    pub sum: String,
}

pub async fn detail(database: &Database, id: i64) -> anyhow::Result<Option<Detail>> {
    let row = sqlx::query(
        "SELECT o.id, o.status, o.placed_at, c.name, c.city, c.email \
         FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.id = $1",
    );
    let Some(row) = row.bind(id).fetch_optional(&database.pool).await? else { return Ok(None) };
    let rows = sqlx::query(
        "SELECT p.sku, p.name, i.quantity, i.price_cents FROM order_items i \
         JOIN products p ON p.id = i.product_id WHERE i.order_id = $1 ORDER BY p.sku",
    );
    let mut total = 0;
    let mut lines = Vec::new();
    for row in rows.bind(id).fetch_all(&database.pool).await? {
        let (quantity, each): (i64, i64) = (row.try_get("quantity")?, row.try_get("price_cents")?);
        total += quantity * each;
        lines.push(Line {
            sku: row.try_get("sku")?,
            name: row.try_get("name")?,
            quantity,
            each: euros(each),
            sum: euros(quantity * each),
        });
    }
    Ok(Some(Detail {
        id,
        status: row.try_get("status")?,
        customer: row.try_get("name")?,
        city: row.try_get("city")?,
        email: row.try_get("email")?,
        placed: day(row.try_get("placed_at")?),
        lines,
        total: euros(total),
    }))
}

/// Places an order for one article; its number, or `None` if there is no such customer or product.
pub async fn place(database: &Database, customer: i64, product: i64, quantity: i64) -> anyhow::Result<Option<i64>> {
    let mut transaction = database.pool.begin().await?;
    let inserted = sqlx::query(
        "INSERT INTO orders (customer_id, status, placed_at, updated_at) \
         SELECT id, 'new', $1, $1 FROM customers WHERE id = $2 RETURNING id",
    );
    let row = inserted.bind(now()).bind(customer).fetch_optional(&mut *transaction).await?;
    let Some(row) = row else { return Ok(None) };
    let id: i64 = row.try_get("id")?;
    let lines = sqlx::query(
        "INSERT INTO order_items (order_id, product_id, quantity, price_cents) \
         SELECT $1, id, $2, price_cents FROM products WHERE id = $3",
    );
    let lines = lines.bind(id).bind(quantity).bind(product).execute(&mut *transaction).await?;
    if lines.rows_affected() == 0 {
        return Ok(None);
    }
    let stock =
        sqlx::query("UPDATE products SET stock = CASE WHEN stock > $1 THEN stock - $1 ELSE 0 END WHERE id = $2");
    stock.bind(quantity).bind(product).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(Some(id))
}

/// When a worker was last at work, and how many orders it has moved.
pub async fn worker(database: &Database) -> anyhow::Result<Option<(i64, i64)>> {
    let row = sqlx::query("SELECT seen_at, handled FROM worker_beat ORDER BY seen_at DESC LIMIT 1");
    let row = row.fetch_optional(&database.pool).await?;
    row.map(|row| Ok((row.try_get("seen_at")?, row.try_get("handled")?))).transpose()
}

/// `€ 12.90`.
pub fn euros(cents: i64) -> String {
    let whole = (cents / 100).to_string();
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("€ {grouped}.{:02}", cents % 100)
}

/// `22 Nov, 14:05`.
pub fn day(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map(|at| at.strftime("%-d %b, %H:%M").to_string()).unwrap_or_default()
}
