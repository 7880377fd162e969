//! Names of runs.

use super::ending::usage;
use crate::nn::{NetworkSpec, Variant};
use anyhow::Result;
use std::time::{SystemTime, UNIX_EPOCH};

/// A name that is one folder and no path.
pub fn check(name: &str) -> Result<String> {
    let fits = |c: char| c.is_alphanumeric() || "-_+.,= ".contains(c);
    if name.is_empty() || name.len() > 128 || name.starts_with(['.', '-']) || !name.chars().all(fits) {
        return Err(usage(format!(
            "`{name}` is no name for a run; take letters, digits and - _ + . (a folder is chosen with --runs)"
        )));
    }
    Ok(name.into())
}

/// The variant that a network is, if it has dropout or batch norm.
pub fn variant(network: &NetworkSpec) -> Option<Variant> {
    match (network.head.dropout > 0.0, network.batch_norm) {
        (true, false) => Some(Variant::Do),
        (false, true) => Some(Variant::Bn),
        (true, true) => Some(Variant::DoBn),
        (false, false) => None,
    }
}

/// The name of a run that was given none: model, variant and date (UTC).
pub fn dated(network: &NetworkSpec) -> String {
    let variant = variant(network).map_or(String::new(), |variant| format!("-{variant}"));
    format!("{}{variant}-{}", network.name, day(SystemTime::now()))
}

/// The day of a time (UTC): `2026-11-30`.
pub fn day(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = date(seconds / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

/// Year, month and day so many days after 1970-01-01.
///
/// **Source**: Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`, for dates after 1970.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year + era * 400 + u64::from(month <= 2), month, of_year - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(11_017), (2000, 3, 1));
        assert_eq!(date(20_088), (2024, 12, 31));
        assert_eq!(date(20_089), (2025, 1, 1));
    }

    #[test]
    fn a_name_is_not_a_path() {
        assert!(check("my-run 2").is_ok());
        for wrong in ["", "..", "a/b", ".hidden", "-x", "a\\b"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
