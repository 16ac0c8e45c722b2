//! The guide to extension APIs: what it quotes is in the files it names, and what it names exists.

use anyhow::{Context, Result, ensure};
use fairlead_tests::tools::root;

/// The blocks of code that follow "From `FILE`:".
#[test]
fn quoted_code_is_in_the_example() -> Result<()> {
    let example = root().join("examples/extension-server");
    let guide = std::fs::read_to_string(root().join("docs/extension-api.md"))?;
    let mut quotes = 0;
    for part in guide.split("From `").skip(1) {
        let (file, rest) = part.split_once("`:\n").context("a quotation without its file")?;
        let source = squeezed(&std::fs::read_to_string(example.join(file)).with_context(|| file.to_owned())?);
        let block: Vec<&str> = rest
            .lines()
            .skip_while(|l| l.is_empty())
            .take_while(|l| l.is_empty() || l.starts_with("    "))
            .collect();
        let quoted = squeezed(&block.join("\n"));
        ensure!(
            !quoted.is_empty() && source.contains(&quoted),
            "{file} does not hold: {quoted}"
        );
        quotes += 1;
    }
    ensure!(quotes >= 3, "{quotes} quotations were found");
    Ok(())
}

#[test]
fn files_and_flags_that_are_named_exist() -> Result<()> {
    let example = root().join("examples/extension-server");
    let guide = std::fs::read_to_string(root().join("docs/extension-api.md"))?;
    let usage = std::fs::read_to_string(example.join("src/main.rs"))?;
    for word in guide.split(|c: char| c.is_whitespace() || c == '`' || c == '"') {
        if word.starts_with("src/") && word.ends_with(".rs") {
            ensure!(example.join(word).exists(), "{word} is not there");
        }
        if word.starts_with("examples/") {
            ensure!(root().join(word).exists(), "{word} is not there");
        }
    }
    for line in guide.lines().filter(|l| l.contains("extension-server --")) {
        for flag in line.split(' ').filter(|w| w.starts_with("--")) {
            ensure!(usage.contains(flag), "extension-server has no {flag}");
        }
    }
    Ok(())
}

/// Code without the differences that indentation makes.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
