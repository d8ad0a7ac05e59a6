//! Sizes as people write them.

/// The most bytes accepted: they must be countable with a sign.
const MAX: u64 = i64::MAX.cast_unsigned();
/// Units, largest first of those that a size is shown in.
const UNITS: [(&str, u64); 10] = [
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// The text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size; write a whole number with a unit, such as \"500MB\", \"10GiB\" or \"2TiB\"")]
pub struct NotASize(String);

/// Reads a whole number of `B`, `KB`, `MB`, `GB`, `TB`, `KiB`, `MiB`, `GiB`, `TiB` or `PiB`; answers bytes.
pub fn parse_size(text: &str) -> Result<u64, NotASize> {
    let wrong = || NotASize(text.to_owned());
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim_start()).ok_or_else(wrong)?;
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(*factor).filter(|bytes| *bytes <= MAX).ok_or_else(wrong)
}

/// A size as a person reads it, exact: in the largest unit that leaves a whole number.
pub fn size_text(bytes: u64) -> String {
    let whole = UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    let (unit, factor) = whole.unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_their_units() {
        for (text, bytes) in [
            ("0B", 0),
            ("500MB", 500_000_000),
            ("10GiB", 10 << 30),
            ("10 GiB", 10 << 30),
            ("9223372036854775807B", i64::MAX.cast_unsigned()),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "10", "GiB", "-1B", "1.5GiB", "10gib", "8192PiB", "99999999999999999999B", "1GiB1B", "1 B "] {
            assert_eq!(parse_size(text), Err(NotASize(text.to_owned())), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_is_exact(bytes in 0..MAX, shift in 0..60_u32) {
            let bytes = bytes >> shift << (shift / 2);
            proptest::prop_assume!(bytes <= MAX);
            proptest::prop_assert_eq!(parse_size(&size_text(bytes)), Ok(bytes));
        }
    }
}
