//! The order of writes, and that the engine applies it with and without spilling.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn ranks_order_as_sequence_and_row(
        a in (1..1_u64 << 30, 0..1_u32 << 24, any::<bool>()),
        b in (1..1_u64 << 30, 0..1_u32 << 24, any::<bool>()),
    ) {
        let rank = |(sequence, row, tombstone)| Rank::new(sequence, row, tombstone).expect("in range");
        prop_assert_eq!(rank(a).address(), (a.0, a.1));
        prop_assert_eq!(rank(a).is_tombstone(), a.2);
        if (a.0, a.1) != (b.0, b.1) {
            prop_assert_eq!(rank(a).cmp(&rank(b)), (a.0, a.1).cmp(&(b.0, b.1)));
        }
    }
}

#[test]
fn a_sequence_beyond_what_a_rank_holds_is_refused() {
    assert!(Rank::new(LAST_SEQUENCE, 0, false).is_some());
    assert_eq!(Rank::new(LAST_SEQUENCE + 1, 0, false), None);
}
