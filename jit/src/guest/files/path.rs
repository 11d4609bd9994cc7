//! Paths: the lexical rules of the loader's file system.
//!
//! Everything here works on the text alone: `..` is resolved before any symbolic link is looked at, and the current
//! directory is always `/` (guests cannot change it).

use crate::guest::text::JsString;

const SLASH: u16 = b'/' as u16;
const DOT: &[u16] = &[b'.' as u16];
const DOT_DOT: &[u16] = &[b'.' as u16, b'.' as u16];

/// Whether `path` starts at the root.
pub(super) fn is_absolute(path: &JsString) -> bool {
    path.units().first() == Some(&SLASH)
}

/// The names in `path` after resolving `.` and `..`; above a relative path's start `..` stays, above the root it is
/// dropped.
fn parts(path: &[u16], keep_above: bool) -> Vec<&[u16]> {
    let mut kept = Vec::new();
    let mut above = 0;
    for part in path.split(|unit| *unit == SLASH).rev().filter(|part| !part.is_empty() && *part != DOT) {
        if part == DOT_DOT {
            above += 1;
        } else if above > 0 {
            above -= 1;
        } else {
            kept.push(part);
        }
    }
    if keep_above {
        kept.extend(std::iter::repeat_n(DOT_DOT, above));
    }
    kept.reverse();
    kept
}

/// The names on the way from the root to `path`, which may be relative to the root.
pub(super) fn names(path: &JsString) -> Vec<JsString> {
    parts(path.units(), false).into_iter().map(|part| part.to_vec().into()).collect()
}

/// Resolves `.`, `..` and repeated slashes; a trailing slash stays, an empty path becomes `.`.
pub(super) fn normalize(path: &JsString) -> JsString {
    let units = path.units();
    let absolute = is_absolute(path);
    let mut text = parts(units, !absolute).join(&SLASH);
    if text.is_empty() && !absolute {
        text = DOT.to_vec();
    }
    if !text.is_empty() && units.last() == Some(&SLASH) {
        text.push(SLASH);
    }
    if absolute {
        text.insert(0, SLASH);
    }
    text.into()
}

/// `name` seen from `base`, normalized.
pub(super) fn join(base: &JsString, name: &JsString) -> JsString {
    normalize(&[base.units(), &[SLASH], name.units()].concat().into())
}

/// The absolute form of `path` seen from `base`; empty if either is.
pub(super) fn resolve(base: &JsString, path: &JsString) -> JsString {
    if path.is_empty() || (!is_absolute(path) && base.is_empty()) {
        return JsString::default();
    }
    let whole = if is_absolute(path) { path.units().to_vec() } else { [base.units(), &[SLASH], path.units()].concat() };
    let mut text = vec![SLASH];
    text.extend(parts(&whole, false).join(&SLASH));
    text.into()
}

/// `path` without its last name; `.` if nothing is left.
pub(super) fn dirname(path: &JsString) -> JsString {
    let units = path.units();
    let (root, rest) = units.split_at(usize::from(is_absolute(path)));
    let end = rest.iter().rposition(|unit| *unit != SLASH).map_or(0, |at| at + 1);
    let dir = match rest[..end].iter().rposition(|unit| *unit == SLASH) {
        Some(at) => &rest[..at],
        None => &[],
    };
    if root.is_empty() && dir.is_empty() {
        return DOT.to_vec().into();
    }
    [root, dir].concat().into()
}

/// The last name of `path`, after normalizing it; `/` for `/`.
pub(super) fn basename(path: &JsString) -> JsString {
    if path == "/" {
        return path.clone();
    }
    let normal = normalize(path);
    let units = normal.units();
    let units = units.strip_suffix(&[SLASH]).unwrap_or(units);
    let start = units.iter().rposition(|unit| *unit == SLASH).map_or(0, |at| at + 1);
    units[start..].to_vec().into()
}

