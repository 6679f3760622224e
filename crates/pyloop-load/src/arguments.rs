//! The command line after the job: `--name value` pairs, each taken once, none left over.

use crate::address::Address;
use crate::cpu::CpuClock;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

/// Options that nobody has asked for yet.
pub struct Arguments {
    options: BTreeMap<String, String>,
}

impl Arguments {
    /// Reads `--name value --name value ...`.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let mut options = BTreeMap::new();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let name = word.strip_prefix("--").ok_or_else(|| format!("unexpected {word:?}"))?;
            let value = rest.next().ok_or_else(|| format!("--{name} needs a value"))?;
            if options.insert(name.to_owned(), value.clone()).is_some() {
                return Err(format!("--{name} is given twice"));
            }
        }
        Ok(Self { options })
    }

    /// Takes an option that may be missing.
    pub fn optional<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        match self.options.remove(name) {
            None => Ok(None),
            Some(text) => {
                text.parse().map(Some).map_err(|_| format!("--{name} {text:?} is not understood"))
            }
        }
    }

    /// Takes an option that must be there.
    pub fn required<T: FromStr>(&mut self, name: &str) -> Result<T, String> {
        self.optional(name)?.ok_or_else(|| format!("--{name} is needed"))
    }

    /// Takes a count of at least one.
    pub fn count(&mut self, name: &str) -> Result<usize, String> {
        match self.required(name)? {
            0 => Err(format!("--{name} must be at least 1")),
            count => Ok(count),
        }
    }

    /// Takes a time in seconds, with a fraction.
    pub fn seconds(&mut self, name: &str) -> Result<Option<Duration>, String> {
        let Some(value) = self.optional::<f64>(name)? else {
            return Ok(None);
        };
        Duration::try_from_secs_f64(value)
            .map(Some)
            .map_err(|_| format!("--{name} {value} is no length of time"))
    }

    /// What every job of the client takes; call it last: nothing may be left over after it.
    pub fn target(mut self) -> Result<Target, String> {
        let address = self.required("to")?;
        let server = self.optional("server")?.map(CpuClock::of).transpose()?;
        let patience = self.seconds("patience")?.unwrap_or(Duration::from_secs(5));
        self.end()?;
        Ok(Target { address, server, patience })
    }

    /// Fails if an option is left over.
    pub fn end(self) -> Result<(), String> {
        match self.options.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("--{name} is not an option of this job")),
        }
    }
}

/// The server that is measured.
pub struct Target {
    /// Where it listens.
    pub address: Address,
    /// Its process's CPU clock, if the caller gave its number.
    pub server: Option<CpuClock>,
    /// How long nothing may happen before the client gives up.
    pub patience: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Arguments::parse(&words)
    }

    #[test]
    fn options_are_taken_by_name_in_any_order() -> Result<(), String> {
        let mut arguments = parsed("--size 64 --seconds 0.25 --connections 3")?;
        assert_eq!(arguments.count("connections")?, 3);
        assert_eq!(arguments.count("size")?, 64);
        assert_eq!(arguments.seconds("seconds")?, Some(Duration::from_millis(250)));
        arguments.end()
    }

    #[test]
    fn what_is_wrong_is_named() -> Result<(), String> {
        let said = |problem: Result<Arguments, String>| problem.err().unwrap_or_default();
        assert!(said(parsed("size 64")).contains("\"size\""));
        assert!(said(parsed("--size")).contains("--size needs"));
        assert!(said(parsed("--size 1 --size 2")).contains("twice"));
        let mut arguments = parsed("--size many --connections 0 --seconds -1 --other x")?;
        assert!(arguments.count("size").is_err());
        assert!(arguments.count("connections").is_err());
        assert!(arguments.seconds("seconds").is_err());
        assert!(arguments.required::<u32>("server").is_err());
        assert!(arguments.end().is_err());
        Ok(())
    }
}
