//! Sizes in bytes, as people write them: `65536`, `512KiB`, `32MiB`, `2GiB`.
//!
//! Only binary units are known. `MB` would be read as 10⁶ by some and 2²⁰ by others, so it is refused.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

const UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

/// The schema of a size; the value is deserialized as a plain number of bytes.
pub(crate) struct Bytes;

impl JsonSchema for Bytes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB)?$",
            "x-bytes": true,
        })
    }
}

/// Reads a size. Nothing where it is none or does not fit 64 bits.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let (number, shift) =
        UNITS.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift))).unwrap_or((text, 0));
    let number = number.strip_suffix(' ').unwrap_or(number);
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Writes a size in the largest unit that divides it.
pub(crate) fn show(bytes: u64) -> String {
    let whole = |shift: &u32| bytes != 0 && bytes.is_multiple_of(1 << shift);
    let (unit, shift) = UNITS.iter().find(|(_, shift)| whole(shift)).copied().unwrap_or(("B", 0));
    let unit = if shift == 0 { "" } else { unit };
    format!("{}{unit}", bytes >> shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_as_the_same_size() {
        for (text, bytes) in
            [("0", 0), ("1000", 1000), ("4KiB", 4096), ("32MiB", 32 << 20), ("3GiB", 3 << 30)]
        {
            assert_eq!(parse(text), Some(bytes));
            assert_eq!(show(bytes), text);
        }
        assert_eq!(parse("512 KiB"), Some(512 << 10));
    }

    #[test]
    fn ambiguous_and_overlong_sizes_are_refused() {
        for text in ["32MB", "32M", "", "KiB", "-1", "+1", "1.5GiB", "17179869184GiB", "99999999999999999999"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
