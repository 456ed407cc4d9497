//! The right word in place of a wrong one.

/// `; did you mean ...?` with the nearest of the words that are known, or nothing where none is near.
pub fn suggestion(text: &str, known: &[&str]) -> String {
    // Two slips in a short word, three in a longer one: beyond that a suggestion is a guess.
    let most = if text.len() < 4 { 1 } else { 1 + text.len() / 4 };
    known
        .iter()
        .filter(|_| text.len() <= 64)
        .map(|name| (strsim::damerau_levenshtein(text, name), name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map_or(String::new(), |(_, name)| format!("; did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_suggested_where_one_is_near() {
        let known = ["patch", "patches", "probe"];
        assert_eq!(suggestion("patc", &known), "; did you mean `patch`?");
        assert_eq!(suggestion("probes", &known), "; did you mean `probe`?");
        assert_eq!(suggestion("licence", &known), "");
        assert_eq!(suggestion(&"patch".repeat(20), &known), "");
    }
}
