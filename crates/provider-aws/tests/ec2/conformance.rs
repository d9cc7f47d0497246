//! The provider keeps the contract.

use std::collections::BTreeSet;

use peerpods_provider::conformance;
use peerpods_provider_aws::{ACTIONS, Market};

use crate::bed::{Bed, ELASTIC};

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_keeps_the_contract() {
    let Some(mut bed) = Bed::start(&[]).await else {
        return;
    };
    let elastic = Bed::start(&ELASTIC).await.expect("what was there is there");
    for bed in [&bed, &elastic] {
        conformance::run_all(bed).await;
        assert_eq!(bed.emulator.living_instances(), [""; 0]);
        assert_eq!(bed.emulator.addresses(), [""; 0]);
    }
    bed.settings.market = Market::SpotFirst;
    conformance::an_interruption_is_announced(&bed).await;
    assert_eq!(bed.emulator.living_instances(), [""; 0]);

    // The policy for nodes is written from this list: nothing is missing in it, and nothing is superfluous.
    let listed: BTreeSet<String> = ACTIONS.iter().map(|action| action.name().to_owned()).collect();
    let requests = [bed, elastic].into_iter().flat_map(|bed| bed.emulator.requests());
    let used: BTreeSet<String> = requests.map(|request| request.action).collect();
    assert_eq!(used, listed);
}
