//! A source file as the rules see it: the text, and the code without comments, strings and unit tests.

use std::path::{Path, PathBuf};

pub(crate) struct Source {
    /// Relative to the root of the repository.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// As `text`, line by line, but blank where comments, the contents of strings, and the items under
    /// `#[cfg(test)]` were. The same as `text` for a language other than Rust.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn read(root: &Path, path: &Path) -> Self {
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::new(
            path.strip_prefix(root).expect("the path is below the root"),
            text,
        )
    }

    pub(crate) fn new(path: &Path, text: String) -> Self {
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        let code = if is_rust {
            without_tests(&without_comments(&text))
        } else {
            text.clone()
        };
        Self {
            path: path.to_owned(),
            text,
            code,
        }
    }

    /// Files that hold unit tests only, by their declaration: `#[cfg(test)] mod tests;`.
    pub(crate) fn test_modules(&self) -> Vec<PathBuf> {
        let code = without_comments(&self.text);
        let lines: Vec<&str> = code.lines().map(str::trim).collect();
        let declared = lines
            .windows(2)
            .filter(|pair| pair[0] == "#[cfg(test)]")
            .filter_map(|pair| {
                let declaration = pair[1]
                    .trim_start_matches("pub(crate) ")
                    .trim_start_matches("pub(super) ");
                declaration.strip_prefix("mod ")?.strip_suffix(';')
            });
        let folder = self.path.with_extension("");
        declared
            .map(|module| folder.join(module).with_extension("rs"))
            .collect()
    }

    /// Where `word` stands in the code, not as a part of a longer name: line numbers from 1.
    pub(crate) fn lines_with<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        let lines = self.code.lines().enumerate();
        lines
            .filter(move |(_, line)| positions(line, word).next().is_some())
            .map(|(index, _)| index + 1)
    }

    /// What follows `root::` in the code, groups resolved: `crate::{a, b::c}` names `a` and `b`.
    pub(crate) fn names_in(&self, root: &str) -> Vec<(usize, String)> {
        let mut names = Vec::new();
        let path = format!("{root}::");
        for position in positions(&self.code, &path) {
            let line = self.code[..position].matches('\n').count() + 1;
            let rest = &self.code[position + path.len()..];
            let items = if rest.starts_with('{') {
                group_items(rest)
            } else {
                vec![rest]
            };
            names.extend(items.into_iter().map(|item| (line, first_name(item))));
        }
        names
    }
}

/// Byte positions of `word` in `text` where no name goes on before it, nor after it if it ends like one.
fn positions<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let stands_alone = move |position: &usize| {
        let before = text[..*position]
            .chars()
            .next_back()
            .filter(|_| word.starts_with(is_name));
        let after = text[position + word.len()..]
            .chars()
            .next()
            .filter(|_| word.ends_with(is_name));
        !before.into_iter().chain(after).any(is_name)
    };
    text.match_indices(word)
        .map(|(position, _)| position)
        .filter(stands_alone)
}

/// The comma-separated items of a group that `text` begins with, nested groups left in one piece.
fn group_items(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0, 1, Vec::new());
    for (position, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if (letter == ',' && depth == 1) || depth == 0 {
            items.push(text[start..position].trim());
            start = position + 1;
        }
        if depth == 0 {
            break;
        }
    }
    items.retain(|item| !item.is_empty());
    items
}

fn first_name(path: &str) -> String {
    path.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Blanks comments and the contents of strings and characters; keeps every line break.
fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_name = code
            .chars()
            .next_back()
            .is_some_and(|c| c.is_alphanumeric() || c == '_');
        let (kept, blanked) = if rest.starts_with("//") {
            (0, rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            (0, block_comment(rest))
        } else if let Some(length) = string(rest).filter(|_| !after_name || rest.starts_with('"')) {
            (0, length)
        } else if let Some(length) = character(rest) {
            (0, length)
        } else {
            (first.len_utf8(), 0)
        };
        code.push_str(&rest[..kept]);
        code.extend(
            rest[kept..kept + blanked]
                .chars()
                .map(|c| if c == '\n' { '\n' } else { ' ' }),
        );
        rest = &rest[kept + blanked..];
    }
    code
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut position) = (0, 0);
    while position < text.len() {
        let rest = &text[position..];
        if rest.starts_with("/*") {
            (depth, position) = (depth + 1, position + 2);
        } else if rest.starts_with("*/") {
            (depth, position) = (depth - 1, position + 2);
        } else {
            position += rest.chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            break;
        }
    }
    position
}

