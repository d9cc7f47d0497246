//! The provider keeps the contract.

use std::collections::BTreeSet;

use peerpods_provider::conformance;
use peerpods_provider_aws::{ACTIONS, Market};

use crate::bed::Bed;

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_keeps_the_contract() {
    let Some(mut bed) = Bed::start(&[]).await else {
        return;
    };
    conformance::run_all(&bed).await;
    bed.settings.market = Market::SpotFirst;
    conformance::an_interruption_is_announced(&bed).await;
    assert_eq!(bed.emulator.living_instances(), [""; 0]);

    // The policy for nodes is written from this list: nothing is missing in it, and nothing is superfluous.
    let listed: BTreeSet<String> = ACTIONS.iter().map(|action| action.name().to_owned()).collect();
    let requests = bed.emulator.requests().into_iter();
    let used: BTreeSet<String> = requests.map(|request| request.action).collect();
    assert_eq!(used, listed);
}
