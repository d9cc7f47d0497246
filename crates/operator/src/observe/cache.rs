//! What one watch saw.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use kube::{Resource, runtime::watcher::Event};
use tokio::sync::Notify;

/// The objects of one kind, each as far as a plan needs it. A clone is the same one.
pub(crate) struct Cache<V> {
    state: Arc<Mutex<State<V>>>,
    changed: Arc<Notify>,
}

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self {
            state: self.state.clone(),
            changed: self.changed.clone(),
        }
    }
}

/// Objects by name, with the version that was seen.
type Items<V> = BTreeMap<String, (u64, V)>;

enum State<V> {
    /// A first list is not complete.
    Listing(Items<V>),
    /// Everything was seen.
    Complete(Items<V>),
    /// The API server does not know the kind: there is nothing of it until a list is complete.
    Unserved(Items<V>),
    /// Everything was seen, and is being listed again.
    Relisting { seen: Items<V>, listed: Items<V> },
}

impl<V> State<V> {
    fn seen(&mut self) -> &mut Items<V> {
        match self {
            Self::Listing(items)
            | Self::Complete(items)
            | Self::Unserved(items)
            | Self::Relisting { seen: items, .. } => items,
        }
    }
}

impl<V: Clone + PartialEq> Cache<V> {
    pub(super) fn new(changed: Arc<Notify>) -> Self {
        Self {
            state: Arc::new(Mutex::new(State::Listing(BTreeMap::new()))),
            changed,
        }
    }

    /// Takes what a watch says.
    pub(super) fn take<K: Resource>(&self, event: Event<K>, view: fn(K) -> V) {
        match event {
            Event::Init => self.begin_list(),
            Event::InitApply(object) => {
                let (name, version) = (name_of(&object), version_of(&object));
                match &mut *self.state() {
                    State::Listing(items)
                    | State::Unserved(items)
                    | State::Relisting { listed: items, .. } => {
                        items.insert(name, (version, view(object)));
                    }
                    State::Complete(_) => {}
                }
            }
            Event::InitDone => self.end_list(),
            Event::Apply(object) => self.put(object, view),
            Event::Delete(object) => self.forget(&name_of(&object)),
        }
    }

    /// Takes an object as the API server just gave it; an older version changes nothing.
    pub(crate) fn put<K: Resource>(&self, object: K, view: fn(K) -> V) {
        let (name, version) = (name_of(&object), version_of(&object));
        let mut state = self.state();
        let seen = state.seen();
        let before = seen.get(&name);
        if before.is_some_and(|(before, _)| *before > version) {
            return;
        }
        let value = view(object);
        let is_news = before.is_none_or(|(_, before)| *before != value);
        seen.insert(name, (version, value));
        drop(state);
        if is_news {
            self.changed.notify_one();
        }
    }

    /// The object is gone.
    pub(crate) fn forget(&self, name: &str) {
        if self.state().seen().remove(name).is_some() {
            self.changed.notify_one();
        }
    }

    /// All objects by name (`NAMESPACE/NAME` where they have one); none before all were seen.
    pub(super) fn items(&self) -> Option<BTreeMap<String, V>> {
        match &*self.state() {
            State::Listing(_) => None,
            State::Unserved(_) => Some(BTreeMap::new()),
            State::Complete(seen) | State::Relisting { seen, .. } => Some(
                seen.iter()
                    .map(|(name, (_, value))| (name.clone(), value.clone()))
                    .collect(),
            ),
        }
    }

    /// All objects; none before all were seen.
    pub(super) fn values(&self) -> Option<Vec<V>> {
        self.items().map(|items| items.into_values().collect())
    }

    /// The API server does not know the kind: there is nothing of it. It may come to know it.
    pub(super) fn take_unserved(&self) {
        let mut state = self.state();
        let is_news = !matches!(*state, State::Unserved(_));
        *state = State::Unserved(BTreeMap::new());
        drop(state);
        if is_news {
            self.changed.notify_one();
        }
    }

    /// Whether the API server knows the kind.
    pub(super) fn is_served(&self) -> bool {
        !matches!(*self.state(), State::Unserved(_))
    }

    fn begin_list(&self) {
        let mut state = self.state();
        *state = match std::mem::replace(&mut *state, State::Listing(BTreeMap::new())) {
            State::Listing(_) => State::Listing(BTreeMap::new()),
            State::Unserved(_) => State::Unserved(BTreeMap::new()),
            State::Complete(seen) | State::Relisting { seen, .. } => State::Relisting {
                seen,
                listed: BTreeMap::new(),
            },
        };
    }

    fn end_list(&self) {
        let mut state = self.state();
        *state = match std::mem::replace(&mut *state, State::Listing(BTreeMap::new())) {
            State::Listing(listed) | State::Unserved(listed) | State::Relisting { listed, .. } => {
                State::Complete(listed)
            }
            complete @ State::Complete(_) => complete,
        };
        drop(state);
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().expect("nothing panics while it holds a cache")
    }
}

fn name_of<K: Resource>(object: &K) -> String {
    let metadata = object.meta();
    let name = metadata.name.as_deref().unwrap_or_default();
    metadata
        .namespace
        .as_ref()
        .map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

/// Versions of one kind of object are numbers that grow (Kubernetes 1.35 promises it, and all before did it).
fn version_of<K: Resource>(object: &K) -> u64 {
    object
        .meta()
        .resource_version
        .as_deref()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn map(name: &str, version: &str) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(name.to_owned());
        map.metadata.resource_version = Some(version.to_owned());
        map
    }

    fn version(map: ConfigMap) -> String {
        map.metadata.resource_version.unwrap_or_default()
    }

    #[test]
    fn nothing_is_shown_before_all_was_seen_and_old_news_change_nothing() {
        let cache = Cache::new(Arc::default());
        cache.take(Event::Init, version);
        cache.take(Event::InitApply(map("one", "5")), version);
        assert_eq!(cache.values(), None);
        cache.take(Event::<ConfigMap>::InitDone, version);
        cache.put(map("one", "9"), version);
        cache.take(Event::Apply(map("one", "7")), version);
        assert_eq!(cache.values(), Some(vec!["9".to_owned()]));
    }

    #[test]
    fn a_kind_that_is_not_served_stays_so_until_all_of_it_was_seen() {
        let cache = Cache::new(Arc::default());
        cache.take(Event::<ConfigMap>::Init, version);
        cache.take_unserved();
        assert_eq!((cache.values(), cache.is_served()), (Some(Vec::new()), false));
        cache.take(Event::Init, version);
        cache.take(Event::InitApply(map("one", "5")), version);
        assert_eq!((cache.values(), cache.is_served()), (Some(Vec::new()), false));
        cache.take(Event::<ConfigMap>::InitDone, version);
        assert_eq!(
            (cache.values(), cache.is_served()),
            (Some(vec!["5".to_owned()]), true)
        );
    }

    #[test]
    fn a_second_list_replaces_the_first_at_once() {
        let cache = Cache::new(Arc::default());
        for name in ["one", "two"] {
            cache.take(Event::Init, version);
            cache.take(Event::InitApply(map(name, "5")), version);
            assert!(cache.items().is_none_or(|items| items.contains_key("one")));
            cache.take(Event::<ConfigMap>::InitDone, version);
            assert_eq!(cache.items().unwrap().into_keys().collect::<Vec<_>>(), [name]);
        }
    }
}
