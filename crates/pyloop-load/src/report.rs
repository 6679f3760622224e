//! The one JSON object that a run prints.

use crate::latency::Latencies;
use std::fmt::Write as _;
use std::io::Write as _;

/// Pairs of a name and a value, in order.
pub struct Report {
    text: String,
}

impl Report {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { text: String::new() }
    }

    /// A report of failure.
    pub fn error(problem: &str) -> Self {
        Self::new().text("error", problem)
    }

    /// Adds a whole number.
    pub fn count(self, name: &str, value: u64) -> Self {
        self.raw(name, &value.to_string())
    }

    /// Adds a number with a fraction; what is no number becomes null.
    pub fn number(self, name: &str, value: f64) -> Self {
        let text = if value.is_finite() { value.to_string() } else { "null".to_owned() };
        self.raw(name, &text)
    }

    /// Adds a text.
    pub fn text(self, name: &str, value: &str) -> Self {
        let mut quoted = String::from("\"");
        for character in value.chars() {
            match character {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\n' => quoted.push_str("\\n"),
                other if other.is_control() => quoted.push('?'),
                other => quoted.push(other),
            }
        }
        quoted.push('"');
        self.raw(name, &quoted)
    }

    /// Adds the quantiles, in microseconds.
    pub fn latencies(mut self, latencies: &Latencies) -> Self {
        for (name, share) in
            [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("p999_us", 0.999)]
        {
            self = self.number(name, latencies.quantile(share) as f64 / 1e3);
        }
        self.number("max_us", latencies.longest() as f64 / 1e3)
    }

    /// Writes the object as one line; a reader that has gone away is no concern of ours.
    pub fn print(&self) {
        let mut output = std::io::stdout().lock();
        let _ = writeln!(output, "{{{}}}", self.text).and_then(|()| output.flush());
    }

    fn raw(mut self, name: &str, value: &str) -> Self {
        let comma = if self.text.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{comma}\"{name}\": {value}");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_json() {
        let report = Report::new().count("a", 1).number("b", f64::NAN).text("c", "say \"x\"\n\\");
        assert_eq!(report.text, r#""a": 1, "b": null, "c": "say \"x\"\n\\""#);
    }
}
