//! What the function's environment says. Reads no environment itself, and does no I/O.
//!
//! | variable | |
//! |---|---|
//! | `TARN_STORE` | the store, as `s3://bucket/prefix` |
//! | `TARN_CACHE_BYTES` | bounds the segment files in the temporary directory; unless set, half of what it has space for |
//! | `TARN_HYDRATION` | `manual`, as unless set: files that were searched without fetching them are fetched after the response; or `off` |
//! | `TARN_QUERY_CACHE` | memory for answers that are kept, in bytes; none unless set |
//! | `TARN_RECALL_SHARE` | this share of the searches, 0 to 1, is compared with exact ones after the response; 0 unless set |
//! | `TARN_LEAF_BYTES` | searches of more bytes of files than this are shared out among invocations; unset: none is |
//! | `TARN_LEAVES_MAX` | most invocations that one search is shared out among; 64 unless set |
//! | `TARN_LEAF_FUNCTION` | the function that is invoked for that; this one unless set |
//! | `AWS_LAMBDA_FUNCTION_MEMORY_SIZE` | the function's memory in MB, for the price of an answer; set by Lambda |
//! | `TARN_LOG` | what is logged |
//! | `AWS_ENDPOINT_URL_LAMBDA`, `AWS_ENDPOINT_URL` | where Lambda is, unless it is where AWS has it |

use std::num::NonZeroUsize;

use tarn_search::Hydration;

/// The configuration.
#[derive(Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) store: String,
    pub(crate) cache_bytes: Option<u64>,
    pub(crate) hydration: Hydration,
    pub(crate) query_cache_bytes: usize,
    pub(crate) recall_share: f64,
    pub(crate) scale_out: Option<ScaleOut>,
    pub(crate) memory_mb: Option<u32>,
    /// Host and port of the runtime API.
    pub(crate) runtime_api: Option<String>,
}

/// How large searches are shared out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ScaleOut {
    pub(crate) leaf_bytes: u64,
    pub(crate) leaves_max: Option<NonZeroUsize>,
    pub(crate) function: String,
    /// The published version to invoke. A leaf of another release would not understand.
    pub(crate) version: Option<String>,
    pub(crate) endpoint: Option<String>,
}

