//! The conformance suite: every promise of the contract as a function that a provider's tests call.
//!
//! A provider's test makes a [`Place`] and calls [`run_all`], or single promises for a shorter story.
//! The functions panic where a promise is broken, as tests do, and end what they launched.

mod interruption;

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use peerpods_error::chain;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::{
    AddressPool, Assignment, Instance, InstanceId, InstanceStatus, LaunchRequest, LaunchToken, Owner,
    OwnerScope, PodIdentity, Provider, ProviderError, Shape,
};

pub use interruption::{InterruptedPlace, an_interruption_is_announced};

/// The cluster that the suite's instances belong to; a second one must not see them.
const CLUSTER: &str = "conformance";

/// The longest that a provider may take to notice an end that it did not cause.
const NOTICE_LIMIT: Duration = Duration::from_secs(30);

/// How often to ask while waiting for that.
const NOTICE_INTERVAL: Duration = Duration::from_millis(20);

/// After how long launches are cancelled: before they begin, in their midst, and near their end.
const CANCELLATIONS: [Duration; 8] = [
    Duration::ZERO,
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(160),
];

/// Where a provider launches instances, and what the suite needs beyond the contract.
#[async_trait]
pub trait Place: Send + Sync {
    /// A new provider on this place, as after a restart of the program; all of them see the same instances.
    fn open(&self) -> Arc<dyn Provider>;

    /// Ends an instance without asking the provider, as a crash does.
    async fn kill(&self, id: &InstanceId);
}

/// Checks every promise, one after the other.
pub async fn run_all(place: &dyn Place) {
    repeated_launches_make_one_instance(place).await;
    concurrent_launches_make_one_instance(place).await;
    different_tokens_make_different_instances(place).await;
    find_sees_only_the_living(place).await;
    list_keeps_to_its_scope_and_returns_owners_intact(place).await;
    terminate_can_be_repeated_and_knows_the_unknown(place).await;
    a_cancelled_launch_leaves_nothing_hidden(place).await;
    an_end_from_outside_is_noticed(place).await;
    a_console_belongs_to_an_instance(place).await;
    a_warm_instance_becomes_one_pods(place).await;
    of_two_pods_that_claim_one_instance_one_gets_it(place).await;
    a_cancelled_claim_happened_or_did_not(place).await;
    what_does_not_live_cannot_be_claimed(place).await;
    equal_shapes_get_equal_kinds(place).await;
    one_call_launches_one_batch(place).await;
}

/// Launching again with the same token finds the instance, also after a restart.
pub async fn repeated_launches_make_one_instance(place: &dyn Place) {
    let request = request("repeated", "node-a");
    let first = launch(&*place.open(), &request).await;
    let second = launch(&*place.open(), &request).await;
    assert_eq!(
        first, second,
        "a second launch with one token gives the first one's instance"
    );
    assert!(!first.addresses.is_empty(), "a launched instance has an address");
    assert_eq!(
        listed(&*place.open(), "node-a").await,
        std::slice::from_ref(&first.id)
    );
    end(place, &first.id).await;
}

/// Many launches at once with one token, from two providers, make one instance.
pub async fn concurrent_launches_make_one_instance(place: &dyn Place) {
    let request = request("concurrent", "node-a");
    let (one, two) = (place.open(), place.open());
    let (a, b, c, d) = tokio::join!(
        launch(&*one, &request),
        launch(&*two, &request),
        launch(&*one, &request),
        launch(&*two, &request)
    );
    assert!(
        a == b && b == c && c == d,
        "launches at once gave different instances: {a:?} {b:?} {c:?} {d:?}"
    );
    assert_eq!(listed(&*one, "node-a").await, std::slice::from_ref(&a.id));
    end(place, &a.id).await;
}

/// Two tokens never share an instance or an address.
pub async fn different_tokens_make_different_instances(place: &dyn Place) {
    let provider = place.open();
    let (left, right) = (request("left", "node-a"), request("right", "node-a"));
    let (left, right) = tokio::join!(launch(&*provider, &left), launch(&*provider, &right));
    assert_ne!(left.id, right.id);
    assert_ne!(
        left.addresses, right.addresses,
        "two living instances share an address"
    );
    end(place, &left.id).await;
    end(place, &right.id).await;
}