/// The length of the string literal that `text` begins with, prefix and raw marks included.
fn string(text: &str) -> Option<usize> {
    let after_prefix = text.trim_start_matches(['b', 'c']);
    let raw = after_prefix.strip_prefix('r').map(|rest| {
        let marks = rest.len() - rest.trim_start_matches('#').len();
        (rest, marks)
    });
    if let Some((rest, marks)) = raw
        && rest[marks..].starts_with('"')
    {
        let body = &rest[marks + 1..];
        let end = format!("\"{}", "#".repeat(marks));
        let length = body
            .find(&end)
            .map_or(body.len(), |position| position + end.len());
        return Some(text.len() - body.len() + length);
    }
    let body = after_prefix
        .strip_prefix('"')
        .filter(|_| text.len() - after_prefix.len() <= 1)?;
    let mut escaped = false;
    for (position, letter) in body.char_indices() {
        match letter {
            '"' if !escaped => return Some(text.len() - body.len() + position + 1),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    Some(text.len())
}

/// The length of the character literal that `text` begins with; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    let mut letters = body.char_indices();
    let (_, first) = letters.next()?;
    if first == '\\' {
        letters.next();
        return Some(1 + letters.find(|(_, letter)| *letter == '\'')?.0 + 1);
    }
    let (position, second) = letters.next()?;
    (second == '\'').then_some(1 + position + 1)
}

/// Blanks each item under `#[cfg(test)]`, up to its closing brace or semicolon.
fn without_tests(code: &str) -> String {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut result = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find(ATTRIBUTE) {
        result.push_str(&rest[..start]);
        let item = &rest[start..];
        let mut depth = 0;
        let mut end = item.len();
        for (position, letter) in item.char_indices() {
            depth += i32::from(letter == '{') - i32::from(letter == '}');
            // `use a::{b, c};` ends after its brace.
            let ends = letter == ';' || (letter == '}' && !item[position + 1..].starts_with(';'));
            if depth == 0 && ends {
                end = position + 1;
                break;
            }
        }
        result.extend(
            item[..end]
                .chars()
                .map(|c| if c == '\n' { '\n' } else { ' ' }),
        );
        rest = &item[end..];
    }
    result + rest
}

#[test]
fn comments_strings_and_tests_are_no_code() {
    let code = |text: &str| {
        let code = Source::new(Path::new("a.rs"), text.to_owned()).code;
        assert_eq!(code.lines().count(), text.lines().count(), "{text}");
        code.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(code("a // b\n/// c\nd /* e /* f */ g\n */ h"), "a d h");
    assert_eq!(
        code(r##"a("b \" // c"); d(r#"e " f"#); g(b"h", br"i", "j\\")"##),
        "a( ); d( ); g( , , )"
    );
    assert_eq!(
        code(r"fn a<'b>(c: &'b u8) { 'd'; '\''; '\u{41}'; b'e'; f }"),
        "fn a<'b>(c: &'b u8) { ; ; ; b ; f }"
    );
    assert_eq!(
        code("a;\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\nc"),
        "a; c"
    );
    assert_eq!(code("a;\n#[cfg(test)]\nmod tests;\nc"), "a; c");
    assert_eq!(code("#[cfg(test)]\nuse a::{b, c};\nd"), "d");
}

#[test]
fn names_are_found_in_paths_and_groups() {
    let text =
        "use crate::{a, b::{c, d}, e::f};\nfn g() { crate::h::i() }\nuse mycrate::j;\n// crate::k";
    let names = Source::new(Path::new("src/x.rs"), text.to_owned()).names_in("crate");
    let expected =
        [(1, "a"), (1, "b"), (1, "e"), (2, "h")].map(|(line, name)| (line, name.to_owned()));
    assert_eq!(names, expected);
}

#[test]
fn test_modules_are_known_by_their_declaration() {
    let source = Source::new(
        Path::new("src/a/b.rs"),
        "#[cfg(test)]\nmod tests;\nmod c;\n".to_owned(),
    );
    assert_eq!(source.test_modules(), [PathBuf::from("src/a/b/tests.rs")]);
}
