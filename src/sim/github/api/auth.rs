//! Who asks, and what they may.
//!
//! Guarantees: routes of the App take its JWT and nothing else, routes of an installation its token and
//! nothing else; what a token was not granted looks as on GitHub: 404 for a repository, 403 for a right.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};

use super::ApiError;
use crate::sim::github::Shared;
use crate::sim::github::world::{Access, Grant, Repository, World};

/// The App itself.
pub(super) struct AsApp;

/// An installation.
pub(super) struct AsInstallation(pub Grant);

impl FromRequestParts<Arc<Shared>> for AsApp {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, ApiError> {
        let jwt = bearer(&parts.headers).ok_or_else(|| unauthorized("A JSON web token could not be decoded"))?;
        shared.key.verify(jwt, shared.config.app_id, shared.clock.now()).map_err(unauthorized)?;
        Ok(Self)
    }
}

impl FromRequestParts<Arc<Shared>> for AsInstallation {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, ApiError> {
        let token = bearer(&parts.headers).ok_or_else(|| unauthorized("Requires authentication"))?;
        let world = shared.world.lock().await;
        let grant = world.tokens.get(token).filter(|grant| grant.expires_at > shared.clock.now());
        let grant = grant.ok_or_else(|| unauthorized("Bad credentials"))?;
        match world.installation(grant.installation) {
            None => Err(unauthorized("Bad credentials")),
            Some(installation) if installation.suspended_at.is_some() => {
                Err(ApiError::new(StatusCode::FORBIDDEN, "This installation has been suspended"))
            }
            Some(_) => Ok(Self(grant.clone())),
        }
    }
}

impl AsInstallation {
    /// The repository, if the token reaches it and has the right.
    pub(super) fn reach<'a>(
        &self,
        world: &'a World,
        owner: &str,
        name: &str,
        right: (&str, Access),
    ) -> Result<&'a Repository, ApiError> {
        let repo = world.repository(owner, name).filter(|repo| self.sees(repo)).ok_or_else(ApiError::not_found)?;
        if self.0.permissions.get(right.0).is_some_and(|granted| *granted >= right.1) {
            Ok(repo)
        } else {
            Err(ApiError::new(StatusCode::FORBIDDEN, "Resource not accessible by integration"))
        }
    }

    pub(super) fn sees(&self, repo: &Repository) -> bool {
        repo.installation == self.0.installation
            && self.0.repositories.as_ref().is_none_or(|ids| ids.contains(&repo.id))
    }
}

/// Under whose name a request is counted.
pub(super) async fn identity(shared: &Shared, headers: &HeaderMap) -> String {
    let Some(token) = bearer(headers) else { return "nobody".to_owned() };
    let world = shared.world.lock().await;
    world.tokens.get(token).map_or_else(|| "app".to_owned(), |grant| format!("installation {}", grant.installation))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token")).then_some(token)
}

fn unauthorized(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, message)
}
