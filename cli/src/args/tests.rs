//! Specification of the command line: what parses, and that help texts and docs agree.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(words(line))
}

/// Splits as a shell does: quotes, and a backslash before a line end or inside double quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => word.get_or_insert_default().extend(chars.by_ref().take_while(|&c| c != '\'')),
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn the_tree_is_well_formed() {
    Cli::command().debug_assert();
}

fn all_commands(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
    found.push((path.to_owned(), command.clone()));
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        all_commands(inner, &format!("{path} {}", inner.get_name()), found);
    }
}

fn every_command() -> Vec<(String, clap::Command)> {
    let mut root = Cli::command().term_width(110);
    root.build();
    let mut found = Vec::new();
    all_commands(&root, "tarn", &mut found);
    found
}

#[test]
fn every_example_in_a_help_text_parses() {
    let mut examples = 0;
    for (path, command) in every_command() {
        let Some(help) = command.get_after_help() else { continue };
        let mut text = String::new();
        for line in help.to_string().lines() {
            // A backslash at the end goes on in the next line.
            match text.strip_suffix('\\').map(str::to_owned) {
                Some(begun) => text = begun + line.trim_start(),
                None => text = text + "\n" + line,
            }
        }
        for line in text.lines().filter(|line| line.starts_with("  tarn ")) {
            // Two spaces and a remark may follow a command.
            let line = line.trim_start().split("   ").next().unwrap();
            for part in line.split(" && ") {
                parse(part).unwrap_or_else(|error| panic!("{path}: {part}\n{error}"));
                examples += 1;
            }
        }
    }
    assert!(examples > 20, "found {examples} examples");
}

#[test]
fn every_command_has_a_line_about_itself() {
    for (path, command) in every_command() {
        assert!(command.get_about().is_some(), "{path}");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path} {}", argument.get_id());
        }
    }
}

/// The reference part of `docs/cli.md` is the help texts. `TARN_BLESS=1` writes it anew.
#[test]
fn docs_hold_the_help_texts() {
    const MARK: &str = "<!-- What follows is generated from the help texts: TARN_BLESS=1 cargo test -p tarn docs -->\n";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let file = std::fs::read_to_string(&path).unwrap();
    let (intro, found) = file.split_once(MARK).expect("docs/cli.md has the mark");
    let mut expected = String::new();
    for (path, mut command) in every_command() {
        let help = command.render_long_help().to_string();
        let help: Vec<&str> = help.lines().map(str::trim_end).collect();
        writeln!(expected, "\n## `{path}`\n```text\n{}\n```", help.join("\n").trim_end()).unwrap();
    }
    if std::env::var_os("TARN_BLESS").is_some() {
        std::fs::write(&path, format!("{intro}{MARK}{expected}")).unwrap();
    } else {
        assert!(found == expected, "docs/cli.md is out of date; run TARN_BLESS=1 cargo test -p tarn docs");
    }
}

#[test]
fn the_store_and_json_may_stand_anywhere() {
    for line in ["tarn --store ./d --json source list", "tarn source list --json --store ./d"] {
        let cli = parse(line).unwrap();
        assert_eq!(cli.global.store.as_deref(), Some("./d"));
        assert!(cli.global.json);
    }
}

#[test]
fn serve_listens_on_loopback_unless_told_otherwise() {
    let Command::Serve(args) = parse("tarn serve").unwrap().command else { panic!("serve") };
    assert_eq!(args.listen, "127.0.0.1:8081".parse().unwrap());
    assert_eq!(args.build_interval, Idle(Duration::from_secs(10)));
    assert!(parse("tarn serve --no-build --build-interval 1s").is_err());
    assert!(parse("tarn serve --listen localhost").is_err());
}

#[test]
fn names_and_versions_are_read_as_in_urls() {
    let read = |text: &str| text.parse::<NameVersion>().map(|id| (id.name, id.version));
    assert_eq!(read("docs/1.10").unwrap(), ("docs".to_owned(), "1.10".to_owned()));
    assert_eq!(read("a%2Fb%25/1").unwrap(), ("a/b%".to_owned(), "1".to_owned()));
    for wrong in ["docs", "/1", "docs/", "a/b/1", "%ff/1", "a%0a/1"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
    let id: NameVersion = "a%2Fb%25/1".parse().unwrap();
    assert_eq!(id.to_string(), "a%2Fb%25/1");
}

#[test]
fn spans_and_sizes_have_units() {
    assert_eq!("500ms".parse(), Ok(Idle(Duration::from_millis(500))));
    assert_eq!("7d".parse(), Ok(Idle(Duration::from_secs(7 * 86_400))));
    assert!(
        ["", "5", "s", "-1s", "1.5s", "99999999999999999999s", "9999999999999999d"]
            .iter()
            .all(|t| t.parse::<Idle>().is_err())
    );
    assert_eq!("512MiB".parse(), Ok(ByteSize(512 << 20)));
    assert_eq!("10 gb".parse(), Ok(ByteSize(10_000_000_000)));
    assert_eq!("7".parse(), Ok(ByteSize(7)));
    assert!(["", "GiB", "1.5GiB", "99999999999TiB", "1 parsec"].iter().all(|t| t.parse::<ByteSize>().is_err()));
}

#[test]
fn a_search_has_exactly_one_kind_of_query() {
    assert!(parse("tarn search a/1").is_err());
    assert!(parse("tarn search a/1 --vector [1] --like id=x").is_err());
    assert!(parse("tarn search a/1 --like id=x --like lang=y -k 3").is_ok());
    assert!(parse("tarn search a/1 --vector [1] -k 0").is_err());
    assert!(parse("tarn search a/1 --vector [1] -k 10001").is_err());
    assert!(parse("tarn search a/1 --vector [1] --exact --recall 0.9").is_err());
}

#[test]
fn uploads_stay_within_the_limit_of_a_batch() {
    assert!(parse("tarn upload f.csv --to a/1 --batch 100000").is_ok());
    assert!(parse("tarn upload f.csv --to a/1 --batch 100001").is_err());
    assert!(parse("tarn upload --to a/1").is_err());
    assert!(parse("tarn upload f.csv --to a/1 --map id").is_err());
}
