//! EC2 in the test bed: `ec2-emulator ADDRESS:PORT FOLDER` serves EC2 and EBS there, keeps disks and consoles in that folder, and
//! runs instances as machines in the network namespace that it is started in. What it holds ends with it.
//!
//! `PEERPODS_TEST_MOTO` names the folder that moto is installed in, `PEERPODS_TEST_FIRMWARE` that of OVMF.

use std::{env, error::Error, net::TcpListener, thread};

use peerpods_testkit::ec2::{Cloud, CloudSettings};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(address), Some(folder), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: ec2-emulator ADDRESS:PORT FOLDER".into());
    };
    let firmware = env::var_os("PEERPODS_TEST_FIRMWARE").ok_or("PEERPODS_TEST_FIRMWARE is not set")?;
    let settings = CloudSettings {
        folder: folder.into(),
        firmware: firmware.into(),
    };
    Cloud::serve(TcpListener::bind(&address)?, settings)?;
    loop {
        thread::park();
    }
}
