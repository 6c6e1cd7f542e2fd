//! Listings of a bucket in which others write: objects whose keys no path can name are passed over.
//!
//! S3 takes keys such as `drop/a//b` and `drop/../b`. `object_store` cannot represent them, and a page that holds one fails as a
//! whole. Nobody but the drop folder's users makes such keys, nothing reads them, and they must not hide the rest.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::{Error as BadPath, Path};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Names that one page of S3's listings holds at most.
const PAGE: usize = 1_000;
const DELIMITER: &str = "/";
/// Sorts after everything that can follow a prefix.
const LAST: char = char::MAX;

/// Passes everything on, and lists around keys that are no paths.
#[derive(Debug)]
pub(crate) struct PassingOver<S>(Arc<S>);

impl<S> PassingOver<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self(Arc::new(inner))
    }
}

impl<S: fmt::Display> fmt::Display for PassingOver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a listing stands.
struct Pages<S> {
    store: Arc<S>,
    prefix: Option<String>,
    delimiter: Option<Cow<'static, str>>,
    /// The listing goes on behind this key.
    offset: Option<String>,
    token: Option<String>,
    /// Fewer names are asked for around a key that is no path, down to it alone.
    page: usize,
    ended: bool,
}

impl<S: PaginatedListStore> Pages<S> {
    fn new(store: Arc<S>, prefix: Option<&Path>, offset: Option<&Path>, delimited: bool) -> Self {
        let prefix = prefix.filter(|path| !path.as_ref().is_empty());
        Self {
            store,
            prefix: prefix.map(|path| format!("{path}{DELIMITER}")),
            delimiter: delimited.then_some(Cow::Borrowed(DELIMITER)),
            offset: offset.map(Path::to_string),
            token: None,
            page: PAGE,
            ended: false,
        }
    }

