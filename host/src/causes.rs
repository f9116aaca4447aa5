//! The text of errors.

/// An error and its causes on one line.
pub(crate) fn in_words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}

#[cfg(test)]
mod tests {
    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("the floor is wet")]
    struct Wet(#[source] io::Error);

    #[test]
    fn every_cause_is_named_and_an_error_without_one_stands_alone() {
        let flood = || io::Error::other("a flood");
        assert_eq!(super::in_words(&flood()), "a flood");
        assert_eq!(super::in_words(&Wet(flood())), "the floor is wet: a flood");
    }
}
