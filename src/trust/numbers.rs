//! Numbers that mean the same to every reader of JSON.
//!
//! RFC 8785 writes each number as the double that is nearest to it. If that is another number, one
//! signature fits documents that readers understand differently. So signed documents hold only
//! numbers that a double holds exactly as they are written, and no integers beyond 2^53 - 1, which
//! readers round differently (RFC 7493, section 2.2), and no negative zero, which is written as 0.

use serde_json::{Number, Value};

use crate::trust::unambiguous::Unambiguous;

/// Integers from here on are not exact.
const BEYOND: f64 = 9_007_199_254_740_992.0;

/// The path of the first number in a value that RFC 8785 would change, below `at`.
pub(crate) fn changed(value: &Value, at: &str) -> Option<String> {
    match value {
        Value::Number(number) => (!is_kept(number)).then(|| at.to_owned()),
        Value::Array(elements) => {
            let below = |(i, element)| changed(element, &format!("{at}[{i}]"));
            elements.iter().enumerate().find_map(below)
        }
        Value::Object(members) => members.iter().find_map(|(name, member)| {
            let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            changed(member, &at)
        }),
        _ => None,
    }
}

fn is_kept(number: &Number) -> bool {
    number.as_f64().is_some_and(|double| {
        double.abs() < BEYOND && !(double == 0.0 && double.is_sign_negative())
    })
}

/// The first number in a JSON text that RFC 8785 would change.
pub(crate) fn changed_in(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = after_string(bytes, at),
            b'-' | b'0'..=b'9' => {
                let length = bytes[at..].iter().take_while(|byte| is_of_number(**byte)).count();
                let number = &text[at..at + length];
                if !is_exact(number) {
                    return Some(number);
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    None
}

/// The position after the string that starts at `at`.
fn after_string(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

const fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

fn is_exact(text: &str) -> bool {
    let Ok(Unambiguous(Value::Number(number))) = serde_json::from_str(text) else { return false };
    let canonical = number
        .as_f64()
        .and_then(|double| serde_json_canonicalizer::to_string(&Value::from(double)).ok());
    is_kept(&number) && canonical.is_some_and(|canonical| decimal(&canonical) == decimal(text))
}

/// A number as its sign, its digits without zeros at either end, and its power of ten.
fn decimal(text: &str) -> (bool, Vec<u8>, i64) {
    let count = |digits: usize| i64::try_from(digits).unwrap_or(i64::MAX / 4);
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (negative, mantissa) =
        mantissa.strip_prefix('-').map_or((false, mantissa), |mantissa| (true, mantissa));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat().into_bytes();
    let first = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len());
    let last = digits.iter().rposition(|digit| *digit != b'0').map_or(first, |last| last + 1);
    let zeros = digits.len() - last;
    // Exponents that do not fit are of numbers that no double holds.
    let exponent: i64 = exponent.trim_start_matches('+').parse().unwrap_or(i64::MIN / 2);
    let power = exponent - count(fraction.len()) + count(zeros);
    let digits = digits[first..last].to_vec();
    let power = if digits.is_empty() { 0 } else { power };
    (negative, digits, power)
}
