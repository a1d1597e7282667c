//! What requests are counted under: the method and the path, without what names one thing among many.

/// Segments of a path that are told apart; what follows is one.
const SEGMENTS: usize = 8;
/// A word is longer than this only when nobody chose it.
const WORD: usize = 32;
/// Words with a digit are numbers of something from this length on: `v1` and `page2` are not.
const NUMBER: usize = 8;

/// `GET /items/*/reviews` for `GET /items/42/reviews`.
pub fn endpoint(method: &str, path: &str) -> String {
    let mut segments = path.split('/').skip(1);
    let named: Vec<&str> =
        segments.by_ref().take(SEGMENTS).map(|segment| if is_id(segment) { "*" } else { segment }).collect();
    let more = if segments.next().is_some() { "/**" } else { "" };
    format!("{method} /{}{more}", named.join("/"))
}

/// Whether a word looks like the name of one thing among very many.
pub(crate) fn is_id(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let all_digits = digits > 0 && digits == word.len();
    all_digits || word.len() > WORD || (digits > 0 && word.len() >= NUMBER) || !word.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart_by_their_words() {
        for (path, expected) in [
            ("/", "GET /"),
            ("/items/42", "GET /items/*"),
            ("/api/v1/items/", "GET /api/v1/items/"),
            ("/users/0f8fad5b-d9cb-469f-a165-70867728950e/cart", "GET /users/*/cart"),
            ("/reset/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9abc", "GET /reset/*"),
            ("/a/b/c/d/e/f/g/h/i/j", "GET /a/b/c/d/e/f/g/h/**"),
            ("/caf\u{e9}/page2", "GET /*/page2"),
        ] {
            assert_eq!(endpoint("GET", path), expected);
        }
    }
}
