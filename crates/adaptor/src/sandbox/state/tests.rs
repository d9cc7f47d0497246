//! No sequence of events, crashes and replays included, loses an instance.

use std::net::Ipv4Addr;

use peerpods_provider::{Instance, InstanceId, LaunchToken};
use peerpods_tunnel::channel::{ClientIdentity, ServerKeyPin};
use proptest::prelude::*;

use super::{Effect, Event, State, step};
use crate::{sandbox::Reason, warm::WarmVm};

fn token() -> LaunchToken {
    LaunchToken::try_from("pp-1".to_owned()).unwrap()
}

fn key() -> ServerKeyPin {
    "ab".repeat(32).parse().unwrap()
}

/// The instance that is launched for the sandbox's own token.
fn instance() -> Instance {
    named("i-1")
}

fn named(id: &str) -> Instance {
    Instance {
        id: InstanceId::new(id),
        addresses: vec![Ipv4Addr::new(10, 0, 0, 1).into()],
        machine_type: None,
    }
}

/// The one VM of the pool.
fn warm() -> WarmVm {
    WarmVm {
        instance: named("i-warm"),
        server_key: key(),
        // Making keys takes long, and nobody looks at these.
        identity: ClientIdentity {
            authority_pem: String::new(),
            certificate_pem: String::new(),
            key_pem: String::new().into(),
        },
    }
}

/// What may happen next, in the world as it is.
#[derive(Clone, Copy, Debug)]
enum Move {
    /// A shim calls StartVM. While the pool has its VM a sandbox that is reserved takes that.
    Start,
    /// The same while many start.
    StartInCrowd,
    /// Another pod's launch brings the pool a VM, where there was none.
    VmComes,
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
    /// The VM of the pool ends by itself, or the one that was.
    WarmVmEnds,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        2 => Just(Move::Start),
        2 => Just(Move::StartInCrowd),
        1 => Just(Move::VmComes),
        1 => Just(Move::Stop),
        4 => Just(Move::Complete),
        2 => Just(Move::CompleteLate),
        2 => any::<bool>().prop_map(|took_effect| Move::Fail { took_effect }),
        2 => Just(Move::Deliver),
        2 => any::<bool>().prop_map(|took_effect| Move::Crash { took_effect }),
        1 => Just(Move::InstanceEnds),
        1 => Just(Move::WarmVmEnds),
    ]
}

/// Where the warm VM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// There was none from the start.
    Nowhere,
    Pool,
    Sandbox,
}

fn pools() -> impl Strategy<Value = Place> {
    prop_oneof![Just(Place::Nowhere), Just(Place::Pool)]
}

/// A provider with one token, a pool with at most one VM, a journal with one entry, and an adaptor that may die.
struct World {
    journal: State,
    under_way: Option<Effect>,
    late: Option<Event>,
    alive: bool,
    ever_launched: bool,
    warm: Place,
    warm_alive: bool,
    /// Pods that the warm VM was given.
    claims: u32,
}

impl World {
    fn new(warm: Place) -> Self {
        Self {
            journal: State::Reserved { token: token() },
            under_way: None,
            late: None,
            alive: false,
            ever_launched: false,
            warm,
            warm_alive: warm == Place::Pool,
            claims: 0,
        }
    }

    /// As the driver asks: the VM leaves the pool with the write of the state that holds it.
    fn start(&mut self, otherwise: Event) {
        match (&self.journal, self.warm, otherwise) {
            (State::Reserved { .. }, Place::Pool, _) => self.take(),
            (State::Reserved { .. }, _, otherwise) => self.happen(otherwise),
            _ => self.happen(Event::Start),
        }
    }

    fn take(&mut self) {
        self.warm = Place::Sandbox;
        self.happen(Event::StartWith(warm()));
    }

    /// As the driver asks once a report is there.
    fn reported(&mut self, event: Event) {
        match (&self.journal, self.warm, event) {
            (State::Queued { .. }, Place::Pool, Event::Offered) => self.take(),
            (_, _, event) => self.happen(event),
        }
    }

    fn lives(&self, instance: &Instance) -> bool {
        if *instance == warm().instance {
            self.warm_alive
        } else {
            self.alive
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
            Effect::Queue if self.warm == Place::Pool => Event::Offered,
            Effect::Queue => Event::Alone,
            Effect::Claim(warm) if self.warm_alive => {
                // A guest takes one claim; the same one again is known by its credentials.
                self.claims = 1;
                Event::Claimed(warm.instance.clone())
            }
            Effect::Claim(warm) => Event::Unclaimed(warm.instance.clone()),
            Effect::Discard(warm) => {
                self.warm_alive = false;
                Event::Discarded(warm.instance.clone())
            }
            Effect::Join(instance) if self.lives(instance) => Event::Joined {
                instance: instance.clone(),
                server_key: key(),
            },
            Effect::Join(_) => Event::Failed(Reason::Ended("it ended".to_owned())),
            Effect::Serve(..) => Event::Failed(Reason::Ended("it ended".to_owned())),
            Effect::Drain(_, instance) => {
                // What is ended: the named instance, and what is found by the sandbox's own token.
                if instance.as_ref() == Some(&warm().instance) {
                    self.warm_alive = false;
                }
                self.alive = false;
                Event::Ended(instance.clone())
            }
        }
    }