/// How to get from one path to another: `..` for each name to leave, then the names to enter. Empty if they are the
/// same.
pub(super) fn relative(from: &JsString, to: &JsString) -> JsString {
    let (from, to) = (names(from), names(to));
    let same = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(DOT_DOT, from.len() - same);
    up.chain(to[same..].iter().map(JsString::units)).collect::<Vec<_>>().join(&SLASH).into()
}

/// Whether `path` begins with a dot.
pub(super) fn starts_with_dot(path: &JsString) -> bool {
    path.units().first() == Some(&DOT[0])
}

/// Whether `name` is `.` or `..`.
pub(super) fn is_dots(name: &JsString) -> bool {
    name.units() == DOT || name.units() == DOT_DOT
}

/// Whether the last unit of `path` is a slash.
pub(super) fn without_trailing_slash(path: JsString) -> JsString {
    match path.units().strip_suffix(&[SLASH]) {
        Some(units) => units.to_vec().into(),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(of: impl Fn(&JsString) -> JsString, pairs: &[(&str, &str)]) {
        for (path, expected) in pairs {
            assert_eq!(of(&(*path).into()), JsString::from(*expected), "of {path:?}");
        }
    }

    #[test]
    fn normalizing_resolves_dots_and_keeps_a_trailing_slash() {
        check(
            normalize,
            &[
                ("", "."),
                ("/", "/"),
                ("//", "/"),
                ("a//b/./c", "a/b/c"),
                ("/a/../../b/", "/b/"),
                ("../a/..", ".."),
                ("a/..", "."),
                ("./", "./"),
                ("/..", "/"),
            ],
        );
    }

    #[test]
    fn the_directory_of_a_path_is_what_precedes_its_last_name() {
        check(
            dirname,
            &[
                ("", "."),
                ("a", "."),
                ("/", "/"),
                ("///", "/"),
                ("/a", "/"),
                ("//a", "/"),
                ("/a/b", "/a"),
                ("/a/b///", "/a"),
                ("/a//b", "/a/"),
                ("a/b/", "a"),
                ("/a/..", "/a"),
            ],
        );
    }

    #[test]
    fn the_last_name_is_that_of_the_normalized_path() {
        check(
            basename,
            &[
                ("", "."),
                ("/", "/"),
                ("//", ""),
                ("/a/b/", "b"),
                ("/a/..", ""),
                ("a/..", "."),
                ("../x", "x"),
                ("..", ".."),
            ],
        );
    }

    #[test]
    fn resolving_starts_from_the_base_unless_the_path_is_absolute() {
        let of = |base: &str, path: &str| resolve(&base.into(), &path.into()).to_string();
        assert_eq!(of("/", "a/../b"), "/b");
        assert_eq!(of("/dev", "/x/"), "/x");
        assert_eq!(of("/dev", ".."), "/");
        assert_eq!(of("fake", "/tmp/f"), "/tmp/f");
        assert_eq!(of("/", ""), "");
    }

    #[test]
    fn a_relative_path_leaves_then_enters() {
        let of = |from: &str, to: &str| relative(&from.into(), &to.into()).to_string();
        assert_eq!(of("/a/b", "/a/c/d"), "../c/d");
        assert_eq!(of("/a", "/a"), "");
        assert_eq!(of("/a", "/"), "..");
        assert_eq!(of("/", "/a/.b"), "a/.b");
    }

    proptest! {
        #[test]
        fn any_text_is_a_path(text in "[/.a\u{10000}]{0,24}", other in "[/.ab]{0,24}") {
            let (path, other) = (JsString::from(text.as_str()), JsString::from(other.as_str()));
            dirname(&path);
            basename(&path);
            relative(&path, &other);
            join(&path, &other);
            let resolved = resolve(&JsString::from("/"), &path);
            prop_assert_eq!(resolved.is_empty(), path.is_empty());
            // Resolving again changes nothing.
            prop_assert_eq!(resolve(&JsString::from("/"), &resolved), resolved);
        }
    }
}
