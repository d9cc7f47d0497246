//! EC2 as its documentation describes it, as far as a launcher of instances meets it: moto's server behind a proxy that
//! adds what moto leaves out, and goes wrong when a test asks it to.
//!
//! - *Counts*: as many instances as asked for at most.
//! - *Client tokens*: a repeated RunInstances gets the first one's answer; one with other parameters, or whose instance was
//!   terminated, is refused. They count per subnet here, where EC2 counts them per zone.
//! - *Eventual consistency*: for a while a new instance is not shown, and cannot be ended.
//! - *Public addresses*: EC2 gives none by itself to an instance with several interfaces; elastic ones are as in [`Addresses`].
//! - *Spot instances*: the requests behind them, and their interruption when a test asks for it.
//! - *Request limits*, where a test asks for them: those that AWS gives an account by default.
//! - *Faults*, by [`Fault`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Moto,
    account::Account,
    addresses::Addresses,
    limits::Limits,
    spot::SpotRequests,
    xml::{refusal, values, without},
};
use crate::{
    http::{HttpAnswer, HttpReply, HttpRequest, HttpServer},
    wait_for,
};

/// The region that everything is in.
pub const REGION: &str = "eu-central-1";

/// A request takes a fraction of a second.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

const FIRST_ACCOUNT: u64 = 100_000_000_001;

/// The question for instances that are not terminated.
const LIVING: [(&str, &str); 6] = [
    ("Action", "DescribeInstances"),
    ("Filter.1.Name", "instance-state-name"),
    ("Filter.1.Value.1", "pending"),
    ("Filter.1.Value.2", "running"),
    ("Filter.1.Value.3", "stopping"),
    ("Filter.1.Value.4", "stopped"),
];

/// What goes wrong with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not arrive.
    LoseRequest,
    /// It takes effect, and its answer is lost.
    LoseReply,
    /// It arrives twice; the second answer is given.
    Duplicate,
    /// It is refused with this status and code, and has no effect.
    Refuse(u16, &'static str),
    /// It takes effect, and the answer is this failure.
    FailAfter(u16, &'static str),
}

/// One request of the Query API, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// For example `RunInstances`.
    pub action: String,
    /// All parameters, the action too.
    pub parameters: BTreeMap<String, String>,
}

impl Request {
    pub(super) fn parse(body: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(body).into_owned();
        let parameters: BTreeMap<String, String> = pairs.collect();
        Self {
            action: parameters.get("Action").cloned().unwrap_or_default(),
            parameters,
        }
    }

    /// A parameter's value.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// Where a launch is to be, where it says so.
    pub fn subnet(&self) -> Option<&str> {
        let of_interface = self.parameter("NetworkInterface.1.SubnetId");
        self.parameter("SubnetId").or(of_interface)
    }

    /// The pairs below `prefix`, for example of the tags of a specification, by name.
    pub fn tags(&self, prefix: &str) -> BTreeMap<String, String> {
        let numbers = 1..;
        numbers
            .map_while(|number| {
                let key = self.parameter(&format!("{prefix}.{number}.Key"))?;
                let value = self.parameter(&format!("{prefix}.{number}.Value"))?;
                Some((key.to_owned(), value.to_owned()))
            })
            .collect()
    }
}