    fn make(&mut self, next: Move) {
        match next {
            Move::Start => self.start(Event::Start),
            Move::StartInCrowd => self.start(Event::StartQueued),
            Move::VmComes if self.warm == Place::Nowhere => {
                self.warm = Place::Pool;
                self.warm_alive = true;
            }
            Move::VmComes => {}
            Move::Stop => self.happen(Event::Stop(Reason::Requested)),
            Move::Complete => {
                if let Some(effect) = self.under_way.take() {
                    let event = self.take_effect(&effect);
                    self.reported(event);
                }
            }
            Move::CompleteLate => {
                if let Some(effect) = self.under_way.take() {
                    self.late = Some(self.take_effect(&effect));
                }
            }
            Move::Deliver => {
                if let Some(event) = self.late.take() {
                    self.reported(event);
                }
            }
            Move::Fail { took_effect } => match self.under_way.take() {
                // An end is asked for until it is confirmed.
                Some(effect @ (Effect::Drain(..) | Effect::Discard(_))) => self.under_way = Some(effect),
                Some(effect @ Effect::Claim(_)) => {
                    if took_effect {
                        self.take_effect(&effect);
                    }
                    self.happen(Event::Unclaimed(warm().instance));
                }
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
            Move::WarmVmEnds => self.warm_alive = false,
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        if let State::Gone { .. } = self.journal {
            prop_assert!(!self.alive, "gone, and the instance lives");
            prop_assert!(
                !self.warm_alive || self.warm == Place::Pool,
                "gone, and the warm VM lives"
            );
        }
        if self.warm_alive && self.warm == Place::Sandbox {
            let (_, instance) = self
                .journal
                .vm()
                .expect("an instance lives, so the state has one");
            prop_assert_eq!(
                instance,
                Some(&warm().instance),
                "{:?} has lost the warm VM",
                self.journal
            );
            prop_assert!(!self.alive, "the sandbox has two VMs: {:?}", self.journal);
        }
        if self.claims > 0 {
            prop_assert_eq!(self.warm, Place::Sandbox, "a claimed VM is in the pool");
        }
        if self.alive {
            let recorded = !matches!(
                self.journal,
                State::Reserved { .. } | State::Queued { .. } | State::Gone { .. }
            );
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
    fn no_sequence_loses_an_instance(pool in pools(), sequence in prop::collection::vec(moves(), 0..40)) {
        let mut world = World::new(pool);
        for next in sequence {
            world.make(next);
            world.check()?;
        }
    }

    #[test]
    fn whatever_happened_a_stop_ends_everything(pool in pools(), sequence in prop::collection::vec(moves(), 0..40)) {
        let mut world = World::new(pool);
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

/// The names of the states that a world goes through.
fn names(world: &mut World, moves: &[Move]) -> Vec<&'static str> {
    let mut names = vec![world.journal.name()];
    for next in moves {
        world.make(*next);
        names.push(world.journal.name());
    }
    names
}

#[test]
fn an_undisturbed_life() {
    let mut world = World::new(Place::Nowhere);
    let life = [
        Move::Start,
        Move::Complete,
        Move::Complete,
        Move::Stop,
        Move::Complete,
    ];
    assert_eq!(
        names(&mut world, &life),
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
        world.journal,
        State::Gone {
            reason: Reason::Requested
        }
    );
}

#[test]
fn a_life_in_a_warm_vm_needs_no_launch() {
    let mut world = World::new(Place::Pool);
    let life = [
        Move::Start,
        Move::Complete,
        Move::Complete,
        Move::Stop,
        Move::Complete,
    ];
    assert_eq!(
        names(&mut world, &life),
        [
            "reserved",
            "being claimed",
            "booting",
            "ready",
            "being ended",
            "gone"
        ]
    );
    assert!(!world.ever_launched && !world.warm_alive);
}

#[test]
fn in_a_crowd_it_waits_for_its_turn_and_is_alone_or_takes_what_is_there() {
    let mut world = World::new(Place::Nowhere);
    let alone = [Move::StartInCrowd, Move::Complete, Move::Complete];
    assert_eq!(
        names(&mut world, &alone),
        ["reserved", "waiting for its turn", "being launched", "booting"]
    );
    let mut world = World::new(Place::Nowhere);
    let together = [Move::StartInCrowd, Move::VmComes, Move::Complete, Move::Complete];
    assert_eq!(
        names(&mut world, &together)[1..],
        [
            "waiting for its turn",
            "waiting for its turn",
            "being claimed",
            "booting"
        ]
    );
    assert!(!world.ever_launched);
}

#[test]
fn a_warm_vm_that_is_not_to_be_had_is_ended_before_another_is_launched() {
    let mut world = World::new(Place::Pool);
    let life = [
        Move::Start,
        Move::Fail { took_effect: true },
        Move::Complete,
        Move::Complete,
    ];
    assert_eq!(
        names(&mut world, &life),
        [
            "reserved",
            "being claimed",
            "being replaced",
            "being launched",
            "booting"
        ]
    );
    assert!(world.alive && !world.warm_alive);
}

#[test]
fn a_second_start_asks_for_nothing() {
    let (state, effect) = step(State::Launching { token: token() }, Event::Start);
    assert_eq!((state, effect), (State::Launching { token: token() }, None));
}
