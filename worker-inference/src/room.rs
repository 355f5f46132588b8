//! The choice of the models that make room for another one.

/// Maximum number of models in memory.
const MAX_MODELS: usize = 2;
/// Maximum memory of all models, in bytes. An isolate has 128 MB.
const MAX_BYTES: u64 = 96_000_000;

/// A model in memory.
#[derive(Debug, Clone, Copy)]
pub struct Resident<'a> {
    /// The model's id.
    pub id: &'a str,
    /// Its memory, in bytes.
    pub bytes: u64,
    /// Its last use: a number that grows with each use.
    pub used: u64,
}

/// The estimated memory of a model, in bytes, from the sizes of its files: the graph grows by half,
/// and the tokenizer to four times its size.
pub const fn estimate(graph: u64, tokenizer: u64) -> u64 {
    graph * 3 / 2 + tokenizer * 4
}

/// The index of the model that is to be dropped first, so that a version of model `id` with `bytes`
/// bytes of memory fits. `None` if it fits, or if there is nothing to drop.
pub fn victim(residents: &[Resident<'_>], id: &str, bytes: u64) -> Option<usize> {
    let taken: u64 = residents.iter().map(|resident| resident.bytes).sum();
    if residents.len() < MAX_MODELS && taken + bytes <= MAX_BYTES {
        return None;
    }
    // The older version of the same model last: it serves until the newer one is loaded.
    let rank = |(_, resident): &(usize, &Resident<'_>)| (resident.id == id, resident.used);
    residents.iter().enumerate().min_by_key(rank).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn resident(id: &str, bytes: u64, used: u64) -> Resident<'_> {
        Resident { id, bytes, used }
    }

    #[test]
    fn nothing_is_dropped_for_a_model_that_fits() {
        assert_eq!(victim(&[], "new", u64::MAX / 2), None);
        assert_eq!(victim(&[resident("a", 48_000_000, 1)], "new", 48_000_000), None);
    }

    #[test]
    fn the_least_recently_used_model_makes_room() {
        let two = [resident("a", 1, 7), resident("b", 1, 3)];
        assert_eq!(victim(&two, "new", 1), Some(1));
        assert_eq!(victim(&[resident("a", 48_000_001, 7)], "new", 48_000_000), Some(0));
    }

    #[test]
    fn an_older_version_of_the_model_makes_room_last() {
        let two = [resident("a", 1, 3), resident("b", 1, 7)];
        assert_eq!(victim(&two, "a", 1), Some(1));
        assert_eq!(victim(&two[..1], "a", MAX_BYTES), Some(0));
    }

    #[test]
    fn the_estimate_covers_graph_and_tokenizer() {
        assert_eq!(estimate(20, 3), 42);
    }
}
