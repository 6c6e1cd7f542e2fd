//! The demo's HTTP client: what any program in any language would send.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tarn_store::Clock;

use super::dataset::{INDEX, SOURCE};
use crate::error::CliError;

/// A client of one server.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    clock: Arc<dyn Clock>,
}

/// A found package.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hit {
    pub(super) package: String,
    pub(super) section: String,
    pub(super) description: String,
    pub(super) installed_kb: i64,
    pub(super) has_gui: bool,
    pub(super) distance: f64,
    /// The attributes as the API gave them, to send them back.
    #[serde(skip)]
    pub(super) attributes: Vec<Json>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResultDto {
    nearest_data_points: Vec<FoundDto>,
}

#[derive(Deserialize)]
struct FoundDto {
    distance: f64,
    attributes: Vec<Json>,
}

impl Client {
    pub(super) fn new(base: String, clock: Arc<dyn Clock>) -> Result<Self, CliError> {
        // The server is on loopback: a proxy from the environment must not get in between.
        let http = reqwest::Client::builder().no_proxy().build().map_err(|error| CliError::of(&error))?;
        Ok(Self { http, base, clock })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Sends, and makes an error of any status but success.
    async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = request.send().await.map_err(|error| CliError::of(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let path = response.url().path().to_owned();
        let body = response.text().await.unwrap_or_default();
        Err(CliError::new(format!("{path} answered {status}: {body}")))
    }

    /// Creates a definition.
    pub(super) async fn put(&self, path: &str, definition: &Json) -> Result<(), CliError> {
        self.send(self.request(Method::PUT, path).json(definition)).await.map(drop)
    }

    /// Uploads a Parquet file as it is; the version that includes it.
    pub(super) async fn upload_parquet(&self, file: &'static [u8]) -> Result<String, CliError> {
        let request = self.request(Method::POST, &format!("/api/v1/upload/{SOURCE}"));
        let request = request.header("content-type", "application/vnd.apache.parquet").body(Bytes::from_static(file));
        version(&self.send(request).await?)
    }

    /// Uploads points and tombstones; the version that includes them.
    pub(super) async fn upload(&self, points: &Json) -> Result<String, CliError> {
        let request = self.request(Method::POST, &format!("/api/v1/upload/{SOURCE}")).json(points);
        version(&self.send(request).await?)
    }

    /// How many points the index has.
    pub(super) async fn points(&self) -> Result<u64, CliError> {
        let response = self.send(self.request(Method::GET, &format!("/api/v1/info/{INDEX}"))).await?;
        let info: Json = response.json().await.map_err(|error| CliError::of(&error))?;
        info["dataPointsCount"].as_u64().ok_or_else(|| CliError::new("the info of the index holds no count"))
    }

    /// Searches for one vector; `more` is merged into the request. The hits, and how long it took over HTTP.
    pub(super) async fn search(&self, vector: &[f32], k: u32, more: Json) -> Result<(Vec<Hit>, Duration), CliError> {
        let mut body = json!({
            "queryVectors": [{ "isSparse": false, "coordinates": vector }], "k": k, "retrieveVectors": false,
        });
        if let (Some(body), Json::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        let started = self.clock.monotonic();
        let request = self.request(Method::POST, &format!("/api/v1/search/{INDEX}")).json(&body);
        let response = self.send(request).await?;
        let results: Vec<ResultDto> = response.json().await.map_err(|error| CliError::of(&error))?;
        let took = self.clock.monotonic().saturating_sub(started);
        let found = results.into_iter().next().ok_or_else(|| CliError::new("the search answered without a result"))?;
        Ok((found.nearest_data_points.into_iter().map(hit).collect(), took))
    }
}

/// The read token of an upload.
fn version(response: &Response) -> Result<String, CliError> {
    let header = response.headers().get("tarn-version").and_then(|value| value.to_str().ok());
    header.map(str::to_owned).ok_or_else(|| CliError::new("the upload was answered without a Tarn-Version"))
}

fn hit(found: FoundDto) -> Hit {
    let value = |key: &str, kind: &str| {
        let attribute = found.attributes.iter().find(|attribute| attribute["key"] == key);
        attribute.map(|attribute| attribute["value"][kind].clone()).unwrap_or_default()
    };
    let text = |key: &str| value(key, "string").as_str().unwrap_or_default().to_owned();
    Hit {
        package: text("package"),
        section: text("section"),
        description: text("description"),
        installed_kb: value("installed_kb", "int64").as_i64().unwrap_or_default(),
        has_gui: value("has_gui", "bool").as_bool().unwrap_or_default(),
        distance: found.distance,
        attributes: found.attributes.clone(),
    }
}
