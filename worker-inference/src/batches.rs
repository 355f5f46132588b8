//! The order in which the inputs of a request are run.

/// Maximum number of tokens that are run before other requests have the processor: about a tenth of
/// a second.
const MAX_TOKENS: usize = 1024;

/// Batches of inputs of similar length, as indices. `lengths` are the tokens of each input. An
/// input above the maximum has a batch of its own.
pub fn batches(lengths: &[usize]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|at| lengths[*at]);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut sum = 0;
    for at in order {
        sum += lengths[at];
        match batches.last_mut() {
            Some(batch) if sum <= MAX_TOKENS => batch.push(at),
            _ => {
                sum = lengths[at];
                batches.push(vec![at]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_of_similar_length_run_together() {
        assert_eq!(batches(&[600, 10, 500, 20]), [vec![1, 3, 2], vec![0]]);
        assert_eq!(batches(&[512, 512, 512]), [vec![0, 1], vec![2]]);
    }

    #[test]
    fn a_long_input_runs_alone() {
        assert_eq!(batches(&[2000, 1, 3000]), [vec![1], vec![0], vec![2]]);
    }

    #[test]
    fn every_input_runs_once() {
        assert!(batches(&[]).is_empty());
        let lengths: Vec<usize> = (0..300).map(|i| i * 37 % 512 + 1).collect();
        let batches = batches(&lengths);
        let mut all = batches.concat();
        all.sort_unstable();
        assert_eq!(all, (0..300).collect::<Vec<_>>());
        let sum = |batch: &Vec<usize>| batch.iter().map(|at| lengths[*at]).sum::<usize>();
        assert!(batches.iter().all(|batch| sum(batch) <= MAX_TOKENS));
    }
}
