//! JSON Schema (draft-07) of both files, made from the tables that the reader uses.

use serde_json::{Map, Value, json};

use super::repo::REPO;
use super::server::SERVER;
use super::shape::{Field, Need, Shape, Table, TextRule};

/// The schema of `kagero.toml`.
pub fn server() -> Value {
    document(&SERVER, "kagero.toml", "What the operator of a Kagero installation decides.")
}

/// The schema of `.kagero.yml`.
pub fn repo() -> Value {
    document(&REPO, ".kagero.yml", "How a repository's pull requests get their previews.")
}

fn document(table: &'static Table, title: &str, about: &str) -> Value {
    let mut schema = object(table);
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!(title));
    schema.insert("description".to_owned(), json!(about));
    Value::Object(schema)
}

fn object(table: &'static Table) -> Map<String, Value> {
    let properties: Map<String, Value> =
        table.fields.iter().map(|field| (field.key.to_owned(), property(field))).collect();
    let required: Vec<&str> =
        table.fields.iter().filter(|field| matches!(field.need, Need::Required(_))).map(|field| field.key).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    schema
}

fn property(field: &Field) -> Value {
    let mut schema = shape(&field.shape);
    let about = match field.need {
        Need::Otherwise(without) => format!("{} Without it: {without}.", field.about),
        Need::Required(_) | Need::Default(_) => field.about.to_owned(),
    };
    schema.insert("description".to_owned(), json!(about));
    if let Need::Default(text) = field.need {
        let value = match field.shape {
            Shape::Flag => json!(text == "true"),
            Shape::Whole { .. } => text.parse::<i64>().map_or(Value::Null, |number| json!(number)),
            _ => json!(text),
        };
        schema.insert("default".to_owned(), value);
    }
    Value::Object(schema)
}

fn shape(of: &Shape) -> Map<String, Value> {
    let value = match of {
        Shape::Table(table) => return object(table),
        Shape::Named { name, value, most } => json!({
            "type": "object",
            "propertyNames": text(name),
            "additionalProperties": shape(value),
            "maxProperties": most,
        }),
        Shape::List { item, least, most } => json!({
            "type": "array",
            "items": text(item),
            "minItems": least,
            "maxItems": most,
        }),
        Shape::Text(rule) => return text(rule),
        Shape::Choice { words, .. } => json!({ "type": "string", "enum": words }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Whole { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::Lasting { .. } => json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" }),
        Shape::Either(scalar, table) => json!({ "anyOf": [shape(scalar), object(table)] }),
    };
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn text(rule: &TextRule) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("string"));
    schema.insert("maxLength".to_owned(), json!(rule.longest));
    if let Some(pattern) = rule.pattern {
        schema.insert("pattern".to_owned(), json!(pattern));
    }
    schema
}
