//! No sequence of events, crashes and replays included, loses an instance.

use std::net::Ipv4Addr;

use peerpods_provider::{Instance, InstanceId, LaunchToken};
use peerpods_tunnel::channel::ServerKeyPin;
use proptest::prelude::*;

use super::{Effect, Event, State, step};
use crate::sandbox::Reason;

fn token() -> LaunchToken {
    LaunchToken::try_from("pp-1".to_owned()).unwrap()
}

fn key() -> ServerKeyPin {
    "ab".repeat(32).parse().unwrap()
}

fn instance() -> Instance {
    Instance {
        id: InstanceId::new("i-1"),
        addresses: vec![Ipv4Addr::new(10, 0, 0, 1).into()],
    }
}

/// What may happen next, in the world as it is.
#[derive(Clone, Copy, Debug)]
enum Move {
    /// A shim calls StartVM.
    Start,
    /// A shim calls StopVM.
    Stop,
    /// The effect under way comes to its end.
    Complete,
    /// The effect under way took effect, and its answer comes only after whatever happens next.
    CompleteLate,
    /// The effect under way fails, having taken effect or not.
    Fail { took_effect: bool },
    /// The answer that was late arrives.
    Deliver,
    /// The adaptor dies before the effect that was just asked for is begun, or after it took effect; it starts again.
    Crash { took_effect: bool },
    /// The instance ends by itself.
    InstanceEnds,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        2 => Just(Move::Start),
        1 => Just(Move::Stop),
        4 => Just(Move::Complete),
        2 => Just(Move::CompleteLate),
        2 => any::<bool>().prop_map(|took_effect| Move::Fail { took_effect }),
        2 => Just(Move::Deliver),
        2 => any::<bool>().prop_map(|took_effect| Move::Crash { took_effect }),
        1 => Just(Move::InstanceEnds),
    ]
}

/// A provider with one token, a journal with one entry, and an adaptor that may die.
struct World {
    journal: State,
    under_way: Option<Effect>,
    late: Option<Event>,
    alive: bool,
    ever_launched: bool,
}

impl World {
    fn new() -> Self {
        Self {
            journal: State::Reserved { token: token() },
            under_way: None,
            late: None,
            alive: false,
            ever_launched: false,
        }
    }

    fn happen(&mut self, event: Event) {
        let (state, effect) = step(self.journal.clone(), event);
        self.journal = state;
        if effect.is_some() {
            // The driver ends what is under way before it begins something else.
            self.under_way = effect;
        }
    }

    /// Does what the effect does to the world, and gives what is reported of it.
    fn take_effect(&mut self, effect: &Effect) -> Event {
        match effect {
            Effect::Launch(_) => {
                // A provider never launches twice for one token, even after the instance ended.
                if !self.ever_launched {
                    self.alive = true;
                    self.ever_launched = true;
                }
                Event::Launched(instance())
            }
            Effect::Join(instance) if self.alive => Event::Joined {
                instance: instance.clone(),
                server_key: key(),
            },
            Effect::Join(_) => Event::Failed(Reason::Ended("it ended".to_owned())),
            Effect::Serve(..) => Event::Failed(Reason::Ended("it ended".to_owned())),
            Effect::Drain(_, instance) => {
                self.alive = false;
                Event::Ended(instance.clone())
            }
        }
    }

    fn make(&mut self, next: Move) {
        match next {
            Move::Start => self.happen(Event::Start),
            Move::Stop => self.happen(Event::Stop(Reason::Requested)),
            Move::Complete => {
                if let Some(effect) = self.under_way.take() {
                    let event = self.take_effect(&effect);
                    self.happen(event);
                }
            }
            Move::CompleteLate => {
                if let Some(effect) = self.under_way.take() {
                    self.late = Some(self.take_effect(&effect));
                }
            }
            Move::Deliver => {
                if let Some(event) = self.late.take() {
                    self.happen(event);
                }
            }
            Move::Fail { took_effect } => match self.under_way.take() {
                // A drain is repeated until it is done.
                Some(effect @ Effect::Drain(..)) => self.under_way = Some(effect),
                Some(effect) => {
                    if took_effect {
                        self.take_effect(&effect);
                    }
                    self.happen(Event::Failed(Reason::NotLaunched("no".to_owned())));
                }
                None => {}
            },
            Move::Crash { took_effect } => {
                if let Some(effect) = self.under_way.take()
                    && took_effect
                {
                    self.take_effect(&effect);
                }
                self.late = None;
                self.happen(Event::Replayed);
            }
            Move::InstanceEnds => self.alive = false,
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        if let State::Gone { .. } = self.journal {
            prop_assert!(!self.alive, "gone, and the instance lives");
        }
        if self.alive {
            let recorded = !matches!(self.journal, State::Reserved { .. } | State::Gone { .. });
            prop_assert!(
                recorded,
                "an instance lives that the journal does not know of: {:?}",
                self.journal
            );
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_sequence_loses_an_instance(sequence in prop::collection::vec(moves(), 0..40)) {
        let mut world = World::new();
        for next in sequence {
            world.make(next);
            world.check()?;
        }
    }

    #[test]
    fn whatever_happened_a_stop_ends_everything(sequence in prop::collection::vec(moves(), 0..40)) {
        let mut world = World::new();
        sequence.into_iter().for_each(|next| world.make(next));
        world.make(Move::Stop);
        let stopped = matches!(world.journal, State::Draining { .. } | State::Gone { .. });
        prop_assert!(stopped, "a stop was not accepted: {:?}", world.journal);
        world.make(Move::Deliver);
        // A crash and what it replays may be needed where an answer was lost with its effect.
        world.make(Move::Crash { took_effect: false });
        world.make(Move::Complete);
        prop_assert!(matches!(world.journal, State::Gone { .. }), "not gone: {:?}", world.journal);
        world.check()?;
    }
}

#[test]
fn an_undisturbed_life() {
    let mut state = State::Reserved { token: token() };
    let mut names = vec![state.name()];
    let mut world = World::new();
    for next in [
        Move::Start,
        Move::Complete,
        Move::Complete,
        Move::Stop,
        Move::Complete,
    ] {
        world.make(next);
        state = world.journal.clone();
        names.push(state.name());
    }
    assert_eq!(
        names,
        [
            "reserved",
            "being launched",
            "booting",
            "ready",
            "being ended",
            "gone"
        ]
    );
    assert_eq!(
        state,
        State::Gone {
            reason: Reason::Requested
        }
    );
}

#[test]
fn a_second_start_asks_for_nothing() {
    let (state, effect) = step(State::Launching { token: token() }, Event::Start);
    assert_eq!((state, effect), (State::Launching { token: token() }, None));
}
