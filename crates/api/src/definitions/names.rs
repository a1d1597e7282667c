//! Which names a definition gets beside the others of its group.

use serde_json::{Value, json};

use crate::rules::set_condition;

/// Writes into the status which names the definition gets; `others` are the accepted names of the other definitions.
pub(super) fn accept(definition: &mut Value, others: &[Value]) {
    let taken = |fields: &[&str], name: &str| {
        others.iter().any(|accepted| {
            let shorts = accepted["shortNames"].as_array();
            let is_short = fields.contains(&"shortNames") && shorts.is_some_and(|list| list.iter().any(|s| s == name));
            is_short || fields.iter().any(|field| accepted[*field] == name)
        })
    };
    const RESOURCES: [&str; 3] = ["plural", "singular", "shortNames"];
    const KINDS: [&str; 2] = ["kind", "listKind"];
    let wanted = definition["spec"]["names"].clone();
    let mut accepted = definition["status"]["acceptedNames"].clone();
    if !accepted.is_object() {
        accepted = json!({"plural": "", "kind": ""});
    }
    let mut conflict: Option<(&str, String)> = None;
    for (field, reason) in [("plural", "PluralConflict"), ("singular", "SingularConflict")] {
        let name = wanted[field].as_str().unwrap_or_default();
        if taken(&RESOURCES, name) {
            conflict = Some((reason, name.to_owned()));
        } else {
            accepted[field] = json!(name);
        }
    }
    let shorts: Vec<&str> = wanted["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match shorts.iter().find(|short| taken(&RESOURCES, short)) {
        Some(short) => conflict = Some(("ShortNamesConflict", (*short).to_owned())),
        None if shorts.is_empty() => {
            accepted.as_object_mut().expect("it was made an object").remove("shortNames");
        }
        None => accepted["shortNames"] = json!(shorts),
    }
    for (field, reason) in [("kind", "KindConflict"), ("listKind", "ListKindConflict")] {
        let name = wanted[field].as_str().unwrap_or_default();
        if taken(&KINDS, name) {
            conflict = Some((reason, name.to_owned()));
        } else {
            accepted[field] = json!(name);
        }
    }
    match wanted.get("categories") {
        Some(categories) => accepted["categories"] = categories.clone(),
        None => {
            accepted.as_object_mut().expect("it was made an object").remove("categories");
        }
    }
    definition["status"]["acceptedNames"] = accepted;
    let established = definition["status"]["conditions"]
        .as_array()
        .is_some_and(|list| list.iter().any(|c| c["type"] == "Established" && c["status"] == "True"));
    match conflict {
        None => {
            set_condition(definition, "NamesAccepted", true, "NoConflicts", "no conflicts found");
            if !established {
                let message = "the initial names have been accepted";
                set_condition(definition, "Established", true, "InitialNamesAccepted", message);
            }
        }
        Some((reason, name)) => {
            set_condition(definition, "NamesAccepted", false, reason, &format!("{name:?} is already in use"));
            if !established {
                set_condition(definition, "Established", false, "NotAccepted", "not all names are accepted");
            }
        }
    }
}
