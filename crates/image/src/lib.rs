//! The VM image: kernel and initrd, built deterministically.
