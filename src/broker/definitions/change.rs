//! What an import changes, in words: both values of all that differs.

use serde_json::Value;

/// Each value that differs: `definition.max-length: 2 becomes 5`.
pub(super) fn changes(before: &Value, after: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", Some(before), Some(after), &mut found);
    found
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<String>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let added = after.keys().filter(|key| !before.contains_key(*key));
            for key in before.keys().chain(added) {
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{key}");
                compare(&path, before.get(key), after.get(key), found);
            }
        }
        (before, after) => {
            let colon = if path.is_empty() { "" } else { ": " };
            let (before, after) = (word(before), word(after));
            found.push(format!("{path}{colon}{before} becomes {after}"));
        }
    }
}

fn word(value: Option<&Value>) -> String {
    value.map_or_else(|| "none".to_owned(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_values_of_all_that_differs_are_named() {
        let before =
            json!({"pattern": "^a", "definition": {"max-length": 2, "expires": 9}, "priority": 0});
        let after =
            json!({"pattern": "^a", "definition": {"max-length": 5, "x": "y"}, "priority": 1});
        assert_eq!(
            changes(&before, &after),
            [
                "definition.max-length: 2 becomes 5",
                "definition.expires: 9 becomes none",
                "definition.x: none becomes \"y\"",
                "priority: 0 becomes 1",
            ]
        );
        assert_eq!(changes(&json!(1), &json!([2])), ["1 becomes [2]"]);
        assert_eq!(changes(&before, &before), [""; 0]);
    }
}
