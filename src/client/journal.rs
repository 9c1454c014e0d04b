//! Looking after the journal, as methods of [`Client`].

use super::connection::{Client, Exchange};
use super::stream::{EventStream, Feed, JsonLines, once};
use crate::archive::Chunks;
use crate::model::api::{
    CompactResponse, ExportQuery, Imported, JournalQuery, JournalStats, VerifyEvent,
};
use crate::model::{Error, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use std::io;

struct VerifyFeed;

impl Feed for VerifyFeed {
    type Parser = JsonLines<VerifyEvent>;

    fn request(&self) -> Result<Exchange> {
        Ok(Exchange::new(Method::GET, &["journal", "verify"]).streamed())
    }

    fn advance(&mut self, _: &VerifyEvent) {}
}

impl Client {
    /// The journal in numbers.
    ///
    /// # Errors
    /// The daemon's, `daemon_unavailable` or `version_mismatch`.
    pub async fn journal_stats(&self, query: &JournalQuery) -> Result<JournalStats> {
        self.call(&Exchange::new(Method::GET, &["journal"]).query(query)?)
            .await
    }

    /// Compacts the journal; returns when that is done.
    ///
    /// # Errors
    /// `refused` when one is under way; `try_later` when there is no room.
    pub async fn compact_journal(&self) -> Result<CompactResponse> {
        self.call(&Exchange::new(Method::POST, &["journal", "compact"]))
            .await
    }

    /// Looks through the whole journal. When the connection breaks the stream
    /// ends with an error.
    ///
    /// # Errors
    /// The daemon's, `daemon_unavailable` or `version_mismatch`.
    pub async fn verify_journal(&self) -> Result<EventStream<VerifyEvent>> {
        once(self, VerifyFeed).await
    }

    /// Sessions as lines of JSON, those that are named or all. Whether they came
    /// to their end, the last line says.
    ///
    /// # Errors
    /// The daemon's, as `session_not_found`.
    pub async fn export_journal(&self, sessions: &[String]) -> Result<Chunks> {
        let session = sessions.to_vec();
        let exchange = Exchange::new(Method::GET, &["journal", "export"]);
        let exchange = exchange.query(&ExportQuery { session })?;
        let body = self.open_stream(&exchange).await?;
        let (client, end) = (self.clone(), exchange);
        let chunks = body.into_data_stream().map(move |chunk| {
            chunk.map_err(|cause| io::Error::other(client.broke(&end, &cause.to_string())))
        });
        Ok(chunks.boxed())
    }

    /// Takes in the sessions of an export. It is not tried again: what was read
    /// cannot be read once more.
    ///
    /// # Errors
    /// The daemon's, as `journal_damaged` or `refused`.
    pub async fn import_journal(&self, chunks: Chunks) -> Result<Imported> {
        let exchange = Exchange::new(Method::POST, &["journal", "import"]);
        let body = StreamBody::new(chunks.map_ok(Frame::data)).boxed_unsync();
        let response = self.answer_to(&exchange, body).await?;
        self.read_whole(&exchange, response)
            .await
            .map_err(Error::from)
    }
}