/// `find` answers with the living instance of a token, and with none before its launch and after its end.
pub async fn find_sees_only_the_living(place: &dyn Place) {
    let provider = place.open();
    let request = request("found", "node-a");
    assert_eq!(
        find(&*provider, &request.token).await,
        None,
        "found before the launch"
    );
    let instance = launch(&*provider, &request).await;
    assert_eq!(find(&*place.open(), &request.token).await, Some(instance.clone()));
    end(place, &instance.id).await;
    assert_eq!(
        find(&*provider, &request.token).await,
        None,
        "found after the end"
    );
}

/// `list` returns the owners that the launches gave, within the scope and nothing beside it.
pub async fn list_keeps_to_its_scope_and_returns_owners_intact(place: &dyn Place) {
    let provider = place.open();
    let (near, far) = (request("near", "node-a"), request("far", "node-b"));
    let near_instance = launch(&*provider, &near).await;
    let far_instance = launch(&*provider, &far).await;

    let list = |cluster: &str, node: Option<&str>| {
        let scope = OwnerScope {
            cluster: cluster.to_owned(),
            node: node.map(str::to_owned),
        };
        let provider = place.open();
        async move {
            provider
                .list(&scope)
                .await
                .unwrap_or_else(|error| panic!("list: {error}"))
        }
    };
    let on_node = list(CLUSTER, Some("node-a")).await;
    assert_eq!(on_node.len(), 1, "one node's list: {on_node:?}");
    assert_eq!(on_node[0].instance, near_instance);
    assert_eq!(on_node[0].token, near.token);
    assert_eq!(on_node[0].owner, near.owner, "the owner came back changed");

    let mut in_cluster: Vec<Owner> = list(CLUSTER, None)
        .await
        .into_iter()
        .map(|found| found.owner)
        .collect();
    in_cluster.sort_by(|left, right| left.node.cmp(&right.node));
    assert_eq!(in_cluster, [near.owner, far.owner]);
    assert_eq!(
        list("another-cluster", None).await,
        [],
        "another cluster sees ours"
    );

    end(place, &near_instance.id).await;
    end(place, &far_instance.id).await;
    assert_eq!(list(CLUSTER, None).await, [], "listed after the end");
}

/// `terminate` succeeds for what lives, what has ended, and what never was.
pub async fn terminate_can_be_repeated_and_knows_the_unknown(place: &dyn Place) {
    let provider = place.open();
    let instance = launch(&*provider, &request("ended", "node-a")).await;
    end(place, &instance.id).await;
    end(place, &instance.id).await;
    end(place, &InstanceId::new("i-never-was")).await;
    assert!(matches!(
        describe(&*provider, &instance.id).await,
        InstanceStatus::Gone(_)
    ));
    assert!(matches!(
        describe(&*provider, &InstanceId::new("i-never-was")).await,
        InstanceStatus::Gone(_)
    ));
}

/// Whatever a cancelled launch leaves, `find` and `list` show it, and launching again gives one instance.
pub async fn a_cancelled_launch_leaves_nothing_hidden(place: &dyn Place) {
    for (round, delay) in CANCELLATIONS.into_iter().enumerate() {
        let request = request(&format!("cancelled-{round}"), "node-a");
        let provider = place.open();
        cancel_after(delay, provider.launch(&request)).await;

        let found: Vec<InstanceId> = find(&*provider, &request.token)
            .await
            .map(|instance| instance.id)
            .into_iter()
            .collect();
        assert_eq!(
            listed(&*provider, "node-a").await,
            found,
            "cancelled after {delay:?}"
        );

        let again = launch(&*place.open(), &request).await;
        assert!(
            found.is_empty() || found == [again.id.clone()],
            "a second instance after {delay:?}"
        );
        assert_eq!(
            listed(&*provider, "node-a").await,
            std::slice::from_ref(&again.id),
            "cancelled after {delay:?}"
        );
        end(place, &again.id).await;
        assert_eq!(
            listed(&*provider, "node-a").await,
            [],
            "cancelled after {delay:?}"
        );
    }
}

