//! What instance types cost, as far as anybody said.

use std::{collections::BTreeMap, fs, num::ParseFloatError, path::Path};

/// The table that comes with the program.
const BUNDLED: &str = include_str!("prices.csv");

/// A price per hour in millionths of a dollar, which can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Price(u64);

/// Prices by name of the type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prices(BTreeMap<String, Price>);

/// A table that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidPrices {
    #[error("cannot be read: {0}")]
    File(#[source] std::io::Error),
    #[error("line {0} is not TYPE,DOLLARS")]
    Line(usize),
    #[error("line {0} has a price that is no number")]
    Number(usize, #[source] ParseFloatError),
    #[error("line {0} has a price that no type has")]
    Range(usize),
}

/// More than any type costs per hour.
const HIGHEST_DOLLARS: f64 = 10_000.0;

impl Prices {
    /// The table that comes with the program.
    pub(crate) fn bundled() -> Self {
        Self::parse(BUNDLED).expect("a test reads the bundled table")
    }

    /// A table of the same form: `TYPE,DOLLARS` on each line, and comments after `#`.
    pub(crate) fn read(path: &Path) -> Result<Self, InvalidPrices> {
        Self::parse(&fs::read_to_string(path).map_err(InvalidPrices::File)?)
    }

    pub(crate) fn of(&self, name: &str) -> Option<Price> {
        self.0.get(name).copied()
    }

    fn parse(text: &str) -> Result<Self, InvalidPrices> {
        let lines = text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.trim()));
        let entries = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let prices = entries.map(|(number, line)| {
            let (name, dollars) = line.split_once(',').ok_or(InvalidPrices::Line(number))?;
            let dollars: f64 = dollars
                .trim()
                .parse()
                .map_err(|error| InvalidPrices::Number(number, error))?;
            if !(0.0..HIGHEST_DOLLARS).contains(&dollars) {
                return Err(InvalidPrices::Range(number));
            }
            // Within the range the product is far below 2^64, and not negative.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let price = Price((dollars * 1e6).round() as u64);
            Ok((name.trim().to_owned(), price))
        });
        prices.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_table_is_sound() {
        let prices = Prices::bundled();
        assert_eq!(prices.of("m6a.large"), Some(Price(86_400)));
        assert!(prices.of("m6a.large") < prices.of("m6i.large"));
        assert_eq!(prices.of("x9.large"), None);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let wrong = |text: &str| Prices::parse(text).unwrap_err().to_string();
        assert_eq!(wrong("# mine\n\nm6a.large"), "line 3 is not TYPE,DOLLARS");
        assert_eq!(wrong("m6a.large,cheap"), "line 1 has a price that is no number");
        assert_eq!(wrong("m6a.large,NaN"), "line 1 has a price that no type has");
        assert_eq!(wrong("m6a.large,-1"), "line 1 has a price that no type has");
    }
}
