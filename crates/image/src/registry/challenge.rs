//! `WWW-Authenticate`: what a registry wants to see.

/// One way in, with its parameters in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    pub scheme: String,
    pub parameters: Vec<(String, String)>,
}

/// Parameters of one header, at most.
const MAX_PARAMETERS: usize = 32;

impl Challenge {
    /// Reads a header, which may hold several challenges.
    pub fn parse(header: &str) -> Vec<Self> {
        let mut challenges: Vec<Self> = Vec::new();
        let mut rest = header.trim_start_matches([' ', ',', '\t']);
        let mut count = 0;
        while !rest.is_empty() && count < MAX_PARAMETERS {
            count += 1;
            let end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            if let Some(value) = after.strip_prefix('=') {
                let (value, after) = read_value(value);
                if let Some(challenge) = challenges.last_mut() {
                    challenge.parameters.push((word.to_lowercase(), value));
                }
                rest = after;
            } else {
                if !word.is_empty() {
                    challenges.push(Self { scheme: word.to_lowercase(), parameters: Vec::new() });
                }
                rest = after;
            }
            rest = rest.trim_start_matches([' ', ',', '\t']);
        }
        challenges
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A token or a quoted string, and what follows.
fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show(header: &str) -> String {
        let one = |c: &Challenge| {
            let parameters: Vec<String> = c.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{}({})", c.scheme, parameters.join("; "))
        };
        Challenge::parse(header).iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let docker = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(
            show(docker),
            "bearer(realm=https://auth.docker.io/token; service=registry.docker.io; scope=repository:a/b:pull,push)"
        );
        assert_eq!(show(r#"Basic realm="a \"b\"""#), r#"basic(realm=a "b")"#);
        assert_eq!(
            show(r"Negotiate, Basic realm=x, Bearer realm=y , service=z"),
            "negotiate() basic(realm=x) bearer(realm=y; service=z)"
        );
        assert_eq!(show(r#"Bearer realm="unfinished"#), "bearer(realm=unfinished)");
        assert_eq!(show("="), "");
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(header in ".{0,200}", like in "[A-Za-z]{0,8} ([a-z]{1,3}=\"?[a-z\\\\\",= ]{0,6}\"?,? ?){0,5}") {
            Challenge::parse(&header);
            Challenge::parse(&like);
        }
    }
}