/// An instance that ended by itself is gone for `describe`, `find` and `list`, and can be terminated.
pub async fn an_end_from_outside_is_noticed(place: &dyn Place) {
    let provider = place.open();
    let request = request("killed", "node-a");
    let instance = launch(&*provider, &request).await;
    assert_eq!(describe(&*provider, &instance.id).await, InstanceStatus::Alive);

    place.kill(&instance.id).await;
    let deadline = Instant::now() + NOTICE_LIMIT;
    while describe(&*provider, &instance.id).await == InstanceStatus::Alive {
        assert!(
            Instant::now() < deadline,
            "the end was not noticed in {NOTICE_LIMIT:?}"
        );
        tokio::time::sleep(NOTICE_INTERVAL).await;
    }
    assert_eq!(find(&*provider, &request.token).await, None);
    assert_eq!(listed(&*provider, "node-a").await, []);
    end(place, &instance.id).await;
}

/// A console's tail is there for a living instance, and asking for an unknown one's is no error.
pub async fn a_console_belongs_to_an_instance(place: &dyn Place) {
    let provider = place.open();
    let instance = launch(&*provider, &request("console", "node-a")).await;
    assert!(
        provider.console_tail(&instance.id).await.is_some(),
        "a living instance has a console"
    );
    assert_eq!(provider.console_tail(&InstanceId::new("i-never-was")).await, None);
    end(place, &instance.id).await;
}

/// A local provider's `pool` is its capacity, and an end gives its address back.
pub async fn the_pool_is_the_capacity(place: &dyn Place, pool: &AddressPool) {
    let provider = place.open();
    let small = |number: usize| {
        let mut request = request(&format!("pool-{number}"), "node-a");
        request.shape.memory_mib = Some(256);
        request
    };
    let mut instances = Vec::new();
    for number in 0..pool.addresses().count() {
        instances.push(launch(&*provider, &small(number)).await);
    }
    let next = small(instances.len());
    let refused = provider.launch(&next).await;
    assert!(
        matches!(&refused, Err(error @ ProviderError::Capacity(_)) if error.retryable()),
        "one more than the pool has: {refused:?}"
    );
    let freed = instances.remove(1);
    end(place, &freed.id).await;
    let again = launch(&*provider, &next).await;
    assert_eq!(again.addresses, freed.addresses);
    for instance in instances.iter().chain([&again]) {
        end(place, &instance.id).await;
    }
}

/// A token makes one batch, also after a restart; its instances wait without a pod, and a claim of one leaves the others.
pub async fn one_call_launches_one_batch(place: &dyn Place) {
    let provider = place.open();
    let request = warm_request("batch");
    let count = provider.batch_limit().min(3);
    let mut launched = together(&*provider, &request, count).await;
    assert_eq!(launched.len(), count);
    let mut ids: Vec<InstanceId> = launched.iter().map(|instance| instance.id.clone()).collect();
    for provider in [provider.clone(), place.open()] {
        assert_eq!(together(&*provider, &request, count).await, launched);
        let found = provider.find_all(&request.token).await;
        let found = found.unwrap_or_else(|error| panic!("find all: {}", chain(&error)));
        assert_eq!(sorted(found.into_iter().map(|instance| instance.id)), ids);
        assert_eq!(sorted(listed(&*provider, "node-a").await), ids);
    }
    let claimed = launched.remove(0);
    claim(&*provider, &claimed.id, &pod("of-batch"))
        .await
        .unwrap_or_else(|error| panic!("claim: {}", chain(&error)));
    for other in &launched {
        assert_eq!(assignment(&*place.open(), &other.id).await, Assignment::Warm);
    }
    end(place, &claimed.id).await;
    ids.retain(|id| *id != claimed.id);
    assert_eq!(sorted(listed(&*place.open(), "node-a").await), ids);
    for other in &launched {
        end(place, &other.id).await;
    }
    let found = provider.find_all(&request.token).await;
    assert_eq!(found.unwrap_or_else(|error| panic!("find all: {error}")), []);
}

fn sorted(ids: impl IntoIterator<Item = InstanceId>) -> Vec<InstanceId> {
    let mut ids: Vec<InstanceId> = ids.into_iter().collect();
    ids.sort();
    ids
}

/// A batch, in the order of its instances' names.
async fn together(provider: &dyn Provider, request: &LaunchRequest, count: usize) -> Vec<Instance> {
    let launched = provider.launch_together(request, count).await;
    let mut launched = launched.unwrap_or_else(|error| panic!("launch together: {}", chain(&error)));
    launched.sort_by(|left, right| left.id.cmp(&right.id));
    launched
}

