//! Requests for spot instances, of which moto keeps none for those that RunInstances launches.

use std::collections::BTreeMap;

use super::emulator::Request;
use crate::http::HttpReply;

const FULFILLED: &str = "fulfilled";
/// What EC2 says at once of an instance that ends when it is interrupted; it runs for two more minutes.
const TAKEN_BACK: &str = "instance-terminated-no-capacity";

/// The codes of the requests' states, by instance.
#[derive(Debug, Default)]
pub(super) struct SpotRequests {
    codes: BTreeMap<String, &'static str>,
}

impl SpotRequests {
    /// These were launched by this request.
    pub(super) fn launched(&mut self, request: &Request, instances: &[String]) {
        if request.parameter("InstanceMarketOptions.MarketType") == Some("spot") {
            let fulfilled = instances.iter().map(|id| (id.clone(), FULFILLED));
            self.codes.extend(fulfilled);
        }
    }

    /// Whether this instance is one.
    pub(super) fn has(&self, instance: &str) -> bool {
        self.codes.contains_key(instance)
    }

    pub(super) fn interrupt(&mut self, id: &str) {
        let code = self.codes.get_mut(id);
        *code.unwrap_or_else(|| panic!("{id} is no spot instance")) = TAKEN_BACK;
    }

    /// The answer to DescribeSpotInstanceRequests with a filter of instances.
    pub(super) fn describe(&self, request: &Request) -> HttpReply {
        assert_eq!(request.parameter("Filter.1.Name"), Some("instance-id"));
        let asked = (1..).map_while(|number| request.parameter(&format!("Filter.1.Value.{number}")));
        let found = asked.filter_map(|id| self.codes.get(id).map(|code| item(id, code)));
        let items: String = found.collect();
        let text = format!(
            "<DescribeSpotInstanceRequestsResponse><requestId>none</requestId>\
             <spotInstanceRequestSet>{items}</spotInstanceRequestSet></DescribeSpotInstanceRequestsResponse>"
        );
        HttpReply {
            status: 200,
            headers: Vec::new(),
            body: text.into_bytes(),
        }
    }
}

fn item(id: &str, code: &str) -> String {
    format!(
        "<item><spotInstanceRequestId>sir-{}</spotInstanceRequestId><type>one-time</type><instanceId>{id}</instanceId>\
         <status><code>{code}</code><updateTime>2026-01-01T00:00:00.000Z</updateTime><message>by the emulator</message></status>\
         </item>",
        id.trim_start_matches("i-")
    )
}
