use super::*;
use proptest::prelude::*;

fn ignores(patterns: &str, path: &str) -> bool {
    let ignore = Ignore::parse(patterns).unwrap();
    let mut above = ignore.at_root();
    let mut ignored = false;
    let mut walked = std::path::PathBuf::new();
    for part in path.split('/') {
        walked.push(part);
        (ignored, above) = ignore.look(&walked, &above);
    }
    ignored
}

#[test]
fn patterns_match_as_docker_matches_them() {
    // Taken from the tables of moby's patternmatcher.
    for (pattern, path, expected) in [
        ("**", "file", true),
        ("**", "file/", true),
        ("**/", "file", true),
        ("**", "dir/file", true),
        ("**/**", "dir/file", true),
        ("dir/**", "dir/file", true),
        ("dir/**", "dir/dir2/file", true),
        ("dir/**", "dir", false),
        ("**/dir", "dir", true),
        ("**/dir", "dir/file", true),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/*", "dir/dir2/dir2/file", true),
        ("**/dir2/**", "dir/dir2/dir2/file", true),
        ("**file", "file", true),
        ("**file", "dir/file", true),
        ("**file", "dir/x-file", true),
        ("**/file", "dir/x-file", false),
        ("**file", "dir/dir/file", true),
        ("**/file", "dir/dir/file", true),
        ("**/file*", "dir/dir/file.txt", true),
        ("**/file*txt", "dir/dir/file.txt", true),
        ("**/file*.txt*", "dir/dir/file.txt", true),
        ("**/**/*.txt", "dir/dir/file.txt", true),
        ("**/**/*.txt2", "dir/dir/file.txt", false),
        ("**/*.txt", "file.txt", true),
        ("**/**/*.txt", "file.txt", true),
        ("a**/*.txt", "a/file.txt", true),
        ("a**/*.txt", "a/dir/file.txt", true),
        ("a**/*.txt", "a/dir/dir/file.txt", true),
        ("a/*.txt", "a/dir/file.txt", false),
        ("a/*.txt", "a/file.txt", true),
        ("a/*.txt**", "a/file.txt", true),
        ("a[b-d]e", "ae", false),
        ("a[b-d]e", "ace", true),
        ("a[b-d]e", "aae", false),
        ("a[^b-d]e", "aze", true),
        (".*", ".foo", true),
        (".*", "foo", false),
        ("abc.def", "abcdef", false),
        ("abc.def", "abc.def", true),
        ("abc.def", "abcZdef", false),
        ("abc?def", "abcZdef", true),
        ("abc?def", "abcdef", false),
        ("a\\*b", "a*b", true),
        ("a\\*b", "axb", false),
        ("**/foo/bar", "foo/bar", true),
        ("**/foo/bar", "dir/foo/bar", true),
        ("**/foo/bar", "dir/dir2/foo/bar", true),
        ("abc/**", "abc", false),
        ("abc/**", "abc/def", true),
        ("abc/**", "abc/def/ghi", true),
        ("**/.foo", ".foo", true),
        ("**/.foo", "bar.foo", false),
        ("a(b)c/def", "a(b)c/def", true),
        ("a(b)c/def", "a(b)c/xyz", false),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
        ("dist/**/proxy.py", "dist/proxy.py", true),
        ("dist/*.whl", "dist/a.whl", true),
        ("*", "a/b", true),
        ("/a", "a", true),
        ("./a/", "a/b", true),
        ("x/../a", "a", true),
        ("../a", "a", false),
        ("node_modules", "sub/node_modules", false),
    ] {
        assert_eq!(ignores(pattern, path), expected, "{pattern} {path}");
    }
}

#[test]
fn the_last_word_counts() {
    for (patterns, path, expected) in [
        ("*\n!keep", "keep", false),
        ("*\n!keep", "other", true),
        ("*\n!sub/deep/file", "sub/deep/file", false),
        ("*\n!sub/deep/file", "sub/deep/other", true),
        ("sub\n!sub/keep\nsub/keep/not", "sub/keep/a", false),
        ("sub\n!sub/keep\nsub/keep/not", "sub/keep/not", true),
        ("!keep\n*", "keep", true),
        ("**\n!**/*.md", "a/b/c.md", false),
        ("**\n!**/*.md", "a/b/c.rs", true),
        ("# a comment\n  \n a \r\n", "a", true),
        ("\u{feff}a", "a", true),
        ("! a\na", "a", true),
        ("a\n! a", "a", false),
        // What the builder cannot do without.
        ("*", "Dockerfile", false),
        ("*", ".dockerignore", false),
        ("*", "sub/Dockerfile", true),
    ] {
        assert_eq!(ignores(patterns, path), expected, "{patterns:?} {path}");
    }
}

#[test]
fn only_where_an_exception_may_be_is_looked_further() {
    let beneath = |patterns: &str, dir: &str| {
        let ignore = Ignore::parse(patterns).unwrap();
        ignore.may_hold_exceptions(Path::new(dir))
    };
    assert!(!beneath("*", "a"));
    assert!(beneath("*\n!a/b/c", "a"));
    assert!(beneath("*\n!a/b/c", "a/b"));
    assert!(!beneath("*\n!a/b/c", "a/x"));
    assert!(!beneath("*\n!a/b/c", "ab"));
    assert!(beneath("*\n!a/**", "a"));
    assert!(!beneath("*\n!a/**", "b"));
    assert!(beneath("*\n!**/x", "b"));
    assert!(beneath("*\n!*/x", "b"));
}

#[test]
fn what_is_no_pattern_is_named() {
    for (text, word) in [
        ("a\n[", "line 2"),
        ("[]a]", "[]a]"),
        ("[a-", "[a-"),
        ("a\\", "a\\"),
        ("!", "exception"),
    ] {
        let error = Ignore::parse(text).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
}

/// The obvious way to match, for comparison.
fn slowly(parts: &[Part], path: &[char]) -> bool {
    let Some((part, others)) = parts.split_first() else {
        return path.is_empty();
    };
    match part {
        Part::Some => (0..=path.len())
            .take_while(|n| !path[..*n].contains(&'/'))
            .any(|n| slowly(others, &path[n..])),
        Part::Rest => (0..=path.len()).any(|n| slowly(others, &path[n..])),
        Part::Directories => (0..=path.len())
            .filter(|n| *n == 0 || path[*n - 1] == '/')
            .any(|n| slowly(others, &path[n..])),
        one => path
            .split_first()
            .is_some_and(|(c, rest)| one.takes(*c) && slowly(others, rest)),
    }
}

proptest! {
    #[test]
    fn all_ways_through_a_pattern_are_found(
        pattern in "(a|b|/|\\*|\\*\\*|\\?|\\[ab\\]){1,8}",
        path in "[ab/]{0,10}",
    ) {
        let text = clean(&pattern);
        if let Some(parts) = parts(&text) {
            let path: Vec<char> = path.chars().collect();
            let expected = slowly(&parts, &path);
            let pattern = Pattern { exception: false, text, parts };
            prop_assert_eq!(pattern.matches(&path), expected);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        if let Ok(ignore) = Ignore::parse(&text) {
            let _ = ignore.look(Path::new("a/b"), &ignore.at_root());
        }
    }
}
