//! Whatever the bytes: no panic, places inside the text, nothing that disturbs a terminal.

use kagero::config::{ConfigErrors, RenderStyle, decode};
use kagero::domain::policy::RepoSetting;
use proptest::prelude::*;

use super::read_server;

fn check_errors(errors: &ConfigErrors) -> Result<(), TestCaseError> {
    prop_assert!(errors.count() > 0);
    let plain = errors.render(RenderStyle::Plain);
    let unprintable = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
    prop_assert!(!plain.contains(unprintable), "{plain:?}");
    prop_assert!(plain.lines().all(|line| line.chars().count() < 480), "{plain}");
    prop_assert!(plain.len() < 60_000);
    let terminal = errors.render(RenderStyle::Terminal);
    prop_assert!(!terminal.contains("Failed to read"), "{terminal}");
    for problem in errors.problems() {
        let (line, column) = errors.position(problem);
        prop_assert!(line >= 1 && column >= 1);
        prop_assert!(!problem.message.is_empty());
    }
    Ok(())
}

fn check_text(text: &str) -> Result<(), TestCaseError> {
    if let Err(errors) = kagero::config::repo::parse_repo(".kagero.yml", text) {
        check_errors(&errors)?;
        let lines = text.split('\n').count();
        for problem in errors.problems() {
            prop_assert!(errors.position(problem).0 <= lines);
            prop_assert!(text.get(problem.span.clone()).is_some(), "{:?}", problem);
        }
    }
    if let Err(errors) = read_server(text) {
        check_errors(&errors)?;
    }
    let setting = kagero::config::combine(Some(text), Some("services: {a: {run: b, public: true}}"), "b", "h");
    prop_assert!(!matches!(setting, RepoSetting::Absent));
    Ok(())
}

/// Words that matter to the readers, in any order: gets much further than random characters.
fn soup() -> impl Strategy<Value = String> {
    let words = [
        "services",
        "web",
        "run",
        "public",
        "database",
        "engine",
        "env",
        "secrets",
        "build",
        "github",
        "[github]",
        "[seeds.x]",
        "[[a]]",
        "repositories",
        ": ",
        ":\n  ",
        " = ",
        "= [",
        "\n",
        "\n  ",
        "\n- ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\"",
        "'",
        "&a ",
        "*a ",
        "!!str ",
        "| \n  x",
        "---\n",
        "%YAML 1.2\n",
        "# x",
        "<<: ",
        "true",
        "1",
        "1.5",
        "~",
        "\t",
        "\r\n",
        "é",
        "\u{202e}",
        "\u{0}",
        "\u{feff}",
        "file:key.pem",
        "env:HOOK",
        "hunter2",
        "? ",
        "2h",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..40).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        match decode("x.yml", bytes) {
            Ok(text) => check_text(&text)?,
            Err(errors) => check_errors(&errors)?,
        }
    }

    #[test]
    fn arbitrary_texts_are_answered(text in "\\PC{0,120}") {
        check_text(&text)?;
    }

    #[test]
    fn almost_files_are_answered(text in soup()) {
        check_text(&text)?;
    }
}
