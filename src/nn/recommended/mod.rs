//! The recommended networks, which are not of the study: a name and a network file each. `docs/networks.md` says how they were chosen and
//! how they compare with the networks of the study.

use super::error::{Reason, SpecError};
use super::spec::{NetworkSpec, Variant};
use super::table;
use crate::base::nearest::nearest;

/// The recommended networks, smallest first.
const RECOMMENDED: &[(&str, &str)] =
    &[("recommended-s", include_str!("s.toml")), ("recommended-m", include_str!("m.toml"))];

/// The recommended networks as their files describe them, with dropout and batch norm.
pub fn recommended() -> impl ExactSizeIterator<Item = NetworkSpec> {
    RECOMMENDED
        .iter()
        .map(|(name, text)| NetworkSpec::parse(text, name).expect("a test reads every recommended network"))
}

/// Whether this is the name of a network of the study or of a recommended network.
pub fn is_built_in(name: &str) -> bool {
    table::find(name).is_ok() || RECOMMENDED.iter().any(|(own, _)| *own == name)
}

/// The built-in network of this name, in the given variant. If there is none, a network of the study has dropout, and a recommended network is
/// as its file describes it.
///
/// # Errors
/// There is no such network; the error names the nearest.
pub fn built_in(name: &str, variant: Option<Variant>) -> Result<NetworkSpec, SpecError> {
    if let Some((_, text)) = RECOMMENDED.iter().find(|(own, _)| *own == name) {
        let mut spec = NetworkSpec::parse(text, name)?;
        variant.into_iter().for_each(|variant| spec.set_variant(variant));
        return Ok(spec);
    }
    let study = table::all().map(|study| study.name);
    table::find(name).map(|study| study.spec(variant.unwrap_or_default())).map_err(|_| {
        let nearest = nearest(name, study.chain(RECOMMENDED.iter().map(|(own, _)| *own))).map(String::from);
        Reason::UnknownNetwork { name: name.into(), nearest }.at("", "")
    })
}
