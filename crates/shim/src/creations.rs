//! Containers that are being created, and whether the runtime still waits for them.
//!
//! A creation takes as long as the pull of its image. A runtime that gives up on it (the kubelet's two minutes) deletes the
//! container, of which it knows no more than its name, and never asks for it again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What is to become of a container that is being created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Wanted,
    GivenUp,
}

/// All creations under way. A clone is the same table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Creations(Arc<Mutex<HashMap<String, Outcome>>>);

/// One creation, until it is dropped.
#[derive(Debug)]
pub(crate) struct Creation {
    id: String,
    all: Creations,
}

impl Creations {
    /// Notes a creation that begins; `None` where one of that id is under way.
    pub(crate) fn begin(&self, id: &str) -> Option<Creation> {
        let mut all = self.table();
        if all.contains_key(id) {
            return None;
        }
        all.insert(id.to_owned(), Outcome::Wanted);
        Some(Creation {
            id: id.to_owned(),
            all: self.clone(),
        })
    }

    /// Nobody waits for this container any more; without effect where it is not being created.
    pub(crate) fn give_up(&self, id: &str) {
        if let Some(outcome) = self.table().get_mut(id) {
            *outcome = Outcome::GivenUp;
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, Outcome>> {
        // A panic elsewhere cannot leave the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Creation {
    /// The creation is at its end; what is to become of the container.
    pub(crate) fn end(self) -> Outcome {
        self.all.table().get(&self.id).copied().unwrap_or(Outcome::Wanted)
    }
}

impl Drop for Creation {
    fn drop(&mut self) {
        self.all.table().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_creation_can_be_given_up_as_long_as_it_lasts() {
        let creations = Creations::default();
        let creation = creations.begin("app").unwrap();
        assert!(creations.begin("app").is_none());
        creations.give_up("app");
        creations.give_up("other");
        assert_eq!(creation.end(), Outcome::GivenUp);
        creations.give_up("app");
        assert_eq!(creations.begin("app").unwrap().end(), Outcome::Wanted);
    }
}
