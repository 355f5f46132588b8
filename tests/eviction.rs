//! Eviction from a full store.

use edge_net_core::time::UnixTime;
use edge_net_core::transfer::eviction::{Kept, victims};
use proptest::prelude::*;

const MB: u64 = 1_000_000;

#[test]
fn the_least_recently_used_goes_and_the_pinned_stays() {
    let kept = |used, held| Kept { bytes: 30 * MB, used: UnixTime::from_secs(used), held };
    assert_eq!(victims(&[kept(1, false), kept(2, false)], 64 << 20, 4 << 20), Some(vec![]));
    assert_eq!(victims(&[kept(2, false), kept(1, false)], 64 << 20, 8 << 20), Some(vec![1]));
    assert_eq!(victims(&[kept(2, false), kept(1, true)], 64 << 20, 8 << 20), Some(vec![0]));
    assert_eq!(victims(&[kept(2, true), kept(1, true)], 64 << 20, 8 << 20), None);
}

fn any_kept() -> impl Strategy<Value = Vec<Kept>> {
    let artifact = (0..100 * MB, 0..50_u64, any::<bool>());
    prop::collection::vec(
        artifact.prop_map(|(bytes, used, held)| Kept {
            bytes,
            used: UnixTime::from_millis(used),
            held,
        }),
        0..20,
    )
}

proptest! {
    #[test]
    fn it_fits_then_and_no_more_went_than_had_to(
        kept in any_kept(),
        budget in 0..1000 * MB,
        need in 0..200 * MB,
    ) {
        let total: u64 = kept.iter().map(|artifact| artifact.bytes).sum();
        let free: u64 =
            kept.iter().filter(|artifact| !artifact.held).map(|artifact| artifact.bytes).sum();
        match victims(&kept, budget, need) {
            None => prop_assert!(total - free + need > budget, "it could have been done"),
            Some(victims) => {
                let gone: u64 = victims.iter().map(|i| kept[*i].bytes).sum();
                prop_assert!(total - gone + need <= budget);
                prop_assert!(victims.iter().all(|i| !kept[*i].held));
                if let Some(last) = victims.last() {
                    prop_assert!(
                        total - gone + kept[*last].bytes + need > budget,
                        "the last need not have gone"
                    );
                    let newest = victims.iter().map(|i| kept[*i].used).max();
                    let stayed = (0..kept.len())
                        .filter(|i| !victims.contains(i) && !kept[*i].held && kept[*i].bytes > 0);
                    prop_assert!(
                        stayed
                            .map(|i| kept[i].used)
                            .min()
                            .is_none_or(|oldest| Some(oldest) >= newest)
                    );
                }
            }
        }
    }
}
