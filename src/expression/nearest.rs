//! Finds the known name that a mistyped one most likely means.

/// The known name nearest to `name`, if one is near enough to be meant.
pub fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let most = 1 + name.chars().count() / 4;
    known
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The edit distance of Levenshtein (1965), letters in any case being the same.
fn distance(a: &str, b: &str) -> usize {
    const CHARS_MAX: usize = 64;
    let letters =
        |text: &str| -> Vec<char> { text.chars().take(CHARS_MAX).flat_map(char::to_lowercase).collect() };
    let (a, b) = (letters(a), letters(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood() {
        let known = || ["collections", "events", "version"].into_iter();
        assert_eq!(nearest("colections", known()), Some("collections"));
        assert_eq!(nearest("Event", known()), Some("events"));
        assert_eq!(nearest("steps", known()), None);
    }
}