/// A claim shows in `list`, also after a restart; it can be repeated, and no other pod's succeeds after it.
pub async fn a_warm_instance_becomes_one_pods(place: &dyn Place) {
    let provider = place.open();
    let request = warm_request("claimed");
    let instance = launch(&*provider, &request).await;
    assert_eq!(assignment(&*provider, &instance.id).await, Assignment::Warm);

    let pod = pod("claimer");
    for _ in 0..2 {
        claim(&*provider, &instance.id, &pod)
            .await
            .unwrap_or_else(|error| panic!("claim: {}", chain(&error)));
        assert_eq!(
            assignment(&*place.open(), &instance.id).await,
            Assignment::Pod(pod.clone())
        );
    }
    let refused = claim(&*place.open(), &instance.id, &self::pod("late")).await;
    assert!(
        matches!(&refused, Err(ProviderError::ClaimedByAnother { instance: id, sandbox })
            if *id == instance.id && *sandbox == pod.sandbox),
        "a second pod's claim: {refused:?}"
    );
    assert_eq!(
        assignment(&*provider, &instance.id).await,
        Assignment::Pod(pod),
        "a refused claim changed the owner"
    );
    assert_eq!(find(&*provider, &request.token).await, Some(instance.clone()));
    end(place, &instance.id).await;
}

/// Two pods' claims at once, from two providers: one succeeds, and the instance is its.
pub async fn of_two_pods_that_claim_one_instance_one_gets_it(place: &dyn Place) {
    let (one, two) = (place.open(), place.open());
    let instance = launch(&*one, &warm_request("wanted")).await;
    let (left, right) = (pod("left"), pod("right"));
    let outcomes = tokio::join!(
        claim(&*one, &instance.id, &left),
        claim(&*two, &instance.id, &right)
    );
    let winner = match outcomes {
        (Ok(()), Err(ProviderError::ClaimedByAnother { .. })) => left,
        (Err(ProviderError::ClaimedByAnother { .. }), Ok(())) => right,
        other => panic!("two claims at once: {other:?}"),
    };
    assert_eq!(
        assignment(&*place.open(), &instance.id).await,
        Assignment::Pod(winner)
    );
    end(place, &instance.id).await;
}

/// Whatever a cancelled claim leaves, the instance is warm or the pod's, and the pod can claim it again.
pub async fn a_cancelled_claim_happened_or_did_not(place: &dyn Place) {
    let provider = place.open();
    for (round, delay) in CANCELLATIONS.into_iter().enumerate() {
        let instance = launch(&*provider, &warm_request(&format!("interrupted-{round}"))).await;
        let pod = pod("patient");
        cancel_after(delay, claim(&*provider, &instance.id, &pod)).await;
        let left = assignment(&*place.open(), &instance.id).await;
        assert!(
            left == Assignment::Warm || left == Assignment::Pod(pod.clone()),
            "cancelled after {delay:?}: {left:?}"
        );
        claim(&*place.open(), &instance.id, &pod)
            .await
            .unwrap_or_else(|error| panic!("claimed again after {delay:?}: {}", chain(&error)));
        end(place, &instance.id).await;
    }
}

/// An instance that has ended, by whomever, cannot be claimed, and one that was launched for a pod never.
pub async fn what_does_not_live_cannot_be_claimed(place: &dyn Place) {
    let provider = place.open();
    let ended = |refused: Result<(), ProviderError>| {
        assert!(
            matches!(refused, Err(ProviderError::Ended(_))),
            "claimed after its end: {refused:?}"
        );
    };
    let killed = launch(&*provider, &warm_request("killed-warm")).await;
    place.kill(&killed.id).await;
    let deadline = Instant::now() + NOTICE_LIMIT;
    while describe(&*provider, &killed.id).await == InstanceStatus::Alive {
        assert!(
            Instant::now() < deadline,
            "the end was not noticed in {NOTICE_LIMIT:?}"
        );
        tokio::time::sleep(NOTICE_INTERVAL).await;
    }
    ended(claim(&*provider, &killed.id, &pod("too-late")).await);
    end(place, &killed.id).await;
    ended(claim(&*provider, &killed.id, &pod("too-late")).await);
    ended(claim(&*provider, &InstanceId::new("i-never-was"), &pod("too-late")).await);

    let cold = launch(&*provider, &request("cold", "node-a")).await;
    let refused = claim(&*provider, &cold.id, &pod("greedy")).await;
    assert!(
        matches!(refused, Err(ProviderError::ClaimedByAnother { .. })),
        "another pod's instance: {refused:?}"
    );
    end(place, &cold.id).await;
}

