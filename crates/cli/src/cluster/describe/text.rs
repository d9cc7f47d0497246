//! A description for people.

use std::fmt::Write;

use super::{
    super::{
        machine::Machine,
        table::{UNKNOWN, cell, table},
    },
    Description, NodeRoom,
};
use crate::output::Report;

impl Report for Description {
    fn text(&self) -> String {
        let mut text = String::new();
        let phase = self.pod_phase.as_deref().unwrap_or("gone");
        line(
            &mut text,
            "Pod",
            format!("{}/{} ({phase})", self.namespace, self.pod),
        );
        if let Some(waits_for) = &self.waits_for {
            line(&mut text, "Waits for", waits_for);
        }
        if self.machines.is_empty() {
            line(&mut text, "VM", "none was asked for yet");
        }
        for machine in &self.machines {
            describe(&mut text, machine);
        }
        if let Some(node) = &self.node {
            line(&mut text, "Node", said(node));
        }
        section(
            &mut text,
            "Stages",
            table(
                ["TIME", "AFTER", "STAGE"],
                self.stages.iter().map(|one| {
                    [
                        one.time.to_string(),
                        format!("{} s", one.seconds),
                        one.stage.clone(),
                    ]
                }),
            ),
        );
        let events = self.events.iter().map(|one| {
            [
                cell(one.time),
                one.severity.clone(),
                one.kind.clone(),
                one.reason.clone(),
                one.count.to_string(),
                one.message.replace('\n', " "),
            ]
        });
        if self.events.is_empty() {
            line(&mut text, "Events", "none, or none any more");
        } else {
            let heads = ["TIME", "TYPE", "OBJECT", "REASON", "COUNT", "MESSAGE"];
            section(&mut text, "Events", table(heads, events));
        }
        text
    }
}

fn describe(text: &mut String, machine: &Machine) {
    line(
        text,
        "VM",
        format!(
            "{} ({})",
            cell(machine.instance.as_ref()),
            machine.phase.as_deref().unwrap_or("no phase yet")
        ),
    );
    let addresses = machine.addresses.join(", ");
    let parts = [
        ("PeerPod", Some(&machine.peer_pod)),
        ("Provider", machine.provider.as_ref()),
        ("Size", machine.size.as_ref()),
        ("Addresses", Some(&addresses).filter(|text| !text.is_empty())),
        ("Sandbox", machine.sandbox.as_ref()),
        ("Message", machine.message.as_ref()),
    ];
    for (name, value) in parts {
        if let Some(value) = value {
            line(text, &format!("  {name}"), value);
        }
    }
}

fn said(node: &NodeRoom) -> String {
    let capacity = node.capacity.as_deref().unwrap_or("no");
    let machines = node
        .machines
        .map_or(UNKNOWN.to_owned(), |count| count.to_string());
    format!("{} (VMs: {machines} of {capacity})", node.name)
}

fn line(text: &mut String, name: &str, value: impl AsRef<str>) {
    let name = format!("{name}:");
    writeln!(text, "{name:<14}{}", value.as_ref()).expect("a String takes what is written");
}

fn section(text: &mut String, name: &str, table: String) {
    writeln!(text, "{name}:").expect("a String takes what is written");
    for line in table.lines() {
        writeln!(text, "  {line}").expect("a String takes what is written");
    }
}
