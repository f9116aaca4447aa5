//! One store.

use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc;

use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig,
};
use tokio::runtime::{Builder, Runtime};

use super::access::Access;
use super::address::Address;
use super::client::Connector;
use crate::journal::{CopyStore, StoreError};
use crate::limits::archive as limits;

/// A region for stores that have none.
const REGION: &str = "us-east-1";

/// A store, with a thread of its own for what it waits for: callers block, and may be anywhere.
#[derive(Debug)]
pub(super) struct Objects {
    name: String,
    address: Address,
    access: Access,
    runtime: Option<Runtime>,
}

impl Drop for Objects {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Whoever drops it may be a task, which must not wait.
            runtime.shutdown_background();
        }
    }
}

impl Objects {
    pub(super) fn new(address: Address, access: &Access) -> Result<Self, StoreError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("archive")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| {
            StoreError::Refused(format!("its thread can't be started: {error}"))
        })?;
        let name = address.to_string();
        Ok(Self { name, address, access: access.clone(), runtime: Some(runtime) })
    }

    /// The store, opened anew: a folder may be mounted, keys may be changed meanwhile.
    fn open(&self) -> Result<Arc<dyn ObjectStore>, StoreError> {
        match &self.address {
            Address::Folder(path) => {
                if !path.is_dir() {
                    let text =
                        format!("the folder {} is not there; mount or make it", path.display());
                    return Err(StoreError::Away(text));
                }
                let folder =
                    LocalFileSystem::new_with_prefix(path).map_err(|error| told(&error))?;
                Ok(Arc::new(folder.with_fsync(true)))
            }
            Address::Bucket { bucket, .. } => Ok(Arc::new(self.bucket(bucket)?)),
        }
    }

    fn bucket(&self, bucket: &str) -> Result<impl ObjectStore + use<>, StoreError> {
        let Access { endpoint, region, keys, trust, within } = &self.access;
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: limits::RETRIES_MAX,
            retry_timeout: *within,
        };
        // Its options are the environment's, as in the vendor's own programs.
        let mut builder = AmazonS3Builder::from_env()
            .with_http_connector(Connector { within: *within, trust: trust.clone() })
            .with_retry(retry);
        builder = builder.with_bucket_name(bucket);
        if let Some(region) = region {
            builder = builder.with_region(region);
        } else if std::env::var_os("AWS_REGION").is_none() {
            builder = builder.with_region(REGION);
        }
        if let Some(endpoint) = endpoint {
            builder =
                builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http:"));
        }
        if let Some(keys) = keys {
            builder = builder.with_access_key_id(&keys.id).with_secret_access_key(&keys.secret);
            if let Some(token) = &keys.token {
                builder = builder.with_token(token);
            }
        }
        builder.build().map_err(|error| told(&error))
    }

    fn path(&self, object: &str) -> Path {
        match &self.address {
            Address::Folder(_) => Path::from(object),
            Address::Bucket { prefix, .. } => Path::from(format!("{prefix}/{object}")),
        }
    }

    /// Waits for an operation, and no longer than is allowed.
    fn wait<T: Send + 'static>(
        &self,
        operation: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let away = |text: &str| StoreError::Away(text.into());
        let runtime = self.runtime.as_ref().ok_or_else(|| away("it is being closed"))?;
        let within = self.access.within;
        let late = format!("it did not answer within {} ms", within.as_millis());
        let (answer, answered) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            let done = tokio::time::timeout(within, operation).await;
            // A caller that is gone needs no answer.
            let _ = answer.send(done.unwrap_or(Err(StoreError::Away(late))));
        });
        answered.recv().unwrap_or_else(|_| Err(away("the operation broke off")))
    }
}

impl CopyStore for Objects {
    fn address(&self) -> &str {
        &self.name
    }

    fn create(&self, object: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let store = self.open()?;
        let path = self.path(object);
        let bytes = bytes.to_vec();
        self.wait(async move {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match store.put_opts(&path, bytes.into(), options).await {
                Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
                Err(error) => Err(told(&error)),
            }
        })
    }

    fn read(&self, object: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let store = self.open()?;
        let path = self.path(object);
        self.wait(async move {
            let found = match store.get(&path).await {
                Err(Error::NotFound { .. }) => return Ok(None),
                found => found.map_err(|error| told(&error))?,
            };
            if found.meta.size > bytes_max {
                return Err(StoreError::Length(found.meta.size));
            }
            let bytes = found.bytes().await.map_err(|error| told(&error))?;
            Ok(Some(bytes.to_vec()))
        })
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let store = self.open()?;
        let path = self.path(folder);
        let above = self.path("");
        self.wait(async move {
            let listed = store.list(Some(&path)).try_collect::<Vec<_>>().await;
            let listed = listed.map_err(|error| told(&error))?;
            let name = |path: &Path| {
                let parts = path.prefix_match(&above)?;
                Some(parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
            };
            Ok(listed.iter().filter_map(|found| name(&found.location)).collect())
        })
    }
}

/// Tells a store that may come back from one that refuses.
fn told(error: &Error) -> StoreError {
    // Each of its errors says what its cause says.
    let words = error.to_string();
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            StoreError::Refused(format!("it refuses the keys: {words}"))
        }
        Error::NotSupported { .. } | Error::NotImplemented { .. } => StoreError::Refused(words),
        _ => StoreError::Away(words),
    }
}
