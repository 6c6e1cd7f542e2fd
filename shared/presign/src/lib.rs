//! Presigned URLs into the drop folder of a bucket: the only user of the AWS SDK.
//!
//! Signing is arithmetic: no request is made, so the SDK is linked without its HTTP client. Region, endpoint and credentials are
//! the store's own. A crate of its own, because the search function must not link the SDK.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Config, Credentials, Region, RequestChecksumCalculation};
use aws_sdk_s3::presigning::PresigningConfig;
use tarn_drop::{DropError, Presign, PresignRequest, PresignedUpload};
use tarn_model::limits;
use tarn_store::Store;

/// Signs uploads to the bucket of a store.
#[derive(Clone, Debug)]
pub struct BucketPresigner {
    store: Store,
}

impl BucketPresigner {
    /// For a store; `None` when it is no bucket.
    pub fn of(store: &Store) -> Option<Arc<dyn Presign>> {
        store.bucket()?;
        Some(Arc::new(Self { store: store.clone() }))
    }
}

#[async_trait]
impl Presign for BucketPresigner {
    async fn presign(&self, request: &PresignRequest) -> Result<PresignedUpload, DropError> {
        let failed = |cause: String| DropError::Local { what: "sign an upload", cause };
        let bucket = self.store.bucket().ok_or_else(|| failed("the store is no bucket".to_owned()))?;
        let credential = bucket.credentials.get_credential().await.map_err(|error| failed(error.to_string()))?;
        let credentials = Credentials::new(
            credential.key_id.clone(),
            credential.secret_key.clone(),
            credential.token.clone(),
            None,
            "tarn",
        );
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(bucket.region.clone()))
            .credentials_provider(credentials)
            .force_path_style(!bucket.virtual_hosted)
            // A checksum would have to be one of the body, which is not known here.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
        if let Some(endpoint) = &bucket.endpoint {
            config = config.endpoint_url(endpoint);
        }
        let now_ms = self.store.clock().now_ms();
        let presigning = PresigningConfig::builder()
            .start_time(since_epoch(now_ms))
            .expires_in(Duration::from_secs(limits::PRESIGNED_SECONDS))
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let length = request.bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        let signed = Client::from_conf(config.build())
            .put_object()
            .bucket(&bucket.name)
            .key(self.store.path(&request.key).as_ref())
            .set_content_length(length)
            .set_content_type(request.content_type.clone())
            .presigned(presigning)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let headers = signed.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let expires_ms = now_ms.saturating_add(i64::try_from(limits::PRESIGNED_SECONDS * 1_000).unwrap_or(i64::MAX));
        Ok(PresignedUpload { url: signed.uri().to_owned(), headers, expires_ms })
    }
}

fn since_epoch(ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use tarn_model::DataSourceId;
    use tarn_store::StoreOptions;

    use super::*;

    fn store(url: &str, more: &[(&str, &str)]) -> Store {
        let variables = [
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_SESSION_TOKEN", "token"),
            ("AWS_REGION", "eu-central-1"),
        ];
        let mut options = StoreOptions::default();
        let variables = variables.iter().chain(more);
        options.environment = variables.map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Store::open(url, &options).unwrap()
    }

    fn request(bytes: Option<u64>) -> PresignRequest {
        let source = DataSourceId { name: "films".into(), version: "1".into() };
        let key = tarn_drop::upload_path(&source, "my file+1.csv").unwrap();
        PresignRequest { key, bytes, content_type: Some("text/csv".into()) }
    }

    #[tokio::test]
    async fn a_url_names_the_object_and_carries_no_secret() {
        let store = store("s3://bucket/prefix", &[]);
        let signed = BucketPresigner::of(&store).unwrap().presign(&request(Some(5))).await.unwrap();
        let url = &signed.url;
        let start = "https://s3.eu-central-1.amazonaws.com/bucket/prefix/drop/films/1/my%20file%2B1.csv?";
        assert!(url.starts_with(start), "{url}");
        for part in ["X-Amz-Expires=900", "AKIDEXAMPLE", "X-Amz-Security-Token=token", "content-length", "content-type"]
        {
            assert!(url.contains(part), "{part}: {url}");
        }
        assert!(!url.contains("secret") && !format!("{signed:?}").contains("X-Amz"));
        assert!(!url.contains("checksum"), "{url}");
        let header =
            |name: &str| signed.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        assert_eq!((header("content-type"), header("content-length")), (Some("text/csv"), Some("5")));
    }

    #[tokio::test]
    async fn the_endpoint_is_the_stores() {
        let store = store("s3://bucket", &[("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")]);
        let signed = BucketPresigner::of(&store).unwrap().presign(&request(None)).await.unwrap();
        assert!(signed.url.starts_with("http://127.0.0.1:4566/bucket/drop/films/1/my%20file"), "{}", signed.url);
    }

    #[test]
    fn a_directory_signs_nothing() {
        assert!(BucketPresigner::of(&Store::memory()).is_none());
    }
}
