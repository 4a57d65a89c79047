//! How the binary is linked.

use std::env;
use std::process::Command;

/// The first version of glibc that reads relative relocations packed.
const PACKED_SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=.cargo/build.rs");
    // A megabyte that the loader reads once and that stays in memory becomes a few kilobytes.
    if is_for_this_machine() && glibc().is_some_and(|version| version >= PACKED_SINCE) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// On others the linker may not know how, or the libraries may be older than here.
fn is_for_this_machine() -> bool {
    let target = env::var("TARGET").unwrap_or_default();
    target == "x86_64-unknown-linux-gnu" && env::var("HOST").is_ok_and(|host| host == target)
}

fn glibc() -> Option<(u32, u32)> {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let said = String::from_utf8(said.ok()?.stdout).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
