//! `${VAR}` and `${VAR:-default}` in values, filled in from the environment.
//!
//! Only values are expanded, after the YAML was read: what a variable holds can neither add keys nor close a
//! quote. The rules are the shell's: `${VAR}` must be set, `${VAR:-default}` falls back when it is unset or
//! empty, and `$${` stands for a plain `${`. Defaults are taken as they are and hold no further variables.

/// Longest value after expansion, bytes.
const EXPANDED_BYTES_MAX: usize = 64 * 1024;

/// Why a value could not be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpandError {
    /// Usually the variable was not passed to the service.
    #[error("${{{0}}} is not set in the environment; set it, or write ${{{0}:-default}}")]
    Unset(String),
    /// Usually the closing brace was forgotten, or cut off by an unquoted `{ … }` mapping.
    #[error("a `${{` has no closing `}}`; write $${{ for the plain characters, and quote it inside {{ … }}")]
    Unclosed,
    /// Usually a form of the shell that is not known here.
    #[error("`${{…}}` must hold a name of letters, digits and _, then nothing or `:-default`")]
    Name,
    /// Usually a file was put into a variable.
    #[error("is longer than {EXPANDED_BYTES_MAX} bytes once its variables are filled in")]
    TooLong,
}

/// The text with its variables filled in; nothing if it has none. Linear in the result.
pub(crate) fn expand(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, ExpandError> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        let reference = from.get(2..).unwrap_or_default();
        if let Some(plain) = before.strip_suffix('$') {
            out.push_str(plain);
            out.push_str("${");
            rest = reference;
            continue;
        }
        out.push_str(before);
        let (inside, after) = reference.split_once('}').ok_or(ExpandError::Unclosed)?;
        out.push_str(&value(inside, env)?);
        if out.len() > EXPANDED_BYTES_MAX {
            return Err(ExpandError::TooLong);
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(Some(out))
}

fn value(inside: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandError> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(ExpandError::Name);
    }
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(ExpandError::Unset(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<Option<String>, ExpandError> {
        expand(text, &|name| match name {
            "HOST" => Some("gpu-1".to_owned()),
            "EMPTY" => Some(String::new()),
            "BIG" => Some("x".repeat(EXPANDED_BYTES_MAX)),
            _ => None,
        })
    }

    #[test]
    fn variables_are_filled_in_as_a_shell_would() {
        let cases = [
            ("http://${HOST}:8000", "http://gpu-1:8000"),
            ("${NONE:-8000}", "8000"),
            ("${EMPTY:-8000}", "8000"),
            ("${EMPTY}", ""),
            ("${NONE:-}", ""),
            ("$${HOST} and ${HOST}", "${HOST} and gpu-1"),
            ("${NONE:-a:-b}", "a:-b"),
        ];
        for (text, want) in cases {
            assert_eq!(expanded(text), Ok(Some(want.to_owned())), "{text}");
        }
        assert_eq!(expanded("costs $5 {net}"), Ok(None), "no variable, no change");
    }

    #[test]
    fn what_cannot_be_filled_in_is_told_apart() {
        assert_eq!(expanded("${NONE}"), Err(ExpandError::Unset("NONE".to_owned())));
        assert_eq!(expanded("${HOST"), Err(ExpandError::Unclosed));
        assert_eq!(expanded("${HOST-x}"), Err(ExpandError::Name));
        assert_eq!(expanded("${1ST}"), Err(ExpandError::Name));
        assert_eq!(expanded("${}"), Err(ExpandError::Name));
        assert_eq!(expanded("${BIG}${BIG}"), Err(ExpandError::TooLong));
    }

    /// A variable's value is data: it is not looked through for variables again.
    #[test]
    fn values_are_not_expanded_twice() {
        let loops = |_: &str| Some("${A}".to_owned());
        assert_eq!(expand("${A}", &loops), Ok(Some("${A}".to_owned())));
    }
}
