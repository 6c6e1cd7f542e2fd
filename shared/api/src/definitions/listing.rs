//! Lists in pages.

use crate::error::ApiError;

/// Entries of a page unless the request says otherwise.
const DEFAULT_LIMIT: usize = 100;
/// Most entries of a page.
const MOST: usize = 1_000;

/// Which page of a list.
pub(super) struct Page {
    limit: usize,
    after: Option<(String, String)>,
}

impl Page {
    /// From a query string. A page begins after a name and a version, so that pages hold together while entries come and go.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let mut page = Self { limit: DEFAULT_LIMIT, after: None };
        for (name, value) in crate::query::pairs(query) {
            match name.as_str() {
                "limit" => match value.parse() {
                    Ok(limit @ 1..=MOST) => page.limit = limit,
                    _ => return Err(ApiError::invalid(format!("limit must be a number from 1 to {MOST}"))),
                },
                "after" => {
                    let after: Option<(String, String)> = serde_json::from_str(&value).ok();
                    let wrong = || ApiError::invalid("after must be the 'next' of the page before");
                    page.after = Some(after.ok_or_else(wrong)?);
                }
                _ => {}
            }
        }
        Ok(page)
    }

    /// The entries of the page, out of all in the order of their ids, and where the next one begins.
    pub(super) fn cut<'a, T>(
        &self,
        entries: impl Iterator<Item = &'a T>,
        id: impl Fn(&T) -> (&String, &String),
    ) -> (Vec<&'a T>, Option<String>) {
        let after = self.after.as_ref().map(|(name, version)| (name, version));
        let mut rest = entries.filter(|entry| after.is_none_or(|after| id(entry) > after));
        let page: Vec<&T> = rest.by_ref().take(self.limit).collect();
        let more = rest.next().is_some();
        let last = page.last().filter(|_| more).map(|entry| id(entry));
        let next = last.and_then(|id| serde_json::to_string(&id).ok());
        (page, next)
    }
}