impl Config {
    /// From environment variables.
    ///
    /// # Errors
    /// Says which variable is missing or what it must be.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let bytes = |name: &str| {
            let number = |text: String| text.parse::<u64>().map_err(|_| format!("{name} must be a number of bytes"));
            variable(name).map(number).transpose()
        };
        let scale_out = match bytes("TARN_LEAF_BYTES")? {
            None => None,
            Some(leaf_bytes) => {
                let other = variable("TARN_LEAF_FUNCTION");
                // Of another function only the newest is known.
                let version = variable("AWS_LAMBDA_FUNCTION_VERSION").filter(|version| version != "$LATEST");
                let version = version.filter(|_| other.is_none());
                let function = other.or_else(|| variable("AWS_LAMBDA_FUNCTION_NAME"));
                let function = function.ok_or("TARN_LEAF_FUNCTION must name the function that searches shards")?;
                if !function.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
                    return Err("TARN_LEAF_FUNCTION must be a function's name, not its ARN".to_owned());
                }
                let leaves_max = variable("TARN_LEAVES_MAX").map(|text| text.parse::<NonZeroUsize>()).transpose();
                let leaves_max =
                    leaves_max.map_err(|_| "TARN_LEAVES_MAX must be a number of invocations, at least 1")?;
                let endpoint = variable("AWS_ENDPOINT_URL_LAMBDA").or_else(|| variable("AWS_ENDPOINT_URL"));
                Some(ScaleOut { leaf_bytes, leaves_max, function, version, endpoint })
            }
        };
        let query_cache_bytes = usize::try_from(bytes("TARN_QUERY_CACHE")?.unwrap_or(0)).unwrap_or(usize::MAX);
        let recall_share = match variable("TARN_RECALL_SHARE").map(|text| text.parse::<f64>()) {
            None => 0.0,
            Some(Ok(share)) if (0.0..=1.0).contains(&share) => share,
            Some(_) => return Err("TARN_RECALL_SHARE must be a number from 0 to 1".to_owned()),
        };
        let hydration = match variable("TARN_HYDRATION").map(|text| text.parse()).transpose() {
            // What runs in the background stands still with the function.
            Ok(None | Some(Hydration::Manual)) => Hydration::Manual,
            Ok(Some(Hydration::Off)) => Hydration::Off,
            _ => return Err("TARN_HYDRATION must be manual or off".to_owned()),
        };
        Ok(Self {
            hydration,
            query_cache_bytes,
            recall_share,
            store: variable("TARN_STORE").ok_or("TARN_STORE must name the store, as s3://bucket/prefix")?,
            cache_bytes: bytes("TARN_CACHE_BYTES")?,
            scale_out,
            memory_mb: variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").and_then(|text| text.parse().ok()),
            runtime_api: variable("AWS_LAMBDA_RUNTIME_API"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, String> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::read(find)
    }

    const STORE: (&str, &str) = ("TARN_STORE", "s3://bucket");

    #[test]
    fn a_store_is_enough() {
        let config = read(&[STORE]).unwrap();
        assert_eq!((config.store.as_str(), config.cache_bytes, config.scale_out), ("s3://bucket", None, None));
        assert_eq!(read(&[STORE, ("TARN_CACHE_BYTES", "7")]).unwrap().cache_bytes, Some(7));
        assert_eq!(read(&[STORE, ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "2048")]).unwrap().memory_mb, Some(2048));
        assert!(read(&[]).unwrap_err().contains("TARN_STORE"));
        assert_eq!(read(&[STORE]).unwrap().hydration, Hydration::Manual);
        assert_eq!(read(&[STORE, ("TARN_HYDRATION", "off")]).unwrap().hydration, Hydration::Off);
        assert!(read(&[STORE, ("TARN_HYDRATION", "background")]).unwrap_err().contains("TARN_HYDRATION"));
        assert!(read(&[STORE, ("TARN_CACHE_BYTES", "1 GB")]).unwrap_err().contains("TARN_CACHE_BYTES"));
    }

    #[test]
    fn answers_are_kept_and_compared_when_that_is_asked_for() {
        let plain = read(&[STORE]).unwrap();
        assert_eq!((plain.query_cache_bytes, plain.recall_share), (0, 0.0));
        let asked = read(&[STORE, ("TARN_QUERY_CACHE", "1048576"), ("TARN_RECALL_SHARE", "0.05")]).unwrap();
        assert_eq!((asked.query_cache_bytes, asked.recall_share), (1 << 20, 0.05));
        for (name, wrong) in [("TARN_QUERY_CACHE", "1 MB"), ("TARN_RECALL_SHARE", "5%"), ("TARN_RECALL_SHARE", "1.1")] {
            assert!(read(&[STORE, (name, wrong)]).unwrap_err().contains(name), "{wrong}");
        }
    }

    #[test]
    fn leaves_are_this_function_in_this_version_unless_another_is_named() {
        let of = |variables: &[(&str, &str)]| {
            let own = [STORE, ("TARN_LEAF_BYTES", "9"), ("AWS_LAMBDA_FUNCTION_NAME", "query")];
            read(&[&own[..], variables].concat()).map(|config| config.scale_out.unwrap())
        };
        let own = of(&[("AWS_LAMBDA_FUNCTION_VERSION", "12")]).unwrap();
        assert_eq!((own.leaf_bytes, own.function.as_str(), own.version.as_deref()), (9, "query", Some("12")));
        assert_eq!(of(&[("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")]).unwrap().version, None);
        let other = of(&[("AWS_LAMBDA_FUNCTION_VERSION", "12"), ("TARN_LEAF_FUNCTION", "leaf")]).unwrap();
        assert_eq!((other.function.as_str(), other.version), ("leaf", None));
        assert!(of(&[("TARN_LEAF_FUNCTION", "arn:aws:lambda:x")]).unwrap_err().contains("ARN"));
        assert_eq!(own.leaves_max, None);
        assert_eq!(of(&[("TARN_LEAVES_MAX", "8")]).unwrap().leaves_max, NonZeroUsize::new(8));
        assert!(of(&[("TARN_LEAVES_MAX", "0")]).unwrap_err().contains("TARN_LEAVES_MAX"));
        let endpoint =
            of(&[("AWS_ENDPOINT_URL", "http://a"), ("AWS_ENDPOINT_URL_LAMBDA", "http://b")]).unwrap().endpoint;
        assert_eq!(endpoint.as_deref(), Some("http://b"));
    }
}
