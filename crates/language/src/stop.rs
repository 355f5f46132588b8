//! Texts that end what a model generates.

use crate::sampling::SamplingError;

/// Most stop sequences.
pub const MAX_STOPS: usize = 16;

/// Most bytes of a stop sequence.
pub const MAX_STOP_BYTES: usize = 1024;

/// Looks for stop sequences in a stream of text, also across the borders of its pieces.
///
/// Text that may be the beginning of a stop sequence is held back. The first sequence that is
/// complete ends the text; what precedes it is all that is given out. Of several that are complete
/// at once, the one that begins first ends it.
#[derive(Clone, Debug)]
pub struct StopSequences {
    stops: Vec<String>,
    held: String,
    matched: Option<usize>,
}

impl StopSequences {
    /// # Errors
    /// [`SamplingError::OutOfRange`] for an empty sequence, too many or too long ones.
    pub fn new(stops: Vec<String>) -> Result<Self, SamplingError> {
        let wrong = |value, range| Err(SamplingError::OutOfRange { field: "stop", value, range });
        if stops.len() > MAX_STOPS {
            return wrong(format!("a list of {}", stops.len()), "a list of at most 16");
        }
        match stops.iter().find(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES) {
            Some(stop) => wrong(format!("a text of {} bytes", stop.len()), "of 1 to 1024 bytes"),
            None => Ok(Self { stops, held: String::new(), matched: None }),
        }
    }

    /// The text that is certain after another piece of it. After a match, always empty.
    pub fn push(&mut self, text: &str) -> String {
        if self.matched.is_some() {
            return String::new();
        }
        // Char by char, so that the sequence that completes first is found first.
        let mut certain = String::new();
        for char in text.chars() {
            self.held.push(char);
            if let Some((index, start)) = self.complete() {
                self.matched = Some(index);
                self.held.truncate(start);
                certain.push_str(&std::mem::take(&mut self.held));
                return certain;
            }
            let kept = self.begun();
            let free = self.held.len() - kept;
            certain.extend(self.held.drain(..free));
        }
        certain
    }

    /// The sequence that the held text ends with, and where it begins.
    fn complete(&self) -> Option<(usize, usize)> {
        let ends = |(index, stop): (usize, &String)| {
            self.held.ends_with(stop.as_str()).then(|| (index, self.held.len() - stop.len()))
        };
        self.stops.iter().enumerate().filter_map(ends).min_by_key(|(_, start)| *start)
    }

    /// Length of the longest end of the held text that a sequence begins with.
    fn begun(&self) -> usize {
        let begins = |start: usize| {
            let end = &self.held[start..];
            self.stops.iter().any(|stop| stop.starts_with(end))
        };
        let starts = self.held.char_indices().map(|(start, _)| start);
        starts.into_iter().find(|start| begins(*start)).map_or(0, |start| self.held.len() - start)
    }

    /// The sequence that ended the text.
    #[must_use]
    pub fn matched(&self) -> Option<&str> {
        self.matched.map(|index| self.stops[index].as_str())
    }

    /// What was held back, when the text ends without a match.
    #[must_use]
    pub fn finish(self) -> String {
        self.held
    }
}
