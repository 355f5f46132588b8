//! The limits of a request.

use edge_net_core::http::openai::Problem;
use http::StatusCode;

/// Maxima of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Limits {
    /// Inputs of a request.
    pub inputs: usize,
    /// Tokens of an input. The model may have a smaller maximum.
    pub input_tokens: usize,
    /// Tokens of all inputs of a request.
    pub tokens: usize,
    /// Bytes of a request's body.
    pub body: usize,
    /// Requests at once in the isolate.
    pub requests: usize,
}

impl Limits {
    /// Checks the number of inputs.
    ///
    /// # Errors
    /// The problem that there are too many.
    pub fn check_inputs(&self, inputs: usize) -> Result<(), Problem> {
        if inputs <= self.inputs {
            return Ok(());
        }
        let max = self.inputs;
        Err(bad_input(format!("there are {inputs} inputs; {max} are allowed")))
    }

    /// Checks the number of tokens of input `at` out of `inputs`, and the sum of tokens up to it.
    ///
    /// # Errors
    /// The problem that one of them is too large.
    pub fn check_tokens(
        &self,
        at: usize,
        inputs: usize,
        tokens: usize,
        sum: usize,
    ) -> Result<(), Problem> {
        if tokens > self.input_tokens {
            let max = self.input_tokens;
            let detail = format!("it has {tokens} tokens; {max} are allowed");
            return Err(about_input(at, inputs, detail).code("context_length_exceeded"));
        }
        if sum > self.tokens {
            let max = self.tokens;
            return Err(bad_input(format!(
                "the inputs have more than {max} tokens, the maximum of a request"
            )));
        }
        Ok(())
    }
}

/// A problem of the request's input.
pub fn bad_input(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail).about(Some("input"))
}

/// A problem of input `at` out of `inputs`. It has a number if there are several.
pub fn about_input(at: usize, inputs: usize, detail: String) -> Problem {
    bad_input(if inputs > 1 { format!("input {at}: {detail}") } else { detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { inputs: 2, input_tokens: 10, tokens: 15, body: 1000, requests: 1 };

    #[test]
    fn the_number_of_inputs_is_limited() {
        assert!(LIMITS.check_inputs(2).is_ok());
        let problem = LIMITS.check_inputs(3).unwrap_err();
        assert_eq!(problem.status, StatusCode::BAD_REQUEST);
        assert!(problem.to_json().contains("there are 3 inputs; 2 are allowed"));
    }

    #[test]
    fn tokens_are_limited_for_each_input_and_for_all() {
        assert!(LIMITS.check_tokens(1, 2, 10, 15).is_ok());
        let one = LIMITS.check_tokens(1, 2, 11, 11).unwrap_err().to_json();
        assert!(one.contains("input 1: it has 11 tokens; 10 are allowed"), "{one}");
        assert!(one.contains("context_length_exceeded"), "{one}");
        let only = LIMITS.check_tokens(0, 1, 11, 11).unwrap_err().to_json();
        assert!(!only.contains("input 0"), "{only}");
        let all = LIMITS.check_tokens(1, 2, 6, 16).unwrap_err().to_json();
        assert!(all.contains("more than 15 tokens"), "{all}");
    }
}
