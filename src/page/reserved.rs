//! The file that a page goes into.

use anyhow::{Context, Result};
use std::fs::{self, OpenOptions};
use std::path::Path;

/// The file of `--html`, found to be writable before anything is measured; gone again where nothing comes of it.
#[derive(Debug)]
pub struct Reserved<'a> {
    path: &'a Path,
    is_new: bool,
    filled: bool,
}

impl<'a> Reserved<'a> {
    /// Opens it, and makes it where there is none.
    ///
    /// # Errors
    /// Why it cannot be written to.
    pub fn new(path: &'a Path) -> Result<Self> {
        let is_new = !path.exists();
        let opened = OpenOptions::new().append(true).create(true).open(path);
        opened.with_context(|| format!("cannot write --html {}", path.display()))?;
        Ok(Self { path, is_new, filled: false })
    }

    /// Puts the page into it.
    ///
    /// # Errors
    /// Why it could not be written. What was written stays.
    pub fn fill(mut self, html: &str) -> Result<()> {
        self.filled = true;
        fs::write(self.path, html).with_context(|| format!("cannot write --html {}", self.path.display()))
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if self.is_new && !self.filled {
            // Whatever keeps it there, it is empty.
            let _ = fs::remove_file(self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_not_there_is_gone_unless_it_was_filled_and_another_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        let reserved = Reserved::new(&path).unwrap();
        assert!(path.exists());
        drop(reserved);
        assert!(!path.exists());
        Reserved::new(&path).unwrap().fill("first").unwrap();
        drop(Reserved::new(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        Reserved::new(&path).unwrap().fill("2").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2");
        let error = Reserved::new(&folder.path().join("missing/page.html")).unwrap_err();
        assert!(format!("{error:#}").contains("cannot write --html"), "{error:#}");
    }
}
