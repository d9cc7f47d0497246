//! A packet from anybody on the VM's network, and a message of DHCP in it: a lease, or what is wrong with it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerpods_guest::ec2::dhcp::{Answer, Transaction, payload_of_packet};

fuzz_target!(|bytes: &[u8]| {
    let _ = payload_of_packet(bytes, 68);
    // The transaction that the message is for, so that its options are read.
    let number = bytes.get(4..).and_then(|rest| rest.first_chunk()).copied();
    let mac = bytes.get(28..).and_then(|rest| rest.first_chunk()).copied();
    let transaction = Transaction::new(u32::from_be_bytes(number.unwrap_or_default()), mac.unwrap_or_default());
    if let Ok(Answer::Offer(lease) | Answer::Acknowledged(lease)) = transaction.read(bytes) {
        assert!((1..=32).contains(&lease.prefix) && lease.resolvers.len() <= 3);
        assert!(transaction.read(&transaction.request(&lease)).is_err());
    }
});
