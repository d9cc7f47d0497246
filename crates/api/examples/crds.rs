//! Writes the definitions of our custom resources into the folder that its argument names, one file each.

use std::{env, error::Error, fs, path::PathBuf};

use peerpods_api::crd;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::args_os().nth(1).ok_or("usage: crds FOLDER")?);
    fs::create_dir_all(&folder)?;
    for definition in crd::all() {
        let name = format!("{}_{}.yaml", definition.spec.group, definition.spec.names.plural);
        fs::write(folder.join(name), crd::yaml(&definition)?)?;
    }
    Ok(())
}
