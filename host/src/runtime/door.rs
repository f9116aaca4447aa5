//! The places at which the daemon serves, and the secrets that it admits callers by.

use std::sync::Arc;

use super::descriptors;
use super::error::RuntimeError;
use super::options::Options;
use super::renewal::Renewal;
use crate::api::{ConnectionLimits, Listeners};
use crate::tenancy::{Jwt, OperatorToken, OperatorTokenError};
use crate::tls::Certificate;

/// The secrets of a door that is not open yet: what they are read from is valid.
pub(super) struct Lock {
    certificate: Option<Certificate>,
    jwt: Option<Arc<Jwt>>,
    connections: ConnectionLimits,
}

/// The places, open to callers.
pub(super) struct Door {
    pub(super) listeners: Listeners,
    /// The operator's token.
    pub(super) token: Arc<OperatorToken>,
    /// The check of signed tokens; none if they are not accepted.
    pub(super) jwt: Option<Arc<Jwt>>,
    /// The limits of open connections.
    pub(super) connections: ConnectionLimits,
    /// The secrets that are read again.
    pub(super) renewal: Renewal,
}

impl Lock {
    /// Checks the options, before anything is opened that others may hold.
    pub(super) fn of(options: &Options) -> Result<Self, RuntimeError> {
        let certificate = options.listen.check()?;
        let jwt = options.jwt.clone().map(Jwt::new).transpose()?.map(Arc::new);
        let connections = ConnectionLimits::of_descriptors(descriptors::raise());
        Ok(Self { certificate, jwt, connections })
    }

    /// Reads the operator's token, and binds the places.
    pub(super) async fn open(self, options: &Options) -> Result<Door, RuntimeError> {
        let token = Arc::new(operator_token(options)?);
        let listeners = Listeners::bind(options.listen.clone(), self.certificate).await?;
        let mut renewal = Renewal::new().map_err(RuntimeError::Signal)?;
        renewal.watch_all(listeners.certificate(), &token, self.jwt.as_ref());
        let connections = self.connections;
        Ok(Door { listeners, token, jwt: self.jwt, connections, renewal })
    }
}

/// The operator's token, as the options have it.
fn operator_token(options: &Options) -> Result<OperatorToken, OperatorTokenError> {
    match (&options.token, &options.token_file) {
        (Some(token), _) => Ok(OperatorToken::fixed(token)),
        (None, Some(file)) => OperatorToken::of_file(file),
        (None, None) => OperatorToken::of_file(&options.data.join("token")),
    }
}
