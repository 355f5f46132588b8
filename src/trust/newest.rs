//! Which version of a model is the newest.
//!
//! The highest release that is not yanked, by the order of Semantic Versioning. Only if there is no
//! release, the highest prerelease. When a version was published does not matter, so a hotfix of an
//! older line, such as 1.0.1 after 1.1.0, does not become the newest.

use semver::Version;

/// The place of a version among those of a model: higher is newer.
#[must_use]
pub fn rank(version: &Version) -> impl Ord + use<'_> {
    (version.pre.is_empty(), version)
}

/// Whether `version` is newer than `other`.
#[must_use]
pub fn is_newer(version: &Version, other: &Version) -> bool {
    rank(version).cmp(&rank(other)).is_gt()
}

/// The newest of some versions, none of them yanked.
///
/// ```
/// use edge_net_core::trust::newest::newest;
///
/// let versions = ["1.0.0", "1.1.0", "2.0.0-rc.1", "1.0.1"].map(|text| text.parse().unwrap());
/// assert_eq!(newest(&versions), Some(&versions[1]));
/// assert_eq!(newest(&versions[2..3]), Some(&versions[2]), "nothing else is there");
/// ```
pub fn newest<'a>(versions: impl IntoIterator<Item = &'a Version>) -> Option<&'a Version> {
    versions.into_iter().max_by(|a, b| rank(a).cmp(&rank(b)))
}
