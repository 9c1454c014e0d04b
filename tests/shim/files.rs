//! Files that a program finds when it begins.

use super::support::*;
use cldpd::runtime::shim::RunBody;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn reading(path: &Path) -> RunBody {
    let contents = b"s3cret \xff".to_vec();
    let path = path.as_os_str().as_encoded_bytes().to_vec();
    let script = format!("cat {}", String::from_utf8_lossy(&path));
    RunBody {
        files: vec![(path, 0o400, contents)],
        ..sh(&script)
    }
}

#[tokio::test]
async fn files_are_there_before_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    // What is in the way is replaced, not written into.
    let victim = dir.path().join("victim");
    std::fs::write(&victim, "alive").unwrap();
    std::os::unix::fs::symlink(&victim, &path).unwrap();
    let records = run_to_end(&reading(&path)).await;
    assert_eq!(
        output(&records, 0, cldpd::model::Stream::Stdout),
        b"s3cret \xff"
    );
    let meta = std::fs::symlink_metadata(&path).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o400);
    assert!(meta.is_file());
    assert_eq!(std::fs::read(&victim).unwrap(), b"alive");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nowhere/key");
    let records = run_to_end(&reading(&path)).await;
    let told = format!("{:?}", controls(&records));
    assert!(told.contains("code: 126"), "{told}");
    assert!(told.contains("nowhere/key"), "{told}");
    assert!(!told.contains("s3cret"), "{told}");
}
