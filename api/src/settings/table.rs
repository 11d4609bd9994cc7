//! The README's table of settings, rendered from their declarations.

use super::{DECLARED, RETIRED};

/// The line before the table in the README.
pub const TABLE_BEGIN: &str = "<!-- settings:begin -->";
/// The line after it.
pub const TABLE_END: &str = "<!-- settings:end -->";

/// Every setting as Markdown: a table a group, then the reference's names that have no effect here.
pub fn markdown_table() -> String {
    let mut out = String::new();
    let mut group = "";
    for setting in DECLARED {
        if setting.group != group {
            group = setting.group;
            out += &format!("\n**{group}**\n\n| flag | environment | default | meaning |\n|---|---|---|---|\n");
        }
        let env = setting.env.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let default = if setting.default.is_empty() { String::new() } else { format!("`{}`", setting.default) };
        out += &format!("| `--{}` | {env} | {default} | {} |\n", setting.flag(), setting.text().replace('|', "\\|"));
    }
    out += "\nNames of the reference without effect here: ";
    let names: Vec<_> = RETIRED.iter().map(|retired| format!("`{}`", retired.name)).collect();
    out + &names.join(", ") + ". Setting one is remarked on in the log.\n"
}

/// `readme` with the table between its markers replaced; `None` if it lacks them.
pub fn with_table(readme: &str) -> Option<String> {
    let begin = readme.find(TABLE_BEGIN)? + TABLE_BEGIN.len();
    let end = begin + readme[begin..].find(TABLE_END)?;
    Some(format!("{}\n{}\n{}", &readme[..begin], markdown_table(), &readme[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_replaced_between_its_markers_and_nothing_else_changes() {
        let readme = format!("before\n{TABLE_BEGIN}\nstale words\n{TABLE_END}\nafter\n");
        let fresh = with_table(&readme).unwrap();
        assert!(fresh.starts_with(&format!("before\n{TABLE_BEGIN}\n")) && fresh.ends_with("\nafter\n"));
        assert!(!fresh.contains("stale words"));
        assert_eq!(with_table(&fresh).unwrap(), fresh);
        assert_eq!(with_table("no markers"), None);
    }

    #[test]
    fn readme_shows_the_settings_as_declared() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        let readme = std::fs::read_to_string(path).expect("README.md at the top of the repository");
        let fresh = with_table(&readme).expect("README.md has both settings markers");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, fresh).unwrap();
        } else {
            assert!(readme == fresh, "README.md's settings are stale: run this test with UPDATE=1");
        }
    }
}
