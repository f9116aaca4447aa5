//! Checks of the command line's help and examples.

use clap::{Command, CommandFactory};

use super::Cli;

/// Every command without subcommands, with the words that call it.
fn commands() -> Vec<(String, Command)> {
    fn below(command: &Command, words: &str, found: &mut Vec<(String, Command)>) {
        for sub in command.get_subcommands() {
            let words = format!("{words} {}", sub.get_name());
            match sub.has_subcommands() {
                true => below(sub, &words, found),
                false => found.push((words, sub.clone())),
            }
        }
    }
    let mut found = Vec::new();
    below(&Cli::command(), "tallyman", &mut found);
    found
}

fn examples(command: &Command) -> Vec<String> {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.strip_prefix("  "))
        .map(|line| line.split("  ").next().unwrap_or_default().trim().to_owned())
        .collect()
}

/// The words of an example; quotes hold words together.
fn words(example: &str) -> Vec<String> {
    let example = example.split(" > ").next().unwrap_or_default();
    let pieces = example.split('\'').enumerate();
    let words = pieces.flat_map(|(index, piece)| match index % 2 {
        1 => vec![piece.to_owned()],
        _ => piece.split_whitespace().map(str::to_owned).collect(),
    });
    words.skip_while(|word| word.contains('=')).collect()
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_an_example_of_itself() {
    let commands = commands();
    assert!(commands.len() > 30, "{}", commands.len());
    for (path, command) in commands {
        let examples = examples(&command);
        assert!(examples.iter().any(|example| example.contains(&path)), "{path}: {examples:?}");
        assert!(command.get_about().is_some(), "{path} says nothing of itself");
    }
}

#[test]
fn every_example_is_understood() {
    let mut all = examples(&Cli::command());
    all.extend(commands().iter().flat_map(|(_, command)| examples(command)));
    assert!(all.len() > 40, "{}", all.len());
    for example in all {
        let parsed = Cli::command().try_get_matches_from(words(&example));
        if let Err(error) = parsed {
            panic!("{example}: {error}");
        }
    }
}

/// Commands of a line of a shell that begin with `tallyman`; those in a substitution come first.
fn commands_of(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = line.split(" #").next().unwrap_or_default().to_owned();
    while let Some(begin) = rest.find("$(") {
        let mut depth = 0;
        let end = rest[begin..].find(|letter| {
            depth += i32::from(letter == '(') - i32::from(letter == ')');
            letter == ')' && depth == 0
        });
        let end = begin + end.unwrap_or_else(|| panic!("not closed: {line}"));
        found.extend(commands_of(&rest[begin + 2..end]));
        rest.replace_range(begin..=end, "2026-12-01T00:00:00Z");
    }
    let rest = rest.replace('"', "'");
    let ends = [" | ", " > ", " >> ", " < ", " && ", "; "];
    let pieces = ends.iter().fold(vec![rest.as_str()], |pieces, end| {
        pieces.into_iter().flat_map(|piece| piece.split(end)).collect()
    });
    let own = pieces.into_iter().filter(|piece| piece.trim_start().starts_with("tallyman "));
    found.extend(own.map(|piece| piece.trim().to_owned()));
    found
}

/// Lines of the blocks of a page that a shell reads, those that go on joined.
fn shell_lines(page: &str) -> Vec<String> {
    let blocks = page.split("\n```").collect::<Vec<_>>();
    let blocks = blocks.iter().filter_map(|block| block.strip_prefix("sh\n"));
    let joined = blocks.map(|block| block.replace("\\\n", " ").replace("|\n", "| "));
    joined.flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn every_command_on_the_pages_is_understood() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a root");
    let docs = std::fs::read_dir(root.join("docs")).expect("the pages");
    let mut pages: Vec<_> = docs.map(|entry| entry.expect("an entry").path()).collect();
    pages.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    pages.push(root.join("README.md"));
    let mut count = 0;
    for path in pages {
        let page = std::fs::read_to_string(&path).expect("readable");
        for command in shell_lines(&page).iter().flat_map(|line| commands_of(line)) {
            count += 1;
            if let Err(error) = Cli::command().try_get_matches_from(words(&command)) {
                panic!("{}: {command}: {error}", path.display());
            }
        }
    }
    assert!(count > 100, "{count} commands");
}

#[test]
fn every_option_says_what_it_does() {
    for (path, command) in commands() {
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path}: {}", argument.get_id());
        }
    }
}

#[test]
fn a_wrong_command_line_ends_with_status_2() {
    for line in [
        &["tallyman"][..],
        &["tallyman", "instance", "fly"],
        &["tallyman", "instance", "wait", "a", "--state", "Sleeping"],
    ] {
        let error = Cli::command().try_get_matches_from(line).expect_err("refused");
        assert_eq!(error.exit_code(), 2, "{line:?}");
    }
}
