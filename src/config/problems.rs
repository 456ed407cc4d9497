//! What is wrong with a file, each problem with its place.

use std::fmt;

/// Problems that are kept; of a hopeless file, more help nobody.
const MOST: usize = 100;

/// Everything that is wrong with a file, in the order of the file; one line each when shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file as the user named it.
    pub file: String,
    /// Never empty.
    pub list: Vec<Problem>,
    /// How many more there were.
    pub left_out: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `None` where it concerns the file as a whole.
    pub place: Option<Place>,
    /// Path of the key, such as `camera[0].width`; empty where it concerns no key.
    pub key: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Where in a file; both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    /// In characters.
    pub column: usize,
}

impl Problems {
    /// A problem of the file as a whole.
    pub(super) fn of_file(file: &str, message: String) -> Problems {
        let list = vec![Problem { place: None, key: String::new(), message }];
        Problems { file: file.into(), list, left_out: 0 }
    }
}

/// Gathers problems while a text is read. Places are given as byte offsets.
pub(super) struct Gatherer<'a> {
    text: &'a str,
    list: Vec<Problem>,
    left_out: usize,
}

impl<'a> Gatherer<'a> {
    pub fn new(text: &'a str) -> Gatherer<'a> {
        Gatherer { text, list: Vec::new(), left_out: 0 }
    }

    pub fn add(&mut self, offset: Option<usize>, key: &str, message: String) {
        if self.list.len() == MOST {
            self.left_out += 1;
            return;
        }
        let place = offset.map(|offset| self.place(offset));
        self.list.push(Problem { place, key: key.into(), message });
    }

    /// `None` when there are no problems.
    pub fn finish(mut self, file: &str) -> Option<Problems> {
        self.list.sort_by_key(|problem| problem.place);
        (!self.list.is_empty()).then(|| Problems { file: file.into(), list: self.list, left_out: self.left_out })
    }

    /// Where in the text a byte stands.
    pub fn place(&self, offset: usize) -> Place {
        // An offset inside a character can only come from a syntax error; it then means that character.
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place { line: 1 + before.matches('\n').count(), column: 1 + before[line_start..].chars().count() }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Problem { place, key, message }) in self.list.iter().enumerate() {
            write!(f, "{}{}", if i > 0 { "\n" } else { "" }, self.file)?;
            if let Some(Place { line, column }) = place {
                write!(f, ":{line}:{column}")?;
            }
            let colon = if key.is_empty() { "" } else { ": " };
            write!(f, "{colon}{key}: {message}")?;
        }
        if self.left_out > 0 {
            write!(f, "\n{}: and {} more problems", self.file, self.left_out)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
