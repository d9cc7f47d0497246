//! The addresses that a local provider gives to its instances.

use std::{net::Ipv4Addr, str::FromStr};

use crate::ProviderError;

/// The most addresses one pool may have; far more than VMs fit on a machine.
const POOL_LIMIT: u32 = 4096;

/// A range of addresses, both ends included; written `10.250.0.100-10.250.0.200`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPool {
    first: Ipv4Addr,
    last: Ipv4Addr,
}

/// No valid [`AddressPool`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address pool is FIRST-LAST with at most {POOL_LIMIT} IPv4 addresses, not {0:?}")]
pub struct InvalidPool(pub String);

impl AddressPool {
    /// The addresses from `first` to `last`.
    pub fn new(first: Ipv4Addr, last: Ipv4Addr) -> Result<Self, InvalidPool> {
        let pool = Self { first, last };
        match last.to_bits().checked_sub(first.to_bits()) {
            Some(distance) if distance < POOL_LIMIT => Ok(pool),
            _ => Err(InvalidPool(pool.to_string())),
        }
    }

    /// The first and the last.
    pub fn ends(&self) -> [Ipv4Addr; 2] {
        [self.first, self.last]
    }

    /// Whether `address` is one of them.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// The first address that is not taken.
    pub fn free(&self, taken: &[Ipv4Addr]) -> Result<Ipv4Addr, ProviderError> {
        let mut addresses = self.addresses();
        addresses
            .find(|address| !taken.contains(address))
            .ok_or_else(|| ProviderError::Capacity(format!("all addresses of {self} are in use")))
    }

    /// The addresses, from the first.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        (self.first.to_bits()..=self.last.to_bits()).map(Ipv4Addr::from_bits)
    }
}

impl std::fmt::Display for AddressPool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

impl FromStr for AddressPool {
    type Err = InvalidPool;

    fn from_str(text: &str) -> Result<Self, InvalidPool> {
        let invalid = || InvalidPool(text.to_owned());
        let (first, last) = text.split_once('-').ok_or_else(invalid)?;
        let address = |text: &str| text.trim().parse().map_err(|_| invalid());
        Self::new(address(first)?, address(last)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{AddressPool, Ipv4Addr, ProviderError};

    #[test]
    fn a_pool_is_parsed_and_bounded() {
        let pool: AddressPool = "10.250.0.100-10.250.0.102".parse().unwrap();
        assert_eq!(pool.addresses().count(), 3);
        assert_eq!(
            pool.free(&[[10, 250, 0, 100].into()]).unwrap(),
            Ipv4Addr::new(10, 250, 0, 101)
        );
        let taken: Vec<_> = pool.addresses().collect();
        assert!(matches!(pool.free(&taken), Err(ProviderError::Capacity(_))));
        assert_eq!(pool.to_string(), "10.250.0.100-10.250.0.102");
        for wrong in [
            "",
            "10.0.0.1",
            "10.0.0.2-10.0.0.1",
            "10.0.0.1-10.1.0.1",
            "a-b",
            "::1-::2",
        ] {
            assert!(wrong.parse::<AddressPool>().is_err(), "{wrong}");
        }
    }
}
