//! GitHub's own description of its API, as a judge of the requests that we send.
//!
//! Checked are path, method, every path and query parameter, and the body. What GitHub would silently ignore
//! is a fault as well: a parameter or a property of the body that the description does not know.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::webhook::test_data;

/// The description of github.com's API.
pub static GITHUB: LazyLock<Api> = LazyLock::new(|| {
    let file = test_data("@octokit/openapi/generated/api.github.com.json");
    Api { description: serde_json::from_slice(&file).unwrap() }
});

/// An OpenAPI description.
pub struct Api {
    description: Value,
}

impl Api {
    /// The name of the operation that the request asks for, or what is wrong with it.
    pub fn check(&self, method: &str, path: &str, query: Option<&str>, body: &[u8]) -> Result<String, String> {
        // Where the API sends those who use a repository's old name; not described.
        let path = match path.strip_prefix("/repositories/").and_then(|rest| rest.split_once('/')) {
            Some((_id, rest)) => format!("/repos/owner/repo/{rest}"),
            None => path.to_owned(),
        };
        let (operation, given) =
            self.find(method, &path).ok_or_else(|| format!("{method} {path} is not in the description"))?;
        let name = operation["operationId"].as_str().unwrap_or_default().to_owned();
        let fault = |what: String| format!("{name}: {what}");

        let parameters: Vec<Value> =
            operation["parameters"].as_array().into_iter().flatten().map(|it| self.resolve(it)).collect();
        for (key, text) in &given {
            self.parameter(&parameters, "path", key, text).map_err(fault)?;
        }
        for (key, text) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            self.parameter(&parameters, "query", &key, &text).map_err(fault)?;
        }
        self.body(&operation, body).map_err(fault)?;
        Ok(name)
    }

    /// The operation whose template fits with the most literal segments, and the values of its parameters.
    fn find(&self, method: &str, path: &str) -> Option<(Value, Vec<(String, String)>)> {
        let paths = self.description["paths"].as_object().unwrap();
        let fitting = paths.iter().filter_map(|(template, operations)| {
            let operation = operations.get(method.to_lowercase())?;
            let values = self.fit(template, path, operation)?;
            Some((values.len(), operation.clone(), values))
        });
        fitting.min_by_key(|(parameters, ..)| *parameters).map(|(_, operation, values)| (operation, values))
    }

    fn fit(&self, template: &str, path: &str, operation: &Value) -> Option<Vec<(String, String)>> {
        let mut values = Vec::new();
        let (mut pattern, mut given) = (template.split('/').peekable(), path.split('/').peekable());
        while let Some(part) = pattern.next() {
            let segment = given.next()?;
            let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) else {
                if part != segment {
                    return None;
                }
                continue;
            };
            let mut value = segment.to_owned();
            if pattern.peek().is_none() && self.takes_slashes(operation, name) {
                for more in given.by_ref() {
                    value = format!("{value}/{more}");
                }
            }
            if value.is_empty() {
                return None;
            }
            values.push((name.to_owned(), value));
        }
        given.peek().is_none().then_some(values)
    }

    fn takes_slashes(&self, operation: &Value, name: &str) -> bool {
        let mut parameters = operation["parameters"].as_array().into_iter().flatten().map(|it| self.resolve(it));
        parameters.any(|it| it["name"] == name && it["x-multi-segment"] == true)
    }

    fn parameter(&self, known: &[Value], place: &str, name: &str, text: &str) -> Result<(), String> {
        let described = known.iter().find(|it| it["in"] == place && it["name"] == name);
        let described = described.ok_or_else(|| format!("the {place} parameter {name} is unknown"))?;
        let schema = self.schema(&described["schema"]);
        let value = match schema["type"].as_str() {
            Some("integer") => text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number)),
            Some("boolean") => text.parse::<bool>().map_or_else(|_| json!(text), |it| json!(it)),
            _ => json!(text),
        };
        judge(&schema, &value).map_err(|why| format!("the {place} parameter {name}={text}: {why}"))
    }

    fn body(&self, operation: &Value, body: &[u8]) -> Result<(), String> {
        let request = self.resolve(&operation["requestBody"]);
        if body.is_empty() {
            return if request["required"] == true { Err("the body is missing".to_owned()) } else { Ok(()) };
        }
        let schema = &request["content"]["application/json"]["schema"];
        if schema.is_null() {
            return Err("there is a body, and none is described".to_owned());
        }
        let schema = self.schema(schema);
        let value: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
        judge(&schema, &value).map_err(|why| format!("the body {value}: {why}"))?;
        let unknown = value.as_object().into_iter().flatten().find(|(key, _)| schema["properties"].get(key).is_none());
        unknown.map_or(Ok(()), |(key, _)| Err(format!("the body's property {key} is unknown")))
    }

    fn resolve(&self, value: &Value) -> Value {
        match value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
            Some(pointer) => self.resolve(self.description.pointer(pointer).unwrap()),
            None => value.clone(),
        }
    }

    /// A schema with its references put in, and OpenAPI's `nullable` put into JSON Schema's words.
    fn schema(&self, schema: &Value) -> Value {
        match self.resolve(schema) {
            Value::Object(fields) => {
                let mut plain: Map<String, Value> =
                    fields.iter().map(|(key, value)| (key.clone(), self.schema(value))).collect();
                if fields.get("nullable") == Some(&json!(true)) {
                    plain = Map::from_iter([("anyOf".to_owned(), json!([plain, {"type": "null"}]))]);
                }
                Value::Object(plain)
            }
            Value::Array(items) => items.iter().map(|item| self.schema(item)).collect(),
            other => other,
        }
    }
}

fn judge(schema: &Value, value: &Value) -> Result<(), String> {
    let validator = jsonschema::validator_for(schema).unwrap();
    let faults: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

#[test]
fn the_judge_finds_faults() {
    let check = |method, path, query, body: &str| GITHUB.check(method, path, query, body.as_bytes());
    let pulls = "/repos/acme/shop/pulls";
    assert_eq!(check("GET", pulls, Some("state=open&per_page=100"), "").as_deref(), Ok("pulls/list"));
    assert_eq!(check("GET", "/repos/acme/shop/contents/a/b.yml", None, "").as_deref(), Ok("repos/get-content"));
    for (method, path, query, body) in [
        ("GET", "/repos/acme/shop/pullz", None, ""),
        ("PUT", pulls, None, ""),
        ("GET", pulls, Some("state=opened"), ""),
        ("GET", pulls, Some("per_page=many"), ""),
        ("GET", pulls, Some("pages=2"), ""),
        ("GET", "/repos/acme/shop/pulls/twelve", None, ""),
        ("POST", "/repos/acme/shop/issues/1/comments", None, ""),
        ("POST", "/repos/acme/shop/issues/1/comments", None, "{}"),
        ("POST", "/repos/acme/shop/issues/1/comments", None, r#"{"body":1}"#),
        ("POST", "/repos/acme/shop/issues/1/comments", None, r#"{"body":"x","boby":"x"}"#),
        ("POST", "/repos/acme/shop/deployments/1/statuses", None, r#"{"state":"destroyed"}"#),
        ("POST", "/app/installations/1/access_tokens", None, r#"{"permissions":{"contents":"admin"}}"#),
    ] {
        assert!(check(method, path, query, body).is_err(), "{method} {path} {query:?} {body}");
    }
}