/// The kind of a shape is the same for every provider on one place, and what cannot be launched has none.
pub async fn equal_shapes_get_equal_kinds(place: &dyn Place) {
    let kind = |shape: &Shape| {
        place
            .open()
            .kind(shape)
            .unwrap_or_else(|error| panic!("kind of {shape:?}: {}", chain(&error)))
    };
    assert_eq!(kind(&Shape::default()), kind(&Shape::default()));
}

/// A request for an instance without identity.
pub fn warm_request(name: &str) -> LaunchRequest {
    let mut request = request(name, "node-a");
    request.owner.assignment = Assignment::Warm;
    request
}

/// A request with every field filled, so that a field which a provider drops is noticed.
pub fn request(name: &str, node: &str) -> LaunchRequest {
    LaunchRequest {
        token: LaunchToken::try_from(format!("conformance-{name}")).unwrap_or_else(|error| panic!("{error}")),
        owner: Owner {
            cluster: CLUSTER.to_owned(),
            node: node.to_owned(),
            assignment: Assignment::Pod(pod(name)),
        },
        shape: Shape::default(),
        name: format!("podvm-{name}"),
        tags: BTreeMap::from([("team".to_owned(), "storage".to_owned())]),
        payload: Zeroizing::new(b"#cloud-config\n".to_vec()),
    }
}

fn pod(name: &str) -> PodIdentity {
    PodIdentity {
        sandbox: format!("sandbox-{name}"),
        pod_namespace: "namespace with \"quotes\" and ünïcode".to_owned(),
        pod_name: name.to_owned(),
        pod_uid: Some("8a7c0f6e-0000-4000-8000-000000000000".to_owned()),
    }
}

/// Polls a call for at most `delay`, and at least once, then drops it.
async fn cancel_after<T>(delay: Duration, call: impl Future<Output = T>) {
    let mut call = pin!(call);
    drop(timeout(delay, &mut call).await);
}

async fn claim(provider: &dyn Provider, id: &InstanceId, pod: &PodIdentity) -> Result<(), ProviderError> {
    provider.claim(id, pod, &format!("podvm-{}", pod.pod_name)).await
}

/// Whom one instance is listed for.
async fn assignment(provider: &dyn Provider, id: &InstanceId) -> Assignment {
    let scope = OwnerScope {
        cluster: CLUSTER.to_owned(),
        node: None,
    };
    let found = provider
        .list(&scope)
        .await
        .unwrap_or_else(|error| panic!("list: {}", chain(&error)));
    let owned = found.into_iter().find(|owned| owned.instance.id == *id);
    owned
        .unwrap_or_else(|| panic!("{id} is not listed"))
        .owner
        .assignment
}

async fn launch(provider: &dyn Provider, request: &LaunchRequest) -> Instance {
    provider
        .launch(request)
        .await
        .unwrap_or_else(|error| panic!("launch {}: {}", request.token, chain(&error)))
}

async fn find(provider: &dyn Provider, token: &LaunchToken) -> Option<Instance> {
    provider
        .find(token)
        .await
        .unwrap_or_else(|error| panic!("find {token}: {}", chain(&error)))
}

async fn describe(provider: &dyn Provider, id: &InstanceId) -> InstanceStatus {
    provider
        .describe(id)
        .await
        .unwrap_or_else(|error| panic!("describe {id}: {}", chain(&error)))
}

async fn end(place: &dyn Place, id: &InstanceId) {
    place
        .open()
        .terminate(id)
        .await
        .unwrap_or_else(|error| panic!("terminate {id}: {}", chain(&error)));
}

/// The ids that one node's list shows.
async fn listed(provider: &dyn Provider, node: &str) -> Vec<InstanceId> {
    let scope = OwnerScope {
        cluster: CLUSTER.to_owned(),
        node: Some(node.to_owned()),
    };
    let found = provider
        .list(&scope)
        .await
        .unwrap_or_else(|error| panic!("list: {}", chain(&error)));
    found.into_iter().map(|found| found.instance.id).collect()
}
