//! The demo's repository: the files of `examples/shop-repo`, and the pull requests that the page offers.
//!
//! Must not know: git, HTTP, how the shop works inside.

use rust_embed::RustEmbed;

use super::RepositorySpec;
use super::change::{Edit, Files, PreparedChange, PreparedCommit};

#[derive(RustEmbed)]
#[folder = "examples/shop-repo/"]
struct ShopFiles;

/// The shop, `kumo/shop`, owned by `mika`.
pub fn shop_repository() -> RepositorySpec {
    RepositorySpec {
        owner: "kumo".to_owned(),
        name: "shop".to_owned(),
        files: files(),
        roles: vec![
            ("mika".to_owned(), "admin".to_owned()),
            ("robin".to_owned(), "write".to_owned()),
            ("guest".to_owned(), "read".to_owned()),
        ],
        prepared: vec![new_look(), gift_notes(), broken_build()],
    }
}

fn files() -> Files {
    let built = |path: &str| path.starts_with("public/");
    ShopFiles::iter()
        .filter(|path| !built(path))
        .filter_map(|path| Some((path.to_string(), ShopFiles::get(&path)?.data.into_owned())))
        .collect()
}

fn theme(key: &str, value: &str) -> Edit {
    Edit::Line { path: "app/theme.toml".to_owned(), begins: format!("{key} ="), with: format!("{key} = {value}") }
}

fn write(path: &str, content: &str) -> Edit {
    Edit::Write { path: path.to_owned(), content: content.to_owned() }
}

fn commit(message: &str, edits: Vec<Edit>) -> PreparedCommit {
    PreparedCommit { message: message.to_owned(), edits }
}

fn new_look() -> PreparedChange {
    let look = |message: &str, heading: &str, accent: &str, tagline: &str| {
        let text = |value: &str| format!("\"{value}\"");
        commit(
            message,
            vec![theme("heading", &text(heading)), theme("accent", &text(accent)), theme("tagline", &text(tagline))],
        )
    };
    PreparedChange {
        key: "look".to_owned(),
        title: "Give the order desk an autumn look".to_owned(),
        body: "Maple instead of moss, and a heading that says what the page is for.\n\n- [x] readable on a phone\n- [ ] ask Robin about the shade".to_owned(),
        hint: "Another heading and colour: the quickest way to see a preview change.".to_owned(),
        commits: vec![
            look("Give the order desk an autumn look", "Order desk", "#b45309", "Maple season: parcels leave at noon."),
            look("Try plum instead", "Order desk", "#9d174d", "Plum season: parcels leave at noon."),
            look("Go for deep indigo", "Order desk, indigo", "#3730a3", "Dyed by hand, packed by two."),
            look("Back to maple", "Order desk", "#b45309", "Maple season: parcels leave at noon."),
        ],
    }
}

fn gift_notes() -> PreparedChange {
    let columns = |names: &str| theme("columns", names);
    PreparedChange {
        key: "gift-notes".to_owned(),
        title: "Keep a gift note with every order".to_owned(),
        body: "Packers ask for it every December. Adds a column with a migration, fills it for orders that contain a gift box, and shows it in the list.".to_owned(),
        hint: "A new column with a migration: it runs in this pull request's own database only.".to_owned(),
        commits: vec![
            commit(
                "Keep a gift note with every order",
                vec![
                    write(
                        "migrations/0003_gift_note.sql",
                        "ALTER TABLE orders ADD COLUMN gift_note TEXT NOT NULL DEFAULT '';\n\n\
                         UPDATE orders SET gift_note = 'With best wishes'\n\
                         WHERE id IN (\n    \
                             SELECT order_id FROM order_items JOIN products ON products.id = product_id\n    \
                             WHERE sku = 'BOX-GIF'\n);\n",
                    ),
                    columns(r#"["customer", "status", "items", "total", "gift_note", "placed"]"#),
                ],
            ),
            commit(
                "Rank orders by urgency too",
                vec![
                    write(
                        "migrations/0004_urgency.sql",
                        "ALTER TABLE orders ADD COLUMN urgency TEXT NOT NULL DEFAULT 'normal';\n\n\
                         UPDATE orders SET urgency = 'today' WHERE status IN ('new', 'paid') AND gift_note <> '';\n",
                    ),
                    columns(r#"["customer", "status", "urgency", "items", "total", "gift_note", "placed"]"#),
                ],
            ),
            commit(
                "Show the gift note before the price",
                vec![columns(r#"["customer", "status", "urgency", "gift_note", "items", "total", "placed"]"#)],
            ),
        ],
    }
}

fn broken_build() -> PreparedChange {
    PreparedChange {
        key: "bold-accent".to_owned(),
        title: "Use a bolder accent".to_owned(),
        body: "The buttons are too shy.".to_owned(),
        hint: "A build that fails, with its log in the comment; the next push repairs it.".to_owned(),
        commits: vec![
            commit("Use a bolder accent", vec![theme("accent", r#""fire red""#)]),
            commit("Write the colour as the build wants it", vec![theme("accent", r##""#dc2626""##)]),
            commit("A little darker", vec![theme("accent", r##""#991b1b""##)]),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prepared_commit_changes_something() {
        let shop = shop_repository();
        for change in &shop.prepared {
            let mut files = shop.files.clone();
            for commit in &change.commits {
                let before = files.clone();
                for change in commit.apply(&files) {
                    let super::super::FileChange::Write { path, content } = change else { continue };
                    files.insert(path, content);
                }
                assert_ne!(before, files, "{}: {}", change.key, commit.message);
            }
        }
    }

    #[test]
    fn the_repository_is_complete() {
        let files = shop_repository().files;
        for path in
            [".kagero.yml", "app/theme.toml", "app/build.sh", "app/pages/orders.html", "migrations/0002_worker.sql"]
        {
            assert!(files.contains_key(path), "{path}");
        }
    }
}
