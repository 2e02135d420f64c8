//! The program itself, with the surroundings' credentials: what it says of AWS, and where it does not start.

use std::path::Path;
use std::process::Output;

use tokio::process::Command;

use kagero::cloud::Machines as _;
use kagero::domain::owned::{Claim, prove_machine};

use super::counterpart::{ACCOUNT, KIND, REGION, Staging, Wish};
use super::strict::Fault;

const KEY: &str = "-----BEGIN RSA PRIVATE KEY-----\n";

async fn kagero(dir: &Path, staging: &Staging, arguments: &[&str]) -> Output {
    let config = format!(
        "name = \"dev\"\nrepositories = [\"acme/*\"]\nlisten = {{http = \"127.0.0.1:0\", gateway = \"127.0.0.1:0\"}}\n\
         [github]\napp_id = 7\nprivate_key = \"file:key.pem\"\nwebhook_secrets = [\"env:HOOK\"]\n\
         api_url = \"http://127.0.0.1:9\"\n[compute]\nkind = \"ec2\"\n[compute.ec2]\naccount = \"{ACCOUNT}\"\n\
         region = \"{REGION}\"\nvpc = \"{}\"\nami = \"{}\"\ninstance_types = [\"{KIND}\"]\n",
        staging.vpc, staging.ami
    );
    std::fs::write(dir.join("kagero.toml"), config).unwrap();
    std::fs::write(dir.join("key.pem"), KEY).unwrap();
    Command::new(env!("CARGO_BIN_EXE_kagero"))
        .arg("-c")
        .arg(dir.join("kagero.toml"))
        .args(arguments)
        .env("HOOK", "a secret of the tests")
        .env("AWS_ENDPOINT_URL", &staging.strict.url)
        .env("AWS_ACCESS_KEY_ID", "AKIATEST")
        .env("AWS_SECRET_ACCESS_KEY", "a secret key of the tests")
        .output()
        .await
        .unwrap()
}

#[tokio::test]
async fn the_doctor_tells_what_there_is_and_what_speaks_against_it() {
    let (staging, dir) = (Staging::start().await, tempfile::tempdir().unwrap());
    let told = kagero(dir.path(), &staging, &["doctor", "--aws", "--json"]).await;
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&told.stdout).unwrap();
    let of = |name: &str| findings.iter().filter(|one| one["name"] == name).cloned().collect::<Vec<_>>();
    assert_eq!(of("ground")[0]["ok"], true, "{findings:?}");
    assert_eq!(of("subnet").len(), 2, "{findings:?}");
    // Three slots, and the default of twenty environments.
    assert_eq!((of("slots").len(), of("slots")[0]["ok"].clone()), (1, false.into()), "{findings:?}");

    assert_eq!(
        (of("clock")[0]["ok"].clone(), of("launch")[0]["ok"].clone()),
        (true.into(), true.into()),
        "{findings:?}"
    );
    assert_eq!(staging.strict.count("RunInstances"), 1, "a rehearsal");
    let all = staging.ec2.describe_instances().send().await.unwrap();
    assert!(all.reservations().is_empty(), "nothing was launched");
    // Five vCPUs, and two for each of twenty.
    let quotas = of("quota");
    let vcpus = quotas.iter().find(|one| one["detail"].as_str().unwrap().contains("vCPUs")).unwrap();
    assert_eq!(vcpus["ok"], false, "{vcpus}");
    assert!(vcpus["hint"].as_str().unwrap().contains("--quota-code L-1216C47A --desired-value 50"), "{vcpus}");
    assert!(quotas.iter().any(|one| one["ok"] == true), "{quotas:?}");

    staging.strict.next("RunInstances", Fault::Refused("UnauthorizedOperation", 403));
    staging.iam.delete_account_alias().account_alias("acme-staging").send().await.unwrap();
    staging.iam.create_account_alias().account_alias("acme-production").send().await.unwrap();
    let told = kagero(dir.path(), &staging, &["doctor", "--aws"]).await;
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(text.contains("acme-production") && !told.status.success(), "{text}");
    assert!(text.contains("UnauthorizedOperation"), "{text}");
}

#[tokio::test]
async fn it_does_not_start_on_productions_ground() {
    let (staging, dir) = (Staging::start().await, tempfile::tempdir().unwrap());
    staging.iam.delete_account_alias().account_alias("acme-staging").send().await.unwrap();
    staging.iam.create_account_alias().account_alias("acme-production").send().await.unwrap();
    let before = staging.strict.counts();
    let told = kagero(dir.path(), &staging, &["serve"]).await;
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(told.status.code(), Some(kagero::cli::Exit::Unauthorised.code().into()), "{text}");
    assert!(text.contains("not staging's ground") && text.contains("acme-production"), "{text}");
    assert!(!text.contains("a secret key of the tests"), "{text}");
    for (action, count) in staging.strict.counts() {
        let is_reading = ["Describe", "Get", "List", "AssumeRole"].iter().any(|verb| action.starts_with(verb));
        assert!(is_reading || before.get(&action) == Some(&count), "{action} was called");
    }
}

#[tokio::test]
async fn what_was_launched_is_provably_ours_by_the_programs_own_policy() {
    let (staging, dir) = (Staging::start().await, tempfile::tempdir().unwrap());
    kagero(dir.path(), &staging, &["config", "validate"]).await;
    let config = dir.path().join("kagero.toml");
    let text = std::fs::read_to_string(&config).unwrap().replace("env:HOOK", "file:key.pem");
    std::fs::write(&config, text).unwrap();
    let server = kagero::config::load_server(&config).unwrap();
    assert_eq!(server.pace.grace, std::time::Duration::from_mins(5), "EC2 hides what is new");
    let policy = kagero::cli::run::policy(&server, dir.path());
    let machines = staging.machines().await;
    let wish = Wish::of(1, &staging.network().await);
    machines.launch(wish.birth()).await.unwrap();
    let machine = machines.list().await.unwrap().items.remove(0);
    let claim = Claim { install: &policy.install, uid: &wish.tags.uid, generation: wish.tags.generation };
    prove_machine(&machine, claim, &policy.allow).unwrap();
}
