//! Files in and out of sessions, as methods of [`Client`].

use super::connection::{Client, Exchange};
use crate::archive::Chunks;
use crate::model::api::{PathQuery, PathStat, UploadQuery};
use crate::model::{Error, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use std::io;

impl Client {
    /// What is at a path of a session; a link is not followed.
    ///
    /// # Errors
    /// The daemon's, as `path_not_found`.
    pub async fn path_stat(&self, session: &str, path: &str) -> Result<PathStat> {
        let exchange = Exchange::new(Method::GET, &["sessions", session, "archive", "stat"]);
        let path = path.to_owned();
        self.call(&exchange.query(&PathQuery { path })?).await
    }

    /// A tar archive of a file or directory of a session, its root named as the
    /// path's last part.
    ///
    /// # Errors
    /// As [`Client::path_stat`]. An archive that breaks off ends with an error.
    pub async fn read_archive(&self, session: &str, path: &str) -> Result<Chunks> {
        let exchange = Exchange::new(Method::GET, &["sessions", session, "archive"]);
        let path = path.to_owned();
        let exchange = exchange.query(&PathQuery { path })?;
        let body = self.open_stream(&exchange).await?;
        let (client, end) = (self.clone(), exchange);
        let chunks = body.into_data_stream().map(move |chunk| {
            chunk.map_err(|cause| io::Error::other(client.broke(&end, &cause.to_string())))
        });
        Ok(chunks.boxed())
    }

    /// Takes a tar archive apart in a directory of a session.
    ///
    /// # Errors
    /// As [`Client::path_stat`]; `copy_failed`. It is not tried again: what was
    /// read cannot be read once more.
    pub async fn write_archive(
        &self,
        session: &str,
        query: &UploadQuery,
        chunks: Chunks,
    ) -> Result<PathStat> {
        let exchange = Exchange::new(Method::PUT, &["sessions", session, "archive"]);
        let exchange = exchange.query(query)?;
        self.revive().await?;
        let body = StreamBody::new(chunks.map_ok(Frame::data)).boxed_unsync();
        let response = self.answer_to(&exchange, body).await?;
        self.read_whole(&exchange, response)
            .await
            .map_err(Error::from)
    }
}