    async fn next(&mut self) -> Result<Option<ListResult>> {
        while !self.ended {
            let options = PaginatedListOptions {
                offset: self.offset.clone(),
                delimiter: self.delimiter.clone(),
                max_keys: (self.page < PAGE).then_some(self.page),
                page_token: self.token.clone(),
                ..PaginatedListOptions::default()
            };
            match self.store.list_paginated(self.prefix.as_deref(), options).await {
                Ok(page) => {
                    self.token = page.page_token;
                    self.ended = self.token.is_none();
                    return Ok(Some(page.result));
                }
                Err(Error::InvalidPath { source }) if self.page > 1 => {
                    tracing::debug!(%source, "a page of a listing holds a key that is no path");
                    self.page /= 2;
                }
                Err(Error::InvalidPath { source }) => self.pass_over(source)?,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Goes on behind the one key that could not be listed.
    fn pass_over(&mut self, source: BadPath) -> Result<()> {
        let (BadPath::EmptySegment { path } | BadPath::BadSegment { path, .. }) = &source else {
            return Err(Error::InvalidPath { source });
        };
        let mut behind = path.clone();
        // A name that stands for many keys: behind all of them.
        if self.delimiter.is_some() && behind.ends_with(DELIMITER) {
            behind.push(LAST);
        }
        if self.offset.as_ref().is_some_and(|offset| behind <= *offset) {
            return Err(Error::InvalidPath { source });
        }
        tracing::debug!(key = path, "a key that is no path is passed over");
        self.offset = Some(behind);
        self.token = None;
        self.page = PAGE;
        Ok(())
    }
}

fn objects<S: PaginatedListStore>(pages: Pages<S>) -> BoxStream<'static, Result<ObjectMeta>> {
    let pages = stream::try_unfold(pages, |mut pages| async move {
        let page = pages.next().await?;
        Ok::<_, Error>(page.map(|page| (page, pages)))
    });
    pages.map_ok(|page| stream::iter(page.objects.into_iter().map(Ok))).try_flatten().boxed()
}

#[async_trait]
impl<S: ObjectStore + PaginatedListStore> ObjectStore for PassingOver<S> {
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        objects(Pages::new(Arc::clone(&self.0), prefix, None, false))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        objects(Pages::new(Arc::clone(&self.0), prefix, Some(offset), false))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut pages = Pages::new(Arc::clone(&self.0), prefix, None, true);
        let mut common_prefixes = BTreeSet::new();
        let mut objects = Vec::new();
        while let Some(page) = pages.next().await? {
            common_prefixes.extend(page.common_prefixes);
            objects.extend(page.objects);
        }
        Ok(ListResult { common_prefixes: common_prefixes.into_iter().collect(), objects })
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.0.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use object_store::list::PaginatedListResult;

    use super::*;

    /// A bucket's keys, listed as S3 and its client do: a page that holds a key that is no path fails as a whole.
    struct Bucket {
        keys: BTreeSet<String>,
        requests: AtomicUsize,
    }

    impl Bucket {
        fn of(keys: impl IntoIterator<Item = String>) -> Arc<Self> {
            Arc::new(Self { keys: keys.into_iter().collect(), requests: AtomicUsize::new(0) })
        }
    }

    #[async_trait]
    impl PaginatedListStore for Bucket {
        async fn list_paginated(
            &self,
            prefix: Option<&str>,
            options: PaginatedListOptions,
        ) -> Result<PaginatedListResult> {
            self.requests.fetch_add(1, Ordering::Relaxed);
            let prefix = prefix.unwrap_or_default();
            // A token stands for what was listed last, and goes before the offset.
            let after = options.page_token.or(options.offset).unwrap_or_default();
            let mut names = BTreeSet::new();
            for key in self.keys.iter().filter(|key| key.starts_with(prefix) && **key > after) {
                let below = &key[prefix.len()..];
                let name = match below.find('/').filter(|_| options.delimiter.is_some()) {
                    Some(at) => &key[..=prefix.len() + at],
                    None => key,
                };
                // S3 leaves out a name that was listed before, as it knows from the token.
                if !after.starts_with(name) || name == key {
                    names.insert(name.to_owned());
                }
            }
            let most = options.max_keys.unwrap_or(PAGE);
            let page: Vec<_> = names.iter().take(most).cloned().collect();
            let last = page.last().cloned().filter(|_| names.len() > most);
            let page_token = last.map(|name| if name.ends_with('/') { format!("{name}{LAST}") } else { name });
            let (folders, objects): (Vec<_>, Vec<_>) =
                page.into_iter().partition(|name| options.delimiter.is_some() && name.ends_with('/'));
            let parse = |name: String| Ok::<_, Error>(Path::parse(name)?);
            let meta = |location| ObjectMeta {
                location,
                last_modified: Default::default(),
                size: 1,
                e_tag: None,
                version: None,
            };
            let result = ListResult {
                common_prefixes: folders.into_iter().map(parse).collect::<Result<_>>()?,
                objects: objects.into_iter().map(|name| parse(name).map(meta)).collect::<Result<_>>()?,
            };
            Ok(PaginatedListResult { result, page_token })
        }
    }

    async fn listed(bucket: &Arc<Bucket>, offset: Option<&Path>) -> Vec<String> {
        let pages = Pages::new(Arc::clone(bucket), Some(&Path::from("drop")), offset, false);
        objects(pages).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap()
    }

    fn good(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("drop/films/{number:05}.csv")).collect()
    }

    #[tokio::test]
    async fn keys_that_are_no_paths_hide_no_others() {
        let bad = [
            "drop//a.csv",
            "drop/../a.csv",
            "drop/films//a.csv",
            "drop/films/00700.csv/../b",
            "drop/films/./c",
            "drop/zoo/..",
        ];
        let bucket = Bucket::of(good(2_500).into_iter().chain(bad.map(str::to_owned)));
        assert_eq!(listed(&bucket, None).await, good(2_500));
        let behind = Path::from("drop/films/00699.csv");
        assert_eq!(listed(&bucket, Some(&behind)).await, good(2_500)[700..]);
    }

    #[tokio::test]
    async fn without_such_keys_a_page_is_a_request() {
        let bucket = Bucket::of(good(2_500));
        assert_eq!(listed(&bucket, None).await, good(2_500));
        assert_eq!(bucket.requests.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn folders_that_are_no_paths_hide_no_others() {
        let keys = ["drop/../a", "drop/../b", "drop//c", "drop/a/x", "drop/b/y", "drop/b/z", "drop/c"];
        let bucket = Bucket::of(keys.map(str::to_owned));
        let mut pages = Pages::new(bucket, Some(&Path::from("drop")), None, true);
        let (mut folders, mut objects) = (Vec::new(), Vec::new());
        while let Some(page) = pages.next().await.unwrap() {
            folders.extend(page.common_prefixes.iter().map(Path::to_string));
            objects.extend(page.objects.iter().map(|meta| meta.location.to_string()));
        }
        assert_eq!(folders, ["drop/a", "drop/b"]);
        assert_eq!(objects, ["drop/c"]);
    }
}
