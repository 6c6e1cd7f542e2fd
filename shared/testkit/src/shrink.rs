//! Makes a failing list of operations short.
//!
//! Delta debugging (Zeller, 1999) without its complement step: drop ever smaller runs as long as the rest still fails.

/// The shortest list found within `attempts` calls of `fails` for which `fails` is still true.
pub fn shrink<T: Clone>(failing: &[T], attempts: usize, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut current = failing.to_vec();
    let mut run = (current.len() / 2).max(1);
    let mut left = attempts;
    while run > 0 && left > 0 {
        let mut start = 0;
        while start < current.len() && left > 0 {
            let end = (start + run).min(current.len());
            let shorter = [&current[..start], &current[end..]].concat();
            left -= 1;
            if !shorter.is_empty() && fails(&shorter) {
                current = shorter;
            } else {
                start = end;
            }
        }
        run /= 2;
    }
    current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_dropped() {
        let all: Vec<u32> = (0..1_000).collect();
        let fails = |list: &[u32]| list.contains(&17) && list.contains(&800);
        assert_eq!(shrink(&all, 10_000, fails), [17, 800]);
    }

    #[test]
    fn attempts_are_bounded() {
        let mut calls = 0;
        let fails = |_: &[u32]| {
            calls += 1;
            false
        };
        assert_eq!(shrink(&[1, 2, 3, 4], 3, fails), [1, 2, 3, 4]);
        assert_eq!(calls, 3);
    }
}
