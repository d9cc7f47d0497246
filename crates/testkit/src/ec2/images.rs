//! What publishes images, tested against moto's server, with what that leaves out of images in front: tags that are given
//! as an image is made, names that are unique in a region, snapshots that are not
//! complete, and what an image was registered with.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Moto,
    account::Account,
    emulator::Request,
    xml::{refusal, values},
};
use crate::http::{HttpAnswer, HttpReply, HttpRequest, HttpServer, forward};

/// Whose requests are that say nothing else, by moto.
const ACCOUNT: &str = "123456789012";
/// The actions that make an image.
const MAKERS: [&str; 2] = ["RegisterImage", "CopyImage"];
/// Where snapshots are sealed.
const COMPLETION: &str = "/snapshots/completion/";
/// Where a request's tags for the image are.
const TAGS: &str = "TagSpecification.1.Tag";

/// Where a registration has the snapshot of the root volume.
const SNAPSHOT: &str = "BlockDeviceMapping.1.Ebs.SnapshotId";

type Faults = Box<dyn FnMut(&HttpRequest) -> Option<HttpAnswer> + Send>;

/// EC2 and EBS in all regions, as a publisher of images meets them.
pub struct ImageRegistry {
    server: HttpServer,
    shared: Arc<Shared>,
}

struct Shared {
    moto: Moto,
    state: Mutex<State>,
}

struct State {
    faults: Faults,
    /// What is registered, by region and name; none while it is made.
    names: BTreeMap<(String, String), Option<String>>,
    registrations: Vec<Request>,
    /// Snapshots that are sealed.
    completed: BTreeSet<String>,
    blocks: usize,
    /// What each image was registered with; moto gives an image another snapshot.
    snapshots: BTreeMap<String, String>,
}

impl ImageRegistry {
    /// Starts one, or says what is missing and gives none.
    pub fn start() -> Option<Self> {
        let shared = Arc::new(Shared {
            moto: Moto::start()?,
            state: Mutex::new(State {
                faults: Box::new(|_| None),
                names: BTreeMap::new(),
                registrations: Vec::new(),
                completed: BTreeSet::new(),
                blocks: 0,
                snapshots: BTreeMap::new(),
            }),
        });
        let answering = shared.clone();
        let server = HttpServer::start(move |request| answering.answer(request));
        Some(Self { server, shared })
    }

    /// Whether it has something to add to what moto would answer.
    pub(super) fn concerns(http: &HttpRequest) -> bool {
        // Requests of EC2 have no path, those of EBS have.
        let action = Request::parse(&http.body).action;
        let others = ["DescribeSnapshots", "DeregisterImage"];
        http.target != "/" || [MAKERS, others].concat().contains(&action.as_str())
    }

    /// What a client gets for its request.
    pub(super) fn answer(&self, http: &HttpRequest) -> HttpAnswer {
        self.shared.answer(http)
    }

    /// The snapshot that an image was registered with.
    pub(super) fn snapshot_of(&self, image: &str) -> Option<String> {
        self.shared.state().snapshots.get(image).cloned()
    }

    /// The account that images are published to.
    pub(super) fn account(&self) -> Account {
        Account::new(self.shared.moto.address(), ACCOUNT)
    }

    /// Its address, for clients of EC2 and of EBS.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Lets `faults` answer requests in EC2's place; those that get no answer from it go on.
    pub fn set_faults(&self, faults: impl FnMut(&HttpRequest) -> Option<HttpAnswer> + Send + 'static) {
        self.shared.state().faults = Box::new(faults);
    }

    /// With what parameters images were registered or copied.
    pub fn registrations(&self) -> Vec<Request> {
        self.shared.state().registrations.clone()
    }

    /// How many blocks were written so far, of all snapshots.
    pub fn blocks_written(&self) -> usize {
        self.shared.state().blocks
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, http: &HttpRequest) -> HttpAnswer {
        if let Some(answer) = (self.state().faults)(http) {
            return answer;
        }
        if http.method == "PUT" {
            self.state().blocks += 1;
            return HttpAnswer::Reply(self.forward(http));
        }
        if let Some(snapshot) = http.target.strip_prefix(COMPLETION) {
            self.state().completed.insert(snapshot.to_owned());
        }
        // Those of EBS are JSON, and have no action.
        let request = Request::parse(&http.body);
        HttpAnswer::Reply(match request.action.as_str() {
            "DescribeSnapshots" => self.describe_snapshots(http, &request),
            "DeregisterImage" => self.deregister_image(http, &request),
            action if MAKERS.contains(&action) => self.make_image(http, request),
            _ => self.forward(http),
        })
    }

    /// moto takes every snapshot for complete; this shows one that is asked for by its id as it is.
    fn describe_snapshots(&self, http: &HttpRequest, request: &Request) -> HttpReply {
        let mut reply = self.forward(http);
        let asked = request.parameter("SnapshotId.1");
        if asked.is_some_and(|id| !self.state().completed.contains(id)) {
            let text = String::from_utf8_lossy(&reply.body);
            let text = text.replace("<status>completed</status>", "<status>pending</status>");
            reply.body = text.into_bytes();
        }
        reply
    }

    /// Another image may have its name then.
    fn deregister_image(&self, http: &HttpRequest, request: &Request) -> HttpReply {
        let reply = self.forward(http);
        if let (200, Some(id)) = (reply.status, request.parameter("ImageId")) {
            self.state().names.retain(|_, image| image.as_deref() != Some(id));
        }
        reply
    }

    fn make_image(&self, http: &HttpRequest, request: Request) -> HttpReply {
        let name = request.parameter("Name").unwrap_or_default().to_owned();
        let place = (region(http), name);
        let tags = request.tags(TAGS);
        let snapshot = request.parameter(SNAPSHOT).map(str::to_owned);
        {
            let mut state = self.state();
            state.registrations.push(request);
            if state.names.contains_key(&place) {
                return refusal(400, "InvalidAMIName.Duplicate");
            }
            state.names.insert(place.clone(), None);
        }
        let reply = self.forward(http);
        let ids = values(&String::from_utf8_lossy(&reply.body), "imageId");
        if let (200, Some(id)) = (reply.status, ids.first()) {
            let mut state = self.state();
            state.names.insert(place, Some(id.clone()));
            state
                .snapshots
                .extend(snapshot.map(|snapshot| (id.clone(), snapshot)));
            drop(state);
            let tagged = self.forward(&HttpRequest {
                body: tagging(id, &tags).into_bytes(),
                ..http.clone()
            });
            assert_eq!(tagged.status, 200, "moto does not tag an image");
        }
        reply
    }

    fn forward(&self, http: &HttpRequest) -> HttpReply {
        forward(http, self.moto.address()).expect("moto answers")
    }
}

/// The region of a request, which is in its signature.
fn region(http: &HttpRequest) -> String {
    let signature = http.header("authorization").unwrap_or_default();
    signature.split('/').nth(2).unwrap_or_default().to_owned()
}

fn tagging(id: &str, tags: &BTreeMap<String, String>) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", "CreateTags")
        .append_pair("Version", "2016-11-15")
        .append_pair("ResourceId.1", id);
    for (number, (key, value)) in (1..).zip(tags) {
        form.append_pair(&format!("Tag.{number}.Key"), key)
            .append_pair(&format!("Tag.{number}.Value"), value);
    }
    form.finish()
}
