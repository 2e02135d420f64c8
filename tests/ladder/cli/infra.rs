//! `kagero infra plan`: from a configuration alone to costs and quotas.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use super::{ends, err, file, json, out};

/// An operator's file, with these keys besides.
fn configuration(folder: &Path, types: &str, more: &str) -> String {
    for (name, text) in [("key.pem", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n"), ("hook", "secret")] {
        let path = file(folder, name, text);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let text = format!(
        r#"repositories = ["acme/*"]
[github]
app_id = 7
private_key = "file:key.pem"
webhook_secrets = ["file:hook"]
[compute]
kind = "ec2"
[compute.ec2]
account = "111111111111"
region = "eu-central-1"
vpc = "vpc-0a1b"
ami = "ami-0a1b"
instance_types = {types}
volume = 40
{more}"#
    );
    file(folder, "kagero.toml", &text)
}

const SEED: &str = "[seeds.golden]\nengine = \"postgres\"\nsnapshot = \"kagero-golden-shop-\"\ndatabase = \"shop\"\n";

#[test]
fn a_plan_has_costs_quotas_and_what_to_do_about_them() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(folder.path(), r#"["t4g.small", "t4g.medium"]"#, SEED);
    let plan = ends(0, &["-c", &config, "infra", "plan", "--hours", "12"]);
    assert!(err(&plan).is_empty(), "{}", err(&plan));
    insta::assert_snapshot!("plan", out(&plan));
}

#[test]
fn a_type_without_a_price_is_named_and_no_sum_pretends_to_have_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(folder.path(), r#"["x9.large"]"#, "[limits]\nenvironments = 300\n");
    insta::assert_snapshot!("plan_without_a_price", out(&ends(0, &["-c", &config, "infra", "plan"])));
    let plan = json(&ends(0, &["-c", &config, "infra", "plan", "--json"]));
    assert_eq!((&plan["environment"][0]["running"], &plan["total"]["month"]), (&Value::Null, &Value::Null));
    assert!(plan["standing"]["month"].as_f64().unwrap() > 100.0, "{plan}");
}

#[test]
fn json_has_the_numbers_of_the_text() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(folder.path(), r#"["t4g.small"]"#, SEED);
    let plan = json(&ends(0, &["-c", &config, "infra", "plan", "--json", "--storage", "100"]));
    // 0.0168 + 40 × 0.08 / 730 + 0.016 + 100 × 0.115 / 730
    assert_eq!(format!("{:.4}", plan["one"]["running"].as_f64().unwrap()), "0.0529", "{plan}");
    let quotas = plan["quotas"].as_array().unwrap();
    let vcpus = quotas.iter().find(|quota| quota["code"] == "L-1216C47A").unwrap();
    assert_eq!((&vcpus["needed"], &vcpus["default"], &vcpus["ask"]), (&42.into(), &5.into(), &50.into()));
    assert_eq!(plan["slots"]["deploy"], 20);
}

#[test]
fn what_cannot_be_planned_is_refused_with_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(folder.path(), r#"["t4g.small"]"#, "");
    let text = std::fs::read_to_string(&config).unwrap();
    let local = file(folder.path(), "kagero.toml", text.split_once("[compute]").unwrap().0);
    let refused = ends(6, &["-c", &local, "infra", "plan"]);
    assert!(out(&refused).is_empty(), "{}", out(&refused));
    for part in ["compute.kind is local", "Set compute.kind = \"ec2\"", "docs/aws.md"] {
        assert!(err(&refused).contains(part), "{part} is missing in {}", err(&refused));
    }
    for wrong in [&["--hours", "25"][..], &["--storage", "5"], &["--storage", "much"]] {
        let output = ends(2, &[&["-c", &config, "infra", "plan"], wrong].concat());
        assert!(err(&output).contains(wrong[1]), "{}", err(&output));
    }
}
