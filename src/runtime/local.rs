//! stub
use super::*;
/// stub
pub struct Local;
impl Local {
    /// stub
    pub fn new(_: PathBuf, _: HomeId) -> Self {
        Self
    }
}
#[async_trait]
impl Runtime for Local {
    fn name(&self) -> RuntimeName {
        RuntimeName::Local
    }
    async fn check(&self) -> Result<EngineInfo> {
        todo!()
    }
    async fn build(
        &self,
        _: HomeId,
        _: &PodSpec,
        _: BuildOptions,
        _: mpsc::Sender<Vec<u8>>,
    ) -> Result<Image> {
        todo!()
    }
    async fn image_created(&self, _: &str) -> Result<Option<Timestamp>> {
        todo!()
    }
    async fn image_config(&self, _: &str) -> Result<ImageConfig> {
        todo!()
    }
    async fn create(&self, _: &CreateRequest) -> Result<String> {
        todo!()
    }
    async fn start(&self, _: &CreateRequest) -> Result<()> {
        todo!()
    }
    async fn find(&self, _: &Owner, _: &str) -> Result<Option<Found>> {
        todo!()
    }
    async fn list(&self, _: HomeId) -> Result<Vec<Found>> {
        todo!()
    }
    async fn wait(&self, _: &Owner, _: &str) -> Result<Option<ExitInfo>> {
        todo!()
    }
    async fn unpause(&self, _: &Owner, _: &str) -> Result<()> {
        todo!()
    }
    async fn snapshot(&self, _: &Owner, _: &str, _: &str) -> Result<String> {
        todo!()
    }
    async fn remove(&self, _: &Owner, _: &str, _: bool) -> Result<()> {
        todo!()
    }
    async fn remove_session(&self, _: HomeId, _: Ulid) -> Result<()> {
        todo!()
    }
    async fn purge(&self, _: &Path) -> Result<()> {
        todo!()
    }
}
