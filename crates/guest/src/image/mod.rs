//! Container images: pulled from the registry, verified, unpacked, mounted.
