//! What a key may do: scopes on resources, by pattern.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tarn_model::{DataSourceId, IndexId, ValidationError};

/// Longest pattern, in bytes.
const PATTERN_BYTES: usize = 600;

/// A kind of action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    /// Search, describe, export.
    Read,
    /// Upload points and tombstones. Does not include [`Scope::Read`]: an uploader need not see what is there.
    Write,
    /// Create and delete definitions. Includes the others.
    Admin,
}

/// What an action touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A data source.
    DataSource(&'a DataSourceId),
    /// Every version of the data sources of a name, those too that are yet to come.
    DataSourceVersions(&'a str),
    /// An index.
    Index(&'a IndexId),
    /// Every version of the indices of a name, those too that are yet to come.
    IndexVersions(&'a str),
    /// The server as a whole: its metrics.
    Server,
}

/// A set of resources: `*` is everything, `data-sources/{name}/{version}` and `indices/{name}/{version}` are some, where
/// name and version may hold `*` for any run of characters and `?` for any one. A missing version means every version.
///
/// Name and version are matched separately, so that a name with a slash in it cannot pose as another's version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    kind: PatternKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PatternKind {
    Everything,
    DataSource { name: String, version: String },
    Index { name: String, version: String },
}

/// Permission for one scope on some resources. As text: `scope:pattern`, for example `read:indices/products*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// The kind of action.
    pub scope: Scope,
    /// On what.
    pub pattern: Pattern,
}

impl Grant {
    /// Whether it permits the action.
    pub fn permits(&self, scope: Scope, resource: Resource<'_>) -> bool {
        (self.scope == scope || self.scope == Scope::Admin) && self.pattern.matches(resource)
    }
}

impl Pattern {
    /// Whether the resource is in the set.
    pub fn matches(&self, resource: Resource<'_>) -> bool {
        match (&self.kind, resource) {
            (PatternKind::Everything, _) => true,
            (PatternKind::DataSource { name, version }, Resource::DataSource(id)) => {
                glob(name, &id.name) && glob(version, &id.version)
            }
            (PatternKind::Index { name, version }, Resource::Index(id)) => {
                glob(name, &id.name) && glob(version, &id.version)
            }
            // A pattern that leaves any version out does not permit what is done to all.
            (PatternKind::DataSource { name, version }, Resource::DataSourceVersions(wanted))
            | (PatternKind::Index { name, version }, Resource::IndexVersions(wanted)) => {
                glob(name, wanted) && version.chars().all(|c| c == '*')
            }
            _ => false,
        }
    }
}

/// Matches `*` and `?`; linear in practice and quadratic at worst: it goes back to the last star alone.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || Some(&c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match &mut star {
                Some((star_p, star_t)) => {
                    *star_t += 1;
                    (p, t) = (*star_p + 1, *star_t);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|&c| c == '*'))
}