/// What happens to instances, told to what runs them.
pub(super) enum Change<'a> {
    /// These were launched, by this request.
    Launched(Vec<String>, &'a Request),
    /// This one ends: it is still there.
    Ends(&'a str),
}

type Observer = Box<dyn Fn(Change<'_>) + Send + Sync>;
type Faults = Box<dyn FnMut(&Request) -> Option<Fault> + Send>;

/// EC2 on loopback: an account of its own, in a server that this process's tests share.
pub struct Emulator {
    server: HttpServer,
    shared: Arc<Shared>,
}

struct Shared {
    account: Account,
    observer: OnceLock<Observer>,
    under_way: AtomicUsize,
    state: Mutex<State>,
    /// Held from a token's look-up to its entry.
    launching: Mutex<()>,
    /// Held from a look at addresses to what comes of it.
    addresses: Mutex<Addresses>,
}

struct State {
    launches: BTreeMap<(String, String), Launch>,
    made: Vec<(String, Instant)>,
    ended: BTreeSet<String>,
    requests: Vec<Request>,
    faults: Faults,
    visibility: Duration,
    limits: Option<Limits>,
    spot: SpotRequests,
}

/// What a client token was used for.
#[derive(Clone)]
struct Launch {
    parameters: BTreeMap<String, String>,
    instances: Vec<String>,
    reply: HttpReply,
}

impl Emulator {
    /// Starts one, or says what is missing and gives none.
    pub fn start() -> Option<Self> {
        static ACCOUNTS: AtomicU64 = AtomicU64::new(FIRST_ACCOUNT);
        let moto = Moto::shared()?;
        let number = ACCOUNTS.fetch_add(1, Ordering::Relaxed);
        Some(Self::of(Account::new(moto.address(), number)))
    }

    /// That of an account whose server the caller keeps.
    pub(super) fn of(account: Account) -> Self {
        let state = State {
            launches: BTreeMap::new(),
            made: Vec::new(),
            ended: BTreeSet::new(),
            requests: Vec::new(),
            faults: Box::new(|_| None),
            visibility: Duration::ZERO,
            limits: None,
            spot: SpotRequests::default(),
        };
        let shared = Arc::new(Shared {
            addresses: Mutex::new(Addresses::new(account.clone())),
            account,
            observer: OnceLock::new(),
            under_way: AtomicUsize::new(0),
            state: Mutex::new(state),
            launching: Mutex::new(()),
        });
        let serving = shared.clone();
        let server = HttpServer::start(move |request| serving.serve(request));
        Self { server, shared }
    }

    /// From now on `observer` is told of instances.
    pub(super) fn observe(&self, observer: impl Fn(Change<'_>) + Send + Sync + 'static) {
        let first = self.shared.observer.set(Box::new(observer)).is_ok();
        assert!(first, "one observer is told");
    }

    /// What a client gets for its request.
    pub(super) fn answer(&self, http: &HttpRequest) -> HttpAnswer {
        self.shared.serve(http)
    }

    /// Its address for clients.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// From now on `faults` says what goes wrong with each request.
    pub fn set_faults(&self, faults: impl FnMut(&Request) -> Option<Fault> + Send + 'static) {
        self.shared.state().faults = Box::new(faults);
    }

    /// From now on a new instance is not shown for this long.
    pub fn set_visibility(&self, visibility: Duration) {
        self.shared.state().visibility = visibility;
    }

    /// From now on there are so many elastic addresses at most. EC2 gives an account 5 in a region, where it asks for no more.
    pub fn limit_addresses(&self, quota: usize) {
        self.shared.addresses().set_quota(quota);
    }

    /// From now on requests are limited as an account's are by default, beginning with full buckets.
    pub fn limit_requests(&self) {
        self.shared.state().limits = Some(Limits::full());
    }

    /// The requests that were refused because there were too many, and how long after it each was made again.
    pub fn throttled(&self) -> Vec<(Request, Option<Duration>)> {
        let state = self.shared.state();
        state.limits.as_ref().map_or_else(Vec::new, Limits::throttled)
    }

    /// All requests so far, also those that went wrong.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// The requests so far of one action.
    pub fn requests_of(&self, action: &str) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.action == action);
        requests
    }

    /// Waits until no request is under way: what a client that was killed had sent has arrived then.
    pub fn wait_idle(&self) {
        wait_for("the emulator is idle", IDLE_LIMIT, || {
            match self.shared.under_way.load(Ordering::SeqCst) {
                0 => Ok(()),
                number => Err(format!("{number} requests are under way")),
            }
        });
    }

    /// Registers a VM image, and answers its id.
    pub fn register_image(&self) -> String {
        let answer = self.ask(&[("Action", "RegisterImage"), ("Name", "peer-pod-vm")]);
        values(&answer, "imageId").remove(0)
    }

    /// The subnets, one in each zone.
    pub fn subnets(&self) -> Vec<String> {
        values(&self.ask(&[("Action", "DescribeSubnets")]), "subnetId")
    }

    /// A security group.
    pub fn security_group(&self) -> String {
        values(&self.ask(&[("Action", "DescribeSecurityGroups")]), "groupId").remove(0)
    }

    /// The instances that are not terminated.
    pub fn living_instances(&self) -> Vec<String> {
        values(&self.ask(&LIVING), "instanceId")
    }

    /// Those of them that have this tag.
    pub fn living_instances_with(&self, tag: &str, value: &str) -> Vec<String> {
        let name = format!("tag:{tag}");
        let with = [("Filter.2.Name", name.as_str()), ("Filter.2.Value.1", value)];
        values(&self.ask(&[&LIVING[..], &with[..]].concat()), "instanceId")
    }

    /// The elastic addresses.
    pub fn addresses(&self) -> Vec<String> {
        self.shared.addresses().all()
    }

    /// Those of them that have this tag.
    pub fn addresses_with(&self, tag: &str, value: &str) -> Vec<String> {
        self.shared.addresses().with(tag, value)
    }

    /// Ends an instance, as its guest does.
    pub fn terminate(&self, id: &str) {
        let request = Account::request(&[("Action", "TerminateInstances"), ("InstanceId.1", id)]);
        let reply = self.shared.end(id, &request);
        assert_eq!(reply.status, 200, "EC2 ends what it has");
    }

    /// Whether it was bought as one that can be taken back.
    pub(super) fn is_spot(&self, id: &str) -> bool {
        self.shared.state().spot.has(id)
    }

    /// Takes a spot instance back: EC2 says so from now on, and two minutes later, for which a test need not wait, ends it.
    pub fn interrupt(&self, id: &str) {
        self.shared.state().spot.interrupt(id);
    }

    /// Stops an instance, as a person does.
    pub fn stop(&self, id: &str) {
        self.ask(&[("Action", "StopInstances"), ("InstanceId.1", id)]);
    }

    fn ask(&self, parameters: &[(&str, &str)]) -> String {
        let answer = self.shared.account.ask(parameters);
        answer.expect("EC2 takes what it has documented")
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, http: &HttpRequest) -> HttpAnswer {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer(http);
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    fn tell(&self, change: Change<'_>) {
        if let Some(observer) = self.observer.get() {
            observer(change);
        }
    }

    fn answer(&self, http: &HttpRequest) -> HttpAnswer {
        let request = Request::parse(&http.body);
        let fault = {
            let mut state = self.state();
            state.requests.push(request.clone());
            let fault = (state.faults)(&request);
            let limits = state.limits.as_mut();
            fault.or_else(|| limits.and_then(|limits| limits.refuse(&request)))
        };
        match fault {
            None => HttpAnswer::Reply(self.perform(http, &request)),
            Some(Fault::LoseRequest) => HttpAnswer::HangUp,
            Some(Fault::LoseReply) => {
                self.perform(http, &request);
                HttpAnswer::HangUp
            }
            Some(Fault::Duplicate) => {
                self.perform(http, &request);
                HttpAnswer::Reply(self.perform(http, &request))
            }
            Some(Fault::Refuse(status, code)) => HttpAnswer::Reply(refusal(status, code)),
            Some(Fault::FailAfter(status, code)) => {
                self.perform(http, &request);
                HttpAnswer::Reply(refusal(status, code))
            }
        }
    }

    fn perform(&self, http: &HttpRequest, request: &Request) -> HttpReply {
        match request.action.as_str() {
            "RunInstances" => self.run_instances(http, request),
            "DescribeInstances" => self.describe_instances(http),
            "DescribeSpotInstanceRequests" => self.state().spot.describe(request),
            "TerminateInstances" => self.terminate_instances(http, request),
            _ => {
                let visibility = self.state().visibility;
                let of_addresses = self.addresses().answer(http, request, visibility);
                of_addresses.unwrap_or_else(|| self.account.forward(http))
            }
        }
    }

    fn run_instances(&self, http: &HttpRequest, request: &Request) -> HttpReply {
        let _launching = self.launching.lock().unwrap_or_else(PoisonError::into_inner);
        let token = request.parameter("ClientToken").unwrap_or_default().to_owned();
        let key = (token, request.subnet().unwrap_or_default().to_owned());
        let known = self.state().launches.get(&key).cloned();
        if let Some(known) = known.filter(|_| !key.0.is_empty()) {
            return if known.parameters != request.parameters {
                refusal(400, "IdempotentParameterMismatch")
            } else if known.instances.iter().all(|id| self.state().ended.contains(id)) {
                refusal(400, "IdempotentInstanceTerminated")
            } else {
                known.reply
            };
        }
        let mut parameters = request.parameters.clone();
        let public = |number: u32| format!("NetworkInterface.{number}.AssociatePublicIpAddress");
        if parameters.contains_key("NetworkInterface.2.DeviceIndex") {
            if (1..=2).any(|number| parameters.contains_key(&public(number))) {
                return refusal(400, "InvalidParameterCombination");
            }
            // moto gives the first one what its subnet gives.
            parameters.insert(public(1), "false".to_owned());
        }
        // There is room for all; moto launches no more than the least.
        if let Some(most) = parameters.get("MaxCount").cloned() {
            parameters.insert("MinCount".to_owned(), most);
        }
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(parameters)
            .finish();
        let mut http = http.clone();
        http.body = body.into_bytes();
        http.headers
            .retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
        let reply = self.account.forward(&http);
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        let instances = values(&text, "instanceId");
        if !instances.is_empty() {
            self.tell(Change::Launched(instances.clone(), request));
            let mut state = self.state();
            state.spot.launched(request, &instances);
            let made = instances.iter().map(|id| (id.clone(), Instant::now()));
            state.made.extend(made);
            state.launches.insert(
                key,
                Launch {
                    parameters: request.parameters.clone(),
                    instances,
                    reply: reply.clone(),
                },
            );
        }
        reply
    }

    fn describe_instances(&self, http: &HttpRequest) -> HttpReply {
        let hidden = self.hidden();
        let mut reply = self.account.forward(http);
        if !hidden.is_empty() {
            let text = String::from_utf8_lossy(&reply.body);
            reply.body = without(&text, "reservationSet", "instanceId", &hidden).into_bytes();
        }
        reply
    }

    fn terminate_instances(&self, http: &HttpRequest, request: &Request) -> HttpReply {
        let id = request.parameter("InstanceId.1").unwrap_or_default().to_owned();
        if self.hidden().contains(&id) {
            return refusal(400, "InvalidInstanceID.NotFound");
        }
        // Before EC2 gives its address to another one.
        self.tell(Change::Ends(&id));
        self.end(&id, http)
    }

    /// Ends an instance by this request, and all that goes with it.
    fn end(&self, id: &str, http: &HttpRequest) -> HttpReply {
        let interfaces = self.interfaces(id);
        let reply = self.account.forward(http);
        if reply.status == 200 {
            self.remove(&interfaces);
            self.state().ended.insert(id.to_owned());
        }
        reply
    }

    /// The interfaces of an instance.
    fn interfaces(&self, id: &str) -> Vec<String> {
        let shown = self
            .account
            .ask(&[("Action", "DescribeInstances"), ("InstanceId.1", id)]);
        values(&shown.unwrap_or_default(), "networkInterfaceId")
    }

    /// Removes interfaces: those that were made with an instance go with it, which moto does for some of them alone.
    fn remove(&self, interfaces: &[String]) {
        for interface in interfaces {
            let one = ("NetworkInterfaceId", interface.as_str());
            // One that is gone is as good.
            let _ = self.account.ask(&[("Action", "DeleteNetworkInterface"), one]);
            self.addresses().interface_is_gone(interface);
        }
    }

    /// The instances that are not shown yet.
    fn hidden(&self) -> Vec<String> {
        let state = self.state();
        let new = state
            .made
            .iter()
            .filter(|(_, made)| made.elapsed() < state.visibility);
        new.map(|(id, _)| id.clone()).collect()
    }
}