impl FromStr for Scope {
    type Err = ValidationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "admin" => Ok(Self::Admin),
            _ => Err(ValidationError::one(format!("'{text}' is not a scope; the scopes are read, write and admin"))),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Pattern {
    type Err = ValidationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            ValidationError::one(format!(
                "'{}' is not a pattern; write *, data-sources/NAME/VERSION or indices/NAME/VERSION, where * stands for \
                 any characters",
                text.chars().take(80).collect::<String>()
            ))
        };
        if text.len() > PATTERN_BYTES || text.chars().any(char::is_control) {
            return Err(wrong());
        }
        if text == "*" {
            return Ok(Self { text: text.to_owned(), kind: PatternKind::Everything });
        }
        let parts: Vec<&str> = text.split('/').collect();
        let (kind, name, version) = match *parts.as_slice() {
            [kind, name] => (kind, name, "*"),
            [kind, name, version] => (kind, name, version),
            _ => return Err(wrong()),
        };
        if name.is_empty() || version.is_empty() {
            return Err(wrong());
        }
        let (name, version) = (name.to_owned(), version.to_owned());
        let kind = match kind {
            "data-sources" => PatternKind::DataSource { name, version },
            "indices" => PatternKind::Index { name, version },
            _ => return Err(wrong()),
        };
        Ok(Self { text: text.to_owned(), kind })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Pattern {
    type Error = ValidationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}

impl FromStr for Grant {
    type Err = ValidationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scope, pattern) = text.split_once(':').unwrap_or((text, "*"));
        Ok(Self { scope: scope.parse()?, pattern: pattern.parse()? })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scope, self.pattern)
    }
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataSource(id) => write!(f, "data-sources/{}/{}", id.name, id.version),
            Self::DataSourceVersions(name) => write!(f, "data-sources/{name}/*"),
            Self::Index(id) => write!(f, "indices/{}/{}", id.name, id.version),
            Self::IndexVersions(name) => write!(f, "indices/{name}/*"),
            Self::Server => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(grant: &str, scope: Scope, resource: Resource<'_>) -> bool {
        grant.parse::<Grant>().unwrap().permits(scope, resource)
    }

    fn source(name: &str, version: &str) -> DataSourceId {
        DataSourceId::new(name, version).unwrap()
    }

    #[test]
    fn a_scope_permits_itself_and_admin_permits_all() {
        let id = source("products", "1");
        let resource = Resource::DataSource(&id);
        assert!(permits("read:*", Scope::Read, resource));
        assert!(!permits("read:*", Scope::Write, resource));
        assert!(!permits("read:*", Scope::Admin, resource));
        assert!(!permits("write:*", Scope::Read, resource));
        for scope in [Scope::Read, Scope::Write, Scope::Admin] {
            assert!(permits("admin:*", scope, resource));
        }
    }

    #[test]
    fn a_pattern_names_a_kind_a_name_and_a_version() {
        let id = source("products.eu", "1.10");
        let resource = Resource::DataSource(&id);
        for yes in
            ["*", "data-sources/*", "data-sources/products*/1.1?", "data-sources/products.eu", "data-sources/*.eu/*"]
        {
            assert!(permits(&format!("read:{yes}"), Scope::Read, resource), "{yes}");
        }
        for no in ["indices/*", "data-sources/products", "data-sources/products.eu/1.1", "data-sources/*eux"] {
            assert!(!permits(&format!("read:{no}"), Scope::Read, resource), "{no}");
        }
        assert!(!permits("read:data-sources/*", Scope::Read, Resource::Server));
        assert!(permits("read:*", Scope::Read, Resource::Server));
    }

    #[test]
    fn all_versions_are_permitted_by_a_pattern_that_leaves_none_out() {
        let all = Resource::DataSourceVersions("products");
        for yes in ["*", "data-sources/products", "data-sources/prod*/*", "data-sources/*/**"] {
            assert!(permits(&format!("read:{yes}"), Scope::Read, all), "{yes}");
        }
        for no in
            ["data-sources/products/1", "data-sources/products/1*", "data-sources/products/?*", "indices/products"]
        {
            assert!(!permits(&format!("read:{no}"), Scope::Read, all), "{no}");
        }
        assert!(permits("admin:indices/products", Scope::Admin, Resource::IndexVersions("products")));
        assert!(!permits("admin:data-sources/products", Scope::Admin, Resource::IndexVersions("products")));
        assert_eq!(Resource::IndexVersions("products").to_string(), "indices/products/*");
    }

    #[test]
    fn a_slash_in_a_name_does_not_reach_into_the_version() {
        let id = source("a/b", "1");
        assert!(!permits("read:data-sources/a/*", Scope::Read, Resource::DataSource(&id)));
        assert!(permits("read:data-sources/a*/1", Scope::Read, Resource::DataSource(&id)));
    }

    #[test]
    fn hostile_globs_end_soon() {
        let pattern = format!("read:data-sources/{}b", "*a".repeat(200));
        assert!(!permits(&pattern, Scope::Read, Resource::DataSource(&source(&"a".repeat(128), "1"))));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["read:", "read:data-sources", "read:data-sources/", "read:x/y", "read:indices/a/b/c", "fly:*"] {
            assert!(text.parse::<Grant>().is_err(), "{text}");
        }
    }
}
